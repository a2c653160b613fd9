//! Every request of every case arrives with the token.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
};

use async_trait::async_trait;
use azure_core::http::{
    Context as AzureContext, Request as AzureRequest, headers,
    policies::{Policy, PolicyResult},
};
use bytes::Bytes;
use http::{Request, header::AUTHORIZATION};
use http_body_util::Full;
use tower::Service;

use super::{Answer, around, azure::End};
use crate::{
    lane::{Answering, NoOp},
    shape::{Kind, Shape, token},
};

const REQUESTS: u32 = 50;

/// Answers as `NoOp` and `End` do; counts the requests that have the token and nothing else too many.
#[derive(Debug, Clone, Default)]
struct Check(Arc<AtomicU32>);

impl Check {
    fn see(&self, authorization: Option<&str>, headers: usize) {
        if headers == 7 && authorization == Some(&format!("Bearer {}", token())) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Service<Request<Full<Bytes>>> for Check {
    type Response = Answer;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let authorization = request.headers().get(AUTHORIZATION);
        self.see(
            authorization.and_then(|value| value.to_str().ok()),
            request.headers().len(),
        );
        NoOp.call(request)
    }
}

#[async_trait]
impl Policy for Check {
    async fn send(
        &self,
        context: &AzureContext,
        request: &mut AzureRequest,
        next: &[Arc<dyn Policy>],
    ) -> PolicyResult {
        let authorization = request.headers().get_optional_str(&headers::AUTHORIZATION);
        self.see(authorization, request.headers().iter().count());
        End.send(context, request, next).await
    }
}

#[test]
fn every_request_has_the_token() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let runtime = runtime.unwrap();
    let check = Check::default();
    let cases = around(&runtime, check.clone(), Arc::new(check.clone()));
    for case in &cases {
        for kind in [Kind::Get6, Kind::Rec6, Kind::Post6] {
            for cloned in [false, true] {
                let Some(mut lane) = case.lane(Shape { kind, cloned }) else {
                    assert!(
                        case.name.starts_with("azure_core") && kind == Kind::Rec6,
                        "{}",
                        case.name
                    );
                    continue;
                };
                check.0.store(0, Ordering::Relaxed);
                lane.run(REQUESTS);
                let expected = if case.name.ends_with("no token") {
                    0
                } else {
                    REQUESTS
                };
                let seen = check.0.load(Ordering::Relaxed);
                assert_eq!(seen, expected, "{}: {kind:?}, cloned: {cloned}", case.name);
            }
        }
    }
}
