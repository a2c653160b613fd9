//! The way to an upstream and back, with a token on it. Bodies stream through.

use std::{io, net::IpAddr, time::Duration};

use http::{Request, Response, StatusCode, Uri, Version, header::HOST, uri::PathAndQuery};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::time::timeout;
use tower::{Layer, ServiceExt};
use tower_oauth::{OAuth, OAuthLayer, ReplayBody, TokenCache};

use super::{config, hop, problem::Problem, tokens};

pub struct Upstream {
    pub cache: TokenCache,
    origin: Uri,
    client: OAuth<Client<HttpsConnector<HttpConnector>, ReplayBody<Incoming>>>,
    timeout: Option<Duration>,
    version: Version,
}

impl Upstream {
    pub fn new(
        config: config::Upstream,
        connector: HttpsConnector<HttpConnector>,
    ) -> Result<Self, String> {
        let cache = tokens::cache(&config)?;
        let layer = OAuthLayer::for_origin(&config.origin, cache.clone())
            .map_err(|error| format!("origin: {error}"))?
            .replay_limit(config.replay_limit)
            // A caller's own `Authorization` is dropped: who calls is for this proxy to say.
            .replace_authorization(true);
        let origin: Uri = config.origin.parse().map_err(|_| "origin: write a URL")?;
        let layer = match is_protected(&origin) {
            _ if config.allow_plaintext => layer.allow_plaintext(),
            true => layer,
            false => {
                let why = "the token would travel unencrypted; write https:, or allow_plaintext = \
                           true where the network encrypts by itself";
                return Err(format!("origin: {why}"));
            }
        };
        let mut http = Client::builder(TokioExecutor::new());
        Ok(Self {
            cache,
            origin,
            client: layer.layer(http.http2_only(config.http2).build(connector)),
            timeout: config.timeout.map(Duration::from_secs),
            version: match config.http2 {
                true => Version::HTTP_2,
                // Goes on either, where TLS chooses.
                false => Version::HTTP_11,
            },
        })
    }

    /// The upstream's answer, redirects and refusals included: they are the caller's.
    pub async fn forward(&self, request: Request<Incoming>) -> Result<Response<Incoming>, Problem> {
        let origin = self.origin.to_string();
        let origin = origin.trim_end_matches('/');
        let sent = self.client.clone().oneshot(self.outbound(request)?);
        let answer = match self.timeout {
            None => sent.await,
            Some(limit) => timeout(limit, sent).await.map_err(|_| {
                let text = format!("{origin} did not answer within {limit:?} (timeout)");
                let status = StatusCode::GATEWAY_TIMEOUT;
                Problem::new(status, "http_response_timeout", text)
            })?,
        };
        let mut answer = answer.map_err(|error| match error.downcast_ref() {
            Some(error) => Problem::no_token(error, origin),
            None => Problem::unanswered(&error, origin),
        })?;
        let version = answer.version();
        hop::answer(answer.headers_mut(), version);
        // The way back to the caller has another one.
        *answer.version_mut() = Version::HTTP_11;
        Ok(answer)
    }

    fn outbound(&self, request: Request<Incoming>) -> Result<Request<Incoming>, Problem> {
        let (mut head, body) = request.into_parts();
        hop::count(&head.method, &mut head.headers)?;
        hop::request(&mut head.headers, head.version);
        // The client makes it anew from the URI.
        head.headers.remove(HOST);
        let path = head.uri.path_and_query().cloned();
        let mut uri = self.origin.clone().into_parts();
        uri.path_and_query = path.or(Some(PathAndQuery::from_static("/")));
        head.uri = Uri::from_parts(uri).map_err(|error| {
            let text = format!("the request's target can't be forwarded: {error}");
            Problem::new(StatusCode::BAD_REQUEST, "http_request_error", text)
        })?;
        // The connection to the upstream has a version of its own.
        head.version = self.version;
        head.extensions.clear();
        Ok(Request::from_parts(head, body))
    }
}

fn is_protected(origin: &Uri) -> bool {
    let host = origin.host().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let loopback = address.map_or(host == "localhost", |address| address.is_loopback());
    loopback || origin.scheme_str() == Some("https")
}

/// To HTTP/2 or HTTP/1.1, as the upstream chooses in TLS; without TLS only where its origin says
/// `http`.
pub fn connector() -> io::Result<HttpsConnector<HttpConnector>> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(Duration::from_secs(10)));
    let tls = HttpsConnectorBuilder::new().with_native_roots()?;
    Ok(tls
        .https_or_http()
        .enable_all_versions()
        .wrap_connector(http))
}
