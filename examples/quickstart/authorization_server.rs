//! A small authorization server: the client credentials grant (RFC 6749 §4.4) for one client.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE},
};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, time::sleep};
use tower_oauth::BoxError;

pub const CLIENT_ID: &str = "quickstart";
pub const CLIENT_SECRET: &str = "correct horse battery staple";

pub struct AuthorizationServer {
    pub address: SocketAddr,
    state: Mutex<State>,
    /// Counts every request to the token endpoint, whatever becomes of it.
    token_requests: watch::Sender<u64>,
}

/// How tokens are issued from now on.
#[derive(Clone, Copy, Default)]
pub struct Settings {
    /// How long a token lives.
    pub lifetime: Duration,
    /// How long a token request takes.
    pub latency: Duration,
    /// Answers 503 to every token request.
    pub down: bool,
}

#[derive(Default)]
struct State {
    settings: Settings,
    /// The tokens that can be used, with the end of their lives.
    live: HashMap<String, Instant>,
    /// From when to when each token request was being served.
    served: Vec<(Instant, Instant)>,
}

impl AuthorizationServer {
    pub async fn start() -> Result<Arc<Self>, BoxError> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let server = Arc::new(Self {
            address: listener.local_addr()?,
            state: Mutex::default(),
            token_requests: watch::Sender::new(0),
        });
        tokio::spawn(Arc::clone(&server).listen(listener));
        Ok(server)
    }

    async fn listen(self: Arc<Self>, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let server = Arc::clone(&self);
            let service = service_fn(move |request| {
                let server = Arc::clone(&server);
                async move { server.token_endpoint(request).await }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}/token", self.address)
    }

    pub fn set(&self, settings: Settings) {
        self.lock().settings = settings;
    }

    pub fn revoke_all(&self) {
        self.lock().live.clear();
    }

    /// What the API asks for each request that it gets.
    pub fn is_live(&self, token: &str) -> bool {
        let state = self.lock();
        state
            .live
            .get(token)
            .is_some_and(|end| Instant::now() < *end)
    }

    pub fn token_requests(&self) -> u64 {
        *self.token_requests.borrow()
    }

    /// Waits until there were more than `count` token requests, answered or not.
    pub async fn more_token_requests_than(&self, count: u64) {
        let mut seen = self.token_requests.subscribe();
        // Can't fail: the sender is in `self`.
        let _ = seen.wait_for(|seen| *seen > count).await;
    }

    /// From when to when each token request since `instant` was being served.
    pub fn served_since(&self, instant: Instant) -> Vec<(Instant, Instant)> {
        let state = self.lock();
        let since = state.served.iter().filter(|(from, _)| *from >= instant);
        since.copied().collect()
    }

    async fn token_endpoint(
        &self,
        request: Request<Incoming>,
    ) -> hyper::Result<Response<Full<Bytes>>> {
        let from = Instant::now();
        self.token_requests.send_modify(|count| *count += 1);
        let settings = self.lock().settings;
        let (status, body) = if settings.down {
            (StatusCode::SERVICE_UNAVAILABLE, Value::Null)
        } else {
            sleep(settings.latency).await;
            self.grant(request, settings.lifetime).await?
        };
        self.lock().served.push((from, Instant::now()));
        let mut answer = Response::new(Full::from(body.to_string()));
        *answer.status_mut() = status;
        let json = HeaderValue::from_static("application/json");
        answer.headers_mut().insert(CONTENT_TYPE, json);
        let no_store = HeaderValue::from_static("no-store");
        answer.headers_mut().insert(CACHE_CONTROL, no_store);
        Ok(answer)
    }

    async fn grant(
        &self,
        request: Request<Incoming>,
        lifetime: Duration,
    ) -> hyper::Result<(StatusCode, Value)> {
        let (head, body) = request.into_parts();
        if head.method != Method::POST || head.uri.path() != "/token" {
            return Ok((StatusCode::NOT_FOUND, Value::Null));
        }
        if head
            .headers
            .get(AUTHORIZATION)
            .is_none_or(|given| *given != credentials())
        {
            return Ok((
                StatusCode::UNAUTHORIZED,
                json!({ "error": "invalid_client" }),
            ));
        }
        let form = body.collect().await?.to_bytes();
        let grant = form_urlencoded::parse(&form).find(|(key, _)| key == "grant_type");
        if grant.is_none_or(|(_, value)| value != "client_credentials") {
            let error = json!({ "error": "unsupported_grant_type" });
            return Ok((StatusCode::BAD_REQUEST, error));
        }
        // A real server takes a cryptographic random number.
        let token = format!("{:032x}", fastrand::u128(..));
        let end = Instant::now() + lifetime;
        self.lock().live.insert(token.clone(), end);
        let answer = json!({
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": lifetime.as_secs(),
        });
        Ok((StatusCode::OK, answer))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// RFC 6749 §2.3.1: id and secret are form-encoded before they go into Basic.
fn credentials() -> String {
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", encoded(CLIENT_ID), encoded(CLIENT_SECRET));
    format!("Basic {}", BASE64_STANDARD.encode(pair))
}
