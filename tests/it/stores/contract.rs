//! What every store promises, asked of one by what [`TokenStore`] alone says, in real time: the
//! leases here are short, and who waits asks again until he is granted one.

use std::{
    fmt::Write,
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::{Duration, UNIX_EPOCH},
};

use tokio::time::{Instant, sleep, timeout};
use tower_oauth::store::{Lease, Leased, Record, StoreKey, TokenStore, Written};

/// For whatever must happen at all.
const SOON: Duration = Duration::from_secs(10);
/// A lease that doesn't end while a test runs.
const LONG: Duration = Duration::from_secs(60);
/// A lease whose end is waited for.
const SHORT: Duration = Duration::from_millis(150);

/// All of it.
pub async fn holds(store: &impl TokenStore) {
    records_come_back_as_they_were(store).await;
    of_two_who_expect_the_same_one_succeeds(store).await;
    what_is_expected_must_be_there(store).await;
    generations_may_jump(store).await;
    an_old_fence_is_refused(store).await;
    a_lease_excludes_all_others(store).await;
    a_lease_ends_by_itself(store).await;
    a_lease_is_renewed_by_its_owner_while_it_lasts(store).await;
    a_lease_is_given_back_by_its_owner(store).await;
    keys_do_not_touch(store).await;
    who_waits_is_told(store).await;
}

/// One that no test had before, also in a store that outlives them.
pub fn fresh_key(name: &str) -> StoreKey {
    let mut unique = String::from(name);
    write!(unique, " {} {:?}", std::process::id(), Instant::now()).unwrap();
    StoreKey::named(&unique)
}

pub fn record(generation: u64, text: &[u8]) -> Record {
    Record::new(generation, text.to_vec(), None)
}

pub async fn granted(store: &impl TokenStore, key: &StoreKey, owner: &str) -> Lease {
    granted_for(store, key, owner, LONG).await
}

async fn granted_for(
    store: &impl TokenStore,
    key: &StoreKey,
    owner: &str,
    time: Duration,
) -> Lease {
    match store.lease(key, owner, time).await.unwrap() {
        Leased::Granted(lease) => lease,
        Leased::Held { remaining } => panic!("{owner}: held for {remaining:?}"),
    }
}

/// Asks until it is granted.
pub async fn granted_soon(store: &impl TokenStore, key: &StoreKey, owner: &str) -> Lease {
    let asking = async {
        loop {
            match store.lease(key, owner, LONG).await.unwrap() {
                Leased::Granted(lease) => return lease,
                Leased::Held { .. } => sleep(Duration::from_millis(10)).await,
            }
        }
    };
    timeout(SOON, asking).await.expect("it is never one's turn")
}

async fn is_held(store: &impl TokenStore, key: &StoreKey) -> bool {
    match store.lease(key, "somebody else", LONG).await.unwrap() {
        Leased::Granted(_) => false,
        Leased::Held { remaining } => {
            assert!(remaining <= LONG, "{remaining:?}");
            true
        }
    }
}

pub async fn generation(store: &impl TokenStore, key: &StoreKey) -> Option<u64> {
    let record = store.read(key).await.unwrap();
    record.map(|record| record.generation())
}

async fn records_come_back_as_they_were(store: &impl TokenStore) {
    let key = fresh_key("as they were");
    assert!(store.read(&key).await.unwrap().is_none());
    let binary: Vec<u8> = (0..=255).chain([b'\r', b'\n', 0]).collect();
    let large: Vec<u8> = (0..100 * 1024_u32)
        .map(|at| ((at * 31) >> 3) as u8)
        .collect();
    let texts = [b"plain".to_vec(), binary, Vec::new(), large];
    let (mut before, until) = (None, UNIX_EPOCH + Duration::from_secs(4_102_444_800));
    for (generation, text) in (1..).zip(texts) {
        for keep_until in [None, Some(until)] {
            let generation = 2 * generation + u64::from(keep_until.is_some());
            let record = Record::new(generation, text.clone(), keep_until);
            let written = store.compare_and_set(&key, before, &record, None).await;
            assert_eq!(written.unwrap(), Written::Done);
            let kept = store.read(&key).await.unwrap().expect("it was just kept");
            assert_eq!(kept.generation(), generation);
            assert!(kept.text() == text, "another text: {}", text.len());
            assert_eq!(kept.keep_until(), keep_until);
            before = Some(generation);
        }
    }
}

