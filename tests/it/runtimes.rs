//! *Obtaining*, with several runtimes or none: flights and keepers are tasks, a runtime may end under
//! them, and none is left behind.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::Poll,
    time::{Duration, SystemTime},
};

use tokio::{
    runtime::{Builder, Handle, Runtime},
    time::{Instant, advance, sleep},
};
use tower_oauth::{AccessToken, OAuthLayer, TokenCache, TokenSource};

use crate::support::{
    api::{Api, ORIGIN, get},
    paused, secs, settle,
    source::{numbered, scripted, slow, token},
};

const HOUR: Duration = secs(3600);

#[test]
fn a_flight_that_is_lost_with_its_runtime_is_started_anew_on_the_callers() {
    let (ledger, source) = scripted(|n| async move {
        if n == 1 {
            std::future::pending::<()>().await;
        }
        Ok(token(n, HOUR))
    });
    let cache = TokenCache::from(source);
    let doomed = multi_thread();
    doomed.spawn({
        let cache = cache.clone();
        async move { cache.get().await }
    });
    while ledger.calls() == 0 {
        std::thread::yield_now();
    }
    let waiting = std::thread::spawn({
        let cache = cache.clone();
        move || multi_thread().block_on(async { cache.get().await })
    });
    doomed.shutdown_background();
    let token = waiting.join().unwrap().unwrap();
    assert_eq!(token.expose_secret(), "token-2");
}

