//! *Obtaining*: one flight at a time for every trigger, on a task of its own, with a deadline, and
//! never a terminal state.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use tokio::{
    sync::Barrier,
    task::JoinSet,
    time::{Instant, advance, sleep},
};
use tower_oauth::{AccessToken, CacheState, OAuthLayer, TokenCache, TokenError};

use crate::support::{
    api::{Api, ORIGIN, get},
    paused, secs, settle,
    source::{failing, scripted, slow, token},
};

const HOUR: Duration = secs(3600);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_thousand_callers_of_a_cold_cache_make_one_token_request() {
    const CALLERS: usize = 100_000;
    let barrier = Arc::new(Barrier::new(CALLERS));
    let (ledger, source) = slow(HOUR, Duration::from_millis(5));
    let cache = TokenCache::from(source);
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (cache, barrier) = (cache.clone(), Arc::clone(&barrier));
        callers.spawn(async move {
            barrier.wait().await;
            cache.get().await.unwrap().expose_secret().to_owned()
        });
    }
    let tokens = callers.join_all().await;
    assert_eq!(tokens.len(), CALLERS);
    assert!(tokens.iter().all(|token| token == "token-1"));
    assert_eq!(ledger.calls(), 1);
}

#[tokio::test]
async fn requests_of_a_cold_layer_wait_for_one_token_request() {
    let (ledger, source) = slow(HOUR, Duration::from_millis(1));
    let api = Api::accepting(|token| token == "token-1");
    let client = api.behind(&TokenCache::from(source));
    let mut callers = JoinSet::new();
    for id in 0..1000 {
        let client = client.clone();
        callers.spawn(async move { get(&client, id).await.unwrap() });
    }
    assert!(callers.join_all().await.iter().all(|&status| status == 200));
    assert_eq!((ledger.calls(), api.sends()), (1, 1000));
}

/// The first caller is dropped after 0, 1, 2, … polls, until it gets to its end.
#[test]
fn a_cancelled_caller_cancels_nothing() {
    for polls in 0.. {
        let finished = paused(async {
            let (ledger, source) = scripted(|n| async move {
                for _ in 0..5 {
                    sleep(Duration::from_millis(10)).await;
                }
                Ok(token(n, HOUR))
            });
            let cache = TokenCache::from(source);
            let mut finished = false;
            {
                let mut first = pin!(cache.get());
                for _ in 0..polls {
                    finished = poll_fn(|cx| Poll::Ready(first.as_mut().poll(cx).is_ready())).await;
                    if finished {
                        break;
                    }
                    advance(Duration::from_millis(3)).await;
                    settle().await;
                }
            }
            let others: JoinSet<_> = (0..100)
                .map(|_| {
                    let cache = cache.clone();
                    async move { cache.get().await.unwrap() }
                })
                .collect();
            let tokens = others.join_all().await;
            assert!(
                tokens
                    .iter()
                    .all(|token| token.expose_secret() == "token-1")
            );
            assert_eq!(ledger.calls(), 1, "dropped after {polls} polls");
            finished
        });
        if finished {
            assert!(polls > 5, "the first caller was never in the way");
            break;
        }
    }
}

// rule F2
#[test]
fn cold_due_refused_and_forced_board_one_flight() {
    paused(async {
        let (ledger, source) = slow(HOUR, secs(2));
        let cache = TokenCache::from(source);
        cache.ready().await.unwrap();
        let api = Api::accepting(|token| token != "token-1");
        let client = api.behind(&cache);
        // In the advisory window, a reader starts a renewal; then everything else happens at once.
        advance(secs(3500)).await;
        settle().await;
        assert_eq!(get(&client, "due and refused").await.unwrap(), 200);
        assert_eq!(
            ledger.calls(),
            2,
            "one flight for the due token and for its refusal"
        );

        cache.invalidate();
        let all: JoinSet<_> = (0..50)
            .map(|id| {
                let (client, cache) = (client.clone(), cache.clone());
                async move {
                    cache.invalidate();
                    let token = cache.get().await.unwrap();
                    assert_eq!(token.expose_secret(), "token-3");
                    get(&client, id).await.unwrap()
                }
            })
            .collect();
        assert!(all.join_all().await.iter().all(|&status| status == 200));
        assert_eq!(ledger.calls(), 3);
    });
}

#[test]
fn a_permanent_failure_heals() {
    paused(async {
        let (ledger, source) = failing(HOUR, |n| {
            (n <= 3).then(|| TokenError::permanent("wrong secret"))
        });
        heals(&TokenCache::from(source), 3).await;
        assert_eq!(ledger.calls(), 4);
    });
}

#[test]
fn a_panic_is_an_error_to_those_who_wait_and_heals() {
    paused(async {
        let (ledger, source) = scripted(|n| async move {
            assert!(n > 2, "the source panics");
            Ok(token(n, HOUR))
        });
        let cache = TokenCache::from(source);
        let error = cache.get().await.unwrap_err();
        assert!(error.to_string().contains("panicked"), "{error}");
        heals(&cache, 1).await;
        assert_eq!(ledger.calls(), 3);
    });
}

