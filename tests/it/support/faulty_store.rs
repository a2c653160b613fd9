//! A store that fails where a test wants it to.

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tower_oauth::store::{
    Lease, Leased, Memory, Record, StoreError, StoreKey, TokenStore, Written,
};

/// What the next writes do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    Works,
    /// Nothing is written.
    Fails,
    /// It is written after nine seconds.
    IsSlow,
    /// It is written, and the answer gets lost.
    LosesItsAnswer,
}

/// Clones are one store.
#[derive(Clone, Default)]
pub struct Faulty {
    shelves: Arc<Mutex<Memory>>,
    down: Arc<AtomicBool>,
    stopped: Arc<AtomicBool>,
    script: Arc<Mutex<Vec<Write>>>,
    reads: Arc<Mutex<Vec<Duration>>>,
    key: Arc<Mutex<Option<StoreKey>>>,
}

impl Faulty {
    pub fn new() -> Self {
        Self::default()
    }

    /// It can't be reached, or can be again.
    pub fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    /// No lease is prolonged any more, as by a process that stands still.
    pub fn set_stopped(&self, stopped: bool) {
        self.stopped.store(stopped, Ordering::SeqCst);
    }

    /// What the next writes do, one after the other; after that they work.
    pub fn script(&self, writes: impl IntoIterator<Item = Write>) {
        *self.script.lock().unwrap() = writes.into_iter().collect();
    }

    /// How long the next reads take, one after the other; after that they take no time.
    pub fn script_reads(&self, times: impl IntoIterator<Item = Duration>) {
        *self.reads.lock().unwrap() = times.into_iter().collect();
    }

    /// It forgets all, as one that was restarted from nothing.
    pub fn forget(&self) {
        *self.shelves.lock().unwrap() = Memory::new();
    }

    /// The key that was used last.
    pub fn key(&self) -> StoreKey {
        self.key.lock().unwrap().clone().unwrap()
    }

    /// What the record says.
    pub async fn text(&self) -> String {
        let record = self.shelves().read(&self.key()).await.unwrap().unwrap();
        String::from_utf8(record.text().to_vec()).unwrap()
    }

    pub fn shelves(&self) -> Memory {
        self.shelves.lock().unwrap().clone()
    }

    fn reach(&self, key: &StoreKey) -> Result<Memory, StoreError> {
        *self.key.lock().unwrap() = Some(key.clone());
        if self.down.load(Ordering::SeqCst) {
            return Err(StoreError::unavailable("the store is down"));
        }
        Ok(self.shelves())
    }
}

impl TokenStore for Faulty {
    async fn read(&self, key: &StoreKey) -> Result<Option<Record>, StoreError> {
        let store = self.reach(key)?;
        let time = {
            let mut reads = self.reads.lock().unwrap();
            (!reads.is_empty()).then(|| reads.remove(0))
        };
        if let Some(time) = time {
            tokio::time::sleep(time).await;
        }
        store.read(key).await
    }

    async fn compare_and_set(
        &self,
        key: &StoreKey,
        expected: Option<u64>,
        record: &Record,
        fence: Option<u64>,
    ) -> Result<Written, StoreError> {
        let store = self.reach(key)?;
        let next = {
            let mut script = self.script.lock().unwrap();
            if script.is_empty() {
                Write::Works
            } else {
                script.remove(0)
            }
        };
        if next == Write::Fails {
            return Err(StoreError::unavailable("the write failed"));
        }
        if next == Write::IsSlow {
            tokio::time::sleep(Duration::from_secs(9)).await;
        }
        let written = store.compare_and_set(key, expected, record, fence).await?;
        match next {
            Write::LosesItsAnswer => Err(StoreError::unavailable("the answer got lost")),
            Write::Works | Write::IsSlow | Write::Fails => Ok(written),
        }
    }

    async fn lease(
        &self,
        key: &StoreKey,
        owner: &str,
        time: Duration,
    ) -> Result<Leased, StoreError> {
        self.reach(key)?.lease(key, owner, time).await
    }

    async fn renew(
        &self,
        key: &StoreKey,
        lease: &Lease,
        time: Duration,
    ) -> Result<bool, StoreError> {
        if self.stopped.load(Ordering::SeqCst) {
            return pending().await;
        }
        self.reach(key)?.renew(key, lease, time).await
    }

    async fn release(&self, key: &StoreKey, lease: &Lease) -> Result<(), StoreError> {
        self.reach(key)?.release(key, lease).await
    }

    async fn changed(&self, key: &StoreKey, seen: Option<u64>) {
        match self.reach(key) {
            Ok(store) => store.changed(key, seen).await,
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}
