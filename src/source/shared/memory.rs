//! What this process knows of the record, which may be more than the store does.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::{runtime::Handle, time::sleep};

use super::{
    super::{
        Demand,
        token_store::{ErasedStore, Record, StoreError, StoreKey, Written},
    },
    kept::{Kept, KeptToken},
    place::Place,
};
use crate::{clock::Clock, token::AccessToken};

/// How often a record is read anew that others change all the time.
const MOST_LOOKS: usize = 8;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The newest record that this process has seen or made. A store that has an older one, or none, has
/// failed to write it or has forgotten it: it gets it back.
#[derive(Default)]
pub(super) struct Memory(Mutex<Newest>);

#[derive(Default)]
struct Newest {
    record: Option<(StoreKey, Record)>,
    /// A task writes it back.
    is_on_its_way: bool,
}

impl Memory {
    pub(super) fn newest(&self, key: &StoreKey) -> Option<Record> {
        let newest = self.lock();
        let (of, record) = newest.record.as_ref()?;
        (of == key).then(|| record.clone())
    }

    pub(super) fn remember(&self, key: &StoreKey, record: Record) {
        self.lock().record = Some((key.clone(), record));
    }

    pub(super) fn forget(&self, key: &StoreKey) {
        self.lock().record.take_if(|(of, _)| of == key);
    }

    /// The store's record, after it was given what it lacks.
    pub(super) async fn look(
        &self,
        store: &Arc<dyn ErasedStore>,
        key: &StoreKey,
        now: SystemTime,
    ) -> Result<Option<Record>, StoreError> {
        for _ in 0..MOST_LOOKS {
            let there = store.read(key).await?;
            let generation = there.as_ref().map(Record::generation);
            let newest = self.newest(key);
            let Some(lacking) = newest.filter(|newest| {
                Some(newest.generation()) > generation
                    && newest.keep_until().is_none_or(|end| now < end)
            }) else {
                if let Some(there) = &there {
                    self.remember(key, there.clone());
                }
                return Ok(there);
            };
            match store
                .compare_and_set(key, generation, &lacking, None)
                .await?
            {
                Written::Done => return Ok(Some(lacking)),
                // Somebody else was faster, maybe with something newer.
                Written::Changed | Written::Fenced => {}
            }
        }
        Err(StoreError::unavailable(
            "the record changes faster than it can be read",
        ))
    }

    /// Starts a task that looks until the store answers. It ends with the source, or when the record
    /// is of no use any more.
    pub(super) fn write_back(
        self: &Arc<Self>,
        store: &Arc<dyn ErasedStore>,
        key: &StoreKey,
        clock: &Clock,
    ) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if std::mem::replace(&mut self.lock().is_on_its_way, true) {
            return;
        }
        let memory = Arc::downgrade(self);
        let (store, key, clock) = (Arc::clone(store), key.clone(), clock.clone());
        runtime.spawn(async move {
            let mut pause = FIRST_PAUSE;
            loop {
                sleep(pause.mul_f64(1.0 - fastrand::f64() / 2.0)).await;
                pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
                let Some(memory) = memory.upgrade() else {
                    return;
                };
                if memory.look(&store, &key, clock.now().wall).await.is_ok() {
                    memory.lock().is_on_its_way = false;
                    return;
                }
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, Newest> {
        // Nothing that runs under the lock leaves it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was found at a place.
#[derive(Clone, Default)]
pub(super) struct There {
    generation: Option<u64>,
    pub(super) kept: Kept,
}

impl There {
    /// `None` if the record is none of ours.
    pub(super) fn of(record: Option<Record>) -> Option<Self> {
        let Some(record) = record else {
            return Some(Self::default());
        };
        Some(Self {
            generation: Some(record.generation()),
            kept: Kept::read(record.text())?,
        })
    }

    pub(super) fn generation(&self) -> Option<u64> {
        self.generation
    }

    /// The access token that is asked for: neither the one that was refused nor the one that is to be
    /// renewed. Which one it is says its text, not its age.
    pub(super) fn fitting(
        &self,
        place: &Place,
        demand: Demand<'_>,
        now: SystemTime,
    ) -> Option<AccessToken> {
        let token = self.kept.token(place.tag)?.worth(now)?;
        let unwanted = [demand.rejected(), demand.held()];
        (!unwanted.contains(&Some(&token))).then_some(token)
    }

    /// With one more access token.
    pub(super) fn with(mut self, place: &Place, token: AccessToken, asked: SystemTime) -> Self {
        self.kept.add(KeptToken {
            tag: place.tag,
            token,
            asked,
        });
        self
    }

    /// The record to be written next.
    pub(super) fn record(&self) -> Record {
        let generation = self.generation.unwrap_or_default().saturating_add(1);
        Record::new(generation, self.kept.written(), self.kept.keep_until())
    }

    /// As it is once `record` has been written.
    pub(super) fn after(mut self, record: &Record) -> Self {
        self.generation = Some(record.generation());
        self
    }
}
