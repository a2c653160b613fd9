//! One GET to an API that asks for an OAuth 2.0 access token, sent by reqwest.
//!
//! `TOKEN_URL=https://… CLIENT_ID=… CLIENT_SECRET=… API_URL=https://… cargo run --example reqwest_client`
//!
//! It is built without TLS here, for plain HTTP to loopback: with the defaults of its own reqwest a
//! program speaks `https:`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program")]

use std::{env, iter::successors, process::ExitCode};

use http::{Request, Response};
use http_body_util::BodyExt;
use reqwest::{Body, Client, redirect::Policy};
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_http::follow_redirect::FollowRedirectLayer;
use tower_oauth::{BoxError, ClientAuth, ClientCredentials, OAuthLayer, ReplayBody, TokenEndpoint};

async fn run() -> Result<(), BoxError> {
    let url = setting("API_URL")?;
    let api = reqwest::Url::parse(&url).map_err(|e| format!("API_URL {url:?}: {e}"))?;
    let origin = api.origin().ascii_serialization(); // scheme, host and port

    let (id, secret) = (setting("CLIENT_ID")?, setting("CLIENT_SECRET")?);
    let endpoint = TokenEndpoint::builder(setting("TOKEN_URL")?)
        .client_auth(ClientAuth::basic(id, secret))
        .build()?;
    let tokens = ClientCredentials::new(endpoint); // .scope("read:accounts") if the API wants one
    let oauth = OAuthLayer::for_origin(origin, tokens)?;

    // By itself reqwest follows redirects below the layer: it takes the token off where they leave
    // the origin, but the layer would take a 401 from there for one of the API's. A follower around
    // the layer shows it each hop.
    let reqwest = Client::builder().redirect(Policy::none()).build()?;
    // `map_request` couldn't fail, as this can where a URI names no server. (The adapter
    // tower-reqwest takes bodies of reqwest's own type, so most of this would be here all the same.)
    let send = service_fn(move |request: Request<ReplayBody<Body>>| {
        let reqwest = reqwest.clone();
        async move {
            let request = reqwest::Request::try_from(request.map(Body::wrap))?;
            reqwest.execute(request).await.map(Response::<Body>::from)
        }
    });
    let client = ServiceBuilder::new()
        // If redirects are wanted. A body goes along on a 307 or 308 only by a policy with a
        // `clone_body`.
        .layer(FollowRedirectLayer::new())
        .layer(oauth) // clones share the token
        .service(send);

    // What reqwest's own builder makes is converted: `Request::try_from(client.post(…).build()?)?`,
    // and the answer by `reqwest::Response::from(…)`.
    let request = Request::get(api.as_str()).body(Body::default())?;
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
