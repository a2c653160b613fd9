//! Tokens, caches and the services below the layer.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header::AUTHORIZATION};
use http_body_util::Empty;
use tokio::sync::watch;
use tower::Service;
use tower_oauth::{AccessToken, TokenCache, TokenError};

use crate::host::Mark;

/// As long as a signed token of the usual kind.
pub const TOKEN: usize = 900;
pub const HOUR: Duration = Duration::from_secs(3600);

/// A token that no other call gives.
pub fn token(number: usize) -> Result<AccessToken, TokenError> {
    let mut text = "A".repeat(TOKEN - 20);
    text.push_str(&format!("{number:020}"));
    Ok(AccessToken::bearer(text)?.expires_in(HOUR))
}

/// A cache of its own for each tenant. The source counts how often it is asked.
pub fn tenant(number: usize, asked: &'static AtomicUsize) -> TokenCache {
    TokenCache::from(move || async move {
        asked.fetch_add(1, Ordering::Relaxed);
        token(number)
    })
}

pub fn request() -> Request<Empty<Bytes>> {
    let request = Request::get("https://api.example.com/accounts/1/moves");
    request.body(Empty::new()).unwrap()
}

/// A source that answers when it is let.
#[derive(Clone)]
pub struct Held {
    open: watch::Sender<bool>,
    asked: Arc<AtomicUsize>,
    answered: Arc<OnceLock<Mark>>,
}

impl Held {
    pub fn new() -> Self {
        Self {
            open: watch::Sender::new(false),
            asked: Arc::default(),
            answered: Arc::default(),
        }
    }

    pub fn open(&self) {
        self.open.send_replace(true);
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// When the answer was given.
    pub fn answered(&self) -> Mark {
        *self.answered.get().unwrap()
    }

    pub fn cache(&self) -> TokenCache {
        let held = self.clone();
        TokenCache::from(move || {
            let held = held.clone();
            async move {
                let number = held.asked.fetch_add(1, Ordering::Relaxed);
                let mut open = held.open.subscribe();
                open.wait_for(|open| *open).await.unwrap();
                let token = token(number);
                held.answered.get_or_init(Mark::begin);
                token
            }
        })
    }
}

/// Answers at once.
#[derive(Clone)]
pub struct Answering;

impl<B> Service<Request<B>> for Answering {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        drop(request);
        ready(Ok(Response::new(())))
    }
}

/// Answers 401 to one token, and 200 to all others.
#[derive(Clone)]
pub struct Refusing(pub Arc<str>);

impl<B> Service<Request<B>> for Refusing {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut answer = Response::new(());
        if request.headers()[AUTHORIZATION].as_bytes() == self.0.as_bytes() {
            *answer.status_mut() = StatusCode::UNAUTHORIZED;
        }
        ready(Ok(answer))
    }
}
