//! *Sharing a login*: a refresh token is redeemed once, whoever is killed or stopped in the middle of it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{task::JoinSet, time::advance};
use tower_oauth::{
    Demand, NoRefreshToken, PossiblyRotated, RefreshToken, Secret, Shared, TokenCache, TokenError,
    TokenSource,
    store::{Leased, Memory, Record, StoreError, TokenStore, Written},
};

use crate::support::{
    faulty_store::{Faulty, Write},
    rotating::{
        Answer::{
            Away, Busy, InvalidGrant, Keep, Lost, Refuse, RotateWithBadAccess, Unavailable, Unheard,
        },
        Rotating,
    },
    secs, settle,
};

type Process = Shared<RefreshToken>;

/// A process that begins with `r1` and no more than the store.
fn process(server: &Rotating, store: &(impl TokenStore + Clone)) -> Process {
    server.source("r1").shared(store.clone())
}

async fn ask(source: &Process) -> Result<String, TokenError> {
    let token = source.token(Demand::default()).await?;
    Ok(token.expose_secret().to_owned())
}

/// Each call gets a newer token.
async fn anew(cache: &TokenCache) -> Result<String, TokenError> {
    cache.invalidate();
    let token = cache.get().await?;
    Ok(token.expose_secret().to_owned())
}

fn is_possibly_rotated(error: &TokenError) -> bool {
    error.get_ref().is::<PossiblyRotated>() && !error.is_transient()
}

// rules 80, F23
#[tokio::test(start_paused = true)]
async fn many_processes_redeem_each_refresh_token_once() {
    let (server, store) = (Rotating::start(), Memory::new());
    let mut processes = JoinSet::new();
    for _ in 0..8 {
        let cache = TokenCache::from(process(&server, &store));
        processes.spawn(async move {
            for _ in 0..50 {
                anew(&cache).await.unwrap();
            }
        });
    }
    processes.join_all().await;
    assert_eq!(server.reused(), Vec::<String>::new());
    let mut redeemed = server.redeemed();
    let requests = redeemed.len();
    redeemed.sort();
    redeemed.dedup();
    assert_eq!(redeemed.len(), requests);
    assert!(requests >= 50, "{requests}");
}

#[tokio::test]
async fn a_process_that_starts_later_goes_on_where_the_others_are() {
    let (server, store) = (Rotating::start(), Memory::new());
    let cache = TokenCache::from(process(&server, &store));
    for n in 1..4 {
        assert_eq!(anew(&cache).await.unwrap(), format!("a{n}"));
    }
    let later = TokenCache::from(process(&server, &store));
    assert_eq!(later.get().await.unwrap().expose_secret(), "a3");
    assert_eq!(anew(&later).await.unwrap(), "a4");
    assert_eq!(server.redeemed(), ["r1", "r2", "r3", "r4"]);
}

#[tokio::test]
async fn clones_with_different_scopes_share_the_refresh_token_and_no_access_token() {
    let (server, store) = (Rotating::start(), Memory::new());
    let with = |scope: &str| server.source("r1").scope(scope).shared(store.clone());
    assert_eq!(ask(&with("read")).await.unwrap(), "a1");
    assert_eq!(ask(&with("write")).await.unwrap(), "a2");
    assert_eq!(ask(&with("read")).await.unwrap(), "a1");
    assert_eq!(ask(&with("write")).await.unwrap(), "a2");
    assert_eq!(server.redeemed(), ["r1", "r2"]);
}

/// Runs `source` on a runtime of its own that ends where the server has been asked, as a process does
/// that is killed.
fn killed_in_the_middle(server: &Rotating, source: Process) {
    let gate = server.gate();
    let before = server.requests();
    let server = server.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        runtime.block_on(async {
            let call = tokio::spawn(async move { ask(&source).await });
            while server.requests() == before {
                tokio::task::yield_now().await;
            }
            call.abort();
        });
        drop(runtime);
    })
    .join()
    .unwrap();
    gate.add_permits(1000);
}

