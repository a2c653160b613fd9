//! A provider with the tenant in the token endpoint's path, whose answer to client credentials
//! carries a refresh token that the next request has to bring back.
#![allow(clippy::print_stdout, missing_docs, reason = "a program")]

mod look_alike;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_oauth::{BoxError, ClientAuth, ClientCredentials, OAuthLayer, TokenEndpoint};

pub use look_alike::{CLIENT_ID, CLIENT_SECRET, LookAlike};

pub async fn run(provider: &LookAlike, tenant: &str) -> Result<Vec<StatusCode>, BoxError> {
    let url = provider.url(&format!("/{tenant}/oauth/v2/token"));
    let endpoint = TokenEndpoint::builder(url)
        .client_auth(ClientAuth::post(CLIENT_ID, CLIENT_SECRET))
        .build()?;
    // RFC 6749 §4.4.3 says that there should be no refresh token here, so it has to be said.
    let source = ClientCredentials::new(endpoint).keep_refresh_token();
    let oauth = OAuthLayer::for_origin(&*provider.origin, source)?;
    let hyper = Client::builder(TokioExecutor::new()).build_http();
    let mut client = ServiceBuilder::new().layer(oauth).service(hyper);

    let mut statuses = Vec::new();
    for path in ["orders", "end", "orders", "end", "orders"] {
        let url = provider.url(&format!("/{tenant}/{path}"));
        let request = Request::get(url).body(Empty::<Bytes>::new())?;
        statuses.push(client.ready().await?.call(request).await?.status());
    }
    Ok(statuses)
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let provider = LookAlike::tenant().await?;
    println!("{:?}", run(&provider, "acme").await?);
    println!(
        "token requests: {}",
        provider.seen("/acme/oauth/v2/token").len()
    );
    Ok(())
}
