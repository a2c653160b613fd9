//! *Where*, *Obtaining*: what a caller wishes for one request, by its extensions.

use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::{task::JoinSet, time::advance};
use tower::ServiceExt;
use tower_oauth::{BoxError, Fresh, NoToken, OAuthLayer, TokenCache, TokenError, TokenSource};

use crate::support::{
    api::{Api, Client, ORIGIN},
    paused, secs, settle,
    source::{failing, numbered, scripted, slow, token},
};

fn request(uri: &str) -> Request<Full<Bytes>> {
    Request::get(uri).body(Full::default()).unwrap()
}

fn without_token() -> Request<Full<Bytes>> {
    let mut request = request(ORIGIN);
    request.extensions_mut().insert(NoToken);
    request
}

fn fresh() -> Request<Full<Bytes>> {
    let mut request = request(ORIGIN);
    request.extensions_mut().insert(Fresh);
    request
}

async fn send(client: &Client, request: Request<Full<Bytes>>) -> Result<u16, BoxError> {
    let answer = client.clone().oneshot(request).await?;
    Ok(answer.status().as_u16())
}

#[test]
fn a_request_that_wishes_no_token_has_none_and_its_401_is_the_callers() {
    paused(async {
        let (ledger, source) = numbered(secs(3600));
        let cache = TokenCache::from(source);
        let api = Api::accepting(|_| false);
        let client = api.behind(&cache);
        assert_eq!(send(&client, without_token()).await.unwrap(), 401);
        assert_eq!((api.tokens(), ledger.calls()), (vec![String::new()], 0));

        cache.ready().await.unwrap();
        let mut both = without_token();
        both.extensions_mut().insert(Fresh);
        assert_eq!(send(&client, both).await.unwrap(), 401);
        assert_eq!((api.sends(), ledger.calls()), (2, 1));
        assert_eq!(cache.get().await.unwrap().expose_secret(), "token-1");
    });
}

#[test]
fn without_a_token_plain_http_is_the_callers_choice() {
    paused(async {
        let origin = "http://api.example";
        let layer = OAuthLayer::for_origin(origin, numbered(secs(3600)).1).unwrap();
        let client = Api::accepting(str::is_empty).behind_layer(&layer);
        let mut plain = request(origin);
        plain.extensions_mut().insert(NoToken);
        assert_eq!(send(&client, plain).await.unwrap(), 200);
    });
}

#[test]
fn a_request_that_wishes_a_fresh_token_waits_for_it_and_others_use_the_one_at_hand() {
    paused(async {
        let (ledger, source) = slow(secs(3600), secs(5));
        let cache = TokenCache::from(source);
        cache.ready().await.unwrap();
        let api = Api::accepting(|_| true);
        let client = api.behind(&cache);
        let waiting = tokio::spawn({
            let client = client.clone();
            async move { send(&client, fresh()).await }
        });
        settle().await;
        assert_eq!(send(&client, request(ORIGIN)).await.unwrap(), 200);
        assert_eq!(waiting.await.unwrap().unwrap(), 200);
        assert_eq!(send(&client, request(ORIGIN)).await.unwrap(), 200);
        assert_eq!(api.tokens(), ["token-1", "token-2", "token-2"]);
        // A source that caches is told which one isn't wanted.
        assert_eq!(ledger.rejected(), [None, Some("token-1".to_owned())]);
    });
}

#[test]
fn a_hundred_wishes_at_a_time_are_one_token_request() {
    paused(async {
        let (ledger, source) = slow(secs(3600), secs(5));
        let cache = TokenCache::from(source);
        let api = Api::accepting(|_| true);
        let client = api.behind(&cache);
        for round in 1..=3 {
            let mut wishes = JoinSet::new();
            for _ in 0..100 {
                let client = client.clone();
                wishes.spawn(async move { send(&client, fresh()).await });
            }
            for answer in wishes.join_all().await {
                assert_eq!(answer.unwrap(), 200);
            }
            assert_eq!(ledger.calls(), round);
        }
        assert!(api.tokens()[200..].iter().all(|token| token == "token-3"));
    });
}

#[test]
fn where_none_is_to_be_had_the_error_is_the_wishers_and_the_token_stays() {
    paused(async {
        let (ledger, source) = failing(secs(3600), |n| {
            (n > 1).then(|| TokenError::transient("the authorization server is down"))
        });
        let cache = TokenCache::from(source);
        cache.ready().await.unwrap();
        let api = Api::accepting(|_| true);
        let client = api.behind(&cache);
        for _ in 0..2 {
            let error = send(&client, fresh()).await.unwrap_err();
            assert!(error.is::<TokenError>(), "{error}");
            assert_eq!(send(&client, request(ORIGIN)).await.unwrap(), 200);
        }
        assert_eq!(api.tokens(), ["token-1", "token-1"]);
        // The second wish finds the server left alone.
        assert_eq!(ledger.calls(), 2);
    });
}

#[test]
fn a_fresh_token_that_is_refused_is_replaced_once() {
    paused(async {
        let (ledger, source) = numbered(secs(3600));
        let cache = TokenCache::from(source);
        cache.ready().await.unwrap();
        let api = Api::accepting(|token| token == "token-3");
        let client = api.behind(&cache);
        assert_eq!(send(&client, fresh()).await.unwrap(), 200);
        assert_eq!(api.tokens(), ["token-2", "token-3"]);
        assert_eq!(ledger.calls(), 3);
    });
}

