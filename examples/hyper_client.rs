//! One GET to an API that asks for an OAuth 2.0 access token.
//!
//! `TOKEN_URL=https://… CLIENT_ID=… CLIENT_SECRET=… API_URL=https://… cargo run --example hyper_client`
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

use std::{env, iter::successors, process::ExitCode};

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Empty};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tower::{ServiceBuilder, ServiceExt};
use tower_oauth::{BoxError, ClientAuth, ClientCredentials, OAuthLayer, TokenEndpoint};

async fn run() -> Result<(), BoxError> {
    let url = setting("API_URL")?;
    let api: Uri = url.parse().map_err(|e| format!("API_URL {url:?}: {e}"))?;
    let origin = api.scheme().zip(api.authority());
    let (scheme, host) = origin.ok_or("API_URL must be a whole URL: https://host/path")?;

    let (id, secret) = (setting("CLIENT_ID")?, setting("CLIENT_SECRET")?);
    let endpoint = TokenEndpoint::builder(setting("TOKEN_URL")?)
        .client_auth(ClientAuth::basic(id, secret))
        .build()?;
    let tokens = ClientCredentials::new(endpoint); // .scope("read:accounts") if the API wants one
    let oauth = OAuthLayer::for_origin(format!("{scheme}://{host}"), tokens)?;

    let tls = HttpsConnectorBuilder::new().with_native_roots()?; // trusts what the system trusts
    let connector = tls.https_or_http().enable_all_versions().build(); // HTTP/1.1 and HTTP/2
    let hyper = Client::builder(TokioExecutor::new()).build(connector);
    let client = ServiceBuilder::new().layer(oauth).service(hyper); // clones share the token

    let request = Request::get(api).body(Empty::<Bytes>::new())?;
    let (head, body) = client.oneshot(request).await?.into_parts();
    let (status, body) = (head.status, body.collect().await?.to_bytes());
    println!("{status}\n{}", String::from_utf8_lossy(&body));
    let refused = || format!("{url} answered {status}").into();
    status.is_success().then_some(()).ok_or_else(refused)
}

fn setting(name: &str) -> Result<String, String> {
    // The error of `var` would show a secret that isn't UTF-8.
    env::var(name).map_err(|_| format!("set the environment variable {name} to a UTF-8 text"))
}

#[tokio::main]
async fn main() -> ExitCode {
    let Err(error) = run().await else {
        return ExitCode::SUCCESS;
    };
    let mut message = error.to_string();
    for cause in successors(error.source(), |cause| cause.source()).map(ToString::to_string) {
        if !message.contains(&cause) {
            message = format!("{message}\n  because: {cause}");
        }
    }
    eprintln!("error: {message}");
    ExitCode::FAILURE
}
