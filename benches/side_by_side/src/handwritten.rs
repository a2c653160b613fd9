//! What people write.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header::AUTHORIZATION};
use http_body_util::Full;
use tokio::sync::{Mutex, RwLock};
use tower::Service;

use crate::{
    case::Case,
    lane::{NoOp, over},
    shape::token,
};

type BoxFuture = Pin<Box<dyn Future<Output = Result<Response<()>, Infallible>> + Send>>;

/// A token behind tokio's `RwLock`, a clone of the request for the second send, a boxed future.
#[derive(Clone)]
struct ByRwLock<S> {
    inner: S,
    token: Arc<RwLock<String>>,
}

/// The same behind tokio's `Mutex`.
#[derive(Clone)]
struct ByMutex<S> {
    inner: S,
    token: Arc<Mutex<String>>,
}

fn bearer(token: &str) -> HeaderValue {
    HeaderValue::try_from(format!("Bearer {token}")).unwrap()
}

macro_rules! by_lock {
    ($name:ident, $lock:ident) => {
        impl<S> Service<Request<Full<Bytes>>> for $name<S>
        where
            S: Service<Request<Full<Bytes>>, Response = Response<()>, Error = Infallible>
                + Clone
                + Send
                + 'static,
            S::Future: Send,
        {
            type Response = Response<()>;
            type Error = Infallible;
            type Future = BoxFuture;

            fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
                self.inner.poll_ready(cx)
            }

            fn call(&mut self, mut request: Request<Full<Bytes>>) -> BoxFuture {
                let clone = self.inner.clone();
                let mut inner = std::mem::replace(&mut self.inner, clone);
                let token = Arc::clone(&self.token);
                Box::pin(async move {
                    let mut again = request.clone();
                    let value = bearer(&token.$lock().await);
                    request.headers_mut().insert(AUTHORIZATION, value);
                    let answer = inner.call(request).await?;
                    if answer.status() != StatusCode::UNAUTHORIZED {
                        return Ok(answer);
                    }
                    let value = bearer(&token.$lock().await);
                    again.headers_mut().insert(AUTHORIZATION, value);
                    inner.call(again).await
                })
            }
        }
    };
}

by_lock!(ByRwLock, read);
by_lock!(ByMutex, lock);

pub fn cases() -> Vec<Case> {
    let by_rw_lock = ByRwLock {
        inner: NoOp,
        token: Arc::new(RwLock::new(token())),
    };
    let by_mutex = ByMutex {
        inner: NoOp,
        token: Arc::new(Mutex::new(token())),
    };
    vec![
        Case::new("by hand, RwLock", "replays", move |shape| {
            Some(over(by_rw_lock.clone(), shape))
        }),
        Case::new("by hand, Mutex", "replays", move |shape| {
            Some(over(by_mutex.clone(), shape))
        }),
    ]
}