#[test]
fn a_wish_that_fails_brings_no_renewal_forward() {
    paused(async {
        let (ledger, source) = scripted(|call| async move {
            match call {
                2 => Err(TokenError::transient("down")),
                _ => Ok(token(call, secs(3600))),
            }
        });
        let cache = TokenCache::from(source);
        cache.ready().await.unwrap();
        let api = Api::accepting(|_| true);
        let client = api.behind(&cache);
        send(&client, fresh()).await.unwrap_err();
        for _ in 0..10 {
            advance(secs(60)).await;
            settle().await;
            assert_eq!(send(&client, request(ORIGIN)).await.unwrap(), 200);
        }
        assert_eq!(ledger.calls(), 2);
    });
}

/// What a renewal under way brings was asked for before the wish, of a source that may cache.
#[test]
fn a_wish_in_the_middle_of_a_renewal_asks_again_after_it() {
    paused(async {
        let (ledger, source) = slow(secs(100), secs(1));
        let cache = TokenCache::from(source);
        cache.ready().await.unwrap();
        let api = Api::accepting(|_| true);
        let client = api.behind(&cache);
        // From now on a used token is renewed.
        advance(secs(86)).await;
        settle().await;
        assert_eq!(send(&client, request(ORIGIN)).await.unwrap(), 200);
        settle().await;
        assert_eq!(ledger.calls(), 2);
        let mut wishes = JoinSet::new();
        for _ in 0..10 {
            let client = client.clone();
            wishes.spawn(async move { send(&client, fresh()).await });
        }
        for answer in wishes.join_all().await {
            assert_eq!(answer.unwrap(), 200);
        }
        assert_eq!(api.tokens()[0], "token-1");
        assert!(api.tokens()[1..].iter().all(|token| token == "token-3"));
        let told = [None, None, Some("token-2".to_owned())];
        assert_eq!(ledger.rejected(), told);
    });
}

#[test]
fn wishes_make_no_storm_where_fresh_tokens_are_refused_as_well() {
    paused(async {
        let (ledger, source) = numbered(secs(3600));
        let api = Api::accepting(|_| false);
        let client = api.behind(&TokenCache::from(source));
        for _ in 0..100 {
            assert_eq!(send(&client, fresh()).await.unwrap(), 401);
        }
        assert_eq!(ledger.calls(), 2);
    });
}

#[test]
fn a_wish_that_failed_leaves_the_token_in_no_disgrace() {
    paused(async {
        let (ledger, source) = failing(secs(100), |n| {
            (n == 2).then(|| TokenError::transient("down"))
        });
        let cache = TokenCache::from(source);
        cache.ready().await.unwrap();
        let client = Api::accepting(|_| true).behind(&cache);
        send(&client, fresh()).await.unwrap_err();
        advance(secs(86)).await;
        settle().await;
        assert_eq!(send(&client, request(ORIGIN)).await.unwrap(), 200);
        settle().await;
        assert_eq!(ledger.rejected(), [None, Some("token-1".to_owned()), None]);
    });
}

/// A renewal whose source wishes for a fresh token through the very layer that it serves.
#[test]
fn a_wish_aboard_a_flight_waits_for_no_flight_and_gets_an_error() {
    paused(async {
        let wired = Arc::new(OnceLock::<Client>::new());
        let said = Arc::<Mutex<Option<String>>>::default();
        let (_, source) = scripted({
            let (wired, said) = (Arc::clone(&wired), Arc::clone(&said));
            move |n| {
                let (wired, said) = (Arc::clone(&wired), Arc::clone(&said));
                async move {
                    if n > 1 {
                        let error = send(wired.get().unwrap(), fresh()).await.unwrap_err();
                        *said.lock().unwrap() = Some(error.to_string());
                    }
                    Ok(token(n, secs(100)))
                }
            }
        });
        let cache = TokenCache::from(source);
        cache.ready().await.unwrap();
        let client = Api::accepting(|_| true).behind(&cache);
        assert!(wired.set(client.clone()).is_ok());
        advance(secs(86)).await;
        settle().await;
        assert_eq!(send(&client, request(ORIGIN)).await.unwrap(), 200);
        settle().await;
        let said = said.lock().unwrap().take().expect("it still waits");
        assert!(said.contains("waits for itself"), "{said}");
    });
}

#[test]
fn elsewhere_a_wish_is_none_of_ours() {
    paused(async {
        let (ledger, source) = numbered(secs(3600));
        let api = Api::accepting(str::is_empty);
        let client = api.behind(&TokenCache::from(source));
        let mut elsewhere = request("https://other.example");
        elsewhere.extensions_mut().insert(Fresh);
        assert_eq!(send(&client, elsewhere).await.unwrap(), 200);
        assert_eq!(ledger.calls(), 0);
    });
}

#[test]
fn a_wish_for_a_newer_token_is_no_refusal_and_leaves_the_reserve() {
    paused(async {
        let (ledger, source) = numbered(secs(3600));
        let source = source.budget(10, secs(86_400)).reserve(4);
        let budget = source.watch();
        let cache = TokenCache::from(source);
        let api = Api::accepting(|_| true);
        let client = api.behind(&cache);
        for _ in 0..12 {
            let _ = send(&client, fresh()).await;
            settle().await;
            advance(secs(600)).await;
            settle().await;
        }
        assert_eq!((ledger.calls(), budget.remaining()), (6, 4));
    });
}
