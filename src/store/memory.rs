//! A store for one process.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use crate::{
    clock::Clock,
    source::{Lease, Leased, Record, StoreError, StoreKey, TokenStore, Written},
};

/// Records in this process's memory, for tests and for several sources in one program. Clones share
/// them; they end with the last one.
#[derive(Clone, Default)]
pub struct Memory {
    shelves: Arc<Mutex<HashMap<StoreKey, Shelf>>>,
    changed: Arc<Notify>,
    clock: Clock,
}

#[derive(Default)]
struct Shelf {
    record: Option<Record>,
    /// The number of the last lease.
    fence: u64,
    holder: Option<Holder>,
}

struct Holder {
    owner: String,
    until: Option<Instant>,
}

impl Shelf {
    fn generation(&self) -> Option<u64> {
        self.record.as_ref().map(Record::generation)
    }

    fn holder(&mut self, now: Instant) -> Option<&mut Holder> {
        self.holder
            .take_if(|holder| holder.until.is_some_and(|end| end <= now));
        self.holder.as_mut()
    }
}

impl Memory {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    fn on_shelf<T>(&self, key: &StoreKey, act: impl FnOnce(&mut Shelf, Instant) -> T) -> T {
        let now = self.clock.now().mono;
        act(self.lock().entry(key.clone()).or_default(), now)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<StoreKey, Shelf>> {
        // Nothing that runs under the lock leaves it half done.
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TokenStore for Memory {
    async fn read(&self, key: &StoreKey) -> Result<Option<Record>, StoreError> {
        Ok(self.on_shelf(key, |shelf, _| shelf.record.clone()))
    }

    async fn compare_and_set(
        &self,
        key: &StoreKey,
        expected: Option<u64>,
        record: &Record,
        fence: Option<u64>,
    ) -> Result<Written, StoreError> {
        let written = self.on_shelf(key, |shelf, _| {
            if fence.is_some_and(|fence| fence < shelf.fence) {
                return Written::Fenced;
            }
            if shelf.generation() != expected {
                return Written::Changed;
            }
            shelf.record = Some(record.clone());
            Written::Done
        });
        self.changed.notify_waiters();
        Ok(written)
    }

    async fn lease(
        &self,
        key: &StoreKey,
        owner: &str,
        time: Duration,
    ) -> Result<Leased, StoreError> {
        Ok(self.on_shelf(key, |shelf, now| {
            if let Some(holder) = shelf.holder(now) {
                let end = holder.until;
                let remaining = end.map_or(Duration::MAX, |end| end.saturating_duration_since(now));
                return Leased::Held { remaining };
            }
            shelf.fence = shelf.fence.saturating_add(1);
            shelf.holder = Some(Holder {
                owner: owner.to_owned(),
                until: now.checked_add(time),
            });
            Leased::Granted(Lease::new(owner, shelf.fence))
        }))
    }

    async fn renew(
        &self,
        key: &StoreKey,
        lease: &Lease,
        time: Duration,
    ) -> Result<bool, StoreError> {
        Ok(self.on_shelf(key, |shelf, now| {
            let holder = shelf.holder(now);
            let Some(holder) = holder.filter(|holder| holder.owner == lease.owner()) else {
                return false;
            };
            holder.until = now.checked_add(time);
            true
        }))
    }

    async fn release(&self, key: &StoreKey, lease: &Lease) -> Result<(), StoreError> {
        self.on_shelf(key, |shelf, _| {
            shelf.holder.take_if(|holder| holder.owner == lease.owner());
        });
        self.changed.notify_waiters();
        Ok(())
    }

    async fn changed(&self, key: &StoreKey, seen: Option<u64>) {
        let told = self.changed.notified();
        // What happened before this was told to nobody.
        if self.on_shelf(key, |shelf, _| shelf.generation()) != seen {
            return;
        }
        told.await;
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("keys", &self.lock().len())
            .finish_non_exhaustive()
    }
}
