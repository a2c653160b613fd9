//! The authorization server's endpoints: authenticate the client, encode the request, send, parse
//! the answer.
//!
//! ```text
//! builder, checked once: checks, url, server, client_auth, offered, carrier ──▶ TokenEndpoint
//!    ▲
//! discovery (the server's metadata)
//!
//! grant ──▶ TokenRequest ──▶ client_auth ──▶ request ──▶ transport ──▶ what was asked for
//!           (parameters)     (authenticate)  (encode)    (send)        or EndpointError
//!
//! exchange          the token endpoint               response ──▶ TokenResponse
//! authorize_device  the device authorization one     device ──▶ DeviceAuthorization
//! revoke            the revocation one               revocation ──▶ nothing
//! login             the authorization one: its URL is the browser's to ask, nothing is sent
//! ```
//!
//! Every grant asks here, so what holds for all requests is decided here once: where they may go
//! (`url`), how long they may take (`Inner::send`), how much of an answer is read (`transport`),
//! and what of it may be shown (`redact`).

mod builder;
mod carrier;
mod checks;
mod client_auth;
mod config_error;
mod device;
mod discovery;
mod error;
mod failure;
mod fields;
#[cfg(feature = "https-client")]
mod https;
#[cfg(feature = "jwt")]
mod jwt;
mod login;
mod lossy;
mod members;
mod offered;
mod pointer;
mod redact;
mod request;
mod response;
mod revocation;
mod server;
#[cfg(feature = "https-client")]
mod tls;
mod transport;
mod url;
mod values;

use std::{fmt, sync::Arc, time::Duration};

use http::HeaderMap;
use tokio::time::timeout;

use self::{
    failure::Failure,
    pointer::JsonPointer,
    redact::{Redactor, parts_of_jwt},
    request::{TokenRequest, form_encoded},
    response::{Expectation, refresh_token_in},
    server::Server,
    transport::{Answer, Transport},
    url::EndpointUrl,
};
use crate::{
    clock::Clock,
    secret::SecretString,
    source::{Identity, TokenError, purse},
};

#[cfg(feature = "jwt")]
pub use self::jwt::{SignedJwt, SigningError, SigningKey};
#[cfg(feature = "https-client")]
pub use self::tls::ClientCertificate;
pub use self::{
    builder::TokenEndpointBuilder,
    client_auth::ClientAuth,
    config_error::EndpointConfigError,
    discovery::{Discovery, DiscoveryError},
    error::EndpointError,
    request::Encoding,
};
pub(crate) use self::{
    device::DeviceAuthorization, response::TokenResponse, revocation::TokenKind,
    url::is_absolute_uri,
};

/// An authorization server's token endpoint, and how this client talks to it.
///
/// The grants, such as [`ClientCredentials`](crate::ClientCredentials), are built on one. Clones
/// are cheap and share the transport.
///
/// Where it is known, the server's other endpoints belong to it: those for logins, device codes and
/// revocation. A request to any of them follows no redirect (it would hand the client's secret to
/// wherever the redirect points), goes through no proxy, uses plain `http` to loopback only, has a
/// total deadline and reads at most 1 MiB.
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
    server: Server,
    client_auth: ClientAuth,
    params: Vec<(String, SecretString)>,
    headers: HeaderMap,
    /// What of the parameters and headers may be a key, and isn't shown if the server repeats it.
    unshown: Vec<SecretString>,
    encoding: Encoding,
    wrapped: JsonPointer,
    /// What bearer tokens are called besides.
    token_types: Vec<String>,
    assume_lifetime: Option<Duration>,
    timeout: Duration,
    transport: Arc<Transport>,
    clock: Clock,
}

/// How long a request is looked after once its time is over, also by a program that woke up too late.
const LAST_LOOK: Duration = Duration::from_millis(100);

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

    /// What of this endpoint shapes its tokens: the server, the client, and what is sent each time. Not
    /// how the client proves who it is.
    pub(crate) fn identify(&self, identity: &mut Identity) {
        let endpoint = &*self.0;
        identity.part("endpoint", endpoint.url.uri.to_string());
        endpoint.client_auth.identify(identity);
        for step in endpoint.wrapped.steps() {
            identity.part("answer_at", step);
        }
        for (name, value) in &endpoint.params {
            identity.part("param", &**name);
            identity.part("value", &**value);
        }
        for (name, value) in &endpoint.headers {
            identity.part("header", name.as_str());
            identity.part("value", value.as_bytes());
        }
        identity.is_metered();
    }

    /// How long one request may take in all.
    pub(crate) fn timeout(&self) -> Duration {
        self.0.timeout
    }

    /// One token request: `grant` holds the parameters of the grant.
    pub(crate) async fn exchange(
        &self,
        grant: &[(&str, &str)],
    ) -> Result<TokenResponse, TokenError> {
        let endpoint = &*self.0;
        let url = &endpoint.url;
        let (answer, secrets) = endpoint.ask_for_token(grant).await?;
        Ok(endpoint.expectation(url, &secrets).judge(&answer)?)
    }

    /// As [`exchange`](Self::exchange). A success whose access token can't be used may have brought a
    /// refresh token all the same, and the one that was sent is spent: it stands beside the error.
    pub(crate) async fn refresh(
        &self,
        grant: &[(&str, &str)],
    ) -> Result<TokenResponse, (TokenError, Option<SecretString>)> {
        let endpoint = &*self.0;
        let url = &endpoint.url;
        let asked = endpoint.ask_for_token(grant).await;
        let (answer, secrets) = asked.map_err(|error| (error, None))?;
        endpoint
            .expectation(url, &secrets)
            .judge(&answer)
            .map_err(|error| (error.into(), refresh_token_in(&answer, &endpoint.wrapped)))
    }

    /// For what a grant asks of an answer besides.
    pub(crate) fn malformed(&self, problem: &'static str) -> TokenError {
        TokenError::from(EndpointError::Malformed {
            url: self.0.url.shown.clone(),
            problem,
            words: None,
        })
    }
}

