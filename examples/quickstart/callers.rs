//! The callers: a hyper client behind the layer, and many requests through it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client as Hyper, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{task::JoinSet, time::interval};
use tower::{ServiceBuilder, ServiceExt};
use tower_oauth::{
    BoxError, ClientAuth, ClientCredentials, OAuth, OAuthLayer, ReplayBody, TokenCache,
    TokenEndpoint,
};

use crate::{
    api::{Api, REQUEST_ID},
    authorization_server::{AuthorizationServer, CLIENT_ID, CLIENT_SECRET},
};

/// Where tokens come from.
pub fn source(server: &AuthorizationServer) -> Result<ClientCredentials, BoxError> {
    let endpoint = TokenEndpoint::builder(server.url())
        .client_auth(ClientAuth::basic(CLIENT_ID, CLIENT_SECRET))
        .build()?;
    Ok(ClientCredentials::new(endpoint))
}

/// The client under test; cheap to clone.
#[derive(Clone)]
pub struct Client {
    http: OAuth<Hyper<HttpConnector, ReplayBody<Full<Bytes>>>>,
    cache: TokenCache,
    url: String,
}

impl Client {
    pub fn new(api: &Api, cache: TokenCache) -> Result<Self, BoxError> {
        // HTTP/2 carries all requests on one connection, whatever the limit of open files.
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let hyper = Hyper::builder(TokioExecutor::new())
            .http2_only(true)
            .build(connector);
        let oauth = OAuthLayer::for_origin(api.origin(), cache.clone())?;
        Ok(Self {
            http: ServiceBuilder::new().layer(oauth).service(hyper),
            cache,
            url: format!("{}/echo", api.origin()),
        })
    }

    /// One request, as its caller saw it.
    async fn call(self) -> Seen {
        let found_token = self.cache.has_token();
        let from = Instant::now();
        let problem = self.post().await.err().map(|error| error.to_string());
        Seen {
            from,
            to: Instant::now(),
            found_token,
            problem,
        }
    }

    async fn post(self) -> Result<(), BoxError> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed).to_string();
        let request = Request::post(&self.url)
            .header(REQUEST_ID, &id)
            .body(Full::from(id.clone()))?;
        let (head, body) = self.http.oneshot(request).await?.into_parts();
        if head.status != StatusCode::OK {
            return Err(format!("the API answered {}", head.status).into());
        }
        if body.collect().await?.to_bytes() != id {
            return Err("the API got another body than the one that was sent".into());
        }
        Ok(())
    }

    /// `count` requests at once.
    pub async fn at_once(&self, count: usize) -> Vec<Seen> {
        let calls: JoinSet<Seen> = (0..count).map(|_| self.clone().call()).collect();
        calls.join_all().await
    }

    /// `burst` requests at once each `period`, as long as `more` says so of the requests so far.
    pub async fn paced(
        &self,
        burst: usize,
        period: Duration,
        more: impl Fn(usize) -> bool,
    ) -> Vec<Seen> {
        let mut calls = JoinSet::new();
        let mut seen = Vec::new();
        let mut ticks = interval(period);
        while more(seen.len() + calls.len()) {
            ticks.tick().await;
            for _ in 0..burst {
                calls.spawn(self.clone().call());
            }
            while let Some(Ok(done)) = calls.try_join_next() {
                seen.push(done);
            }
            // Slower on a machine that can't keep up, else requests would queue for seconds.
            while calls.len() > 4 * burst {
                if let Some(Ok(done)) = calls.join_next().await {
                    seen.push(done);
                }
            }
        }
        seen.extend(calls.join_all().await);
        seen
    }
}

/// What a caller saw of its request.
pub struct Seen {
    pub from: Instant,
    pub to: Instant,
    /// Whether the cache held a token when the request started; if not, it had to wait for one.
    pub found_token: bool,
    /// Why this is not the answer that the caller wanted.
    pub problem: Option<String>,
}
