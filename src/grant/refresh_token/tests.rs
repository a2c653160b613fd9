//! What a login starts with, which only this crate can make; the rest is in `tests/it/rotation.rs`.
#![allow(clippy::arithmetic_side_effects, reason = "test times are small")]

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};

use super::*;
use crate::{clock::Clock, endpoint::ClientAuth};

const HOUR: Duration = Duration::from_secs(3600);

type Log = Arc<Mutex<Vec<String>>>;

/// Answers the n-th token request with `a{n}` and `r{n}`, an hour long.
fn endpoint() -> (TokenEndpoint, Log) {
    let log = Log::default();
    let transport = tower::service_fn({
        let log = Arc::clone(&log);
        move |request: Request<Full<Bytes>>| {
            let log = Arc::clone(&log);
            async move {
                let body = request.into_body().collect().await?.to_bytes();
                let mut log = log.lock().unwrap();
                log.push(String::from_utf8_lossy(&body).into_owned());
                let n = log.len();
                Ok::<_, Infallible>(Response::new(format!(
                    r#"{{"access_token":"a{n}","expires_in":3600,"refresh_token":"r{n}"}}"#
                )))
            }
        }
    });
    let endpoint = TokenEndpoint::builder("https://as.example/token")
        .client_auth(ClientAuth::none("id"))
        .revocation_endpoint("https://as.example/revoke")
        .transport(transport)
        .build()
        .unwrap();
    (endpoint, log)
}

/// A login of just now.
fn login(refresh_token: Option<&str>, lifetime: Option<Duration>) -> (RefreshToken, Log) {
    let (endpoint, log) = endpoint();
    let token = AccessToken::bearer("login").unwrap();
    let response = TokenResponse {
        token: token.expires_in(lifetime.unwrap_or_default()),
        refresh_token: refresh_token.map(|text| text.to_owned().into()),
        issued_token_type: None,
    };
    let asked = Clock::default().now();
    (RefreshToken::logged_in(endpoint, response, asked), log)
}

async fn ask(source: &RefreshToken) -> Result<String, TokenError> {
    let token = source.token(Demand::default()).await?;
    Ok(token.expose_secret().to_owned())
}

#[tokio::test(start_paused = true)]
async fn the_token_of_a_login_is_handed_out_first_with_what_is_left_of_it() {
    let (source, log) = login(Some("r0"), Some(HOUR));
    tokio::time::advance(HOUR / 2).await;
    let token = source.token(Demand::default()).await.unwrap();
    assert_eq!(token.expose_secret(), "login");
    let left = token.lifetime().unwrap();
    assert!(left <= HOUR / 2 && left > HOUR / 2 - HOUR / 100, "{left:?}");
    assert!(log.lock().unwrap().is_empty());
    assert_eq!(ask(&source).await.unwrap(), "a1");
    assert_eq!(
        *log.lock().unwrap(),
        ["grant_type=refresh_token&refresh_token=r0&client_id=id"]
    );
}

#[tokio::test(start_paused = true)]
async fn the_token_of_a_login_is_skipped_if_it_is_nearly_over_or_refused_or_too_wide() {
    let (source, _) = login(Some("r0"), Some(HOUR));
    tokio::time::advance(HOUR - Duration::from_secs(30)).await;
    assert_eq!(ask(&source).await.unwrap(), "a1");

    let (source, _) = login(Some("r0"), None);
    let refused = AccessToken::bearer("login").unwrap();
    let demand = Demand::instead_of(Some(&refused));
    let token = source.token(demand).await.unwrap();
    assert_eq!(token.expose_secret(), "a1");

    let (source, log) = login(Some("r0"), None);
    assert_eq!(ask(&source.scope("read")).await.unwrap(), "a1");
    assert!(log.lock().unwrap()[0].ends_with("&scope=read&client_id=id"));

    // Of an unknown lifetime, it is as good as any.
    let (source, _) = login(Some("r0"), None);
    tokio::time::advance(HOUR * 24).await;
    assert_eq!(ask(&source).await.unwrap(), "login");
}