impl Inner {
    /// A request that may bring a token, which somebody may count.
    async fn ask_for_token(
        &self,
        grant: &[(&str, &str)],
    ) -> Result<(Answer, Redactor), TokenError> {
        let paid = purse::pay().await?;
        let asked = self.ask(&self.url, grant, self.encoding).await;
        if asked.as_ref().is_err_and(EndpointError::nothing_was_sent) {
            paid.take_back().await;
        }
        asked.map_err(TokenError::from)
    }

    /// One request to the authorization server, with what this client sends each time.
    async fn ask(
        &self,
        url: &EndpointUrl,
        params: &[(&str, &str)],
        encoding: Encoding,
    ) -> Result<(Answer, Redactor), EndpointError> {
        let own = self.params.iter().map(|(key, value)| (&**key, &**value));
        let mut request = TokenRequest::of(params.iter().copied().chain(own));
        let secrets = self.authenticate(url, &mut request)?;
        let answer = self.send(url, request, encoding, &secrets).await?;
        Ok((answer, secrets))
    }

    fn authenticate(
        &self,
        url: &EndpointUrl,
        request: &mut TokenRequest,
    ) -> Result<Redactor, EndpointError> {
        let credentials = self
            .client_auth
            .authenticate(
                request,
                self.server.issuer.as_deref(),
                self.clock.now().wall,
            )
            .map_err(|problem| problem.at(&url.shown))?;
        let sent = request
            .secrets()
            .flat_map(|secret| [secret.clone(), form_encoded(secret)])
            .chain(request.secrets().flat_map(parts_of_jwt));
        Ok(credentials.and(self.unshown.iter().cloned().chain(sent)))
    }

    async fn send(
        &self,
        url: &EndpointUrl,
        request: TokenRequest,
        encoding: Encoding,
        secrets: &Redactor,
    ) -> Result<Answer, EndpointError> {
        let request = request.into_http(&url.uri, &self.headers, encoding);
        let mut sending = self.transport.send(request);
        let tenth = self.timeout.checked_div(10).unwrap_or_default();
        let last_look = LAST_LOOK.min(tenth);
        let outcome = match timeout(self.timeout.saturating_sub(last_look), &mut sending).await {
            Ok(outcome) => Ok(outcome),
            // Where the whole program stood still, the answer may lie in the socket by now; and to take
            // a redeemed refresh token for one that isn't may cost a login.
            Err(_) => timeout(last_look, &mut sending).await,
        };
        let limit = self.timeout;
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(_) if sending.is_unconnected() => Err(Failure::Unconnected(limit)),
            Err(_) => {
                let url = url.shown.clone();
                return Err(EndpointError::TimedOut { url, limit });
            }
        };
        outcome.map_err(|failure| failure.at(&url.shown, secrets))
    }

    /// What an answer from `url` is judged by.
    fn expectation<'a>(&'a self, url: &'a EndpointUrl, secrets: &'a Redactor) -> Expectation<'a> {
        Expectation {
            url: &url.shown,
            secrets,
            assume_lifetime: self.assume_lifetime,
            wrapped: &self.wrapped,
            token_types: &self.token_types,
            now: self.clock.now().wall,
        }
    }
}

impl fmt::Debug for TokenEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let params: Vec<&str> = self.0.params.iter().map(|(key, _)| &**key).collect();
        let headers: Vec<&str> = self.0.headers.keys().map(|name| name.as_str()).collect();
        f.debug_struct("TokenEndpoint")
            .field("url", &self.0.url.shown)
            .field("server", &self.0.server)
            .field("client_auth", &self.0.client_auth)
            .field("params", &params)
            .field("headers", &headers)
            .field("encoding", &self.0.encoding)
            .field("assume_lifetime", &self.0.assume_lifetime)
            .field("timeout", &self.0.timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
