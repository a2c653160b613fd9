//! Discover: what the authorization server says of itself (RFC 8414, OpenID Connect Discovery 1.0
//! §4).

mod error;
mod metadata;
mod well_known;

use std::{
    fmt,
    future::{Future, IntoFuture},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body::Body;
use http_body_util::Full;
use tower_service::Service;

pub use self::error::DiscoveryError;
use self::{
    metadata::{Document, Metadata},
    well_known::Issuer,
};
use super::{
    EndpointError, TokenEndpoint, TokenEndpointBuilder,
    checks::{checked_headers, unshown},
    error::is_unavailable,
    failure::Failure,
    redact::Redactor,
    request::accept_plain_json,
    response::pointed_to,
    server::Told,
    transport::{Answer, Transport},
    values::{content_coding, retry_after},
};
use crate::{clock::Clock, source::BoxError};

impl TokenEndpoint {
    /// Asks the authorization server `issuer` for its metadata (RFC 8414), and begins to describe
    /// its token endpoint by it.
    ///
    /// In place of [`builder`](Self::builder), where the issuer is known rather than the URL of
    /// its token endpoint. Nothing is sent before the answer is awaited.
    ///
    /// ```no_run
    /// # #[cfg(feature = "https-client")]
    /// # async fn discover() -> Result<(), tower_oauth::BoxError> {
    /// use tower_oauth::{ClientAuth, TokenEndpoint};
    ///
    /// let endpoint = TokenEndpoint::discover("https://auth.example.com/tenant")
    ///     .await?
    ///     .client_auth(ClientAuth::basic("client-id", "client-secret"))
    ///     .build()?;
    /// # drop(endpoint);
    /// # Ok(())
    /// # }
    /// ```
    pub fn discover(issuer: impl Into<String>) -> Discovery {
        Discovery {
            issuer: issuer.into(),
            builder: TokenEndpointBuilder::of(Told::default()),
        }
    }
}

/// A search for an authorization server's metadata; made by [`TokenEndpoint::discover`], sent by
/// `.await`.
///
/// It asks at RFC 8414's place, `/.well-known/oauth-authorization-server` between the host and the
/// path of the issuer. If there is none, it asks at those of OpenID:
/// `/.well-known/openid-configuration` after the path, and for an issuer with a path then between
/// the two (RFC 8414 §5). A redirect, which isn't followed, an error of the client's kind (4xx),
/// and an answer that is no metadata count as none; an error that may pass ends the search.
/// Metadata whose `issuer` isn't the one that was asked for, byte for byte, is never used.
///
/// All that is said here counts for the [`TokenEndpointBuilder`] that it ends in, too. That one
/// knows the server's endpoints, and chooses the client authentication:
/// [`ClientAuth::basic`](crate::ClientAuth::basic) and [`post`](crate::ClientAuth::post) stand for
/// each other if the server lists only one of them, and a method that isn't on its list is refused
/// by [`build`](TokenEndpointBuilder::build); where it lists none, the client's choice stands. With
/// [`ClientAuth::tls`](crate::ClientAuth::tls), `mtls_endpoint_aliases` (RFC 8705 §5) take the
/// place of the endpoints.
#[must_use = "nothing is sent until it is awaited"]
pub struct Discovery {
    issuer: String,
    /// The one that it ends in, which doesn't know the server yet.
    builder: TokenEndpointBuilder,
}

impl Discovery {
    /// Adds a header to each request, as [`TokenEndpointBuilder::header`] does.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.builder = self.builder.header(name, value);
        self
    }

    /// Sets how long the search may take in all, and later each request to the server; 10 seconds
    /// by default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.builder = self.builder.timeout(timeout);
        self
    }

    /// Sets what carries the requests, as [`TokenEndpointBuilder::transport`] does. It must not
    /// follow redirects.
    pub fn transport<S, RB>(mut self, service: S) -> Self
    where
        S: Service<Request<Full<Bytes>>, Response = Response<RB>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        RB: Body + Send + 'static,
        RB::Error: Into<BoxError>,
    {
        self.builder = self.builder.transport(service);
        self
    }

    /// Sets the root certificates to trust, as [`TokenEndpointBuilder::root_certificates`] does.
    #[cfg(feature = "https-client")]
    #[cfg_attr(docsrs, doc(cfg(feature = "https-client")))]
    pub fn root_certificates(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.builder = self.builder.root_certificates(pem);
        self
    }

    /// Lets the search and later requests to the server travel over plain `http` to other machines;
    /// by default only to loopback.
    ///
    /// Whoever is on the way can then say where the client's secret is sent.
    pub fn allow_plaintext(mut self) -> Self {
        self.builder = self.builder.allow_plaintext();
        self
    }

    async fn run(self) -> Result<TokenEndpointBuilder, DiscoveryError> {
        let mut builder = self.builder;
        let issuer = Issuer::parse(&self.issuer, builder.allow_plaintext)?;
        let search = Search {
            headers: checked_headers(builder.headers.clone())?,
            secrets: Redactor::new(unshown(&[], &builder.headers)),
            transport: builder.carrier.clone().open(&issuer.url)?,
            issuer,
        };
        let metadata = tokio::time::timeout(builder.timeout, search.run())
            .await
            .unwrap_or_else(|_| {
                Err(DiscoveryError::Failed(EndpointError::TimedOut {
                    url: search.issuer.text.clone(),
                    limit: builder.timeout,
                }))
            })?;
        builder.told = metadata.into_told();
        Ok(builder)
    }
}