#[test]
fn a_flight_whose_runtime_stands_still_is_not_waited_for_forever() {
    let calls = Arc::new(AtomicUsize::new(0));
    let source = {
        let calls = Arc::clone(&calls);
        move || {
            let n = calls.fetch_add(1, Ordering::SeqCst) + 1;
            async move {
                sleep(secs(1)).await;
                Ok(token(n, HOUR))
            }
        }
    };
    let cache = TokenCache::builder(source).deadline(secs(3)).build();
    let parked = paused_runtime();
    parked.block_on(async {
        let mut get = pin!(cache.get());
        assert!(poll_fn(|cx| Poll::Ready(get.as_mut().poll(cx).is_pending())).await);
        settle().await;
    });
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    // `parked` is alive, but nobody drives it.
    let token = paused_runtime().block_on(async {
        // The paused clock leaps over the wait.
        let asked = Instant::now();
        let token = cache.get().await.unwrap();
        assert!(asked.elapsed() < secs(10), "{:?}", asked.elapsed());
        token
    });
    assert_eq!(token.expose_secret(), "token-2");
    // The flight that was given up arrives after all, and changes nothing.
    parked.block_on(async { sleep(secs(10)).await });
    let token = paused_runtime().block_on(async { cache.get().await.unwrap() });
    assert_eq!(token.expose_secret(), "token-2");
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[test]
fn a_keeper_that_dies_with_its_runtime_unpublishes_and_the_next_caller_starts_another() {
    let (ledger, source) = numbered(HOUR);
    let cache = TokenCache::from(source);
    let first = multi_thread();
    first.block_on(async { cache.ready().await.unwrap() });
    assert!(cache.has_token());
    drop(first);
    assert!(!cache.has_token(), "nobody watches over the token's end");

    let second = multi_thread();
    second.block_on(async {
        assert_eq!(cache.get().await.unwrap().expose_secret(), "token-1");
        assert!(cache.has_token());
        assert!(tasks() > 0);
    });
    assert_eq!(ledger.calls(), 1, "the token was good all along");
}

#[test]
fn a_keeper_that_panics_unpublishes_and_the_next_caller_starts_another() {
    paused(async {
        let stopped = Arc::new(AtomicBool::new(false));
        let (ledger, source) = numbered(HOUR);
        let cache = {
            let stopped = Arc::clone(&stopped);
            TokenCache::builder(source).wall_clock(move || {
                assert!(!stopped.load(Ordering::SeqCst), "the clock panics");
                SystemTime::UNIX_EPOCH
            })
        };
        let cache = cache.build();
        cache.ready().await.unwrap();
        stopped.store(true, Ordering::SeqCst);
        sleep(secs(30)).await;
        settle().await;
        assert!(!cache.has_token(), "nobody watches over the token's end");

        stopped.store(false, Ordering::SeqCst);
        assert_eq!(cache.get().await.unwrap().expose_secret(), "token-1");
        assert!(cache.has_token());
        sleep(HOUR).await;
        settle().await;
        assert!(!cache.has_token(), "the new keeper does");
        assert_eq!(ledger.calls(), 1);
    });
}

/// A new keeper finds the token due, as it must: it can't know what is under way.
#[test]
fn a_token_that_is_due_again_while_it_is_renewed_is_asked_for_once() {
    let (ledger, source) = slow(HOUR, secs(5));
    let (first, cache) = due_on_a_runtime(source);
    let second = paused_runtime();
    second.block_on(async {
        assert_eq!(cache.get().await.unwrap().expose_secret(), "token-1");
        settle().await;
    });
    assert_eq!(ledger.calls(), 2, "the renewal");
    drop(first);
    assert!(!cache.has_token(), "the keeper is gone");
    second.block_on(async {
        for _ in 0..3 {
            assert_eq!(cache.get().await.unwrap().expose_secret(), "token-1");
            settle().await;
        }
        sleep(secs(5)).await;
        settle().await;
        assert_eq!(cache.get().await.unwrap().expose_secret(), "token-2");
    });
    assert_eq!(ledger.calls(), 2);
}

#[test]
fn a_renewal_that_is_lost_with_its_runtime_is_started_anew_by_the_next_caller() {
    let (ledger, source) = scripted(|n| async move {
        if n == 2 {
            std::future::pending::<()>().await;
        }
        Ok(token(n, HOUR))
    });
    let (keepers, cache) = due_on_a_runtime(source);
    let doomed = paused_runtime();
    doomed.block_on(async {
        assert_eq!(cache.get().await.unwrap().expose_secret(), "token-1");
        settle().await;
    });
    assert_eq!(ledger.calls(), 2, "the renewal");
    drop(doomed);
    keepers.block_on(async {
        assert_eq!(cache.get().await.unwrap().expose_secret(), "token-1");
        settle().await;
        assert_eq!(cache.get().await.unwrap().expose_secret(), "token-3");
    });
    assert_eq!(ledger.calls(), 3);
}

#[test]
fn a_renewal_that_cannot_start_is_left_to_the_next_caller() {
    let (ledger, source) = numbered(HOUR);
    let (runtime, cache) = due_on_a_runtime(source);
    for _ in 0..2 {
        let token = poll_once(cache.get()).unwrap().unwrap();
        assert_eq!(token.expose_secret(), "token-1");
    }
    assert_eq!(ledger.calls(), 1, "there is no runtime");
    runtime.block_on(async {
        assert_eq!(cache.get().await.unwrap().expose_secret(), "token-1");
        settle().await;
        assert_eq!(cache.get().await.unwrap().expose_secret(), "token-2");
    });
    assert_eq!(ledger.calls(), 2);
}

/// A cache whose token is due, and the runtime that its keeper is on.
fn due_on_a_runtime(source: impl TokenSource) -> (Runtime, TokenCache) {
    // The paused clocks of two runtimes differ; this one is the same on both.
    let wall = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&wall);
    let cache = TokenCache::builder(source)
        .wall_clock(move || SystemTime::UNIX_EPOCH + secs(seen.load(Ordering::SeqCst)))
        .build();
    let runtime = paused_runtime();
    runtime.block_on(async {
        cache.ready().await.unwrap();
        wall.store(3500, Ordering::SeqCst);
        sleep(secs(30)).await;
        settle().await;
    });
    (runtime, cache)
}

#[test]
fn without_a_runtime_the_error_says_so() {
    let cache = TokenCache::from(|| async { Ok(AccessToken::bearer("a")?) });
    let error = poll_once(cache.get()).unwrap().unwrap_err();
    assert!(error.to_string().contains("Tokio runtime"), "{error}");
    assert!(!error.is_transient());
}

fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match pin!(future).poll(&mut cx) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

