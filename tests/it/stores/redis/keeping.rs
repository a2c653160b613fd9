//! What is kept, and how long.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use tokio::task::JoinSet;
use tower_oauth::store::{EncryptionKey, Leased, Record, Redis, StoreKey, TokenStore, Written};

use super::{all_fail, each_operation, key, lease, read, record, server::Server, until, write};
use crate::stores::contract;

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn what_a_store_promises_holds() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    for store in plain_and_sealed(&server) {
        contract::holds(&store).await;
    }
}

fn plain_and_sealed(server: &Server) -> [Redis; 2] {
    let sealed = server.store().prefix("sealed");
    let sealed = sealed.encrypted_with(EncryptionKey::from_bytes([7; 32]));
    [server.store(), sealed]
}

#[tokio::test]
async fn a_record_comes_back_as_it_was_written() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let end = SystemTime::now() + MINUTE;
    for store in plain_and_sealed(&server) {
        assert!(store.read(&key()).await.unwrap().is_none());
        let every_byte: Vec<u8> = (0..=255).collect();
        // The last two are the same to a double.
        let generations = [None, Some(1), Some(u64::MAX - 1), Some(u64::MAX)];
        for step in generations.windows(2) {
            let &[expected, Some(next)] = step else {
                panic!();
            };
            let written = Record::new(next, every_byte.clone(), Some(end));
            let outcome = store
                .compare_and_set(&key(), expected, &written, None)
                .await;
            assert_eq!(outcome.unwrap(), Written::Done);
            let outcome = store
                .compare_and_set(&key(), expected, &written, None)
                .await;
            assert_eq!(outcome.unwrap(), Written::Changed, "{next}");
            let kept = store.read(&key()).await.unwrap().unwrap();
            assert_eq!(kept.generation(), next);
            assert_eq!(kept.text(), every_byte);
            assert_eq!(kept.keep_until(), Some(end));
        }
    }
}

#[tokio::test]
async fn two_values_are_one_store_and_of_many_who_expect_the_same_one_writes() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let stores = [server.store(), server.store()];
    let mut writing = JoinSet::new();
    for number in 0..40 {
        let store = stores[number % 2].clone();
        writing.spawn(async move {
            let record = record(1, &number.to_string());
            let written = store.compare_and_set(&key(), None, &record, None).await;
            (number, written.unwrap())
        });
    }
    let outcomes = writing.join_all().await;
    let done = outcomes
        .iter()
        .filter(|(_, written)| *written == Written::Done);
    let done: Vec<_> = done.map(|(number, _)| number.to_string()).collect();
    assert_eq!(done.len(), 1, "{outcomes:?}");
    for store in &stores {
        assert_eq!(read(store).await.unwrap(), Some((1, done[0].clone())));
    }
    let other = server.store().prefix("other");
    assert_eq!(read(&other).await.unwrap(), None);
}

#[tokio::test]
async fn a_lease_is_ones_until_it_is_given_back_or_over() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let (one, two) = (server.store(), server.store());
    let first = lease(&one, "one", MINUTE).await;
    for owner in ["two", "one"] {
        match two.lease(&key(), owner, MINUTE).await.unwrap() {
            Leased::Held { remaining } => assert!(remaining > MINUTE / 2 && remaining <= MINUTE),
            granted => panic!("{granted:?}"),
        }
    }
    let strange = tower_oauth::store::Lease::new("two", first.fence());
    two.release(&key(), &strange).await.unwrap();
    assert!(!two.renew(&key(), &strange, MINUTE).await.unwrap());
    assert!(one.renew(&key(), &first, 10 * MINUTE).await.unwrap());
    match two.lease(&key(), "two", MINUTE).await.unwrap() {
        Leased::Held { remaining } => assert!(remaining > 5 * MINUTE),
        granted => panic!("{granted:?}"),
    }
    one.release(&key(), &first).await.unwrap();
    assert!(!one.renew(&key(), &first, MINUTE).await.unwrap());
    let second = lease(&two, "two", Duration::from_millis(1)).await;
    assert!(second.fence() > first.fence());
    let third = until(
        async || match one.lease(&key(), "three", MINUTE).await.unwrap() {
            Leased::Granted(lease) => Some(lease),
            Leased::Held { .. } => None,
        },
    );
    assert!(third.await.fence() > second.fence());
    // Each is nobody's to Redis, and for ever is what it can take.
    for time in [Duration::ZERO, Duration::MAX] {
        let key = StoreKey::named(&format!("{time:?}"));
        let granted = one.lease(&key, "one", time).await.unwrap();
        assert!(matches!(granted, Leased::Granted(_)));
    }
}

#[tokio::test]
async fn who_was_too_slow_writes_nothing() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = server.store();
    let slow = lease(&store, "slow", MINUTE).await;
    store.release(&key(), &slow).await.unwrap();
    let quick = lease(&store, "quick", MINUTE).await;
    for (holder, expected) in [(&slow, Written::Fenced), (&quick, Written::Done)] {
        let fence = Some(holder.fence());
        let written = write(&store, None, (1, holder.owner()), fence);
        assert_eq!(written.await.unwrap(), expected);
    }
    assert_eq!(read(&store).await.unwrap(), Some((1, "quick".to_owned())));
}