impl IntoFuture for Discovery {
    type Output = Result<TokenEndpointBuilder, DiscoveryError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl fmt::Debug for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not even the issuer: it wasn't checked yet and may hold a password.
        f.debug_struct("Discovery")
            .field("timeout", &self.builder.timeout)
            .field("allow_plaintext", &self.builder.allow_plaintext)
            .finish_non_exhaustive()
    }
}

struct Search {
    issuer: Issuer,
    headers: HeaderMap,
    secrets: Redactor,
    transport: Arc<Transport>,
}

/// What stands at one of the places.
enum Place {
    Ours(Metadata),
    Others(DiscoveryError),
    Nothing(String),
}

impl Search {
    async fn run(&self) -> Result<Metadata, DiscoveryError> {
        let mut another = None;
        let mut tried = Vec::new();
        for url in self.issuer.places() {
            match self.ask(&url).await? {
                Place::Ours(metadata) => return Ok(metadata),
                // A server that ignores what stands behind the place may still know better at the
                // next. What this one says isn't used.
                Place::Others(error) => drop(another.get_or_insert(error)),
                Place::Nothing(answer) => tried.push(format!("{url} answered {answer}")),
            }
        }
        Err(another.unwrap_or_else(|| DiscoveryError::NotFound {
            issuer: self.issuer.text.clone(),
            tried,
        }))
    }

    async fn ask(&self, url: &Arc<str>) -> Result<Place, DiscoveryError> {
        let mut request = Request::new(Full::default());
        // It was put together from parts of a URL; if it isn't one, nothing is there.
        let Ok(uri) = url.parse::<Uri>() else {
            return Ok(Place::Nothing(String::from("nothing: it isn't a URL")));
        };
        *request.uri_mut() = uri;
        *request.headers_mut() = self.headers.clone();
        accept_plain_json(request.headers_mut());
        match self.transport.send(request).await {
            Ok(answer) => self.judge(url, &answer),
            Err(Failure::TooLarge(status)) => {
                let size = format!("HTTP {} with more than 1 MiB", status.as_u16());
                Ok(Place::Nothing(size))
            }
            Err(failure) => Err(DiscoveryError::Failed(failure.at(url, &self.secrets))),
        }
    }

    fn judge(&self, url: &Arc<str>, answer: &Answer) -> Result<Place, DiscoveryError> {
        let status = answer.status;
        if is_unavailable(status) {
            return Err(DiscoveryError::Unavailable {
                url: url.clone(),
                status,
                retry_after: retry_after(&answer.headers, Clock::default().now().wall),
            });
        }
        let code = status.as_u16();
        let nothing = |what: String| Ok(Place::Nothing(format!("HTTP {code}{what}")));
        if status.is_redirection() {
            let origin = pointed_to(url, answer, &self.secrets);
            return nothing(format!(
                " and points to {}, which isn't followed",
                origin.as_deref().unwrap_or("no place")
            ));
        }
        // RFC 8414 §3.2: "A successful response MUST use the 200 OK HTTP status code".
        if status != StatusCode::OK {
            return nothing(String::new());
        }
        let Some(document) = Document::parse(&answer.body) else {
            let what = match content_coding(&answer.headers) {
                Some(coding) => {
                    let coding = self.secrets.clean(coding);
                    format!(" in the Content-Encoding {coding}, which can't be read")
                }
                None => String::from(" with something that isn't a JSON object"),
            };
            return nothing(what);
        };
        let Some(found) = document.issuer() else {
            return nothing(String::from(" with JSON that names no issuer"));
        };
        // RFC 8414 §3.3: "MUST be identical to the authorization server's issuer identifier value
        // [...] If these values are not identical, the data contained in the response MUST NOT be
        // used."
        if found != &*self.issuer.text {
            return Ok(Place::Others(DiscoveryError::OtherIssuer {
                url: url.clone(),
                issuer: self.issuer.text.clone(),
                found: self.secrets.clean(found),
            }));
        }
        match document.read() {
            Ok(metadata) => Ok(Place::Ours(metadata)),
            Err(problem) => Err(DiscoveryError::Malformed {
                url: url.clone(),
                problem,
            }),
        }
    }
}
