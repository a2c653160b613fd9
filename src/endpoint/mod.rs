//! The token endpoint: encode the request, authenticate the client, send, parse the answer.
//!
//! ```text
//! grant ──▶ request ──▶ client_auth ──▶ transport ──▶ response ──▶ AccessToken
//!           (encode)    (authenticate)  (send)        (parse)      or TokenError
//! ```
//!
//! Every grant asks here, so what holds for all token requests is decided here once: where they may
//! go (`url`), how long they may take (`transport`), and what of an answer may be shown
//! (`redact`).

mod builder;
mod client_auth;
mod config_error;
mod error;
mod fields;
#[cfg(feature = "https-client")]
mod https;
mod redact;
mod request;
mod response;
mod transport;
mod url;
mod values;

use std::{fmt, sync::Arc, time::Duration};

use http::HeaderMap;

use self::{
    redact::Redactor,
    request::TokenRequest,
    response::Expectation,
    transport::{Answer, Transport},
    url::EndpointUrl,
};
use crate::{clock::Clock, secret::SecretString, source::TokenError, token::AccessToken};

pub use self::{
    builder::TokenEndpointBuilder, client_auth::ClientAuth, config_error::EndpointConfigError,
    error::EndpointError,
};

/// An authorization server's token endpoint, and how this client talks to it.
///
/// The grants, such as [`ClientCredentials`](crate::ClientCredentials), are built on one. Clones
/// are cheap and share the transport.
///
/// A token request follows no redirect (it would hand the client's secret to wherever the redirect
/// points), goes through no proxy, uses plain `http` to loopback only, has a total deadline and
/// reads at most 1 MiB.
///
/// ```
/// # #[cfg(feature = "https-client")] {
/// use tower_oauth::{ClientAuth, TokenEndpoint};
///
/// let endpoint = TokenEndpoint::builder("https://auth.example.com/oauth/token")
///     .client_auth(ClientAuth::basic("client-id", "client-secret"))
///     .build()?;
/// # drop(endpoint);
/// # }
/// # Ok::<(), tower_oauth::EndpointConfigError>(())
/// ```
#[derive(Clone)]
pub struct TokenEndpoint(Arc<Inner>);

/// What [`TokenEndpointBuilder`] has checked.
struct Inner {
    url: EndpointUrl,
    client_auth: ClientAuth,
    params: Vec<(String, SecretString)>,
    headers: HeaderMap,
    /// What of the parameters and headers may be a key, and isn't shown if the server repeats it.
    unshown: Vec<SecretString>,
    assume_lifetime: Option<Duration>,
    timeout: Duration,
    transport: Transport,
    clock: Clock,
}

impl TokenEndpoint {
    /// Begins to describe the token endpoint at `url` (RFC 6749 §3.2).
    ///
    /// It is checked by [`build`](TokenEndpointBuilder::build). A query is kept.
    pub fn builder(url: impl Into<String>) -> TokenEndpointBuilder {
        TokenEndpointBuilder::new(url.into())
    }

    /// Whether the client has credentials of its own (RFC 6749 §2.1).
    pub(crate) fn client_is_confidential(&self) -> bool {
        self.0.client_auth.is_confidential()
    }

    /// One token request: `grant` holds the parameters of the grant.
    pub(crate) async fn exchange(&self, grant: &[(&str, &str)]) -> Result<AccessToken, TokenError> {
        let endpoint = &*self.0;
        let mut request = endpoint.encode(grant);
        let secrets = endpoint.authenticate(&mut request)?;
        let answer = endpoint.send(request, &secrets).await?;
        Ok(endpoint.parse(&answer, &secrets)?)
    }
}

impl Inner {
    fn encode(&self, grant: &[(&str, &str)]) -> TokenRequest {
        let params = self.params.iter().map(|(key, value)| (&**key, &**value));
        TokenRequest::encode(grant.iter().copied().chain(params))
    }

    fn authenticate(&self, request: &mut TokenRequest) -> Result<Redactor, EndpointError> {
        self.client_auth
            .authenticate(request)
            .map(|secrets| secrets.and(&self.unshown))
            .map_err(|problem| problem.at(&self.url.shown))
    }

    async fn send(
        &self,
        request: TokenRequest,
        secrets: &Redactor,
    ) -> Result<Answer, EndpointError> {
        let request = request.into_http(&self.url.uri, &self.headers);
        match tokio::time::timeout(self.timeout, self.transport.send(request)).await {
            Ok(outcome) => outcome.map_err(|failure| failure.at(&self.url.shown, secrets)),
            Err(_) => Err(EndpointError::TimedOut {
                url: self.url.shown.clone(),
                limit: self.timeout,
            }),
        }
    }

    fn parse(&self, answer: &Answer, secrets: &Redactor) -> Result<AccessToken, EndpointError> {
        let expectation = Expectation {
            url: &self.url.shown,
            secrets,
            assume_lifetime: self.assume_lifetime,
            now: self.clock.now().wall,
        };
        expectation.judge(answer)
    }
}

impl fmt::Debug for TokenEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let params: Vec<&str> = self.0.params.iter().map(|(key, _)| &**key).collect();
        let headers: Vec<&str> = self.0.headers.keys().map(|name| name.as_str()).collect();
        f.debug_struct("TokenEndpoint")
            .field("url", &self.0.url.shown)
            .field("client_auth", &self.0.client_auth)
            .field("params", &params)
            .field("headers", &headers)
            .field("assume_lifetime", &self.0.assume_lifetime)
            .field("timeout", &self.0.timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
