//! A small API: sends back the body of each request that carries a live token.

use std::{
    collections::HashMap,
    net::SocketAddr,
    ops::Sub,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{AUTHORIZATION, WWW_AUTHENTICATE},
};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{net::TcpListener, sync::Barrier};
use tower_oauth::BoxError;

use crate::authorization_server::AuthorizationServer;

/// The caller's number for a request: the same each time the request is sent.
pub const REQUEST_ID: &str = "x-request-id";

pub struct Api {
    pub address: SocketAddr,
    authorization_server: Arc<AuthorizationServer>,
    state: Mutex<State>,
}

/// What the API saw.
#[derive(Clone, Copy, Default)]
pub struct Counts {
    /// Requests, however often they were sent.
    pub requests: u64,
    /// Requests that were sent a second time.
    pub retries: u64,
    /// Requests that were sent a third time: never, the layer promises.
    pub third_sends: u64,
    /// Times that a token was refused.
    pub refusals: u64,
}

#[derive(Default)]
struct State {
    counts: Counts,
    /// How often each request was sent.
    sends: HashMap<String, u32>,
    hold: Option<Arc<Barrier>>,
}

impl Api {
    pub async fn start(server: Arc<AuthorizationServer>) -> Result<Arc<Self>, BoxError> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let api = Arc::new(Self {
            address: listener.local_addr()?,
            authorization_server: server,
            state: Mutex::default(),
        });
        tokio::spawn(Arc::clone(&api).listen(listener));
        Ok(api)
    }

    async fn listen(self: Arc<Self>, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let api = Arc::clone(&self);
            // Else an answer waits for the next one, up to 40 ms, in the hope of filling a packet.
            let _ = stream.set_nodelay(true);
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let api = Arc::clone(&api);
                    async move { api.answer(request).await }
                });
                let mut connection = auto::Builder::new(TokioExecutor::new());
                connection.http2().max_concurrent_streams(None);
                // Ends when the client hangs up.
                let _ = connection
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    }

    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Makes each request that comes in pass the barrier twice before its token is looked at.
    pub fn hold(&self, barrier: Option<Arc<Barrier>>) {
        self.lock().hold = barrier;
    }

    async fn answer(&self, request: Request<Incoming>) -> hyper::Result<Response<Full<Bytes>>> {
        let hold = self.count(&request);
        if let Some(barrier) = hold {
            barrier.wait().await;
            barrier.wait().await;
        }
        let authorization = request.headers().get(AUTHORIZATION);
        let token = authorization.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        if !token.is_some_and(|token| self.authorization_server.is_live(token)) {
            self.lock().counts.refusals += 1;
            let mut answer = Response::new(Full::default());
            *answer.status_mut() = StatusCode::UNAUTHORIZED;
            let challenge = HeaderValue::from_static(r#"Bearer error="invalid_token""#);
            answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            return Ok(answer);
        }
        let body = request.into_body().collect().await?.to_bytes();
        Ok(Response::new(Full::new(body)))
    }

    fn count(&self, request: &Request<Incoming>) -> Option<Arc<Barrier>> {
        let id = request.headers().get(REQUEST_ID);
        let id = String::from_utf8_lossy(id.map_or(b"none", |id| id.as_bytes())).into_owned();
        let mut state = self.lock();
        let sends = state.sends.entry(id).or_default();
        *sends += 1;
        match *sends {
            1 => state.counts.requests += 1,
            2 => state.counts.retries += 1,
            _ => state.counts.third_sends += 1,
        }
        state.hold.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sub for Counts {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            requests: self.requests - before.requests,
            retries: self.retries - before.retries,
            third_sends: self.third_sends - before.third_sends,
            refusals: self.refusals - before.refusals,
        }
    }
}
