//! Client authentication by a signed assertion (RFC 7521 §4.2, RFC 7523 §2.2).

use std::time::{Duration, SystemTime};

use super::{SigningError, SigningKey, claims_of_now, signed};
use crate::endpoint::{
    EndpointConfigError,
    redact::Redactor,
    request::{TokenRequest, form_encoded},
};

/// What the client's JWTs have in common.
#[derive(Clone)]
pub(in crate::endpoint) struct ClientAssertion {
    /// As the servers' metadata call it (`token_endpoint_auth_methods_supported`).
    pub(in crate::endpoint) method: &'static str,
    pub(in crate::endpoint) id: String,
    key: SigningKey,
    pub(in crate::endpoint) audience: Option<String>,
    pub(in crate::endpoint) lifetime: Duration,
}

const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);

const LONGEST_LIFETIME: Duration = Duration::from_secs(5 * 60);

/// RFC 7523 §2.2.
const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

impl ClientAssertion {
    /// As metadata calls it (RFC 7518 §3.1).
    pub(in crate::endpoint) fn algorithm(&self) -> &'static str {
        self.key.algorithm()
    }

    pub(in crate::endpoint) fn new(method: &'static str, id: String, key: SigningKey) -> Self {
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
