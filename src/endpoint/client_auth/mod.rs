//! Authenticate: how the client proves to the authorization server who it is (RFC 6749 §2.3).

#[cfg(feature = "jwt")]
mod assertion;
pub(super) mod problem;

use std::{fmt, time::SystemTime};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::HeaderValue;
use zeroize::Zeroizing;

#[cfg(feature = "jwt")]
use super::jwt::ClientAssertion;
#[cfg(feature = "https-client")]
use super::tls::ClientCertificate;
use super::{
    EndpointConfigError,
    redact::Redactor,
    request::{TokenRequest, form_encoded},
};
use crate::{
    secret::{Secret, SecretString},
    source::Identity,
};

use self::problem::AuthProblem;

/// How the client authenticates at the token endpoint; one method per request (RFC 6749 §2.3).
///
/// A secret is a text, or a [`Secret`] whose provider is asked at each token request, so that it
/// can be rotated while the program runs:
///
/// ```
/// use tower_oauth::{ClientAuth, Secret};
///
/// let fixed = ClientAuth::basic("client-id", "client-secret");
/// let rotated = ClientAuth::basic(
///     "client-id",
///     Secret::from_file("/run/secrets/client"),
/// );
/// assert!(!format!("{fixed:?}").contains("client-secret"));
/// # let _ = rotated;
/// ```
#[derive(Clone)]
pub struct ClientAuth(pub(super) Method);

#[derive(Clone)]
pub(super) enum Method {
    /// `Authorization: Basic`, both halves form-encoded first.
    Basic { id: String, secret: Secret },
    /// `Authorization: Basic`, both halves as they are.
    BasicUnencoded { id: String, secret: Secret },
    /// `client_id` and `client_secret` in the form.
    Post { id: String, secret: Secret },
    /// `client_id` in the form, a certificate in the TLS handshake.
    #[cfg(feature = "https-client")]
    Tls {
        id: String,
        certificate: ClientCertificate,
    },
    /// The same, by a transport that has the certificate.
    TlsByTransport { id: String },
    /// `client_id` in the form.
    None { id: String },
    /// `client_assertion` in the form (RFC 7523 §2.2).
    #[cfg(feature = "jwt")]
    Assertion(ClientAssertion),
    /// Nothing.
    Anonymous,
}

impl ClientAuth {
    /// HTTP Basic authentication: the method that every server must support (RFC 6749 §2.3.1).
    pub fn basic(id: impl Into<String>, secret: impl Into<Secret>) -> Self {
        let (id, secret) = (id.into(), secret.into());
        Self(Method::Basic { id, secret })
    }

    /// HTTP Basic authentication without the form encoding of id and secret that RFC 6749 §2.3.1
    /// asks for.
    ///
    /// For servers that don't decode it. It matters only if the id or the secret has other
    /// characters than letters, digits and `*-._`.
    pub fn basic_unencoded(id: impl Into<String>, secret: impl Into<Secret>) -> Self {
        let (id, secret) = (id.into(), secret.into());
        Self(Method::BasicUnencoded { id, secret })
    }

    /// Id and secret in the request's body (`client_secret_post`).
    ///
    /// For servers that can't do [`basic`](Self::basic): RFC 6749 §2.3.1 doesn't recommend it.
    pub fn post(id: impl Into<String>, secret: impl Into<Secret>) -> Self {
        let (id, secret) = (id.into(), secret.into());
        Self(Method::Post { id, secret })
    }

    /// A certificate, shown in the TLS handshake by the built-in transport, and the id in the
    /// request's body (RFC 8705 §2: `tls_client_auth` or `self_signed_tls_client_auth`).
    ///
    /// It needs `https`. For a transport of one's own there is
    /// [`tls_by_transport`](Self::tls_by_transport).
    #[cfg(feature = "https-client")]
    #[cfg_attr(docsrs, doc(cfg(feature = "https-client")))]
    pub fn tls(id: impl Into<String>, certificate: ClientCertificate) -> Self {
        let id = id.into();
        Self(Method::Tls { id, certificate })
    }

