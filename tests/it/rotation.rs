//! *Rotating*: each refresh token is redeemed once, and the next one is kept before it is used.

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{advance, timeout},
};
use tower_oauth::{
    AccessToken, Demand, EndpointError, InvalidScope, NoRefreshToken, RefreshToken, Rotation,
    Secret, TokenCache, TokenError, TokenSource,
};

use crate::support::{
    paused,
    rotating::{
        Answer::{
            self, InvalidGrant, Keep, Lost, Panic, Refuse, RotateWithBadAccess, Unavailable,
            Unheard,
        },
        Rotating,
    },
    secs, settle,
};

async fn ask(source: &RefreshToken) -> Result<String, TokenError> {
    let token = source.token(Demand::default()).await?;
    Ok(token.expose_secret().to_owned())
}

/// The pairs that a hook got, as `r2 a1`.
#[derive(Clone, Default)]
struct Pairs(Arc<Mutex<Vec<String>>>);

impl Pairs {
    fn add(&self, pair: &Rotation) {
        let access = pair.access_token().expose_secret();
        let pair = format!("{} {access}", pair.refresh_token());
        self.0.lock().unwrap().push(pair);
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

// rules 8, 20
#[tokio::test]
async fn a_refresh_has_these_bytes() {
    let server = Rotating::start();
    let source = server.source("r1");
    ask(&source).await.unwrap();
    let narrower = source
        .clone()
        .scope("read")
        .resource("https://api.example/");
    ask(&narrower).await.unwrap();
    assert_eq!(
        server.forms(),
        [
            "grant_type=refresh_token&refresh_token=r1",
            "grant_type=refresh_token&refresh_token=r2&scope=read\
             &resource=https%3A%2F%2Fapi.example%2F",
        ]
    );
    let error = ask(&source.scope("a\"b")).await.unwrap_err();
    assert!(error.get_ref().is::<InvalidScope>());
    assert_eq!(server.requests(), 2, "nothing is sent for it");
}

// rule 21
#[tokio::test]
async fn a_new_refresh_token_replaces_the_old_one_and_none_keeps_it() {
    let server = Rotating::start();
    let pairs = Pairs::default();
    let source = server.source("r1").on_rotation({
        let pairs = pairs.clone();
        move |pair| {
            pairs.add(&pair);
            async { Ok(()) }
        }
    });
    server.script([
        Keep(""),
        Keep(r#","refresh_token":null"#),
        Keep(r#","refresh_token":"""#),
        Keep(r#","refresh_token":"r1""#),
    ]);
    for n in 1..=6 {
        assert_eq!(ask(&source).await.unwrap(), format!("a{n}"));
    }
    assert_eq!(server.redeemed(), ["r1", "r1", "r1", "r1", "r1", "r2"]);
    assert_eq!(
        pairs.all(),
        ["r2 a5", "r3 a6"],
        "what isn't new is no rotation"
    );
}

// rules 80, F2, F12, F23
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_impatient_callers_redeem_each_refresh_token_once() {
    for caches in [1, 4] {
        let server = Rotating::start();
        let pairs = Pairs::default();
        let source = server.source("r1").on_rotation({
            let pairs = pairs.clone();
            move |pair| {
                let pairs = pairs.clone();
                async move {
                    for _ in 0..fastrand::u8(..20) {
                        tokio::task::yield_now().await;
                    }
                    pairs.add(&pair);
                    if fastrand::u8(..4) == 0 {
                        return Err("disk full".into());
                    }
                    Ok(())
                }
            }
        });
        let caches: Vec<TokenCache> = (0..caches)
            .map(|_| TokenCache::from(source.clone()))
            .collect();
        let mut callers = JoinSet::new();
        for n in 0..1000 {
            let (source, cache) = (source.clone(), caches[n % caches.len()].clone());
            let server = server.clone();
            callers.spawn(async move {
                while server.requests() < 60 {
                    let patience = Duration::from_micros(fastrand::u64(..2000));
                    // What is dropped at its deadline cancels nothing.
                    if fastrand::bool() {
                        let _ = timeout(patience, source.token(Demand::default())).await;
                    } else {
                        let _ = timeout(patience, cache.get()).await;
                        cache.invalidate();
                    }
                }
            });
        }
        while let Some(caller) = callers.join_next().await {
            caller.unwrap();
        }
        // The last redemption, of callers who all have gone, and its hook.
        while let Err(error) = ask(&source).await {
            assert!(error.is_transient(), "{error}");
        }
        assert_eq!(server.reused(), [""; 0]);
        let redeemed = server.redeemed();
        let expected: Vec<String> = (1..=redeemed.len()).map(|n| format!("r{n}")).collect();
        assert_eq!(redeemed, expected, "each once, in order");
        let mut kept = pairs.all();
        kept.dedup();
        let told: Vec<String> = (1..=redeemed.len())
            .map(|n| format!("r{} a{n}", n + 1))
            .collect();
        assert_eq!(kept, told, "each pair was kept, in order");
    }
}

// rule 80
#[tokio::test]
async fn a_redemption_goes_on_when_every_caller_has_gone() {
    let server = Rotating::start();
    let gate = server.gate();
    let kept = Arc::new(Semaphore::new(0));
    let source = server.source("r1").on_rotation({
        let kept = Arc::clone(&kept);
        move |_| {
            kept.add_permits(1);
            async { Ok(()) }
        }
    });
    let callers: Vec<_> = (0..10)
        .map(|_| {
            let source = source.clone();
            tokio::spawn(async move { ask(&source).await })
        })
        .collect();
    settle().await;
    for caller in callers {
        caller.abort();
    }
    drop(source);
    settle().await;
    assert_eq!((server.requests(), kept.available_permits()), (1, 0));
    gate.add_permits(1);
    // Even with the last clone gone, the new pair is kept.
    kept.acquire().await.unwrap().forget();
    assert_eq!(server.redeemed(), ["r1"]);
}

// rule F25
#[test]
fn a_new_pair_waits_for_its_hook_and_the_old_one_is_never_sent_again() {
    paused(async {
        let server = Rotating::start();
        let works = Arc::new(AtomicBool::new(false));
        let pairs = Pairs::default();
        let source = server.source("r1").on_rotation({
            let (works, pairs) = (Arc::clone(&works), pairs.clone());
            move |pair| {
                pairs.add(&pair);
                let works = works.load(Ordering::SeqCst);
                async move { works.then_some(()).ok_or_else(|| "disk full".into()) }
            }
        });
        for _ in 0..3 {
            let error = ask(&source).await.unwrap_err();
            assert!(error.is_transient());
            let message = error.to_string();
            assert!(message.contains("disk full"), "{message}");
            assert!(message.contains("calls it again"), "{message}");
        }
        assert_eq!(server.requests(), 1, "the hook is called again, no more");
        works.store(true, Ordering::SeqCst);
        assert_eq!(ask(&source).await.unwrap(), "a1");
        assert_eq!(server.requests(), 1);

        // Once more; the access token expires before it is acknowledged.
        works.store(false, Ordering::SeqCst);
        ask(&source).await.unwrap_err();
        advance(secs(3571)).await;
        works.store(true, Ordering::SeqCst);
        assert_eq!(ask(&source).await.unwrap(), "a3");
        assert_eq!(server.redeemed(), ["r1", "r2", "r3"]);
        assert_eq!(
            pairs.all(),
            [
                "r2 a1", "r2 a1", "r2 a1", "r2 a1", "r3 a2", "r3 a2", "r4 a3"
            ]
        );
    });
}

#[test]
fn a_token_that_waited_for_its_hook_has_what_is_left_of_its_lifetime() {
    paused(async {
        let server = Rotating::start();
        let calls = Arc::new(AtomicUsize::new(0));
        let source = server.source("r1").on_rotation({
            let calls = Arc::clone(&calls);
            move |_| {
                let first = calls.fetch_add(1, Ordering::SeqCst) == 0;
                async move { (!first).then_some(()).ok_or_else(|| "disk full".into()) }
            }
        });
        ask(&source).await.unwrap_err();
        advance(secs(1000)).await;
        let token = source.token(Demand::default()).await.unwrap();
        assert_eq!(token.expose_secret(), "a1");
        let left = token.lifetime().unwrap();
        assert!(left <= secs(2600) && left > secs(2595), "{left:?}");
    });
}

#[test]
fn a_hook_that_hangs_is_called_again_whatever_its_caller_does() {
    paused(async {
        let server = Rotating::start();
        let calls = Arc::new(AtomicUsize::new(0));
        let source = server.source("r1").on_rotation({
            let calls = Arc::clone(&calls);
            move |_| {
                let first = calls.fetch_add(1, Ordering::SeqCst) == 0;
                async move {
                    if first {
                        pending::<()>().await;
                    }
                    Ok(())
                }
            }
        });
        timeout(secs(1), ask(&source)).await.unwrap_err();
        // The next one joins, and learns what is wrong.
        let error = ask(&source).await.unwrap_err();
        assert!(error.is_transient());
        assert!(error.to_string().contains("60s"), "{error}");
        assert_eq!(ask(&source).await.unwrap(), "a1");
        assert_eq!((server.requests(), calls.load(Ordering::SeqCst)), (1, 2));
    });
}

#[tokio::test]
async fn a_panic_is_an_error_and_the_next_call_goes_on() {
    let server = Rotating::start();
    let calls = Arc::new(AtomicUsize::new(0));
    let source = server.source("r1").on_rotation({
        let calls = Arc::clone(&calls);
        move |_| {
            let call = calls.fetch_add(1, Ordering::SeqCst);
            assert_ne!(call, 0, "before there is a future");
            async move {
                assert_ne!(call, 1, "in the future");
                Ok(())
            }
        }
    });
    for _ in 0..2 {
        let error = ask(&source).await.unwrap_err();
        assert!(error.is_transient());
        assert!(error.to_string().contains("panicked"), "{error}");
    }
    assert_eq!(ask(&source).await.unwrap(), "a1");
    assert_eq!(server.redeemed(), ["r1"]);
    // In the transport, before anything was sent.
    server.script([Panic]);
    let error = ask(&source).await.unwrap_err();
    assert!(error.is_transient());
    assert!(error.to_string().contains("panicked"), "{error}");
    assert_eq!(ask(&source).await.unwrap(), "a2");
    assert_eq!(server.redeemed(), ["r1", "r2", "r2"]);
}

#[tokio::test]
async fn an_answer_that_never_came_leaves_the_refresh_token_to_be_sent_again() {
    let server = Rotating::start();
    let source = server.source("r1");
    server.script([Unheard, Unavailable, Keep("")]);
    for _ in 0..2 {
        assert!(ask(&source).await.unwrap_err().is_transient());
    }
    assert_eq!(ask(&source).await.unwrap(), "a1");
    assert_eq!(server.redeemed(), ["r1", "r1", "r1"]);

    // Where the server has redeemed it, only a new login helps, and that is said.
    server.script([Lost]);
    assert!(ask(&source).await.unwrap_err().is_transient());
    let error = ask(&source).await.unwrap_err();
    assert!(!error.is_transient());
    assert_eq!(error.oauth_code(), Some("invalid_grant"));
    assert!(error.to_string().contains("log in again"), "{error}");
}

#[test]
fn a_runtime_that_goes_down_in_the_middle_leaves_something_to_go_on_from() {
    // While the answer is awaited, and while the hook is.
    for in_hook in [false, true] {
        let server = Rotating::start();
        let hangs = Arc::new(AtomicBool::new(true));
        let source = server.source("r1").on_rotation({
            let hangs = Arc::clone(&hangs);
            move |_| {
                let hangs = hangs.load(Ordering::SeqCst);
                async move {
                    if hangs {
                        pending::<()>().await;
                    }
                    Ok(())
                }
            }
        });
        let runtime = || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
        };
        let gate = server.gate();
        if in_hook {
            gate.add_permits(1);
        }
        let first = runtime();
        first.block_on(async {
            tokio::spawn({
                let source = source.clone();
                async move { ask(&source).await }
            });
            settle().await;
        });
        assert_eq!(server.requests(), 1);
        drop(first);
        hangs.store(false, Ordering::SeqCst);
        gate.add_permits(10);
        let outcome = runtime().block_on(ask(&source));
        if in_hook {
            assert_eq!(outcome.unwrap(), "a1");
            assert_eq!(server.redeemed(), ["r1"]);
        } else {
            // The answer is lost with the runtime.
            assert_eq!(outcome.unwrap_err().oauth_code(), Some("invalid_grant"));
            assert_eq!(server.redeemed(), ["r1", "r1"]);
        }
    }
}

/// A `block_on` that returned while its tasks were at work.
#[test]
fn a_runtime_that_stands_still_holds_nobody_up_for_good() {
    let server = Rotating::start();
    let calls = Arc::new(AtomicUsize::new(0));
    let released = Arc::new(Semaphore::new(0));
    let source = server.source("r1").on_rotation({
        let (calls, released) = (Arc::clone(&calls), Arc::clone(&released));
        move |_| {
            let call = calls.fetch_add(1, Ordering::SeqCst);
            let released = Arc::clone(&released);
            async move {
                match call {
                    0 => return Err("disk full".into()),
                    1 => released.acquire().await?.forget(),
                    _ => {}
                }
                Ok(())
            }
        }
    });
    let still = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    still.block_on(async {
        ask(&source).await.unwrap_err();
        let asking = tokio::spawn({
            // Once the hook has let it, it would redeem the new one: its scope is another.
            let source = source.clone().scope("read");
            async move { ask(&source).await }
        });
        settle().await;
        asking.abort();
    });
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    paused(async {
        assert_eq!(ask(&source).await.unwrap(), "a1");
        assert_eq!(ask(&source).await.unwrap(), "a2");
    });
    // When it goes on, its flight is over.
    released.add_permits(1);
    still.block_on(settle());
    assert_eq!(server.redeemed(), ["r1", "r2"]);
}

#[tokio::test]
async fn a_dead_refresh_token_is_replaced_by_what_the_provider_has_by_then() {
    let server = Rotating::start();
    let stored = Arc::new(Mutex::new(Ok(String::from("r1"))));
    let asked = Arc::new(AtomicUsize::new(0));
    let provider = {
        let (stored, asked) = (Arc::clone(&stored), Arc::clone(&asked));
        Secret::provided_by(move || {
            asked.fetch_add(1, Ordering::SeqCst);
            let stored: Result<String, &str> = stored.lock().unwrap().clone();
            stored.map_err(Into::into)
        })
    };
    let says = |text: Result<&str, &'static str>| {
        *stored.lock().unwrap() = text.map(ToOwned::to_owned);
    };
    let source = server.source(provider);
    says(Err("no such file"));
    let error = ask(&source).await.unwrap_err();
    assert!(error.is_transient());
    assert!(error.to_string().contains("no such file"), "{error}");
    says(Ok("r1"));
    for _ in 0..2 {
        ask(&source).await.unwrap();
    }
    assert_eq!(server.redeemed(), ["r1", "r2"]);
    assert_eq!(
        asked.load(Ordering::SeqCst),
        2,
        "the newer one is in memory"
    );

    // The provider has nothing that wasn't sent before: r1 is spent.
    server.script([InvalidGrant]);
    let error = ask(&source).await.unwrap_err();
    assert!(!error.is_transient());
    let refused = error.get_ref().downcast_ref::<EndpointError>();
    assert!(matches!(refused, Some(EndpointError::Refused { .. })));
    assert_eq!(server.redeemed(), ["r1", "r2", "r3"]);

    // No failure is final: the server may have erred. Neither does the provider's hold it up.
    says(Err("no such file"));
    server.script([InvalidGrant]);
    ask(&source).await.unwrap_err();
    assert_eq!(server.redeemed(), ["r1", "r2", "r3", "r3"]);

    // A login between two calls: nothing is wasted on the dead one.
    server.log_in("login-2");
    says(Ok("login-2"));
    ask(&source).await.unwrap();
    assert_eq!(server.redeemed()[4..], ["login-2"]);

    // A login that the next call doesn't know of yet: it takes it in the same call.
    server.log_in("login-3");
    says(Ok("login-3"));
    server.script([Refuse(200, "bad_refresh_token")]); // as GitHub says it
    ask(&source).await.unwrap();
    assert_eq!(server.redeemed()[5..], ["r4", "login-3"]);

    // One that is dead, too, is tried once.
    says(Ok("login-4"));
    server.script([InvalidGrant, InvalidGrant]);
    ask(&source).await.unwrap_err();
    assert_eq!(server.redeemed()[7..], ["r5", "login-4"]);
    assert_eq!(server.reused(), [""; 0]);
}

#[tokio::test]
async fn what_can_be_no_refresh_token_is_not_sent() {
    let server = Rotating::start();
    for (text, part) in [("", "log in"), ("r1\n", "trim it")] {
        let error = ask(&server.source(text)).await.unwrap_err();
        assert!(!error.is_transient());
        assert!(error.get_ref().is::<NoRefreshToken>());
        assert!(error.to_string().contains(part), "{error}");
    }
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn callers_share_a_redemption_but_not_the_token_that_was_refused() {
    let server = Rotating::start();
    let source = server.source("r1");
    assert_eq!(ask(&source).await.unwrap(), "a1");
    let refused = AccessToken::bearer("a1").unwrap();
    let gate = server.gate();
    server.script([Answer::RotateWithOldAccess]);

    let under_way = tokio::spawn({
        let source = source.clone();
        async move { ask(&source).await }
    });
    settle().await;
    // A cache alone tells its source what was refused.
    let cache = TokenCache::from(source.clone());
    let joined = tokio::spawn(async move { cache.get().await });
    let demanding = tokio::spawn({
        let source = source.clone();
        async move {
            let cache = TokenCache::from(Refused { source, refused });
            cache.ready().await?;
            cache.invalidate();
            let token = cache.get().await?;
            Ok::<_, TokenError>(token.expose_secret().to_owned())
        }
    });
    settle().await;
    assert_eq!(server.requests(), 2, "the others joined");
    gate.add_permits(10);
    assert_eq!(under_way.await.unwrap().unwrap(), "a1");
    assert_eq!(joined.await.unwrap().unwrap().expose_secret(), "a1");
    assert_eq!(demanding.await.unwrap().unwrap(), "a2", "another flight");
    assert_eq!(server.redeemed(), ["r1", "r2", "r3"]);
}

/// Hands on a refusal: first it gives the refused token, and then asks for another.
struct Refused {
    source: RefreshToken,
    refused: AccessToken,
}

impl TokenSource for Refused {
    async fn token(&self, demand: Demand<'_>) -> Result<AccessToken, TokenError> {
        match demand.rejected() {
            None => Ok(self.refused.clone()),
            Some(_) => self.source.token(demand).await,
        }
    }
}

#[tokio::test]
async fn clones_with_other_scopes_take_turns() {
    let server = Rotating::start();
    let source = server.source("r1");
    let gate = server.gate();
    let asking = |source: RefreshToken| tokio::spawn(async move { ask(&source).await.unwrap() });
    let read = asking(source.clone().scope("read"));
    settle().await;
    let write = asking(source.clone().scope("write"));
    let read_too = asking(source.clone().scope("read"));
    settle().await;
    assert_eq!(server.requests(), 1);
    gate.add_permits(10);
    assert_eq!(read.await.unwrap(), "a1");
    assert_eq!(read_too.await.unwrap(), "a1");
    assert_eq!(write.await.unwrap(), "a2");
    assert_eq!(
        server.forms(),
        [
            "grant_type=refresh_token&refresh_token=r1&scope=read",
            "grant_type=refresh_token&refresh_token=r2&scope=write",
        ]
    );
}

#[tokio::test]
async fn revoking_gives_back_the_refresh_token_and_what_came_of_it() {
    let server = Rotating::start();
    let source = server.source("r1");
    let token = source.token(Demand::default()).await.unwrap();
    source.revoke(Some(&token)).await.unwrap();
    assert_eq!(server.revoked(), ["r2", "a1"]);
    let error = ask(&source).await.unwrap_err();
    assert!(!error.is_transient());
    assert!(error.get_ref().is::<NoRefreshToken>());
    assert!(error.to_string().contains("log in again"), "{error}");
    source.revoke(None).await.unwrap();
    assert_eq!(server.revoked().len(), 2, "there is nothing left");
    assert_eq!(server.requests(), 1);

    // One that was never used is the provider's.
    let source = server.source("unused");
    source.revoke(None).await.unwrap();
    assert_eq!(server.revoked()[2..], ["unused"]);
    assert!(ask(&source).await.is_err());
    assert_eq!(server.requests(), 1);
    server.source("").revoke(None).await.unwrap();
    assert_eq!(server.revoked().len(), 3);
}

// rule 68
#[tokio::test]
async fn what_could_not_be_revoked_is_kept_to_be_tried_again() {
    let server = Rotating::start();
    let source = server.source("r1");
    let token = source.token(Demand::default()).await.unwrap();
    server.script_revocations([503]);
    let error = source.revoke(Some(&token)).await.unwrap_err();
    assert!(error.is_transient());
    assert_eq!(error.retry_after(), Some(secs(5)));
    source.revoke(None).await.unwrap();
    assert_eq!(server.revoked(), ["r2", "a1", "r2"]);
    assert!(ask(&source).await.is_err());
}

#[tokio::test]
async fn a_server_that_revokes_refresh_tokens_only_has_done_enough() {
    let server = Rotating::start();
    let source = server.source("r1");
    let token = source.token(Demand::default()).await.unwrap();
    server.script_revocations([200, 400]);
    source.revoke(Some(&token)).await.unwrap();
    assert_eq!(server.revoked(), ["r2", "a1"]);
}

#[tokio::test]
async fn a_revocation_waits_for_the_redemption_under_way() {
    let server = Rotating::start();
    let source = server.source("r1");
    let gate = server.gate();
    let asking = tokio::spawn({
        let source = source.clone();
        async move { ask(&source).await }
    });
    settle().await;
    let revoking = tokio::spawn({
        let source = source.clone();
        async move { source.revoke(None).await }
    });
    settle().await;
    assert_eq!(server.revoked(), [""; 0]);
    gate.add_permits(1);
    assert_eq!(asking.await.unwrap().unwrap(), "a1");
    settle().await;
    assert_eq!(server.revoked(), ["r2"], "the new one");
    // Its caller goes away: it is revoked all the same, and a call meanwhile waits for that.
    revoking.abort();
    let late = tokio::spawn({
        let source = source.clone();
        async move { ask(&source).await }
    });
    settle().await;
    assert_eq!(server.requests(), 1);
    gate.add_permits(1);
    let error = late.await.unwrap().unwrap_err();
    assert!(error.get_ref().is::<NoRefreshToken>());
    assert_eq!(server.requests(), 1);
}

#[test]
fn without_a_runtime_there_is_an_error_that_says_so() {
    let server = Rotating::start();
    let source = server.source("r1");
    let mut asking = std::pin::pin!(ask(&source));
    let waker = std::task::Waker::noop();
    let poll = asking
        .as_mut()
        .poll(&mut std::task::Context::from_waker(waker));
    let std::task::Poll::Ready(Err(error)) = poll else {
        panic!("{poll:?}");
    };
    assert!(error.to_string().contains("runtime"), "{error}");
    assert_eq!(server.requests(), 0);
}

// rule 80
#[tokio::test(start_paused = true)]
async fn an_endpoint_without_a_time_limit_redeems_once_as_well() {
    let server = Rotating::start();
    let gate = server.gate();
    let endpoint = server.endpoint().timeout(Duration::MAX).build().unwrap();
    let source = RefreshToken::new(endpoint, "r1");
    let asking = tokio::spawn(async move { ask(&source).await });
    for _ in 0..3 {
        settle().await;
        advance(secs(1)).await;
    }
    gate.add_permits(3);
    assert_eq!(asking.await.unwrap().unwrap(), "a1");
    assert_eq!(server.redeemed(), ["r1"]);
}

// rule 80
#[tokio::test]
async fn a_provider_that_lags_behind_the_hook_spends_nothing_twice() {
    let server = Rotating::start();
    let said = Arc::new(Mutex::new("r1"));
    let provider = Secret::provided_by({
        let said = Arc::clone(&said);
        move || Ok((*said.lock().unwrap()).to_owned())
    });
    let source = server.source(provider);
    for n in 1..=3 {
        assert_eq!(ask(&source).await.unwrap(), format!("a{n}"));
    }
    // What the hook wrote two rotations ago is only now to be read.
    *said.lock().unwrap() = "r3";
    server.script([InvalidGrant]);
    ask(&source).await.unwrap_err();
    assert_eq!(ask(&source).await.unwrap(), "a4");
    assert_eq!(server.redeemed(), ["r1", "r2", "r3", "r4", "r4"]);
    assert!(server.reused().is_empty());
}

// rules 21, 80
#[tokio::test]
async fn a_new_refresh_token_beside_an_unusable_access_token_is_not_lost() {
    for (next, kept) in [(Answer::Rotate, "r3 a2"), (Keep(""), "r2 a2")] {
        let server = Rotating::start();
        let pairs = Pairs::default();
        let source = server.source("r1").on_rotation({
            let pairs = pairs.clone();
            move |pair| {
                pairs.add(&pair);
                async { Ok(()) }
            }
        });
        server.script([RotateWithBadAccess, Unavailable, next]);
        for _ in 0..2 {
            ask(&source).await.unwrap_err();
        }
        assert_eq!(ask(&source).await.unwrap(), "a2");
        assert_eq!(server.redeemed(), ["r1", "r2", "r2"]);
        assert_eq!(pairs.all(), [kept]);
        assert!(server.reused().is_empty());
    }
    // Nor is it at the end.
    let server = Rotating::start();
    let source = server.source("r1");
    server.script([RotateWithBadAccess]);
    ask(&source).await.unwrap_err();
    source.revoke(None).await.unwrap();
    assert_eq!(server.revoked(), ["r2"]);
}
