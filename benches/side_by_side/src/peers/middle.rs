//! middle: an authorizer that is renewed in the background, behind std's `RwLock`. Its own client is over
//! reqwest, and puts the header on as it is done here.

use std::sync::Arc;

use http::{Request, header::AUTHORIZATION};
use middle::{Authorizer, BasicClientCredentialAuthorizer};
use tokio::runtime::Runtime;
use tower::ServiceExt;

use super::Inner;
use crate::{case::Case, lane::over};

pub fn case(runtime: &Runtime, token_url: &str, inner: impl Inner) -> Case {
    let builder = BasicClientCredentialAuthorizer::basic_builder(
        "client",
        "secret",
        token_url.parse().unwrap(),
    );
    let authorizer = runtime.block_on(builder.build()).unwrap();
    let service = inner.map_request(move |mut request: Request<_>| {
        // Where it has no token that is valid, the server answers 401.
        if let Ok(value) = authorizer.authorization_header() {
            let value = Arc::unwrap_or_clone(value);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        request
    });
    Case::new("middle", "rotates", move |shape| {
        Some(over(service.clone(), shape))
    })
}