    /// As RFC 8705 §2 has it, with a certificate that the transport shows: the one given to
    /// [`transport`](crate::TokenEndpointBuilder::transport), or a proxy beside this program that
    /// is asked over plain `http`. Only the id is sent.
    pub fn tls_by_transport(id: impl Into<String>) -> Self {
        Self(Method::TlsByTransport { id: id.into() })
    }

    /// A public client, which has no secret and only says who it is (RFC 6749 §2.1, §3.2.1).
    pub fn none(id: impl Into<String>) -> Self {
        Self(Method::None { id: id.into() })
    }

    /// A client that says nothing of itself, unlike [`none`](Self::none), which sends its id.
    ///
    /// For assertion grants at servers that know no clients: the assertion says enough
    /// (RFC 7521 §4.1).
    pub fn anonymous() -> Self {
        Self(Method::Anonymous)
    }

    /// The client's id, if it doesn't stand in the form.
    pub(super) fn id_beside_the_form(&self) -> Option<&str> {
        match &self.0 {
            Method::Basic { id, .. } | Method::BasicUnencoded { id, .. } => Some(id),
            _ => None,
        }
    }

    pub(super) fn is_confidential(&self) -> bool {
        !matches!(self.0, Method::None { .. } | Method::Anonymous)
    }

    /// Whether it has a certificate to show.
    pub(super) fn has_certificate(&self) -> bool {
        #[cfg(feature = "https-client")]
        return matches!(self.0, Method::Tls { .. });
        #[cfg(not(feature = "https-client"))]
        false
    }

    /// Whether a certificate is the proof, whoever shows it.
    pub(super) fn is_tls(&self) -> bool {
        self.has_certificate() || self.is_tls_by_transport()
    }

    /// Whether the transport has a certificate to show.
    pub(super) fn is_tls_by_transport(&self) -> bool {
        matches!(self.0, Method::TlsByTransport { .. })
    }

