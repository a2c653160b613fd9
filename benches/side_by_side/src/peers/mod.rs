//! Other crates, driven offline: each has fetched one token before the first request, and would renew it.

mod aliri;
mod azure;
mod gears;
mod google;
mod kube;
mod middle;
mod token_server;

#[cfg(test)]
mod tests;

use std::{convert::Infallible, sync::Arc, time::Duration};

use azure_core::http::policies::Policy;
use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use tokio::runtime::Runtime;
use tower::Service;

use crate::{
    case::Case,
    lane::{Answering, NoOp},
};

type Answer = Response<()>;

/// What the token says of its lifetime: long enough that nothing is renewed while the benchmark runs.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

pub fn cases(runtime: &Runtime) -> Vec<Case> {
    around(runtime, NoOp, Arc::new(azure::End))
}

/// The cases around a service of the caller's choice, and around the end of a pipeline for azure_core, which
/// has requests of its own.
fn around(runtime: &Runtime, inner: impl Inner, end: Arc<dyn Policy>) -> Vec<Case> {
    let token_url = runtime.block_on(token_server::start());
    // The libraries start their background tasks as they are made.
    let _in_runtime = runtime.enter();
    let mut cases = gears::cases(runtime, &token_url, inner.clone());
    cases.push(kube::case(inner.clone()));
    cases.push(google::case(runtime, &token_url, inner.clone()));
    cases.push(aliri::case(runtime, inner.clone()));
    cases.push(middle::case(runtime, &token_url, inner));
    cases.extend(azure::cases(end));
    cases
}

/// What a case wraps: `NoOp`, or a check in its place.
trait Inner:
    Service<Request<Full<Bytes>>, Response = Answer, Error = Infallible, Future = Answering>
    + Clone
    + Send
    + 'static
{
}

impl<S> Inner for S where
    S: Service<Request<Full<Bytes>>, Response = Answer, Error = Infallible, Future = Answering>
        + Clone
        + Send
        + 'static
{
}

/// For the libraries that give out the bare token.
fn bearer(token: &str) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))?;
    value.set_sensitive(true);
    Ok(value)
}