// rule F25
#[tokio::test(start_paused = true)]
async fn who_finds_an_intent_without_an_outcome_says_so_and_never_sends_the_refresh_token_again() {
    let (server, store) = (Rotating::start(), Memory::new());
    killed_in_the_middle(&server, process(&server, &store));
    let cache = TokenCache::from(process(&server, &store));
    for _ in 0..20 {
        let error = cache.get().await.unwrap_err();
        assert!(is_possibly_rotated(&error), "{error}");
        let message = error.to_string();
        assert!(message.contains("log in again"), "{message}");
        assert!(message.contains("killed or stopped"), "{message}");
        advance(secs(60)).await;
    }
    assert_eq!(server.redeemed(), ["r1"]);
    // Who logs in again has another refresh token to begin with.
    server.log_in("s1");
    let source = server.source("s1").shared(store);
    assert_eq!(ask(&source).await.unwrap(), "a2");
    assert_eq!(server.reused(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_new_login_takes_the_place_of_a_named_one_without_a_restart() {
    let (server, store) = (Rotating::start(), Memory::new());
    let seed = Arc::new(Mutex::new(String::from("r1")));
    let named = || {
        let seed = Arc::clone(&seed);
        let seed = Secret::provided_by(move || Ok(seed.lock().unwrap().clone()));
        server.source(seed).shared(store.clone()).named("alice")
    };
    assert_eq!(ask(&named()).await.unwrap(), "a1");
    killed_in_the_middle(&server, {
        // r2 is out of luck.
        let source = named();
        advance(secs(4000)).await;
        source.wall_clock(|| std::time::SystemTime::now() + secs(4000))
    });
    let survivor = named().wall_clock(|| std::time::SystemTime::now() + secs(4000));
    assert!(is_possibly_rotated(&ask(&survivor).await.unwrap_err()));
    server.log_in("s1");
    *seed.lock().unwrap() = "s1".into();
    assert_eq!(ask(&survivor).await.unwrap(), "a3");
    // A process that was configured long ago brings nothing back.
    let stale = server.source("r1").shared(store.clone()).named("alice");
    assert_eq!(ask(&stale).await.unwrap(), "a3");
    let cache = TokenCache::from(stale);
    cache.get().await.unwrap();
    assert_eq!(anew(&cache).await.unwrap(), "a4");
    assert_eq!(server.reused(), Vec::<String>::new());
    assert_eq!(server.redeemed(), ["r1", "r2", "s1", "r4"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_named_login_began_with_is_never_taken_for_a_new_one() {
    let (server, store) = (Rotating::start(), Memory::new());
    let named = || server.source("r1").shared(store.clone()).named("alice");
    let cache = TokenCache::from(named());
    for n in 1..=200 {
        assert_eq!(anew(&cache).await.unwrap(), format!("a{n}"));
    }
    assert_eq!(ask(&named()).await.unwrap(), "a200");
    assert_eq!(server.reused(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_first_refresh_token_that_is_none_takes_the_place_of_no_good_one() {
    let (server, store) = (Rotating::start(), Memory::new());
    let named = |seed: &str| server.source(seed).shared(store.clone()).named("alice");
    assert_eq!(ask(&named("r1")).await.unwrap(), "a1");
    // As of a deployment that was rolled back, or a typing error.
    let cache = TokenCache::from(named("wrong"));
    cache.get().await.unwrap();
    let error = anew(&cache).await.unwrap_err();
    assert_eq!(error.oauth_code(), Some("invalid_grant"));
    advance(secs(60)).await;
    assert_eq!(anew(&cache).await.unwrap(), "a2");
    assert_eq!(server.redeemed(), ["r1", "wrong", "r2"]);
}

// rule F24
#[tokio::test(start_paused = true)]
async fn a_process_that_stood_still_while_its_lease_ended_finishes_what_it_began() {
    let (server, store) = (Rotating::start(), Faulty::new());
    store.set_stopped(true);
    let gate = server.gate();
    let slow = process(&server, &store);
    let slow = tokio::spawn(async move { ask(&slow).await });
    settle().await;
    advance(secs(11)).await;
    // Its lease is over, but nobody redeems the same again.
    let other = process(&server, &store);
    assert!(is_possibly_rotated(&ask(&other).await.unwrap_err()));
    store.set_stopped(false);
    gate.add_permits(1000);
    assert_eq!(slow.await.unwrap().unwrap(), "a1");
    // And all are well again.
    assert_eq!(ask(&other).await.unwrap(), "a1");
    assert_eq!(server.redeemed(), ["r1"]);
}

// rule F24
#[tokio::test(start_paused = true)]
async fn a_lease_that_ran_out_while_its_intent_was_written_sends_nothing_and_takes_it_back() {
    let (server, store) = (Rotating::start(), Faulty::new());
    store.set_stopped(true);
    store.script([Write::IsSlow]);
    let slow = process(&server, &store).lease(secs(8));
    let error = ask(&slow).await.unwrap_err();
    assert!(error.get_ref().is::<StoreError>(), "{error}");
    assert_eq!(server.requests(), 0);
    store.set_stopped(false);
    settle().await;
    advance(secs(10)).await;
    settle().await;
    assert_eq!(ask(&process(&server, &store)).await.unwrap(), "a1");
    assert_eq!(server.redeemed(), ["r1"]);
}

// rule F24
#[tokio::test(start_paused = true)]
async fn a_late_reader_takes_no_intent_of_who_has_the_lease_for_a_dead_process_s() {
    let (server, store) = (Rotating::start(), Faulty::new());
    store.set_stopped(true);
    // The second is the one under the lease.
    store.script_reads([secs(0), secs(9)]);
    let late = process(&server, &store).lease(secs(8));
    let late = tokio::spawn(async move { ask(&late).await });
    settle().await;
    advance(Duration::from_millis(8_500)).await;
    store.set_stopped(false);
    let gate = server.gate();
    let other = process(&server, &store);
    let other = tokio::spawn(async move { ask(&other).await });
    settle().await;
    advance(secs(1)).await;
    settle().await;
    gate.add_permits(1000);
    assert_eq!(other.await.unwrap().unwrap(), "a1");
    assert_eq!(late.await.unwrap().unwrap(), "a1");
    assert_eq!(server.redeemed(), ["r1"]);
}

// rule F24
#[tokio::test(start_paused = true)]
async fn a_late_writer_is_fenced_off_by_a_new_login() {
    let (server, store) = (Rotating::start(), Faulty::new());
    store.set_stopped(true);
    let gate = server.gate();
    let named = |seed: &str| server.source(seed).shared(store.clone()).named("alice");
    let slow = named("r1");
    let slow = tokio::spawn(async move { ask(&slow).await });
    settle().await;
    advance(secs(11)).await;
    server.log_in("s1");
    let fast = named("s1");
    let fast = tokio::spawn(async move { ask(&fast).await });
    settle().await;
    assert_eq!(server.redeemed(), ["r1", "s1"]);
    store.set_stopped(false);
    gate.add_permits(1000);
    // The slow one takes what the new login brought.
    assert_eq!(slow.await.unwrap().unwrap(), fast.await.unwrap().unwrap());
    assert_eq!(ask(&named("s1")).await.unwrap(), "a2");
    assert!(store.text().await.contains("refresh_token=r3"));
    assert_eq!(server.reused(), Vec::<String>::new());
}

// rule F25
#[tokio::test(start_paused = true)]
async fn a_pair_that_the_store_did_not_take_is_kept_and_written_before_it_is_used() {
    let (server, store) = (Rotating::start(), Faulty::new());
    let one = process(&server, &store);
    // The intent is written, and then nothing any more.
    store.script([
        Write::Works,
        Write::Fails,
        Write::Fails,
        Write::Fails,
        Write::Fails,
        Write::Fails,
    ]);
    let error = ask(&one).await.unwrap_err();
    assert!(error.is_transient());
    assert!(error.to_string().contains("didn't take it"), "{error}");
    // Others don't send the old one again meanwhile.
    let other = process(&server, &store);
    assert!(is_possibly_rotated(&ask(&other).await.unwrap_err()));
    settle().await;
    advance(secs(30)).await;
    settle().await;
    assert_eq!(ask(&other).await.unwrap(), "a1");
    assert_eq!(ask(&one).await.unwrap(), "a1");
    assert_eq!(server.redeemed(), ["r1"]);
}

// rule F25
#[tokio::test(start_paused = true)]
async fn whatever_write_fails_no_refresh_token_is_sent_twice_and_none_is_lost() {
    for broken in 0..4 {
        for write in [Write::Fails, Write::LosesItsAnswer] {
            let (server, store) = (Rotating::start(), Faulty::new());
            let mut script = vec![Write::Works; broken];
            script.push(write);
            store.script(script);
            let caches = [(); 2].map(|()| TokenCache::from(process(&server, &store)));
            let mut tokens = 0;
            for _ in 0..40 {
                for cache in &caches {
                    tokens += usize::from(anew(cache).await.is_ok());
                }
                advance(secs(10)).await;
            }
            assert_eq!(server.reused(), Vec::<String>::new(), "{broken} {write:?}");
            assert!(tokens > 60, "{broken} {write:?}: {tokens}");
        }
    }
}

// rule F25
#[tokio::test(start_paused = true)]
async fn an_intent_that_could_not_be_written_takes_nobody_elses_back() {
    for write in [Write::Fails, Write::LosesItsAnswer] {
        let (server, store) = (Rotating::start(), Faulty::new());
        let (one, other) = (process(&server, &store), process(&server, &store));
        store.script([write]);
        assert!(ask(&one).await.unwrap_err().is_transient());
        assert_eq!(server.requests(), 0);
        let gate = server.gate();
        if write == Write::LosesItsAnswer {
            // It stands there, and only the one who tried knows that nothing was sent.
            assert!(is_possibly_rotated(&ask(&other).await.unwrap_err()));
            settle().await;
            advance(secs(1)).await;
            settle().await;
        }
        // Another process is in the middle of it, with an intent of the same generation.
        let other = tokio::spawn(async move { ask(&other).await });
        settle().await;
        assert_eq!(server.redeemed(), ["r1"]);
        for _ in 0..10 {
            advance(secs(1)).await;
            settle().await;
        }
        gate.add_permits(1000);
        assert_eq!(other.await.unwrap().unwrap(), "a1", "{write:?}");
        assert_eq!(ask(&one).await.unwrap(), "a1", "{write:?}");
        assert!(store.text().await.contains("refresh_token=r2"));
        assert_eq!(server.redeemed(), ["r1"], "{write:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_forgot_the_login_gets_it_back() {
    let (server, store) = (Rotating::start(), Faulty::new());
    let cache = TokenCache::from(process(&server, &store));
    anew(&cache).await.unwrap();
    anew(&cache).await.unwrap();
    store.forget();
    assert_eq!(anew(&cache).await.unwrap(), "a3");
    let other = process(&server, &store);
    assert_eq!(ask(&other).await.unwrap(), "a3");
    assert_eq!(server.redeemed(), ["r1", "r2", "r3"]);
}

#[tokio::test(start_paused = true)]
async fn no_refresh_token_is_redeemed_alone_while_the_store_is_down() {
    let (server, store) = (Rotating::start(), Faulty::new());
    store.set_down(true);
    let alone = tower_oauth::OnStoreLoss::FetchAlone;
    let source = process(&server, &store).on_store_loss(alone);
    let error = ask(&source).await.unwrap_err();
    assert!(error.get_ref().is::<StoreError>() && error.is_transient());
    assert_eq!(server.requests(), 0);
    store.set_down(false);
    assert_eq!(ask(&source).await.unwrap(), "a1");
}

#[tokio::test(start_paused = true)]
async fn what_certainly_was_not_redeemed_is_sent_again_and_what_may_have_been_is_not() {
    for (answer, again) in [
        (Away, true),
        (Busy, true),
        (InvalidGrant, true),
        (Refuse(401, "invalid_client"), true),
        (Refuse(200, "incorrect_client_credentials"), true),
        (Refuse(200, "temporarily_unavailable"), true),
        (Refuse(200, "server_error"), false),
        (Keep(""), true),
        (RotateWithBadAccess, true),
        (Unavailable, false),
        (Unheard, false),
        (Lost, false),
    ] {
        let (server, store) = (Rotating::start(), Memory::new());
        server.script([answer]);
        let source = process(&server, &store);
        let _ = ask(&source).await;
        let outcome = ask(&process(&server, &store)).await;
        match outcome {
            Ok(_) => assert!(again, "{answer:?}"),
            Err(error) => assert!(!again && is_possibly_rotated(&error), "{answer:?}: {error}"),
        }
        assert_eq!(server.reused(), Vec::<String>::new(), "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_tolerates_it_gets_a_refresh_token_again() {
    let (server, store) = (Rotating::start(), Memory::new());
    server.script([Unheard]);
    let source = server.source("r1").tolerates_replay();
    let source = source.shared(store.clone());
    assert!(ask(&source).await.unwrap_err().is_transient());
    assert_eq!(ask(&source).await.unwrap(), "a1");
    assert_eq!(server.redeemed(), ["r1", "r1"]);
}

#[tokio::test(start_paused = true)]
async fn a_new_login_that_the_server_could_not_be_asked_about_is_still_new() {
    for answer in [Away, Busy] {
        let (server, store) = (Rotating::start(), Memory::new());
        let named = |seed: &str| server.source(seed).shared(store.clone()).named("alice");
        server.script([InvalidGrant]);
        ask(&named("r1")).await.unwrap_err();
        server.log_in("s1");
        server.script([answer]);
        assert!(ask(&named("s1")).await.unwrap_err().is_transient());
        assert_eq!(ask(&named("s1")).await.unwrap(), "a1", "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_refresh_token_that_is_none_does_no_harm_where_replays_are_tolerated_either() {
    let (server, store) = (Rotating::start(), Memory::new());
    let named = |seed: &str| {
        let source = server.source(seed).tolerates_replay();
        source.shared(store.clone()).named("alice")
    };
    ask(&named("r1")).await.unwrap();
    let cache = TokenCache::from(named("wrong"));
    cache.get().await.unwrap();
    anew(&cache).await.unwrap_err();
    advance(secs(60)).await;
    assert_eq!(anew(&cache).await.unwrap(), "a2");
}

#[tokio::test(start_paused = true)]
async fn what_is_unsaved_for_one_name_is_not_lost_for_another() {
    let (server, store) = (Rotating::start(), Faulty::new());
    server.log_in("s1");
    let base = server.source("r1").shared(store.clone());
    let (one, other) = (base.clone().named("one"), base.named("other"));
    store.script([
        Write::Works,
        Write::Fails,
        Write::Fails,
        Write::Fails,
        Write::Fails,
        Write::Fails,
    ]);
    ask(&one).await.unwrap_err();
    server.script([InvalidGrant]);
    ask(&other).await.unwrap_err();
    settle().await;
    advance(secs(30)).await;
    settle().await;
    assert_eq!(ask(&one).await.unwrap(), "a1");
}

#[tokio::test(start_paused = true)]
async fn what_came_of_a_redemption_is_written_also_if_its_source_is_gone() {
    let (server, store) = (Rotating::start(), Faulty::new());
    store.script([Write::Works].into_iter().chain([Write::Fails; 6]));
    let source = process(&server, &store);
    ask(&source).await.unwrap_err();
    drop(source);
    settle().await;
    for _ in 0..4 {
        advance(secs(10)).await;
        settle().await;
    }
    assert_eq!(ask(&process(&server, &store)).await.unwrap(), "a1");
    assert_eq!(server.redeemed(), ["r1"]);
}

#[tokio::test(start_paused = true)]
async fn it_is_written_also_if_something_else_was_to_be_written_before() {
    let (server, store) = (Rotating::start(), Faulty::new());
    let source = process(&server, &store);
    // Its intent can't be written, and it looks for the store every ten seconds at last.
    store.script([Write::Fails]);
    ask(&source).await.unwrap_err();
    store.set_down(true);
    for _ in 0..60 {
        advance(secs(1)).await;
        settle().await;
    }
    // The store is back, and away again when there is an answer.
    store.set_down(false);
    store.script([Write::Works; 2].into_iter().chain([Write::Fails; 6]));
    ask(&source).await.unwrap_err();
    assert_eq!(server.redeemed(), ["r1"]);
    drop(source);
    for _ in 0..4 {
        settle().await;
        advance(secs(10)).await;
    }
    settle().await;
    assert_eq!(ask(&process(&server, &store)).await.unwrap(), "a1");
    assert_eq!(server.redeemed(), ["r1"]);
}

// rule F24
#[tokio::test(start_paused = true)]
async fn a_store_that_forgot_an_intent_keeps_the_login_that_came_after() {
    let (server, store) = (Rotating::start(), Faulty::new());
    let named = |seed: &str| server.source(seed).shared(store.clone()).named("alice");
    let gate = server.gate();
    let slow = named("r1");
    let slow = tokio::spawn(async move { ask(&slow).await });
    settle().await;
    store.forget();
    server.log_in("s1");
    let fast = named("s1");
    let fast = tokio::spawn(async move { ask(&fast).await });
    settle().await;
    assert_eq!(server.redeemed(), ["r1", "s1"]);
    gate.add_permits(1000);
    let _ = slow.await.unwrap();
    assert_eq!(fast.await.unwrap().unwrap(), "a2");
    assert!(store.text().await.contains("refresh_token=r3"));
    let cache = TokenCache::from(named("s1"));
    cache.get().await.unwrap();
    anew(&cache).await.unwrap();
    assert_eq!(server.reused(), Vec::<String>::new());
    assert_eq!(server.redeemed(), ["r1", "s1", "r3"]);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_knows_more_than_a_store_that_forgot_brings_no_old_login_back() {
    let (server, store) = (Rotating::start(), Faulty::new());
    let named = |seed: &str| server.source(seed).shared(store.clone()).named("alice");
    let idle = named("r1");
    for _ in 0..3 {
        ask(&idle).await.unwrap();
    }
    store.forget();
    server.log_in("s1");
    assert_eq!(ask(&named("s1")).await.unwrap(), "a2");
    assert_eq!(
        ask(&idle).await.unwrap(),
        "a2",
        "it takes what the new login brought"
    );
    assert_eq!(server.redeemed(), ["r1", "s1"]);
}

#[tokio::test]
async fn a_store_that_forgot_all_makes_no_process_send_what_it_has_sent() {
    let (server, store) = (Rotating::start(), Faulty::new());
    let source = process(&server, &store);
    server.script([Unheard]);
    assert!(is_possibly_rotated(&ask(&source).await.unwrap_err()));
    store.forget();
    assert!(is_possibly_rotated(&ask(&source).await.unwrap_err()));
    assert_eq!(server.redeemed(), ["r1"]);
}

#[tokio::test(start_paused = true)]
async fn an_intent_that_arrives_late_finds_its_place_taken() {
    let (server, store) = (Rotating::start(), Faulty::new());
    let source = process(&server, &store);
    store.script([Write::Fails]);
    ask(&source).await.unwrap_err();
    settle().await;
    advance(secs(1)).await;
    settle().await;
    let late = Record::new(7, b"format=1".to_vec(), None);
    let key = store.key();
    let written = store.compare_and_set(&key, None, &late, None);
    assert_eq!(written.await.unwrap(), Written::Changed);
    assert_eq!(ask(&source).await.unwrap(), "a1");
}

#[tokio::test]
async fn a_hook_is_called_once_the_store_has_the_pair_and_before_it_is_used() {
    let (server, store) = (Rotating::start(), Faulty::new());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let source = server.source("r1").on_rotation({
        let (seen, store) = (Arc::clone(&seen), store.clone());
        move |pair| {
            let (seen, store) = (Arc::clone(&seen), store.clone());
            async move {
                let kept = store.text().await.contains("refresh_token=r2");
                seen.lock()
                    .unwrap()
                    .push(kept && pair.refresh_token() == "r2");
                Err("disk full".into())
            }
        }
    });
    let source = source.shared(store.clone()).named("alice");
    let error = ask(&source).await.unwrap_err();
    for part in ["disk full", "the store has it"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert_eq!(ask(&source).await.unwrap(), "a1");
    assert_eq!(*seen.lock().unwrap(), [true]);
}

#[tokio::test]
async fn a_source_around_a_login_is_shared_only_if_the_login_is() {
    let (server, store) = (Rotating::start(), Memory::new());
    let endpoint = || {
        let unused = tower::service_fn(|_| async { Err::<http::Response<String>, _>("unused") });
        let builder = tower_oauth::TokenEndpoint::builder("https://as.example/exchange");
        let auth = tower_oauth::ClientAuth::basic("id", "pw");
        builder.client_auth(auth).transport(unused).build().unwrap()
    };
    let subject = server.source("r1");
    let exchange = tower_oauth::TokenExchange::new(endpoint(), subject.clone());
    let error = exchange
        .shared(store.clone())
        .token(Demand::default())
        .await;
    let error = error.unwrap_err();
    assert!(
        error.to_string().contains("share that one as well"),
        "{error}"
    );
    let either = subject.clone().or_else(server.source("r2"));
    let exchange = tower_oauth::TokenExchange::new(endpoint(), either);
    let error = exchange
        .shared(store.clone())
        .token(Demand::default())
        .await;
    assert!(error.unwrap_err().to_string().contains("can't be shared"));
    assert_eq!(server.requests(), 0);
    let exchange = tower_oauth::TokenExchange::new(endpoint(), subject.shared(store.clone()));
    let exchange = exchange.shared(store);
    let error = exchange.token(Demand::default()).await.unwrap_err();
    assert!(error.to_string().contains("unused"), "{error}");
    assert_eq!(server.redeemed(), ["r1"]);
}

#[tokio::test]
async fn a_login_that_is_kept_by_a_hook_needs_a_name() {
    let (server, store) = (Rotating::start(), Memory::new());
    let pairs = Arc::new(Mutex::new(Vec::new()));
    let hooked = || {
        let pairs = Arc::clone(&pairs);
        server.source("r1").on_rotation(move |pair| {
            pairs.lock().unwrap().push(pair.refresh_token().to_owned());
            async { Ok(()) }
        })
    };
    let error = ask(&hooked().shared(store.clone())).await.unwrap_err();
    assert!(!error.is_transient());
    assert!(error.to_string().contains(".named("), "{error}");
    assert_eq!(server.requests(), 0);
    let source = hooked().shared(store).named("alice");
    assert_eq!(ask(&source).await.unwrap(), "a1");
    assert_eq!(*pairs.lock().unwrap(), ["r2"]);
}

#[tokio::test]
async fn a_login_must_not_share_its_record_with_another_source() {
    let server = Rotating::start();
    let both = server.source("r1").or_else(server.source("r1"));
    let source = both.shared(Memory::new()).named("both");
    let error = source.token(Demand::default()).await.unwrap_err();
    assert!(!error.is_transient());
    assert!(
        error.to_string().contains("share each by itself"),
        "{error}"
    );
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn a_source_without_a_refresh_token_says_so() {
    let (server, store) = (Rotating::start(), Memory::new());
    let source = server.source("").shared(store.clone());
    let error = ask(&source).await.unwrap_err();
    assert!(error.get_ref().is::<NoRefreshToken>(), "{error}");
    let named = server.source("").shared(store).named("alice");
    let error = ask(&named).await.unwrap_err();
    assert!(error.get_ref().is::<NoRefreshToken>(), "{error}");
    assert_eq!(server.requests(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_intent_whose_process_is_at_work_is_waited_for() {
    let (server, store) = (Rotating::start(), Memory::new());
    let gate = server.gate();
    let processes = [(); 4].map(|()| process(&server, &store));
    let mut calls = JoinSet::new();
    for process in processes {
        calls.spawn(async move { ask(&process).await.unwrap() });
    }
    settle().await;
    advance(secs(20)).await;
    gate.add_permits(1);
    for token in calls.join_all().await {
        assert_eq!(token, "a1");
    }
    assert_eq!(server.redeemed(), ["r1"]);
}

#[tokio::test]
async fn a_lease_that_somebody_took_over_stops_whoever_sent_nothing_yet() {
    // The fence is what the intent is written with, so a process that stood still between its lease
    // and its intent sends nothing.
    let store = Memory::new();
    let key = tower_oauth::store::StoreKey::named("x");
    let Ok(Leased::Granted(old)) = store.lease(&key, "old", Duration::ZERO).await else {
        panic!("it is free");
    };
    let Ok(Leased::Granted(_)) = store.lease(&key, "new", secs(10)).await else {
        panic!("it is over");
    };
    let record = Record::new(1, b"x".to_vec(), None);
    let written = store.compare_and_set(&key, None, &record, Some(old.fence()));
    assert_eq!(written.await.unwrap(), Written::Fenced);
}
