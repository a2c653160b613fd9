//! *Refused*: a 401 for a generation invalidates that one and nothing newer; at most two sends per
//! request; and no storm.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::{
    sync::Barrier,
    task::JoinSet,
    time::{Instant, advance},
};
use tower::ServiceExt;
use tower_oauth::{AccessToken, OAuthLayer, TokenCache, TokenError, Verdict, rejection};

use crate::support::{
    api::{Api, ORIGIN, get, start},
    paused, secs, settle,
    source::{failing, numbered, scripted, slow},
};

const HOUR: Duration = secs(3600);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_concurrent_401s_of_one_token_make_one_token_request_and_lose_none() {
    const REQUESTS: usize = 10_000;
    let (ledger, source) = slow(HOUR, Duration::from_millis(5));
    let cache = TokenCache::from(source);
    cache.ready().await.unwrap();
    let barrier = Arc::new(Barrier::new(REQUESTS));
    let revoked = Arc::new(AtomicUsize::new(1));
    let api = {
        let revoked = Arc::clone(&revoked);
        Api::accepting(move |token| token != format!("token-{}", revoked.load(Ordering::SeqCst)))
    };
    let client = api.behind(&cache);
    let mut requests = JoinSet::new();
    for id in 0..REQUESTS {
        let (client, barrier) = (client.clone(), Arc::clone(&barrier));
        requests.spawn(async move {
            barrier.wait().await;
            get(&client, id).await.unwrap()
        });
    }
    let answers = requests.join_all().await;
    assert_eq!(
        answers.iter().filter(|&&status| status == 200).count(),
        REQUESTS
    );
    let refused = api
        .tokens()
        .iter()
        .filter(|&token| token == "token-1")
        .count();
    assert!(refused > 0);
    assert_eq!(
        api.sends(),
        REQUESTS + refused,
        "one retry for each refusal"
    );
    assert_eq!(ledger.calls(), 2, "one token request");
    assert_eq!(ledger.rejected(), [None, Some("token-1".to_owned())]);
}

/// Like the above, but every one of them is refused: the tokens are read before any answer.
#[test]
fn ten_thousand_requests_in_flight_are_all_refused_and_all_retried() {
    const REQUESTS: usize = 10_000;
    paused(async {
        let (ledger, source) = slow(HOUR, secs(1));
        let cache = TokenCache::from(source);
        cache.ready().await.unwrap();
        let api = Api::accepting(|token| token == "token-2");
        let client = api.behind(&cache);
        let requests: JoinSet<_> = (0..REQUESTS)
            .map(|id| {
                let client = client.clone();
                async move { get(&client, id).await.unwrap() }
            })
            .collect();
        let answers = requests.join_all().await;
        assert!(answers.iter().all(|&status| status == 200));
        assert_eq!((api.sends(), ledger.calls()), (2 * REQUESTS, 2));
    });
}

#[test]
fn a_late_401_is_retried_with_the_newer_token_and_fetches_none() {
    paused(async {
        let (ledger, source) = numbered(HOUR);
        let cache = TokenCache::from(source);
        cache.ready().await.unwrap();
        let api = Api::accepting(|token| token == "token-2");
        let client = api.behind(&cache);
        // The request is on its way with token-1 when the cache moves on.
        let on_its_way = start(&client, "late").await.unwrap();
        cache.invalidate();
        cache.ready().await.unwrap();
        assert_eq!(ledger.calls(), 2);
        assert_eq!(on_its_way.await.unwrap().status(), 200);
        assert_eq!(api.tokens(), ["token-1", "token-2"]);
        assert_eq!(ledger.calls(), 2, "no token request");
        assert_eq!(cache.get().await.unwrap().expose_secret(), "token-2");
    });
}

