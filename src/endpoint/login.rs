//! What a login by a browser needs to know: where it leads, and who answers it.

use http::Uri;

use super::{TokenEndpoint, redact::Redactor};
use crate::{secret::SecretString, source::TokenError};

impl TokenEndpoint {
    /// Where users log in (RFC 6749 §3.1), if it is known.
    pub(crate) fn authorization_endpoint(&self) -> Result<Option<&Uri>, TokenError> {
        let known = self.0.server.authorization.url()?;
        Ok(known.map(|url| &url.uri))
    }

    pub(crate) fn client_id(&self) -> &str {
        self.0.client_auth.id()
    }

    /// The issuer identifier, if it is known.
    pub(crate) fn issuer(&self) -> Option<&str> {
        self.0.server.issuer.as_deref()
    }

    /// Whether the server said that it names itself in each authorization response (RFC 9207 §3).
    pub(crate) fn iss_in_response(&self) -> bool {
        self.0.server.iss_in_response
    }

    /// What may be shown of a text that came by the browser, and knows `secret` at most.
    pub(crate) fn clean(&self, text: &str, secret: &SecretString) -> String {
        Redactor::new([secret.clone()])
            .and(self.0.unshown.iter().cloned())
            .clean(text)
    }
}
