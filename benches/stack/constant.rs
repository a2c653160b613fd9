//! What the layer is held against: a header that never changes.

use std::task::{Context, Poll};

use http::{HeaderValue, Request, header::AUTHORIZATION};
use tower::Service;

#[derive(Clone)]
pub struct Constant<S> {
    inner: S,
    header: HeaderValue,
}

impl<S> Constant<S> {
    pub fn bearer(token: &str, inner: S) -> Self {
        let mut header = HeaderValue::try_from(format!("Bearer {token}")).unwrap();
        header.set_sensitive(true);
        Self { inner, header }
    }
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for Constant<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        let header = self.header.clone();
        request.headers_mut().insert(AUTHORIZATION, header);
        self.inner.call(request)
    }
}