#[test]
fn two_callers_refused_with_different_tokens_share_one_refresh() {
    paused(async {
        let (ledger, source) = slow(HOUR, secs(1));
        let cache = TokenCache::from(source);
        cache.ready().await.unwrap();
        let api = Api::accepting(|token| token == "token-3");
        let client = api.behind(&cache);
        let first = start(&client, "refused with token-1").await.unwrap();
        cache.invalidate();
        cache.ready().await.unwrap();
        let second = start(&client, "refused with token-2").await.unwrap();
        assert_eq!(second.await.unwrap().status(), 200);
        assert_eq!(first.await.unwrap().status(), 200, "by the other's refresh");
        assert_eq!(ledger.calls(), 3);
    });
}

#[test]
fn a_server_that_always_refuses_sees_two_sends_and_makes_no_storm() {
    paused(async {
        let (ledger, source) = numbered(HOUR);
        let cache = TokenCache::from(source);
        let api = Api::accepting(|_| false);
        let client = api.behind(&cache);
        assert_eq!(get(&client, "first").await.unwrap(), 401);
        assert_eq!((api.sends_of("first"), ledger.calls()), (2, 2));
        // A minute at 100 requests a second; the pauses are 1, 2, 4, 8, 16, 32 s.
        for id in 0..6000 {
            assert_eq!(get(&client, id).await.unwrap(), 401, "the server's own");
            advance(Duration::from_millis(10)).await;
            settle().await;
        }
        assert!((6..=8).contains(&ledger.calls()), "{}", ledger.calls());
    });
}

/// One endpoint accepts the token, another refuses every one.
#[test]
fn an_endpoint_that_always_refuses_does_not_take_the_token_from_the_others() {
    paused(async {
        let (ledger, source) = numbered(HOUR);
        let cache = TokenCache::from(source);
        let good = Api::accepting(|_| true).behind(&cache);
        let bad = Api::accepting(|_| false).behind(&cache);
        for id in 0..6000 {
            assert_eq!(get(&good, id).await.unwrap(), 200);
            assert_eq!(get(&bad, id).await.unwrap(), 401);
            advance(Duration::from_millis(10)).await;
            settle().await;
        }
        assert!(ledger.calls() <= 10, "{}", ledger.calls());
    });
}

/// As above, but so seldom that each refusal could pass for a new story.
#[test]
fn an_endpoint_that_refuses_now_and_then_does_not_cost_a_token_each_time() {
    paused(async {
        let (ledger, source) = numbered(HOUR);
        let cache = TokenCache::from(source);
        let good = Api::accepting(|_| true).behind(&cache);
        let bad = Api::accepting(|_| false).behind(&cache);
        for minute in 0..240 {
            assert_eq!(get(&good, minute).await.unwrap(), 200);
            assert_eq!(get(&bad, minute).await.unwrap(), 401);
            advance(secs(60)).await;
            settle().await;
        }
        // One every five minutes in the end.
        assert!(ledger.calls() <= 60, "{}", ledger.calls());
    });
}

#[test]
fn a_second_refusal_is_the_callers_even_where_there_is_a_newer_token() {
    paused(async {
        let (ledger, source) = numbered(HOUR);
        let cache = TokenCache::from(source);
        let api = Api::accepting(|_| false);
        let client = api.behind(&cache);
        let mut late = pin!(start(&client, "late").await.unwrap());
        until_sent_twice(&api, late.as_mut()).await;
        cache.invalidate();
        cache.ready().await.unwrap();
        assert_eq!(late.await.unwrap().status(), 401);
        assert_eq!(api.tokens(), ["token-1", "token-2"], "at most two sends");
        assert_eq!(ledger.calls(), 3);
    });
}

/// Polls `request` up to its second send, whose answer comes later.
async fn until_sent_twice<F: Future>(api: &Api, mut request: Pin<&mut F>) {
    while api.sends() < 2 {
        let pending = poll_fn(|cx| Poll::Ready(request.as_mut().poll(cx).is_pending())).await;
        assert!(pending, "the answer to the second send comes later");
        settle().await;
    }
}

