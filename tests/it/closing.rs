//! *Closing*: no token any more, and those that were held are given back, in time.

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::time::{Instant, advance, sleep, timeout};
use tower_oauth::{AccessToken, CacheState, Demand, TokenCache, TokenError, TokenSource};

use crate::support::{
    api::{Api, get},
    paused,
    rotating::Rotating,
    secs, settle,
    source::token,
};

/// Keeps what is given back; each of its answers takes `latency`.
#[derive(Clone, Default)]
struct Source {
    given_back: Arc<Mutex<Vec<Option<String>>>>,
    calls: Arc<AtomicUsize>,
    latency: u64,
    revoking: Revoking,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Revoking {
    #[default]
    Works,
    Hangs,
    Panics,
    Fails,
    /// For so many seconds.
    Takes(u64),
}

impl TokenSource for Source {
    async fn token(&self, _: Demand<'_>) -> Result<AccessToken, TokenError> {
        let n = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        sleep(secs(self.latency)).await;
        Ok(token(n, secs(3600)))
    }

    async fn revoke(&self, held: Option<&AccessToken>) -> Result<(), TokenError> {
        let held = held.map(|held| held.expose_secret().to_owned());
        self.given_back.lock().unwrap().push(held);
        match self.revoking {
            Revoking::Works => Ok(()),
            Revoking::Hangs => pending().await,
            Revoking::Panics => panic!("scripted"),
            Revoking::Fails => Err(TokenError::permanent("they are not yours")),
            Revoking::Takes(seconds) => {
                sleep(secs(seconds)).await;
                Ok(())
            }
        }
    }
}

impl Source {
    fn given_back(&self) -> Vec<Option<String>> {
        self.given_back.lock().unwrap().clone()
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    fn revoking(revoking: Revoking) -> Self {
        Self {
            revoking,
            ..Self::default()
        }
    }
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn a_closed_cache_gives_its_token_back_and_hands_out_none() {
    paused(async {
        let source = Source::default();
        let cache = TokenCache::from(source.clone());
        let mut watch = cache.watch();
        let api = Api::accepting(|_| true);
        let client = api.behind(&cache);
        assert_eq!(get(&client, "").await.unwrap(), 200);
        cache.clone().close().await.unwrap();
        assert_eq!(source.given_back(), [some("token-1")]);
        assert!(!cache.has_token());
        assert!(matches!(cache.state(), CacheState::Closed));
        let closed = watch.wait_for(|state| matches!(state, CacheState::Closed));
        assert!(closed.await.is_some());

        let error = get(&client, "").await.unwrap_err();
        let error = error.downcast_ref::<TokenError>().unwrap();
        assert!(!error.is_transient());
        assert!(error.to_string().contains("was closed"), "{error}");
        cache.invalidate();
        for _ in 0..3 {
            assert!(cache.get().await.is_err());
            sleep(secs(600)).await;
        }
        assert!(matches!(cache.state(), CacheState::Closed));
        assert_eq!((source.calls(), api.sends()), (1, 1));

        cache.close().await.unwrap();
        assert_eq!(source.given_back().len(), 1, "once");
    });
}

#[test]
fn an_empty_cache_lets_its_source_give_back_what_that_holds() {
    paused(async {
        let source = Source::default();
        TokenCache::from(source.clone()).close().await.unwrap();
        assert_eq!(source.given_back(), [None]);
        assert_eq!(source.calls(), 0);
    });
}

#[test]
fn a_fetch_under_way_is_waited_for_and_given_back() {
    paused(async {
        let source = Source {
            latency: 5,
            ..Source::default()
        };
        let cache = TokenCache::from(source.clone());
        let waiting = tokio::spawn({
            let cache = cache.clone();
            async move { cache.get().await }
        });
        settle().await;
        let closing = Instant::now();
        cache.close().await.unwrap();
        assert_eq!(closing.elapsed(), secs(5));
        assert_eq!(source.given_back(), [some("token-1")]);
        let error = waiting.await.unwrap().unwrap_err();
        assert!(error.to_string().contains("was closed"), "{error}");

        // A renewal under way: both are given back.
        let cache = TokenCache::from(source.clone());
        cache.ready().await.unwrap();
        sleep(secs(3500)).await;
        cache.get().await.unwrap();
        settle().await;
        assert_eq!(source.calls(), 3);
        cache.close().await.unwrap();
        assert_eq!(source.given_back()[1..], [some("token-2"), some("token-3")]);
        assert!(!cache.has_token());
    });
}

#[test]
fn a_fetch_that_hangs_does_not_keep_the_token_from_being_given_back() {
    paused(async {
        let source = Source {
            latency: 25,
            ..Source::default()
        };
        let cache = TokenCache::from(source.clone());
        cache.ready().await.unwrap();
        sleep(secs(3475)).await;
        cache.get().await.unwrap();
        settle().await;
        assert_eq!(source.calls(), 2);
        let closing = tokio::spawn(async move { cache.close().await });
        sleep(secs(16)).await;
        assert_eq!(
            source.given_back(),
            [some("token-1")],
            "after half the time"
        );
        closing.await.unwrap().unwrap();
        assert_eq!(source.given_back(), [some("token-1"), some("token-2")]);
    });
}

#[test]
fn closing_has_a_deadline() {
    paused(async {
        let source = Source::revoking(Revoking::Hangs);
        let cache = TokenCache::builder(source.clone())
            .deadline(secs(7))
            .build();
        cache.ready().await.unwrap();
        let closing = Instant::now();
        let error = cache.close().await.unwrap_err();
        assert_eq!(closing.elapsed(), secs(7));
        assert!(error.is_transient());
        assert!(error.to_string().contains("live on"), "{error}");
        assert!(cache.get().await.is_err());
        assert_eq!(source.given_back().len(), 1);
        // 30 s by default.
        let cache = TokenCache::from(source);
        cache.ready().await.unwrap();
        let closing = Instant::now();
        cache.close().await.unwrap_err();
        assert_eq!(closing.elapsed(), secs(30));
    });
}

#[test]
fn what_goes_wrong_in_the_source_is_told_and_the_cache_is_closed_all_the_same() {
    paused(async {
        for (revoking, part, transient) in [
            (Revoking::Panics, "panicked", true),
            (Revoking::Fails, "not yours", false),
        ] {
            let cache = TokenCache::from(Source::revoking(revoking));
            cache.ready().await.unwrap();
            for _ in 0..2 {
                let error = cache.close().await.unwrap_err();
                assert!(error.to_string().contains(part), "{error}");
                assert_eq!(error.is_transient(), transient);
            }
            assert!(!cache.has_token());
            assert!(cache.get().await.is_err());
        }
    });
}

#[test]
fn a_close_that_is_cancelled_closes_all_the_same_and_others_wait_for_it() {
    paused(async {
        let source = Source::revoking(Revoking::Takes(5));
        let cache = TokenCache::from(source.clone());
        cache.ready().await.unwrap();
        let begun = Instant::now();
        timeout(secs(1), cache.close()).await.unwrap_err();
        assert!(!cache.has_token());
        assert!(cache.get().await.is_err());
        let (a, b) = tokio::join!(cache.close(), cache.close());
        a.and(b).unwrap();
        assert_eq!(begun.elapsed(), secs(5));
        assert_eq!(source.given_back(), [some("token-1")]);

        // Even if the cache goes with its caller.
        let cache = TokenCache::from(source.clone());
        cache.ready().await.unwrap();
        let _ = timeout(secs(1), async { cache.close().await }).await;
        drop(cache);
        advance(secs(10)).await;
        settle().await;
        assert_eq!(source.given_back()[1..], [some("token-2")]);
        let tasks = tokio::runtime::Handle::current().metrics();
        assert_eq!(tasks.num_alive_tasks(), 0);
    });
}

#[test]
fn a_runtime_that_goes_down_while_closing_is_told() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let cache = TokenCache::from(Source::revoking(Revoking::Hangs));
    let first = runtime();
    first.block_on(async {
        let closing = tokio::spawn({
            let cache = cache.clone();
            async move { cache.close().await }
        });
        settle().await;
        closing.abort();
    });
    drop(first);
    let error = runtime().block_on(cache.close()).unwrap_err();
    assert!(error.is_transient());
    assert!(error.to_string().contains("shut down"), "{error}");
    assert!(runtime().block_on(cache.get()).is_err());
}

#[test]
fn a_close_elsewhere_does_not_wait_for_a_runtime_that_stands_still() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap()
    };
    let cache = TokenCache::builder(Source::revoking(Revoking::Hangs))
        .deadline(secs(7))
        .build();
    let still = runtime();
    still.block_on(async {
        let closing = timeout(secs(1), cache.close());
        closing.await.unwrap_err();
    });
    runtime().block_on(async {
        let closing = Instant::now();
        let error = timeout(secs(100), cache.close()).await.unwrap();
        assert!(error.unwrap_err().is_transient());
        assert_eq!(closing.elapsed(), secs(7));
    });
    drop(still);
}

