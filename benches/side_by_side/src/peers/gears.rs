//! cf-gears-toolkit-auth: its layer that only adds the token, and its layer that also renews it at a 401
//! and sends the request once more.

use std::convert::Infallible;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::runtime::Runtime;
use toolkit_auth::{
    BearerAuthAutoRefreshLayer, BearerAuthLayer, OAuthClientConfig, SecretString, TokenProvider,
};
use toolkit_http::{HttpClientConfig, HttpError};
use tower::{Layer, Service, ServiceExt};

use super::{Answer, Inner};
use crate::{case::Case, lane::over};

pub fn cases(runtime: &Runtime, token_url: &str, inner: impl Inner) -> Vec<Case> {
    let provider = TokenProvider::new(OAuthClientConfig {
        token_endpoint: Some(token_url.parse().unwrap()),
        client_id: "client".to_owned(),
        client_secret: SecretString::new("secret"),
        // The only configuration of theirs that permits http.
        http_config: Some(HttpClientConfig::for_testing()),
        ..OAuthClientConfig::default()
    });
    let provider = provider.unwrap();
    runtime.block_on(provider.get()).unwrap();
    // The layers take inner services with this error only. The function is never called.
    let inner = inner.map_err(|never: Infallible| -> HttpError { match never {} });
    let add_only = BearerAuthLayer::new(provider.clone()).layer(inner.clone());
    let auto_refresh = BearerAuthAutoRefreshLayer::new(provider).layer(inner);
    vec![
        case("cf-gears, BearerAuth", "rotates", add_only),
        case("cf-gears, AutoRefresh", "rotates, replays", auto_refresh),
    ]
}

fn case<S>(name: &'static str, does: &'static str, service: S) -> Case
where
    S: Service<Request<Full<Bytes>>, Response = Answer, Error = HttpError> + Clone + Send + 'static,
{
    Case::new(name, does, move |shape| Some(over(service.clone(), shape)))
}