#[test]
fn an_acceptance_ends_the_pause() {
    paused(async {
        let (ledger, source) = numbered(HOUR);
        let cache = TokenCache::from(source);
        let bad = Api::accepting(|_| false).behind(&cache);
        for id in 0..3 {
            assert_eq!(get(&bad, id).await.unwrap(), 401);
        }
        assert_eq!(ledger.calls(), 2, "the pause");
        // The server comes to its senses, and then revokes twice: each time one refresh, at once.
        let revoked: Arc<Mutex<String>> = Arc::default();
        let healed = {
            let revoked = Arc::clone(&revoked);
            Api::accepting(move |token| token != *revoked.lock().unwrap()).behind(&cache)
        };
        for (calls, token) in [(2, ""), (3, "token-2"), (4, "token-3")] {
            *revoked.lock().unwrap() = token.to_owned();
            assert_eq!(get(&healed, calls).await.unwrap(), 200);
            assert_eq!(ledger.calls(), calls, "revoked: {token:?}");
        }
    });
}

/// To wait for a renewal asks nothing more of the authorization server.
#[test]
fn a_refusal_in_the_pause_waits_for_the_renewal_that_is_under_way() {
    paused(async {
        let (ledger, source) = slow(secs(100), secs(1));
        let cache = TokenCache::from(source);
        let bad = Api::accepting(|_| false).behind(&cache);
        for pause in [1, 2, 4, 8, 16, 32, 64] {
            assert_eq!(get(&bad, pause).await.unwrap(), 401);
            advance(secs(pause)).await;
            settle().await;
        }
        assert_eq!(get(&bad, "a pause of 128 s").await.unwrap(), 401);
        assert_eq!(ledger.calls(), 9);
        advance(secs(86)).await;
        settle().await;
        let api = Api::accepting(|token| token == "token-10");
        assert_eq!(get(&api.behind(&cache), "due").await.unwrap(), 200);
        assert_eq!((api.sends(), ledger.calls()), (2, 10));
    });
}

#[test]
fn the_acceptance_of_an_older_token_ends_no_pause() {
    paused(async {
        let (ledger, source) = numbered(HOUR);
        let cache = TokenCache::from(source);
        cache.ready().await.unwrap();
        let good = Api::accepting(|_| true).behind(&cache);
        let bad = Api::accepting(|_| false).behind(&cache);
        let late = start(&good, "with token-1").await.unwrap();
        assert_eq!(get(&bad, 0).await.unwrap(), 401);
        assert_eq!(late.await.unwrap().status(), 200);
        assert_eq!(get(&bad, 1).await.unwrap(), 401);
        assert_eq!(ledger.calls(), 2, "the pause");
    });
}

#[test]
fn the_acceptance_of_an_older_token_on_a_second_send_ends_no_pause() {
    paused(async {
        let (ledger, source) = numbered(HOUR);
        let cache = TokenCache::from(source);
        cache.ready().await.unwrap();
        let api = Api::accepting(|token| token == "token-2");
        let client = api.behind(&cache);
        let mut late = pin!(start(&client, "late").await.unwrap());
        until_sent_twice(&api, late.as_mut()).await;
        cache.invalidate();
        let bad = Api::accepting(|_| false).behind(&cache);
        assert_eq!(get(&bad, 0).await.unwrap(), 401);
        assert_eq!(ledger.calls(), 3, "invalidated once, and the pause");
        assert_eq!(late.await.unwrap().status(), 200);
        assert_eq!(get(&bad, 1).await.unwrap(), 401);
        assert_eq!(ledger.calls(), 3, "the pause");
    });
}

#[test]
fn revocations_in_quick_succession_each_cost_one_refresh() {
    paused(async {
        let (ledger, source) = numbered(HOUR);
        let cache = TokenCache::from(source);
        let newest = Arc::new(AtomicUsize::new(1));
        let api = {
            let newest = Arc::clone(&newest);
            Api::accepting(move |token| token == format!("token-{}", newest.load(Ordering::SeqCst)))
        };
        let client = api.behind(&cache);
        for revocation in 1..=100 {
            newest.store(revocation, Ordering::SeqCst);
            for request in 0..10 {
                let id = format!("{revocation} {request}");
                assert_eq!(get(&client, id).await.unwrap(), 200);
            }
            assert_eq!(ledger.calls(), revocation);
        }
    });
}