#[tokio::test]
async fn a_fence_never_goes_back_and_is_no_double() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = server.store();
    let before = lease(&store, "one", MINUTE).await;
    // As by a record that wasn't needed any more, or whoever lost the data of the last second.
    let _: () = server.ask(&["FLUSHALL"]).await;
    let after = lease(&store, "two", MINUTE).await;
    assert!(after.fence() > before.fence());
    store.release(&key(), &after).await.unwrap();

    // Two to the power of 54 and one, which no double is.
    let high = 18_014_398_509_481_985_u64;
    let [hash, _] = server.keys(&key());
    let _: () = server
        .ask(&["HSET", &hash, "fence", &high.to_string()])
        .await;
    let next = lease(&store, "three", MINUTE).await;
    assert_eq!(next.fence(), high + 1);
    for (fence, expected) in [(high, Written::Fenced), (high + 1, Written::Done)] {
        let written = write(&store, None, (1, "text"), Some(fence));
        assert_eq!(written.await.unwrap(), expected);
    }
}

#[tokio::test]
async fn redis_forgets_what_nobody_needs_any_more_and_nothing_else() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = server.store();
    let [hash, leased] = server.keys(&key());
    let ends = async || server.ask::<i64>(&["PTTL", &hash]).await;
    let holder = lease(&store, "one", MINUTE).await;
    assert!(
        ends().await > 24 * 60 * 60 * 1000,
        "a fence alone outlives its lease"
    );
    assert!(server.ask::<i64>(&["PTTL", &leased]).await > 0);
    let set = async |expected, next: Record| {
        let fence = Some(holder.fence());
        let written = store.compare_and_set(&key(), expected, &next, fence).await;
        assert_eq!(written.unwrap(), Written::Done);
    };
    set(None, record(1, "for ever")).await;
    assert_eq!(ends().await, -1);
    let end = SystemTime::now() + MINUTE;
    set(Some(1), Record::new(2, Vec::new(), Some(end))).await;
    let left = ends().await;
    assert!(left > 0 && left <= 60_001, "{left}");
    let far = SystemTime::now() + Duration::from_secs(1 << 50);
    set(Some(2), Record::new(3, Vec::new(), Some(far))).await;
    assert_eq!(ends().await, -1, "further than Redis can tell is for ever");
    let now = SystemTime::now() + Duration::from_millis(1);
    set(Some(3), Record::new(4, Vec::new(), Some(now))).await;
    until(async || read(&store).await.unwrap().is_none().then_some(())).await;
    set(None, record(1, "anew")).await;
}

#[tokio::test]
async fn a_redis_that_forgot_its_scripts_is_told_them_again() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = server.store();
    for _ in 0..2 {
        for outcome in each_operation(&store).await {
            outcome.unwrap();
        }
        let _: () = server.ask(&["SCRIPT", "FLUSH"]).await;
    }
}

#[tokio::test]
async fn the_documented_rights_are_enough_and_less_is_refused_before_anything_is_written() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/redis/mod.rs");
    let source = fs::read_to_string(source).unwrap();
    let (_, rights) = source.split_once("ACL SETUSER tokens ").unwrap();
    let (rights, _) = rights.split_once("```").unwrap();
    let rights: Vec<_> = rights
        .split_whitespace()
        .filter(|word| *word != "///")
        .collect();
    let grant = async |rights: &[&str]| {
        let _: () = server.ask(&["SCRIPT", "FLUSH"]).await;
        let _: () = server.ask(&["FLUSHALL"]).await;
        let command = [&["ACL", "SETUSER", "tokens", "reset"], rights].concat();
        let _: () = server.ask(&command).await;
        Redis::new(&server.url_as("tokens", "s3cr3t")).unwrap()
    };
    let store = grant(&rights).await;
    for outcome in each_operation(&store).await {
        outcome.unwrap();
    }
    assert_eq!(read(&store).await.unwrap(), Some((1, "text".to_owned())));
    // What isn't needed each time: a fence from a clock that was ahead, an end, and no more waiting.
    let [hash, _] = server.keys(&key());
    let _: () = server
        .ask(&["HSET", &hash, "fence", "9007199254740993"])
        .await;
    let next = lease(&store, "owner", MINUTE).await;
    assert_eq!(next.fence(), 9_007_199_254_740_994);
    let ending = Record::new(2, Vec::new(), Some(SystemTime::now() + MINUTE));
    let written = store.compare_and_set(&key(), Some(1), &ending, None).await;
    assert_eq!(written.unwrap(), Written::Done);
    store.changed(&StoreKey::named("other"), Some(1)).await;
    let channels: Vec<String> = server.ask(&["PUBSUB", "CHANNELS"]).await;
    assert!(
        !channels.contains(&format!("{hash}:changed")),
        "{channels:?}"
    );

    // Without all channels no message could be sent, and nobody would know that he waits in vain.
    let fewer: Vec<_> = rights
        .iter()
        .copied()
        .filter(|right| !right.starts_with('&'))
        .collect();
    let store = grant(&fewer).await;
    let error = write(&store, None, (1, "text"), None);
    let error = error.await.unwrap_err();
    assert!(
        !error.is_transient() && error.to_string().contains("channels"),
        "{error}"
    );
    assert_eq!(
        read(&store).await.unwrap(),
        None,
        "it was refused before anything was written"
    );

    let store = grant(&["on", ">s3cr3t", "+@all", "~other:*", "&*"]).await;
    all_fail(&store, false, &["doesn't permit the user"]).await;
}
