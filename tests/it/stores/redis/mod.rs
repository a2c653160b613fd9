//! A real Redis for each test, and what can be done to it.

#[cfg(feature = "https-client")]
mod encrypted;
mod failing;
mod keeping;
mod refusing;
mod secrecy;
mod server;
mod waiting;

use std::{future::Future, time::Duration};

use tokio::time::{Instant, sleep};
use tower_oauth::store::{Lease, Leased, Record, StoreError, StoreKey, TokenStore, Written};

fn key() -> StoreKey {
    StoreKey::named("key")
}

fn record(generation: u64, text: &str) -> Record {
    Record::new(generation, text.into(), None)
}

/// The generation and the text at [`key`].
async fn read(store: &impl TokenStore) -> Result<Option<(u64, String)>, StoreError> {
    let record = store.read(&key()).await?;
    Ok(record.map(|record| {
        let text = String::from_utf8(record.text().to_vec()).unwrap();
        (record.generation(), text)
    }))
}

/// Writes a generation and a text at [`key`].
async fn write(
    store: &impl TokenStore,
    expected: Option<u64>,
    (generation, text): (u64, &str),
    fence: Option<u64>,
) -> Result<Written, StoreError> {
    let record = record(generation, text);
    store
        .compare_and_set(&key(), expected, &record, fence)
        .await
}

async fn lease(store: &impl TokenStore, owner: &str, time: Duration) -> Lease {
    match store.lease(&key(), owner, time).await.unwrap() {
        Leased::Granted(lease) => lease,
        held => panic!("{held:?}"),
    }
}

/// Asks until the answer is there; a total deadline ends the test otherwise.
async fn until<T, F: Future<Output = Option<T>>>(ask: impl Fn() -> F) -> T {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < end, "it never came");
        sleep(Duration::from_millis(5)).await;
    }
}

/// All six operations; each must end in time, and says how.
async fn each_operation(store: &impl TokenStore) -> Vec<Result<(), StoreError>> {
    let lease = Lease::new("owner", 1);
    let (key, time) = (&key(), Duration::from_secs(60));
    // Five, and more for a machine that is busy with the other tests.
    let bound = Duration::from_secs(10);
    let in_time = |name: &'static str, start: Instant| {
        assert!(start.elapsed() < bound, "{name} took {:?}", start.elapsed());
    };
    let mut outcomes = Vec::new();
    let start = Instant::now();
    outcomes.push(store.read(key).await.map(drop));
    in_time("read", start);
    let start = Instant::now();
    outcomes.push(write(store, None, (1, "text"), None).await.map(drop));
    in_time("compare_and_set", start);
    let start = Instant::now();
    outcomes.push(store.lease(key, "owner", time).await.map(drop));
    in_time("lease", start);
    let start = Instant::now();
    outcomes.push(store.renew(key, &lease, time).await.map(drop));
    in_time("renew", start);
    let start = Instant::now();
    outcomes.push(store.release(key, &lease).await);
    in_time("release", start);
    let start = Instant::now();
    store.changed(key, None).await;
    in_time("changed", start);
    outcomes
}

/// That all failed, the kind of the errors, and that each says this.
async fn all_fail(store: &impl TokenStore, transient: bool, said: &[&str]) {
    for outcome in each_operation(store).await {
        let error = outcome.unwrap_err();
        assert_eq!(error.is_transient(), transient, "{error}");
        for part in said {
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
    }
}
