//! Client authentication by a signed assertion (RFC 7521 §4.2, RFC 7523 §2.2).

use std::time::{Duration, SystemTime};

use super::{SigningError, SigningKey, claims_of_now, signed};
use crate::{
    endpoint::{
        ClientAuth, EndpointConfigError,
        client_auth::{Method, form_encoded},
        redact::Redactor,
        request::TokenRequest,
    },
    secret::Secret,
};

impl ClientAuth {
    /// A JWT signed with the client's own key (`private_key_jwt`, OpenID Connect Core §9): the key
    /// never leaves the program, unlike the secret of [`basic`](Self::basic), and the server knows
    /// only its public half.
    ///
    /// Each token request has a JWT of its own, which names the authorization server's issuer as
    /// its audience and lives for a minute. So the endpoint must know its
    /// [`issuer`](crate::TokenEndpointBuilder::issuer), or be told the audience.
    ///
    /// ```
    /// # #[cfg(feature = "https-client")] {
    /// use tower_oauth::{ClientAuth, Secret, SigningKey, TokenEndpoint};
    ///
    /// let key = SigningKey::es256(Secret::from_file("/run/secrets/client.pem"));
    /// let endpoint = TokenEndpoint::builder("https://auth.example.com/oauth/token")
    ///     .issuer("https://auth.example.com")
    ///     .client_auth(ClientAuth::private_key_jwt("client-id", key))
    ///     .build()?;
    /// # drop(endpoint);
    /// # }
    /// # Ok::<(), tower_oauth::EndpointConfigError>(())
    /// ```
    pub fn private_key_jwt(id: impl Into<String>, key: SigningKey) -> Self {
        ClientAssertion::new("private_key_jwt", id.into(), key).into()
    }

    /// A JWT authenticated with the client's secret (`client_secret_jwt`, OpenID Connect Core §9,
    /// HS256): the secret never travels, unlike that of [`basic`](Self::basic), but both sides
    /// have it, unlike the key of [`private_key_jwt`](Self::private_key_jwt).
    ///
    /// Each token request has a JWT of its own, as there. RFC 7518 §3.2 wants at least 32 bytes of
    /// secret; as servers hand out shorter ones, any that isn't empty is taken.
    pub fn client_secret_jwt(id: impl Into<String>, secret: impl Into<Secret>) -> Self {
        let key = SigningKey::hs256(secret.into());
        ClientAssertion::new("client_secret_jwt", id.into(), key).into()
    }

    /// Sets the audience of the client's JWT; by default it is the authorization server's issuer.
    ///
    /// For servers that want their token endpoint's URL there. Where both will do, the issuer is
    /// safer: a hostile server can name another's token endpoint as its own, and use the JWT there.
    /// The methods without a JWT are left as they are.
    #[must_use]
    pub fn assertion_audience(self, audience: impl Into<String>) -> Self {
        let audience = audience.into();
        self.map_assertion(|assertion| assertion.audience = Some(audience))
    }

    /// Sets how long the client's JWT lives, in whole seconds; 60 seconds by default, 5 minutes at
    /// most, or [`build`](crate::TokenEndpointBuilder::build) refuses it. The methods without a
    /// JWT are left as they are.
    #[must_use]
    pub fn assertion_lifetime(self, lifetime: Duration) -> Self {
        self.map_assertion(|assertion| assertion.lifetime = lifetime)
    }

    fn map_assertion(mut self, change: impl FnOnce(&mut ClientAssertion)) -> Self {
        if let Method::Assertion(assertion) = &mut self.0 {
            change(assertion);
        }
        self
    }
}

/// What the client's JWTs have in common.
#[derive(Clone)]
pub(in crate::endpoint) struct ClientAssertion {
    /// As the servers' metadata call it (`token_endpoint_auth_methods_supported`).
    pub(in crate::endpoint) method: &'static str,
    pub(in crate::endpoint) id: String,
    key: SigningKey,
    audience: Option<String>,
    lifetime: Duration,
}

const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);

const LONGEST_LIFETIME: Duration = Duration::from_secs(5 * 60);

/// RFC 7523 §2.2.
const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

impl From<ClientAssertion> for ClientAuth {
    fn from(assertion: ClientAssertion) -> Self {
        Self(Method::Assertion(assertion))
    }
}

impl ClientAssertion {
    /// As metadata calls it (RFC 7518 §3.1).
    pub(in crate::endpoint) fn algorithm(&self) -> &'static str {
        self.key.algorithm()
    }

    fn new(method: &'static str, id: String, key: SigningKey) -> Self {
        Self {
            method,
            id,
            key,
            audience: None,
            lifetime: DEFAULT_LIFETIME,
        }
    }

    /// What can be known before the key is asked for.
    pub(in crate::endpoint) fn check(
        &self,
        issuer: Option<&str>,
    ) -> Result<(), EndpointConfigError> {
        let problem = if self.audience(issuer).is_empty() {
            "it has no audience; say who the server is by .issuer(…) on the endpoint, or what it \
             expects by .assertion_audience(…) on the client authentication"
        } else if self.lifetime < Duration::from_secs(1) {
            "it would be expired when it arrives; give it a minute"
        } else if self.lifetime > LONGEST_LIFETIME {
            "it would live for more than 5 minutes, in which whoever finds it can be the client; \
             give it less"
        } else {
            let checked = self.key.check();
            return checked.map_err(|cause| EndpointConfigError::ClientKey { cause });
        };
        Err(EndpointConfigError::ClientAssertion { problem })
    }

    /// Adds a new JWT to `request`; hands back what must not be shown of it besides.
    pub(in crate::endpoint) fn add_to(
        &self,
        request: &mut TokenRequest,
        issuer: Option<&str>,
        now: SystemTime,
    ) -> Result<Redactor, SigningError> {
        let key = self.key.ready()?;
        // RFC 7523 §3: `iss` and `sub` "MUST be the client_id of the OAuth client".
        let mut claims = claims_of_now(now, self.lifetime)?;
        claims.insert("iss".into(), self.id.as_str().into());
        claims.insert("sub".into(), self.id.as_str().into());
        claims.insert("aud".into(), self.audience(issuer).into());
        let assertion = signed(&key, &claims)?;
        // RFC 7521 §4.2: `client_id` is "unnecessary", but "MUST identify the same client"; some
        // servers look for it.
        request.append("client_id", &self.id);
        request.append("client_assertion_type", TYPE);
        request.append("client_assertion", &assertion);
        let forms = key
            .shared_secret
            .map(|secret| [form_encoded(&secret), secret]);
        Ok(Redactor::new(forms.into_iter().flatten()))
    }

    /// The issuer, never the token endpoint unless somebody said so: metadata of a hostile server
    /// can name another's token endpoint (draft-ietf-oauth-rfc7523bis).
    fn audience<'a>(&'a self, issuer: Option<&'a str>) -> &'a str {
        self.audience.as_deref().or(issuer).unwrap_or_default()
    }
}