#[test]
fn if_no_better_token_can_be_had_the_caller_gets_the_servers_own_401() {
    paused(async {
        let (ledger, source) = failing(HOUR, |n| (n > 1).then(|| TokenError::transient("down")));
        let cache = TokenCache::from(source);
        let api = Api::answering(|token| {
            Response::builder()
                .status(401)
                .header("www-authenticate", "Bearer error=\"invalid_token\"")
                .header("x-server", "intact")
                .body(Full::from(format!("{token} is revoked")))
                .unwrap()
        });
        let request = Request::get(ORIGIN).body(Full::<Bytes>::default()).unwrap();
        let answer = api.behind(&cache).oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 401);
        assert_eq!(answer.headers()["x-server"], "intact");
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "token-1 is revoked");
        assert_eq!((api.sends(), ledger.calls()), (1, 2));
        // No token to be had is an error, never a made-up 401.
        let error = get(&api.behind(&cache), "next").await.unwrap_err();
        assert!(error.is::<TokenError>());
        assert_eq!(api.sends(), 1);
    });
}

#[test]
fn the_same_token_again_is_not_sent_again() {
    paused(async {
        let (ledger, source) =
            scripted(|_| async { Ok(AccessToken::bearer("stuck")?.expires_in(HOUR)) });
        let cache = TokenCache::from(source);
        let api = Api::accepting(|_| false);
        let client = api.behind(&cache);
        for id in 0..100 {
            assert_eq!(get(&client, id).await.unwrap(), 401);
            assert_eq!(api.sends_of(&id.to_string()), 1);
        }
        assert_eq!(ledger.calls(), 2);
    });
}

#[test]
fn a_source_learns_which_token_was_refused() {
    paused(async {
        let (ledger, source) = numbered(HOUR);
        let cache = TokenCache::from(source);
        let client = Api::accepting(|token| token != "token-1").behind(&cache);
        assert_eq!(get(&client, 0).await.unwrap(), 200);
        cache.invalidate();
        assert_eq!(get(&client, 1).await.unwrap(), 200);
        // It learns so once.
        advance(secs(3500)).await;
        settle().await;
        assert_eq!(get(&client, 2).await.unwrap(), 200);
        settle().await;
        let expected = [None, Some("token-1".into()), Some("token-2".into()), None];
        assert_eq!(ledger.rejected(), expected);
    });
}

#[test]
fn without_retry_a_refusal_is_the_callers_and_the_next_request_has_a_fresh_token() {
    paused(async {
        let (ledger, source) = numbered(HOUR);
        let layer = OAuthLayer::for_origin(ORIGIN, source)
            .unwrap()
            .without_retry();
        let api = Api::accepting(|token| token != "token-1");
        let client = api.behind_layer(&layer);
        assert_eq!(get(&client, 0).await.unwrap(), 401);
        assert_eq!((api.sends(), ledger.calls()), (1, 1));
        assert_eq!(get(&client, 1).await.unwrap(), 200);
        assert_eq!((api.sends(), ledger.calls()), (2, 2));
    });
}

#[test]
fn without_retry_a_server_that_always_refuses_makes_no_storm() {
    paused(async {
        let (ledger, source) = numbered(HOUR);
        let layer = OAuthLayer::for_origin(ORIGIN, source)
            .unwrap()
            .without_retry();
        let client = Api::accepting(|_| false).behind_layer(&layer);
        let start = Instant::now();
        while start.elapsed() < secs(60) {
            assert_eq!(get(&client, "").await.unwrap(), 401);
            advance(Duration::from_millis(10)).await;
            settle().await;
        }
        assert!(ledger.calls() <= 9, "{}", ledger.calls());
    });
}

