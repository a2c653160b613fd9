//! Authenticate: how the client proves to the authorization server who it is (RFC 6749 §2.3).

use std::{fmt, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use form_urlencoded::byte_serialize;
use http::HeaderValue;
use zeroize::Zeroizing;

use super::{EndpointConfigError, EndpointError, redact::Redactor, request::TokenRequest};
use crate::{
    secret::{Secret, SecretString},
    source::BoxError,
};

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
///     Secret::provided_by(|| Ok(std::fs::read_to_string("/run/secrets/client")?.trim().into())),
/// );
/// assert!(!format!("{fixed:?}").contains("client-secret"));
/// # let _ = rotated;
/// ```
#[derive(Clone)]
pub struct ClientAuth(Method);

#[derive(Clone)]
enum Method {
    /// `Authorization: Basic`, both halves form-encoded first.
    Basic { id: String, secret: Secret },
    /// `Authorization: Basic`, both halves as they are.
    BasicUnencoded { id: String, secret: Secret },
    /// `client_id` and `client_secret` in the form.
    Post { id: String, secret: Secret },
    /// `client_id` in the form.
    None { id: String },
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

    pub(super) fn is_confidential(&self) -> bool {
        !matches!(self.0, Method::None { .. } | Method::Anonymous)
    }

    /// What can be known before the secret is asked for.
    pub(super) fn check(&self) -> Result<(), EndpointConfigError> {
        let refuse = |problem| Err(EndpointConfigError::ClientId { problem });
        match &self.0 {
            Method::Anonymous => Ok(()),
            _ if self.id().is_empty() => refuse("it is empty; is the setting missing?"),
            // RFC 7617 §2: "a user-id containing a colon character is invalid".
            Method::BasicUnencoded { id, .. } if id.contains(':') => {
                refuse("it has a colon, which Basic can't carry unencoded; use ClientAuth::basic")
            }
            Method::BasicUnencoded { id, .. } if id.contains(char::is_control) => {
                refuse("it has a control character, such as a line break at its end; trim it")
            }
            _ => Ok(()),
        }
    }

    /// Adds the client's credentials to `request`; hands back what must not be shown of it.
    pub(super) fn authenticate(&self, request: &mut TokenRequest) -> Result<Redactor, AuthProblem> {
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
            Method::None { id } => {
                request.append("client_id", id);
                Ok(Redactor::new([]))
            }
            Method::Anonymous => Ok(Redactor::new([])),
        }
    }

    pub(super) fn id(&self) -> &str {
        match &self.0 {
            Method::Basic { id, .. }
            | Method::BasicUnencoded { id, .. }
            | Method::Post { id, .. }
            | Method::None { id } => id,
            Method::Anonymous => "",
        }
    }
}

impl fmt::Debug for ClientAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = match &self.0 {
            Method::Basic { .. } => "basic",
            Method::BasicUnencoded { .. } => "basic_unencoded",
            Method::Post { .. } => "post",
            Method::None { .. } => "none",
            Method::Anonymous => "anonymous",
        };
        f.debug_struct("ClientAuth")
            .field("method", &method)
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}

/// Why a client can't be authenticated.
pub(super) enum AuthProblem {
    NoSecret(BoxError),
    ControlCharacter,
    Empty,
}

