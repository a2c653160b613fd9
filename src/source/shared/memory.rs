//! What this process knows of the record, which may be more than the store does.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::{runtime::Handle, time::sleep};

use super::{
    Lost,
    kept::{KeptToken, Refresh},
    place::Place,
    there::There,
};
use crate::{
    clock::Clock,
    secret::SecretString,
    source::{
        erased_store::ErasedStore,
        token_store::{Record, StoreError, StoreKey, Written},
    },
};

/// How often a record is read anew that others change all the time.
const MOST_LOOKS: usize = 8;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What this process has seen in the store, and what it couldn't write there. Clones of a source share
/// it.
#[derive(Default)]
pub(super) struct Memory(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// Of which place the rest is.
    key: Option<StoreKey>,
    /// The newest record that was in the store for sure. A store that has an older one, or none, has
    /// forgotten it, and gets it back.
    seen: Option<Record>,
    unsaved: Option<Unsaved>,
    /// A task looks until the store answers.
    is_looked_after: bool,
}

/// What is to be written as soon as that goes.
#[derive(Clone)]
pub(super) enum Unsaved {
    /// What came of a redemption, in the place of its intent and of nothing else: whatever else stands
    /// there, is newer.
    Outcome { record: Record, over: Record },
    /// A token that others may use, beside whatever stands there.
    Token {
        token: KeptToken,
        refresh_token: Option<SecretString>,
    },
}

impl Memory {
    /// As it would be in the store.
    pub(super) fn known(&self, place: &Place) -> There {
        let known = self.of(&place.key);
        let there = There::of(known.seen.clone()).unwrap_or_default();
        match &known.unsaved {
            Some(Unsaved::Token { token, .. }) => there.with(token.clone()),
            _ => there,
        }
    }

    /// This record is in the store.
    pub(super) fn saw(&self, key: &StoreKey, record: Option<&Record>) {
        let mut known = self.of(key);
        let generation = |record: Option<&Record>| record.map(Record::generation);
        if generation(record) >= generation(known.seen.as_ref()) {
            known.seen = record.cloned();
        }
    }

    pub(super) fn set_unsaved(&self, key: &StoreKey, unsaved: Option<Unsaved>) {
        self.of(key).unsaved = unsaved;
    }

    /// What is in the store, once that has what it lacks.
    pub(super) async fn look(
        &self,
        store: &Arc<dyn ErasedStore>,
        key: &StoreKey,
        now: SystemTime,
    ) -> Result<There, Lost> {
        for _ in 0..MOST_LOOKS {
            let record = store.read(key).await?;
            let there = There::of(record).ok_or_else(|| Lost::unreadable(key))?;
            let Some(lacking) = self.lacking(key, &there, now) else {
                self.saw(key, there.record());
                self.set_unsaved(key, None);
                return Ok(there);
            };
            let expected = there.generation();
            match store.compare_and_set(key, expected, &lacking, None).await? {
                Written::Done => self.saw(key, Some(&lacking)),
                // Somebody else was faster, maybe with something newer.
                Written::Changed | Written::Fenced => {}
            }
        }
        let changes = StoreError::unavailable("the record changes faster than it can be read");
        Err(changes.into())
    }

    /// The record to be written over what is there.
    fn lacking(&self, key: &StoreKey, there: &There, now: SystemTime) -> Option<Record> {
        let known = self.of(key);
        let is_of_use = |record: &&Record| record.keep_until().is_none_or(|end| now < end);
        if let Some(seen) = known.seen.as_ref().filter(is_of_use)
            && Some(seen.generation()) > there.generation()
        {
            return Some(seen.clone());
        }
        match known.unsaved.as_ref()? {
            Unsaved::Outcome { record, over } => there.is(over).then(|| record.clone()),
            Unsaved::Token {
                token,
                refresh_token,
            } => {
                let theirs = there.kept.token(token.tag);
                let is_newer = |theirs: &&KeptToken| theirs.asked >= token.asked;
                token.worth(now)?;
                if theirs.is_some_and(|theirs| is_newer(&theirs) && theirs.worth(now).is_some()) {
                    return None;
                }
                let mut there = there.clone().with(token.clone());
                if let Some(refresh_token) = refresh_token {
                    there.kept.refresh = Refresh::Ready(refresh_token.clone());
                }
                Some(there.next_record())
            }
        }
    }

    /// Starts a task that looks until the store answers. It ends with the source.
    pub(super) fn look_after(
        self: &Arc<Self>,
        store: &Arc<dyn ErasedStore>,
        key: &StoreKey,
        clock: &Clock,
    ) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if std::mem::replace(&mut self.of(key).is_looked_after, true) {
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
                    memory.of(&key).is_looked_after = false;
                    return;
                }
            }
        });
    }

    /// What is known of this place; where that is another one by now, as after a new login, nothing.
    fn of(&self, key: &StoreKey) -> MutexGuard<'_, Known> {
        // Nothing that runs under the lock leaves it half done.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.key.as_ref() != Some(key) {
            *known = Known {
                key: Some(key.clone()),
                ..Known::default()
            };
        }
        known
    }
}