#[test]
fn a_classifier_of_ones_own_says_what_is_refused() {
    paused(async {
        let (ledger, source) = numbered(HOUR);
        let layer = OAuthLayer::for_origin(ORIGIN, source)
            .unwrap()
            .rejection(|head| match head.status().as_u16() {
                403 => Verdict::Refused,
                _ => rejection::standard(head),
            });
        let api = Api::answering(|token| {
            let status = if token == "token-1" { 403 } else { 200 };
            Response::builder()
                .status(status)
                .body(Full::default())
                .unwrap()
        });
        assert_eq!(get(&api.behind_layer(&layer), 0).await.unwrap(), 200);
        assert_eq!(ledger.calls(), 2);
    });
}

#[test]
fn what_is_not_refused_passes() {
    paused(async {
        let (ledger, source) = numbered(HOUR);
        let cache = TokenCache::from(source);
        for (status, challenge) in [
            (200, None),
            (403, None),
            (403, Some("Bearer error=\"invalid_token\"")),
            (401, Some("Bearer error=\"insufficient_scope\"")),
            (401, Some("Basic realm=\"x\"")),
            (407, Some("Bearer")),
            (429, Some("Bearer")),
            (500, None),
        ] {
            let api = Api::answering(move |_| {
                let mut answer = Response::new(Full::default());
                *answer.status_mut() = http::StatusCode::from_u16(status).unwrap();
                if let Some(challenge) = challenge {
                    let value = http::HeaderValue::from_static(challenge);
                    answer.headers_mut().insert("www-authenticate", value);
                }
                answer
            });
            assert_eq!(get(&api.behind(&cache), "one").await.unwrap(), status);
            assert_eq!((api.sends(), ledger.calls()), (1, 1), "{status}");
        }
    });
}

/// A source with a memory, which keeps to its contract.
#[test]
fn a_refusal_that_joins_a_renewal_does_not_bring_the_refused_token_back() {
    paused(async {
        let calls = Arc::new(AtomicUsize::new(0));
        struct Remembers(Arc<AtomicUsize>);
        impl tower_oauth::TokenSource for Remembers {
            async fn token(
                &self,
                demand: tower_oauth::Demand<'_>,
            ) -> Result<AccessToken, TokenError> {
                self.0.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(secs(2)).await;
                let fresh = demand.rejected().is_some();
                let text = if fresh { "fresh" } else { "remembered" };
                Ok(AccessToken::bearer(text)?.expires_in(HOUR))
            }
        }
        let cache = TokenCache::from(Remembers(Arc::clone(&calls)));
        cache.ready().await.unwrap();
        advance(secs(3500)).await;
        settle().await;
        let api = Api::accepting(|token| token == "fresh");
        // This request finds its token due, and starts a renewal; its refusal joins that.
        assert_eq!(get(&api.behind(&cache), "refused").await.unwrap(), 200);
        assert_eq!(
            calls.load(Ordering::SeqCst),
            3,
            "one that was not told, one that was"
        );
        assert_eq!(cache.get().await.unwrap().expose_secret(), "fresh");
    });
}

/// Without second sends, nothing but time and acceptance says that a refresh helped.
#[test]
fn without_retry_a_token_a_minute_costs_a_refusal_a_minute() {
    paused(async {
        let issued: Arc<Mutex<Option<Instant>>> = Arc::default();
        let (_, source) = {
            let issued = Arc::clone(&issued);
            scripted(move |n| {
                *issued.lock().unwrap() = Some(Instant::now());
                async move { AccessToken::bearer(format!("token-{n}")).map_err(Into::into) }
            })
        };
        let layer = OAuthLayer::for_origin(ORIGIN, source)
            .unwrap()
            .without_retry();
        let api = Api::accepting(move |_| {
            issued
                .lock()
                .unwrap()
                .is_some_and(|at| at.elapsed() < secs(60))
        });
        let client = api.behind_layer(&layer);
        for minute in 0..60 {
            let mut refused = 0;
            for _ in 0..60 {
                refused += usize::from(get(&client, "").await.unwrap() == 401);
                advance(secs(1)).await;
                settle().await;
            }
            assert!(refused <= 1, "minute {minute}: {refused} refusals");
        }
    });
}