#[test]
fn a_source_that_closes_the_cache_it_serves_is_told_so() {
    paused(async {
        let cache: Arc<Mutex<Option<TokenCache>>> = Arc::default();
        let served = TokenCache::from({
            let cache = Arc::clone(&cache);
            move || {
                let cache = cache.lock().unwrap().clone().unwrap();
                async move {
                    cache.close().await?;
                    Ok(token(1, secs(60)))
                }
            }
        });
        *cache.lock().unwrap() = Some(served.clone());
        let error = served.get().await.unwrap_err();
        assert!(error.to_string().contains("waits for itself"), "{error}");
        cache.lock().unwrap().take();
    });
}

#[tokio::test]
async fn closing_revokes_the_refresh_token_that_a_redemption_under_way_brings() {
    let server = Rotating::start();
    let gate = server.gate();
    let cache = TokenCache::from(server.source("r1"));
    let waiting = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get().await }
    });
    settle().await;
    let closing = tokio::spawn(async move { cache.close().await });
    settle().await;
    assert_eq!(server.revoked(), [""; 0]);
    gate.add_permits(10);
    closing.await.unwrap().unwrap();
    assert!(waiting.await.unwrap().is_err());
    assert_eq!(server.redeemed(), ["r1"]);
    assert_eq!(server.revoked(), ["r2", "a1"]);
}