async fn of_two_who_expect_the_same_one_succeeds(store: &impl TokenStore) {
    let key = fresh_key("two");
    for expected in [None, Some(1), Some(2), Some(3)] {
        let next = expected.unwrap_or(0) + 1;
        let (one, other) = (record(next, b"one"), record(next, b"other"));
        let (first, second) = tokio::join!(
            store.compare_and_set(&key, expected, &one, None),
            store.compare_and_set(&key, expected, &other, None),
        );
        let text = store.read(&key).await.unwrap().unwrap().text().to_vec();
        match (first.unwrap(), second.unwrap()) {
            (Written::Done, Written::Changed) => assert_eq!(text, b"one"),
            (Written::Changed, Written::Done) => assert_eq!(text, b"other"),
            both => panic!("{both:?}"),
        }
    }
}

async fn what_is_expected_must_be_there(store: &impl TokenStore) {
    let key = fresh_key("expected");
    let set = async |expected, generation| {
        let record = record(generation, b"text");
        let written = store.compare_and_set(&key, expected, &record, None).await;
        written.unwrap()
    };
    assert_eq!(set(Some(1), 2).await, Written::Changed);
    assert_eq!(generation(store, &key).await, None);
    assert_eq!(set(None, 1).await, Written::Done);
    assert_eq!(set(None, 2).await, Written::Changed);
    assert_eq!(set(Some(7), 2).await, Written::Changed);
    assert_eq!(generation(store, &key).await, Some(1));
    assert_eq!(set(Some(1), 2).await, Written::Done);
    assert_eq!(generation(store, &key).await, Some(2));
}

async fn generations_may_jump(store: &impl TokenStore) {
    let key = fresh_key("jump");
    let mut before = None;
    // The last one fits into the numbers that others count with, too.
    for generation in [5, 6, 1_000_000, 1 << 53, i64::MAX as u64] {
        let record = record(generation, b"text");
        let written = store.compare_and_set(&key, before, &record, None).await;
        assert_eq!(written.unwrap(), Written::Done, "{generation}");
        before = self::generation(store, &key).await;
        assert_eq!(before, Some(generation));
    }
}

async fn an_old_fence_is_refused(store: &impl TokenStore) {
    let key = fresh_key("fence");
    let set = async |expected, generation, fence: Option<&Lease>| {
        let (record, fence) = (record(generation, b"text"), fence.map(Lease::fence));
        let written = store.compare_and_set(&key, expected, &record, fence).await;
        written.unwrap()
    };
    let first = granted_for(store, &key, "first", SHORT).await;
    assert_eq!(set(None, 1, Some(&first)).await, Written::Done);
    let second = granted_soon(store, &key, "second").await;
    assert!(second.fence() > first.fence());
    assert_eq!(set(Some(1), 2, Some(&first)).await, Written::Fenced);
    assert_eq!(generation(store, &key).await, Some(1));
    assert_eq!(set(Some(1), 2, None).await, Written::Done);
    assert_eq!(set(Some(2), 3, Some(&second)).await, Written::Done);
    // Until somebody else has his turn, he who gave his back may still write.
    store.release(&key, &second).await.unwrap();
    assert_eq!(set(Some(3), 4, Some(&second)).await, Written::Done);
    granted(store, &key, "third").await;
    assert_eq!(set(Some(4), 5, Some(&second)).await, Written::Fenced);
    assert_eq!(generation(store, &key).await, Some(4));
}

async fn a_lease_excludes_all_others(store: &impl TokenStore) {
    let key = fresh_key("exclusive");
    let (one, other) = tokio::join!(
        store.lease(&key, "one", LONG),
        store.lease(&key, "other", LONG)
    );
    let granted = [one.unwrap(), other.unwrap()]
        .into_iter()
        .filter(|leased| matches!(leased, Leased::Granted(_)));
    assert_eq!(granted.count(), 1);
    assert!(is_held(store, &key).await);
}

async fn a_lease_ends_by_itself(store: &impl TokenStore) {
    let key = fresh_key("ends");
    let asked = Instant::now();
    let first = granted_for(store, &key, "first", SHORT).await;
    let second = granted_soon(store, &key, "second").await;
    // Two clocks, one of which counts milliseconds.
    assert!(asked.elapsed() > SHORT - Duration::from_millis(20));
    assert!(second.fence() > first.fence());
    assert_eq!(second.owner(), "second");
}