#[test]
fn the_last_handle_takes_its_tasks_along() {
    paused(async {
        let before = tasks();
        let (_, source) = numbered(HOUR);
        let cache = TokenCache::from(source);
        let other = cache.clone();
        cache.ready().await.unwrap();
        assert_eq!(tasks(), before + 1, "the keeper");
        drop(cache);
        settle().await;
        assert_eq!(tasks(), before + 1);
        drop(other);
        tokio::task::yield_now().await;
        assert_eq!(tasks(), before);
    });
}

#[test]
fn there_is_one_keeper_however_often_the_token_is_renewed() {
    paused(async {
        let before = tasks();
        let (ledger, source) = numbered(HOUR);
        let cache = TokenCache::from(source);
        cache.ready().await.unwrap();
        for renewed in 2..=5 {
            settle().await;
            advance(secs(3500)).await;
            settle().await;
            cache.ready().await.unwrap();
            settle().await;
            assert_eq!((ledger.calls(), tasks()), (renewed, before + 1));
        }
    });
}

#[test]
fn an_invalidated_token_takes_its_keeper_along() {
    paused(async {
        let before = tasks();
        let (_, source) = numbered(HOUR);
        let cache = TokenCache::from(source);
        cache.ready().await.unwrap();
        assert_eq!(tasks(), before + 1, "the keeper");
        cache.invalidate();
        settle().await;
        assert_eq!(tasks(), before);
    });
}

#[test]
fn a_flight_ends_with_the_last_handle() {
    paused(async {
        let before = tasks();
        let ended = Arc::new(AtomicBool::new(false));
        struct Ends(Arc<AtomicBool>);
        impl Drop for Ends {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let (ledger, source) = scripted({
            let ended = Arc::clone(&ended);
            move |n| {
                let ends = Ends(Arc::clone(&ended));
                async move {
                    std::future::pending::<()>().await;
                    drop(ends);
                    Ok(token(n, HOUR))
                }
            }
        });
        let cache = TokenCache::from(source);
        {
            let mut get = pin!(cache.get());
            assert!(poll_fn(|cx| Poll::Ready(get.as_mut().poll(cx).is_pending())).await);
            settle().await;
        }
        assert_eq!((ledger.calls(), tasks()), (1, before + 1));
        drop(cache);
        tokio::task::yield_now().await;
        assert!(ended.load(Ordering::SeqCst));
        assert_eq!(tasks(), before);
    });
}

#[test]
fn a_hundred_thousand_layers_leave_no_task_behind() {
    for (runtime, layers) in [(paused_runtime(), 100_000), (multi_thread(), 10_000)] {
        runtime.block_on(async {
            let before = tasks();
            for _ in 0..layers {
                let (_, source) = numbered(HOUR);
                let layer = OAuthLayer::for_origin(ORIGIN, source).unwrap();
                let client = Api::accepting(|_| true).behind_layer(&layer);
                assert_eq!(get(&client, "").await.unwrap(), 200);
            }
            // On several threads the last tasks end when their threads get to them.
            while tasks() > before {
                tokio::task::yield_now().await;
            }
            assert_eq!(tasks(), before);
        });
    }
}

#[test]
fn a_runtime_that_is_shutting_down_gives_an_error_and_no_busy_loop() {
    let (ledger, source) = numbered(HOUR);
    let cache = TokenCache::from(source);
    let runtime = multi_thread();
    let handle = runtime.handle().clone();
    drop(runtime);
    let _inside = handle.enter();
    let error = poll_once(cache.get()).unwrap().unwrap_err();
    assert!(error.is_transient());
    assert!(error.to_string().contains("shut down"), "{error}");
    assert_eq!(ledger.calls(), 0);
}

#[test]
fn a_caller_outside_a_runtime_cannot_board_and_gets_an_error() {
    let (ledger, source) = slow(HOUR, secs(1));
    let cache = TokenCache::from(source);
    let runtime = multi_thread();
    runtime.spawn({
        let cache = cache.clone();
        async move { cache.get().await }
    });
    while ledger.calls() == 0 {
        std::thread::yield_now();
    }
    let error = poll_once(cache.get()).unwrap().unwrap_err();
    assert!(error.to_string().contains("Tokio runtime"), "{error}");
}

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

fn multi_thread() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

fn paused_runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
}
