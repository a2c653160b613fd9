//! A provider whose token requests are JSON and whose answers don't say how long tokens live. Each
//! call of the API names an organisation by a header of its own, which stays on the retry.
#![allow(clippy::print_stdout, missing_docs, reason = "a program")]

mod look_alike;

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_oauth::{BoxError, ClientAuth, ClientCredentials, Encoding, OAuthLayer, TokenEndpoint};

pub use look_alike::{CLIENT_ID, CLIENT_SECRET, LookAlike};

pub async fn run(provider: &LookAlike) -> Result<Vec<StatusCode>, BoxError> {
    let endpoint = TokenEndpoint::builder(provider.url("/oauth2/token"))
        .client_auth(ClientAuth::post(CLIENT_ID, CLIENT_SECRET))
        .encoding(Encoding::Json)
        .assume_lifetime(Duration::from_secs(2 * 60 * 60))
        .build()?;
    let source = ClientCredentials::new(endpoint).scope("crm_read crm_manage");
    let oauth = OAuthLayer::for_origin(&*provider.origin, source)?;
    let hyper = Client::builder(TokioExecutor::new()).build_http();
    let mut client = ServiceBuilder::new().layer(oauth).service(hyper);

    let mut statuses = Vec::new();
    for (path, organisation) in [
        ("/contacts", "acme"),
        ("/contacts", "globex"), // the same token
        ("/revoke-all", "acme"), // it is ended early
        ("/contacts", "acme"),   // so this one is sent twice
    ] {
        let request = Request::get(provider.url(path))
            .header("X-API-ORG", organisation)
            .body(Empty::<Bytes>::new())?;
        statuses.push(client.ready().await?.call(request).await?.status());
    }
    Ok(statuses)
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let provider = LookAlike::json_api().await?;
    println!("{:?}", run(&provider).await?);
    println!("token requests: {}", provider.seen("/oauth2/token").len());
    Ok(())
}