async fn a_lease_is_renewed_by_its_owner_while_it_lasts(store: &impl TokenStore) {
    let key = fresh_key("renewed");
    let lease = granted_for(store, &key, "owner", Duration::from_secs(5)).await;
    let stranger = Lease::new("stranger", lease.fence());
    assert!(!store.renew(&key, &stranger, LONG).await.unwrap());
    assert!(store.renew(&key, &lease, LONG).await.unwrap());
    match store.lease(&key, "other", LONG).await.unwrap() {
        Leased::Held { remaining } => assert!(remaining > Duration::from_secs(5), "{remaining:?}"),
        Leased::Granted(_) => panic!("it was renewed"),
    }
    // Not longer, but from now.
    assert!(store.renew(&key, &lease, SHORT).await.unwrap());
    let next = granted_soon(store, &key, "next").await;
    assert!(!store.renew(&key, &lease, LONG).await.unwrap());

    store.release(&key, &next).await.unwrap();
    assert!(!store.renew(&key, &next, LONG).await.unwrap(), "given back");
    let nothing = fresh_key("nothing");
    assert!(!store.renew(&nothing, &next, LONG).await.unwrap());
}

async fn a_lease_is_given_back_by_its_owner(store: &impl TokenStore) {
    let key = fresh_key("given back");
    let lease = granted(store, &key, "owner").await;
    let stranger = Lease::new("stranger", lease.fence());
    store.release(&key, &stranger).await.unwrap();
    assert!(is_held(store, &key).await, "a stranger gave it back");
    store.release(&key, &lease).await.unwrap();
    let next = granted(store, &key, "next").await;
    assert!(next.fence() > lease.fence());
    store.release(&key, &lease).await.unwrap();
    assert!(is_held(store, &key).await, "it was over, and not his");
}

async fn keys_do_not_touch(store: &impl TokenStore) {
    let (here, there) = (fresh_key("here"), fresh_key("there"));
    let first = record(1, b"here");
    let written = store.compare_and_set(&here, None, &first, None).await;
    assert_eq!(written.unwrap(), Written::Done);
    assert!(store.read(&there).await.unwrap().is_none());
    let lease = granted(store, &here, "owner").await;
    granted(store, &there, "owner").await;
    store.release(&there, &lease).await.unwrap();
    assert!(is_held(store, &here).await);
    let second = record(9, b"there");
    let written = store.compare_and_set(&there, None, &second, None).await;
    assert_eq!(written.unwrap(), Written::Done);
    assert_eq!(generation(store, &here).await, Some(1));
    assert_eq!(store.read(&here).await.unwrap().unwrap().text(), b"here");
}

async fn who_waits_is_told(store: &impl TokenStore) {
    let key = fresh_key("told");
    let soon = async |seen| {
        let told = timeout(SOON, store.changed(&key, seen)).await;
        told.expect("it is told to nobody");
    };
    let first = record(1, b"first");
    let written = async { store.compare_and_set(&key, None, &first, None).await };
    assert_eq!(
        while_waiting(store, &key, None, written).await,
        Written::Done
    );
    soon(None).await;
    soon(Some(7)).await;

    let lease = granted(store, &key, "owner").await;
    let released = async { store.release(&key, &lease).await };
    while_waiting(store, &key, Some(1), released).await;

    let second = record(2, b"second");
    let written = async { store.compare_and_set(&key, Some(1), &second, None).await };
    let written = while_waiting(store, &key, Some(1), written).await;
    assert_eq!(written, Written::Done);
    soon(Some(1)).await;
}

/// Lets `act` run after somebody has begun to wait, who must be told of it.
async fn while_waiting<T, E: std::fmt::Debug>(
    store: &impl TokenStore,
    key: &StoreKey,
    seen: Option<u64>,
    act: impl Future<Output = Result<T, E>>,
) -> T {
    let mut waiting = pin!(store.changed(key, seen));
    let begun = poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx)));
    let early = begun.await.is_ready();
    let acted = act.await.unwrap();
    if !early {
        let told = timeout(SOON, waiting).await;
        told.expect("who waits is never told");
    }
    acted
}
