//! An API that answers whoever has a token that is good at this moment.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{AUTHORIZATION, WWW_AUTHENTICATE},
};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tower_oauth::BoxError;

use crate::{
    authorization_server::{AuthorizationServer, Validity},
    watched::Handed,
};

/// The newest token that the sender's cache has been handed for this login.
pub const IN_HAND: &str = "x-in-hand";
/// In a refusal: that one would have been accepted.
pub const WAS_GOOD: &str = "x-was-good";

pub struct Api {
    pub address: SocketAddr,
    authorization_server: Arc<AuthorizationServer>,
    counts: Mutex<Counts>,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub accepted: u64,
    /// 401s, by what was wrong with the token.
    pub expired: u64,
    pub revoked: u64,
    pub unknown: u64,
}

impl Api {
    pub async fn start(server: Arc<AuthorizationServer>) -> Result<Arc<Self>, BoxError> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let api = Arc::new(Self {
            address: listener.local_addr()?,
            authorization_server: server,
            counts: Mutex::default(),
        });
        tokio::spawn(Arc::clone(&api).listen(listener));
        Ok(api)
    }

    async fn listen(self: Arc<Self>, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let api = Arc::clone(&self);
            let _ = stream.set_nodelay(true);
            let service = service_fn(move |request| {
                let answer = api.answer(&request);
                async move { Ok::<_, hyper::Error>(answer) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    }

    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn counts(&self) -> Counts {
        *self.lock()
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let header = |name| request.headers().get(name)?.to_str().ok();
        let token = header(AUTHORIZATION.as_str()).and_then(|value| value.strip_prefix("Bearer "));
        let validity = self.authorization_server.validity(token.unwrap_or("none"));
        let mut counts = self.lock();
        match validity {
            Validity::Good => counts.accepted += 1,
            Validity::Expired => counts.expired += 1,
            Validity::Revoked => counts.revoked += 1,
            Validity::Unknown => counts.unknown += 1,
        }
        drop(counts);
        let mut answer = Response::new(Full::default());
        if validity == Validity::Good {
            return answer;
        }
        *answer.status_mut() = StatusCode::UNAUTHORIZED;
        let challenge = HeaderValue::from_static(r#"Bearer error="invalid_token""#);
        answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        let in_hand = header(IN_HAND).and_then(Handed::read);
        let now = SystemTime::now();
        if in_hand.is_some_and(|handed| self.authorization_server.was_good(handed, now)) {
            let yes = HeaderValue::from_static("yes");
            answer.headers_mut().insert(WAS_GOOD, yes);
        }
        answer
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