    /// What can be known before the secret is asked for.
    #[cfg_attr(
        not(feature = "jwt"),
        expect(unused_variables, reason = "only a JWT names the server")
    )]
    pub(super) fn check(&self, issuer: Option<&str>) -> Result<(), EndpointConfigError> {
        let refuse = |problem| Err(EndpointConfigError::ClientId { problem });
        match &self.0 {
            Method::Anonymous => Ok(()),
            _ if self.id().is_empty() => refuse("it is empty; is the setting missing?"),
            // RFC 6749 appendix A.1.
            _ if self.id().contains(char::is_control) => {
                refuse("it has a control character, such as a line break at its end; trim it")
            }
            // RFC 7617 §2: "a user-id containing a colon character is invalid".
            Method::BasicUnencoded { id, .. } if id.contains(':') => {
                refuse("it has a colon, which Basic can't carry unencoded; use ClientAuth::basic")
            }
            #[cfg(feature = "jwt")]
            Method::Assertion(assertion) => assertion.check(issuer),
            #[cfg(feature = "https-client")]
            Method::Tls { certificate, .. } => certificate.check(),
            _ => Ok(()),
        }
    }

    /// Adds the client's credentials to `request`; hands back what must not be shown of it.
    #[cfg_attr(
        not(feature = "jwt"),
        expect(unused_variables, reason = "only a JWT names the server and the time")
    )]
    pub(super) fn authenticate(
        &self,
        request: &mut TokenRequest,
        issuer: Option<&str>,
        now: SystemTime,
    ) -> Result<Redactor, AuthProblem> {
        let reveal = |secret: &Secret| {
            let secret = secret.reveal().map_err(AuthProblem::NoSecret)?;
            // RFC 6749 A.2 and RFC 7617 §2 allow none; what has one is a file's line break.
            if secret.contains(char::is_control) {
                return Err(AuthProblem::ControlCharacter);
            }
            Ok(secret)
        };
        match &self.0 {
            Method::Basic { id, secret } => {
                let secret = reveal(secret)?;
                let encoded = form_encoded(&secret);
                let basic = basic(&form_encoded(id), &encoded)?;
                request.authorize(basic.header);
                Ok(Redactor::new([secret, encoded, basic.credentials]))
            }
            Method::BasicUnencoded { id, secret } => {
                let secret = reveal(secret)?;
                let basic = basic(id, &secret)?;
                request.authorize(basic.header);
                Ok(Redactor::new([
                    form_encoded(&secret),
                    secret,
                    basic.credentials,
                ]))
            }
            Method::Post { id, secret } => {
                let secret = reveal(secret)?;
                // It would be left out, and the request would be a public client's.
                if secret.is_empty() {
                    return Err(AuthProblem::Empty);
                }
                request.append("client_id", id);
                request.append("client_secret", &secret);
                Ok(Redactor::new([form_encoded(&secret), secret]))
            }
            #[cfg(feature = "https-client")]
            Method::Tls { id, certificate } => {
                request.identify(certificate.current()?);
                // RFC 8705 §2: "the client MUST include the "client_id" parameter".
                request.append("client_id", id);
                Ok(Redactor::new([]))
            }
            Method::TlsByTransport { id } | Method::None { id } => {
                request.append("client_id", id);
                Ok(Redactor::new([]))
            }
            #[cfg(feature = "jwt")]
            Method::Assertion(assertion) => assertion
                .add_to(request, issuer, now)
                .map_err(AuthProblem::Unsigned),
            Method::Anonymous => Ok(Redactor::new([])),
        }
    }

    /// Who the client is. How it proves that shapes no token, but for a certificate that the token may
    /// be bound to (RFC 8705 §3).
    pub(super) fn identify(&self, identity: &mut Identity) {
        identity.part("client", self.id());
        #[cfg(feature = "https-client")]
        if let Method::Tls { certificate, .. } = &self.0
            && let Ok(current) = certificate.current()
            && let Some(leaf) = current.0.cert.first()
        {
            identity.part("certificate", hmac_sha256::Hash::hash(leaf));
        }
    }

    pub(super) fn id(&self) -> &str {
        match &self.0 {
            Method::Basic { id, .. }
            | Method::BasicUnencoded { id, .. }
            | Method::Post { id, .. }
            | Method::TlsByTransport { id }
            | Method::None { id } => id,
            #[cfg(feature = "jwt")]
            Method::Assertion(assertion) => &assertion.id,
            Method::Anonymous => "",
            #[cfg(feature = "https-client")]
            Method::Tls { id, .. } => id,
        }
    }
}

impl fmt::Debug for ClientAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = match &self.0 {
            Method::Basic { .. } => "basic",
            Method::BasicUnencoded { .. } => "basic_unencoded",
            Method::Post { .. } => "post",
            #[cfg(feature = "https-client")]
            Method::Tls { .. } => "tls",
            Method::TlsByTransport { .. } => "tls_by_transport",
            Method::None { .. } => "none",
            #[cfg(feature = "jwt")]
            Method::Assertion(assertion) => assertion.method,
            Method::Anonymous => "anonymous",
        };
        f.debug_struct("ClientAuth")
            .field("method", &method)
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}

struct Basic {
    header: HeaderValue,
    /// The base64 part, which some servers repeat in their errors.
    credentials: SecretString,
}

fn basic(id: &str, secret: &str) -> Result<Basic, AuthProblem> {
    let pair = Zeroizing::new([id, ":", secret].concat());
    let credentials = SecretString::from(BASE64_STANDARD.encode(pair.as_bytes()));
    let text = Zeroizing::new(["Basic ", &credentials].concat());
    // Base64 is visible ASCII, so this can't fail; if it did, nothing would be sent.
    let mut header = HeaderValue::from_maybe_shared(Bytes::from_owner(text))
        .map_err(|_| AuthProblem::ControlCharacter)?;
    header.set_sensitive(true);
    Ok(Basic {
        header,
        credentials,
    })
}

#[cfg(test)]
mod tests;
