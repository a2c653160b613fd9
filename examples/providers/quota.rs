//! A provider that sells 1,000 tokens a month: a token is used while it is valid, an idle program asks
//! for none, and none is asked for beyond what was paid. Where several processes share the quota, they
//! share a store as well (`.shared(…)`).
#![allow(clippy::print_stdout, missing_docs, reason = "a program")]

mod look_alike;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_oauth::{
    BoxError, ClientAuth, ClientCredentials, OAuthLayer, Per, TokenCache, TokenEndpoint,
    TokenSource,
};

pub use look_alike::{CLIENT_ID, CLIENT_SECRET, LookAlike};

pub async fn run(provider: &LookAlike) -> Result<Vec<StatusCode>, BoxError> {
    let endpoint = TokenEndpoint::builder(provider.url("/oauth/token"))
        .client_auth(ClientAuth::post(CLIENT_ID, CLIENT_SECRET))
        .param("audience", "https://prices.example/")
        .build()?;
    let source = ClientCredentials::new(endpoint).budget(1_000, Per::Month);
    // Renewed when it must be, not ahead of time: the fewest tokens there can be.
    let cache = TokenCache::builder(source).thrifty().build();
    let oauth = OAuthLayer::for_origin(&*provider.origin, cache)?;
    let hyper = Client::builder(TokioExecutor::new()).build_http();
    let mut client = ServiceBuilder::new().layer(oauth).service(hyper);

    let mut statuses = Vec::new();
    for _ in 0..100 {
        let request = Request::get(provider.url("/prices")).body(Empty::<Bytes>::new())?;
        statuses.push(client.ready().await?.call(request).await?.status());
    }
    Ok(statuses)
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let provider = LookAlike::quota().await?;
    let statuses = run(&provider).await?;
    let tokens = provider.seen("/oauth/token").len();
    println!(
        "{} calls of the API, token requests: {tokens}",
        statuses.len()
    );
    Ok(())
}
