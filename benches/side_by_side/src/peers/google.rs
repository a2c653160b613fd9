//! google-cloud-auth: no layer, so a service that asks the credentials for their headers at each request.
//! Without an entity tag, as its documentation has it for callers that derive nothing from the headers.

use std::{
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use google_cloud_auth::credentials::{CacheableResource, Credentials, user_account};
use http::{Extensions, Request};
use http_body_util::Full;
use tokio::runtime::Runtime;
use tower::{BoxError, Service};

use super::{Answer, Inner};
use crate::{case::Case, lane::over};

#[derive(Clone)]
struct WithCredentials<S> {
    inner: S,
    credentials: Credentials,
}

impl<S: Inner> Service<Request<Full<Bytes>>> for WithCredentials<S> {
    type Response = Answer;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<Full<Bytes>>) -> Self::Future {
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        let credentials = self.credentials.clone();
        Box::pin(async move {
            let headers = credentials.headers(Extensions::new()).await?;
            if let CacheableResource::New { data, .. } = headers {
                request.headers_mut().extend(data);
            }
            Ok(inner.call(request).await?)
        })
    }
}

pub fn case(runtime: &Runtime, token_url: &str, inner: impl Inner) -> Case {
    // Its HTTP client wants to know who would encrypt, even to a URL without TLS.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let user = r#"{"type":"authorized_user","client_id":"client","client_secret":"secret","refresh_token":"refresh"}"#;
    let builder = user_account::Builder::new(user.parse().unwrap()).with_token_uri(token_url);
    let credentials = builder.build().unwrap();
    runtime
        .block_on(credentials.headers(Extensions::new()))
        .unwrap();
    let service = WithCredentials { inner, credentials };
    Case::new("google-cloud-auth", "rotates", move |shape| {
        Some(over(service.clone(), shape))
    })
}