#[tokio::test]
async fn the_pair_of_a_login_is_kept_before_it_is_used() {
    let (source, log) = login(Some("r0"), Some(HOUR));
    let pairs = Log::default();
    let source = source.on_rotation({
        let pairs = Arc::clone(&pairs);
        move |pair| {
            let mut pairs = pairs.lock().unwrap();
            pairs.push(format!(
                "{} {}",
                pair.refresh_token(),
                pair.access_token().expose_secret()
            ));
            let first = pairs.len() == 1;
            async move { (!first).then_some(()).ok_or_else(|| "disk full".into()) }
        }
    });
    assert!(ask(&source).await.unwrap_err().is_transient());
    assert_eq!(ask(&source).await.unwrap(), "login");
    assert!(log.lock().unwrap().is_empty());
    assert_eq!(ask(&source).await.unwrap(), "a1");
    assert_eq!(*pairs.lock().unwrap(), ["r0 login", "r0 login", "r1 a1"]);
}

#[tokio::test(start_paused = true)]
async fn a_login_without_a_refresh_token_serves_until_it_is_over_and_says_what_to_do() {
    let (source, log) = login(None, Some(HOUR));
    for _ in 0..3 {
        assert_eq!(ask(&source).await.unwrap(), "login");
    }
    let refused = AccessToken::bearer("login").unwrap();
    let demand = Demand::instead_of(Some(&refused));
    let refused = source.token(demand).await;
    tokio::time::advance(HOUR - Duration::from_secs(30)).await;
    let over = source.token(Demand::default()).await;
    for outcome in [refused, over] {
        let error = outcome.unwrap_err();
        assert!(!error.is_transient());
        assert!(error.get_ref().is::<NoRefreshToken>());
        let message = error.to_string();
        assert!(message.contains("log in again"), "{message}");
        assert!(message.contains("offline_access"), "{message}");
    }
    assert!(log.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_login_without_a_refresh_token_has_nothing_to_share() {
    let (source, _) = login(None, Some(HOUR));
    let shared = source.shared(crate::store::Memory::new()).named("alice");
    let error = shared.token(Demand::default()).await.unwrap_err();
    assert!(error.to_string().contains("without .shared("), "{error}");
}

#[tokio::test]
async fn a_login_without_a_refresh_token_serves_no_clone_that_asks_for_another_scope() {
    let (source, log) = login(None, Some(HOUR));
    for other in [
        source.clone().scope("read"),
        source.clone().resource("urn:a"),
    ] {
        let error = other.token(Demand::default()).await.unwrap_err();
        assert!(error.get_ref().is::<NoRefreshToken>() && !error.is_transient());
        assert!(error.to_string().contains("scope"), "{error}");
    }
    assert_eq!(ask(&source).await.unwrap(), "login");
    assert!(log.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_login_that_was_never_used_is_revoked_whole() {
    for (refresh_token, expected) in [
        (
            Some("r0"),
            &[
                "token=r0&token_type_hint=refresh_token&client_id=id",
                "token=login&token_type_hint=access_token&client_id=id",
            ][..],
        ),
        (
            None,
            &["token=login&token_type_hint=access_token&client_id=id"],
        ),
    ] {
        let (source, log) = login(refresh_token, None);
        source.revoke(None).await.unwrap();
        assert_eq!(*log.lock().unwrap(), expected);
        assert!(ask(&source).await.is_err());
    }
}

#[tokio::test]
async fn a_login_without_a_refresh_token_has_no_token_for_another_scope() {
    let (source, log) = login(None, Some(HOUR));
    let narrower = source.clone().scope("read");
    let error = narrower.token(Demand::default()).await.unwrap_err();
    assert!(error.get_ref().is::<NoRefreshToken>(), "{error}");
    let token = source.token(Demand::default()).await.unwrap();
    assert_eq!(token.expose_secret(), "login");
    assert!(log.lock().unwrap().is_empty());
}
