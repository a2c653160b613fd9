//! A provider with three flows: a user logs in (authorization code), the program goes on with
//! refresh tokens that rotate, and its background jobs use client credentials.
#![allow(clippy::print_stdout, missing_docs, reason = "a program")]

mod look_alike;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_oauth::{
    AuthorizationCode, BoxError, ClientAuth, ClientCredentials, OAuthLayer, TokenEndpoint,
};

pub use look_alike::{CLIENT_ID, CLIENT_SECRET, LookAlike, visit};

/// Stands for the database: what it holds outlives the program.
pub type Store = Arc<Mutex<Vec<String>>>;

pub async fn run(provider: &LookAlike, store: Store) -> Result<Vec<StatusCode>, BoxError> {
    let endpoint = TokenEndpoint::builder(provider.url("/token"))
        .authorization_endpoint(provider.url("/authorize"))
        .issuer(&*provider.origin)
        .client_auth(ClientAuth::post(CLIENT_ID, CLIENT_SECRET))
        .build()?;

    let login = AuthorizationCode::new(endpoint.clone(), "https://shop.example/callback");
    let login = login.scope("offline_access").start()?;
    let query = visit(login.url())
        .await
        .ok_or("the browser didn't come back")?;
    let user = login.finish(&query).await?.on_rotation(move |pair| {
        let stored = store
            .lock()
            .map(|mut all| all.push(pair.refresh_token().to_owned()));
        let acknowledged = stored.map_err(|broken| broken.to_string().into());
        async { acknowledged } // from here on the new pair is used
    });

    let hyper = Client::builder(TokioExecutor::new()).build_http();
    let user = OAuthLayer::for_origin(&*provider.origin, user)?;
    let jobs = OAuthLayer::for_origin(&*provider.origin, ClientCredentials::new(endpoint))?;
    let mut user = ServiceBuilder::new().layer(user).service(hyper.clone());
    let mut jobs = ServiceBuilder::new().layer(jobs).service(hyper);

    let get = |path| Request::get(provider.url(path)).body(Empty::<Bytes>::new());
    Ok(vec![
        user.ready().await?.call(get("/me")?).await?.status(),
        user.ready().await?.call(get("/end")?).await?.status(), // the access token's time is over
        user.ready().await?.call(get("/me")?).await?.status(),
        jobs.ready().await?.call(get("/jobs")?).await?.status(),
    ])
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let provider = LookAlike::three_flows().await?;
    let store = Store::default();
    println!("{:?}", run(&provider, store.clone()).await?);
    println!("stored: {store:?}");
    println!("token requests: {}", provider.seen("/token").len());
    Ok(())
}
