//! A provider whose scopes decide what a token may do: a part of the program asks only for what it
//! needs. Two sources with different scopes are two tokens.
#![allow(clippy::print_stdout, missing_docs, reason = "a program")]

mod look_alike;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_oauth::{BoxError, ClientAuth, ClientCredentials, OAuthLayer, TokenEndpoint};

pub use look_alike::{CLIENT_ID, CLIENT_SECRET, LookAlike};

pub async fn run(provider: &LookAlike) -> Result<Vec<StatusCode>, BoxError> {
    let endpoint = TokenEndpoint::builder(provider.url("/oauth/token"))
        .client_auth(ClientAuth::basic(CLIENT_ID, CLIENT_SECRET))
        .build()?;
    let all = ClientCredentials::new(endpoint);
    let hyper = Client::builder(TokioExecutor::new()).build_http();
    let accounts = OAuthLayer::for_origin(&*provider.origin, all.clone().scope("read:accounts"))?;
    let moves = OAuthLayer::for_origin(&*provider.origin, all.scope("read:moves"))?;
    let mut accounts = ServiceBuilder::new().layer(accounts).service(hyper.clone());
    let mut moves = ServiceBuilder::new().layer(moves).service(hyper);

    let get = |path| Request::get(provider.url(path)).body(Empty::<Bytes>::new());
    Ok(vec![
        accounts
            .ready()
            .await?
            .call(get("/accounts")?)
            .await?
            .status(),
        moves.ready().await?.call(get("/moves")?).await?.status(),
        accounts
            .ready()
            .await?
            .call(get("/accounts")?)
            .await?
            .status(),
        // 403 insufficient_scope: no other token would help, so none is fetched.
        accounts.ready().await?.call(get("/moves")?).await?.status(),
    ])
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let provider = LookAlike::scoped_api().await?;
    println!("{:?}", run(&provider).await?);
    println!("token requests: {}", provider.seen("/oauth/token").len());
    Ok(())
}
