//! aliri_tokens: a watcher that is renewed in the background, whose token is read at each request.

use aliri_clock::DurationSecs;
use aliri_tokens::{
    AccessToken, TokenWatcher, backoff::ErrorBackoffConfig, jitter::NullJitter,
    sources::ConstTokenSource,
};
use http::{Request, header::AUTHORIZATION};
use tokio::runtime::Runtime;
use tower::ServiceExt;

use super::{Inner, LIFETIME, bearer};
use crate::{case::Case, lane::over, shape::token};

pub fn case(runtime: &Runtime, inner: impl Inner) -> Case {
    let source = ConstTokenSource::new(AccessToken::new(token()))
        .with_token_valid_for(DurationSecs(LIFETIME.as_secs()));
    let watcher =
        TokenWatcher::spawn_from_token_source(source, NullJitter, ErrorBackoffConfig::default());
    let watcher = runtime.block_on(watcher).unwrap();
    let service = inner.map_request(move |mut request: Request<_>| {
        // It gives out text, whether expired or not. Text that fits in no header is answered with a 401.
        let value = bearer(watcher.token().access_token().as_str());
        if let Ok(value) = value {
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        request
    });
    Case::new("aliri_tokens", "rotates", move |shape| {
        Some(over(service.clone(), shape))
    })
}