#[test]
fn a_source_that_panics_before_its_future_is_no_different() {
    paused(async {
        let calls = Arc::new(AtomicUsize::new(0));
        let cache = TokenCache::from(move || {
            let n = calls.fetch_add(1, Ordering::SeqCst);
            assert!(n > 0, "the source panics");
            async move { Ok(token(n, HOUR)) }
        });
        heals(&cache, 1).await;
    });
}

#[test]
fn a_source_that_never_ends_meets_its_deadline_and_heals() {
    paused(async {
        let (_, source) = scripted(|n| async move {
            if n == 1 {
                std::future::pending::<()>().await;
            }
            Ok(token(n, HOUR))
        });
        let cache = TokenCache::builder(source).deadline(secs(5)).build();
        let asked = Instant::now();
        let error = cache.get().await.unwrap_err();
        assert_eq!(asked.elapsed(), secs(5));
        assert!(error.is_transient());
        assert!(error.to_string().contains("5s"), "{error}");
        heals(&cache, 0).await;
    });
}

/// `failures` more failures, then a token: each time the first call after the pause.
async fn heals(cache: &TokenCache, failures: usize) {
    let api = Api::accepting(|_| true);
    let client = api.behind(cache);
    for _ in 0..failures {
        wait_for_the_pause(cache).await;
        let error = get(&client, "fails").await.unwrap_err();
        assert!(error.is::<TokenError>(), "{error}");
    }
    wait_for_the_pause(cache).await;
    assert_eq!(get(&client, "heals").await.unwrap(), 200);
    assert!(matches!(cache.state(), CacheState::Valid));
}

async fn wait_for_the_pause(cache: &TokenCache) {
    if let CacheState::Failing { retry_at, .. } = cache.state() {
        tokio::time::sleep_until(retry_at.into()).await;
    }
}

#[test]
fn callers_without_a_token_get_the_last_error_at_once_while_the_server_is_left_alone() {
    paused(async {
        let (ledger, source) = failing(HOUR, |_| Some(TokenError::transient("down")));
        let cache = TokenCache::from(source);
        let start = Instant::now();
        // 60 s at 1,000 requests a second.
        while start.elapsed() < secs(60) {
            for _ in 0..100 {
                let asked = Instant::now();
                let error = cache.get().await.unwrap_err();
                assert_eq!(error.to_string(), "down");
                assert_eq!(asked.elapsed(), Duration::ZERO);
            }
            advance(Duration::from_millis(100)).await;
        }
        assert!(ledger.calls() <= 12, "{} token requests", ledger.calls());
        assert!(ledger.calls() >= 5, "but never for good");
    });
}

#[test]
fn a_source_that_calls_through_the_layer_it_serves_gets_an_error_and_no_deadlock() {
    paused(async {
        let api = Api::accepting(|_| true);
        let wired = Arc::new(std::sync::OnceLock::<crate::support::api::Client>::new());
        let layer = OAuthLayer::for_origin(ORIGIN, {
            let wired = Arc::clone(&wired);
            move || {
                let client = wired.get().unwrap().clone();
                async move {
                    get(&client, "token request")
                        .await
                        .map_err(TokenError::transient)?;
                    Ok(AccessToken::bearer("unreachable")?)
                }
            }
        })
        .unwrap();
        let client = api.behind_layer(&layer);
        assert!(wired.set(client.clone()).is_ok());
        let error = get(&client, "request").await.unwrap_err();
        assert!(error.to_string().contains("waits for itself"), "{error}");
        assert_eq!(api.sends(), 0);
    });
}

#[tokio::test]
async fn the_state_can_be_watched() {
    let (_, source) = failing(HOUR, |n| {
        (n == 1).then(|| TokenError::transient("down for a moment"))
    });
    let cache = TokenCache::from(source);
    let mut watch = cache.watch();
    assert!(matches!(watch.current(), CacheState::Empty));
    {
        let mut get = pin!(cache.get());
        assert!(poll_fn(|cx| Poll::Ready(get.as_mut().poll(cx).is_pending())).await);
        assert!(matches!(watch.changed().await, Some(CacheState::Renewing)));
        get.await.unwrap_err();
    }
    match watch.changed().await {
        Some(CacheState::Failing {
            since,
            error,
            retry_at,
            ..
        }) => {
            assert!(retry_at > since);
            assert_eq!(error.to_string(), "down for a moment");
        }
        state => panic!("{state:?}"),
    }
    wait_for_the_pause(&cache).await;
    cache.ready().await.unwrap();
    assert!(matches!(watch.current(), CacheState::Valid));
    assert!(cache.has_token());
    cache.invalidate();
    assert!(matches!(watch.changed().await, Some(CacheState::Empty)));
    assert!(!cache.has_token());
    drop(cache);
    assert!(watch.changed().await.is_none(), "gone with the cache");
}