impl AuthProblem {
    pub(super) fn at(self, url: &Arc<str>) -> EndpointError {
        let url = url.clone();
        match self {
            Self::NoSecret(cause) => EndpointError::NoSecret { url, cause },
            Self::ControlCharacter => EndpointError::UnusableSecret {
                url,
                problem: "it has a control character, such as a line break at its end; trim it",
            },
            Self::Empty => EndpointError::UnusableSecret {
                url,
                problem: "it is empty; is the setting missing? A client without one is \
                          ClientAuth::none",
            },
        }
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

/// RFC 6749 §2.3.1: id and secret are "encoded using the "application/x-www-form-urlencoded"
/// encoding algorithm" before they go into Basic.
pub(super) fn form_encoded(text: &str) -> SecretString {
    // Room for the longest case, so that it doesn't grow and leave copies behind.
    let mut encoded = String::with_capacity(text.len().saturating_mul(3));
    encoded.extend(byte_serialize(text.as_bytes()));
    SecretString::from(encoded)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Uri, header::AUTHORIZATION};
    use http_body_util::{BodyExt, Full};

    use super::{super::Encoding, *};

    fn request(auth: &ClientAuth) -> http::Request<Full<Bytes>> {
        let mut request = TokenRequest::of([("grant_type", "x")]);
        auth.authenticate(&mut request)
            .unwrap_or_else(|problem| panic!("{}", problem.at(&Arc::from("u"))));
        request.into_http(&Uri::from_static("/"), &HeaderMap::new(), Encoding::Form)
    }

    fn header(auth: &ClientAuth) -> HeaderValue {
        request(auth).headers()[AUTHORIZATION].clone()
    }

    async fn body(auth: &ClientAuth) -> Bytes {
        let body = request(auth).into_body();
        body.collect()
            .await
            .unwrap_or_else(|e| match e {})
            .to_bytes()
    }

    fn refusal(auth: &ClientAuth) -> String {
        match auth.authenticate(&mut TokenRequest::of([])) {
            Ok(_) => panic!("{auth:?} was accepted"),
            Err(problem) => problem
                .at(&Arc::from("https://as.example/token"))
                .to_string(),
        }
    }

    // rule 2
    #[test]
    fn basic_encodes_both_halves() {
        for (id, secret, expected) in [
            // RFC 6749 §2.3.1
            (
                "s6BhdRkqt3",
                "7Fjfp0ZBr1KtDRbnfVdmIw",
                "Basic czZCaGRSa3F0Mzo3RmpmcDBaQnIxS3REUmJuZlZkbUl3",
            ),
            // a+b:p%3Aq
            ("a b", "p:q", "Basic YStiOnAlM0Fx"),
        ] {
            let header = header(&ClientAuth::basic(id, secret));
            assert_eq!(header, expected);
            assert!(header.is_sensitive());
        }
    }

    proptest::proptest! {
        // rule 2
        #[test]
        fn basic_carries_any_id_and_secret(id in ".*", secret in "\\PC*") {
            let header = header(&ClientAuth::basic(&*id, &*secret));
            let credentials = header.to_str().unwrap().strip_prefix("Basic ").unwrap();
            let pair = BASE64_STANDARD.decode(credentials).unwrap();
            let pair = String::from_utf8(pair).unwrap();
            let (id_half, secret_half) = pair.split_once(':').unwrap();
            for (half, whole) in [(id_half, &id), (secret_half, &secret)] {
                let query = format!("={half}");
                let decoded = form_urlencoded::parse(query.as_bytes()).next().unwrap().1;
                proptest::prop_assert_eq!(&*decoded, &**whole);
            }
        }
    }

    #[test]
    fn basic_unencoded_encodes_neither() {
        let header = header(&ClientAuth::basic_unencoded("a b", "p:q"));
        assert_eq!(header, "Basic YSBiOnA6cQ=="); // a b:p:q
        assert!(header.is_sensitive());
    }

    // rule 1
    #[tokio::test]
    async fn there_is_one_method_per_request() {
        let basic = ClientAuth::basic("id", "pw");
        assert_eq!(body(&basic).await, "grant_type=x");
        let post = ClientAuth::post("i d", "p&w");
        assert_eq!(
            body(&post).await,
            "grant_type=x&client_id=i+d&client_secret=p%26w"
        );
        let none = ClientAuth::none("id");
        assert_eq!(body(&none).await, "grant_type=x&client_id=id");
        let anonymous = ClientAuth::anonymous();
        assert_eq!(body(&anonymous).await, "grant_type=x");
        for auth in [post, none, anonymous] {
            assert!(!request(&auth).headers().contains_key(AUTHORIZATION));
        }
    }

    #[test]
    fn a_secret_that_can_be_none_is_refused() {
        for auth in [
            ClientAuth::basic("id", "hunter2\n"),
            ClientAuth::basic_unencoded("id", "hunter2\n"),
            ClientAuth::post("id", "hunter2\n"),
        ] {
            let message = refusal(&auth);
            assert!(message.contains("trim it"), "{message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
        // rule 8: a confidential client authenticates; left out, this would say it has no secret.
        assert!(refusal(&ClientAuth::post("id", "")).contains("empty"));
        // Some servers have clients whose password is empty.
        assert_eq!(header(&ClientAuth::basic("id", "")), "Basic aWQ6");
    }

    #[test]
    fn an_id_that_basic_cannot_carry_unencoded_is_refused() {
        for id in ["a:b", "a\n", ""] {
            assert!(
                ClientAuth::basic_unencoded(id, "x").check().is_err(),
                "{id:?}"
            );
        }
        assert!(ClientAuth::basic("a:b\n", "x").check().is_ok());
        assert!(ClientAuth::basic("", "x").check().is_err());
        assert!(ClientAuth::anonymous().check().is_ok());
    }

    #[test]
    fn a_provider_without_a_secret_is_a_passing_failure() {
        let auth = ClientAuth::post("id", Secret::provided_by(|| Err("vault is sealed".into())));
        assert!(refusal(&auth).contains("vault is sealed"));
    }

    #[test]
    fn every_form_of_the_secret_is_known_to_the_redactor() {
        let echo = "p:q p%3Aq aWQ6cCUzQXE= aWQ6cDpx";
        for (auth, left) in [
            (ClientAuth::basic("id", "p:q"), "aWQ6cDpx"),
            (ClientAuth::basic_unencoded("id", "p:q"), "aWQ6cCUzQXE="),
            (ClientAuth::post("id", "p:q"), "aWQ6cCUzQXE= aWQ6cDpx"),
        ] {
            let redactor = auth
                .authenticate(&mut TokenRequest::of([]))
                .unwrap_or_else(|_| panic!("refused"));
            let shown = redactor.clean(echo).replace("[redacted]", "");
            assert_eq!(shown.trim(), left, "{auth:?}");
        }
    }
}
