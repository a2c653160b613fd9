//! What this process knows of the records, which may be more than the store does.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{runtime::Handle, time::sleep};

use super::{
    Lost,
    ends::Ends,
    kept::{self, KeptToken, Refresh},
    place::Place,
    there::There,
};
use crate::{
    clock::{Clock, Moment},
    secret::SecretString,
    source::{
        erased_store::ErasedStore,
        token_store::{Record, StoreError, StoreKey, Written},
    },
    token::AccessToken,
};

/// How often a record is read anew that others change all the time.
const MOST_LOOKS: usize = 8;

/// How many refresh tokens that were sent are remembered.
const MOST_SENT: usize = 64;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What this process has seen in the store, and what it couldn't write there. Clones of a source share
/// it.
#[derive(Default)]
pub(super) struct Memory(Mutex<HashMap<StoreKey, Known>>);

#[derive(Default)]
struct Known {
    /// The newest record that was in the store for sure. A store that has an older one, or none, has
    /// forgotten it, and gets it back.
    seen: Option<Record>,
    unsaved: Option<(Ticket, Unsaved)>,
    tickets: u64,
    ends: Ends,
    /// Hashes of refresh tokens that were sent from here and may be spent, whatever the store says.
    sent: VecDeque<[u8; 32]>,
    /// A task looks until the store answers.
    is_looked_after: bool,
    /// As long as that task has to write what came of a redemption, also without the source.
    kept_alive: Option<Arc<Memory>>,
}

/// Tells what one turn couldn't write from what another couldn't.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket(u64);

/// What is to be written as soon as that goes.
#[derive(Clone)]
pub(super) enum Unsaved {
    /// What came of a redemption, in the place of its intent and of nothing else: whatever else stands
    /// there, is newer.
    Outcome { record: Record, over: Record },
    /// An intent that may stand there or come to stand there, and nothing was sent: what was there
    /// before, with a new generation, so that the intent can't come late.
    Undone { intent: Record, before: There },
    /// A token that others may use, beside whatever stands there.
    Token {
        token: KeptToken,
        refresh_token: Option<SecretString>,
    },
}

impl Memory {
    /// As it would be in the store.
    pub(super) fn known(&self, place: &Place, now: Moment) -> There {
        self.with(&place.key, |known| {
            let mut there = There::of(known.seen.clone()).unwrap_or_default();
            known.hold(&mut there, now);
            match &known.unsaved {
                Some((_, Unsaved::Token { token, .. })) => there.with(token.clone()),
                _ => there,
            }
        })
    }

    /// A token that was just fetched, and asked for then.
    pub(super) fn fetched(&self, place: &Place, token: AccessToken, asked: Moment) -> KeptToken {
        let mut kept = KeptToken {
            tag: place.tag,
            token,
            asked: asked.wall,
            over_at: None,
        };
        self.with(&place.key, |known| known.ends.hold(&mut kept, asked));
        kept
    }

    /// This record is in the store.
    pub(super) fn saw(&self, key: &StoreKey, record: Option<&Record>) {
        self.with(key, |known| known.saw(record));
    }

    /// From now on this is to be written. What came of a newer intent isn't forgotten for it.
    pub(super) fn set_unsaved(&self, key: &StoreKey, unsaved: Unsaved) -> Ticket {
        self.with(key, |known| {
            known.tickets = known.tickets.wrapping_add(1);
            let ticket = Ticket(known.tickets);
            let is_older = match (&unsaved, &known.unsaved) {
                (_, None) => false,
                (
                    Unsaved::Outcome { over, .. },
                    Some((_, Unsaved::Outcome { over: newer, .. })),
                ) => over.generation() < newer.generation(),
                (_, Some((_, Unsaved::Outcome { .. }))) => true,
                _ => false,
            };
            if !is_older {
                known.unsaved = Some((ticket, unsaved));
            }
            ticket
        })
    }

    /// It is written, or must not be any more.
    pub(super) fn settle(&self, key: &StoreKey, ticket: Ticket) {
        self.with(key, |known| {
            known.unsaved.take_if(|(kept, _)| *kept == ticket);
        });
    }

    /// This refresh token is about to be sent.
    pub(super) fn send(&self, key: &StoreKey, refresh_token: &SecretString) {
        self.with(key, |known| {
            known.sent.truncate(MOST_SENT);
            known.sent.push_front(kept::hash(refresh_token));
        });
    }

    /// It can be sent again.
    pub(super) fn is_whole(&self, key: &StoreKey, refresh_token: &SecretString) {
        let hash = kept::hash(refresh_token);
        self.with(key, |known| known.sent.retain(|sent| *sent != hash));
    }

    pub(super) fn was_sent(&self, key: &StoreKey, refresh_token: &SecretString) -> bool {
        let hash = kept::hash(refresh_token);
        self.with(key, |known| known.sent.contains(&hash))
    }

    /// What is in the store, once that has what it lacks.
    pub(super) async fn look(
        &self,
        store: &Arc<dyn ErasedStore>,
        key: &StoreKey,
        now: Moment,
    ) -> Result<There, Lost> {
        for _ in 0..MOST_LOOKS {
            let record = store.read(key).await?;
            let mut there = There::of(record).ok_or_else(|| Lost::unreadable(key))?;
            let lacking = self.with(key, |known| {
                known.hold(&mut there, now);
                known.lacking(&there, now)
            });
            let Some(lacking) = lacking else {
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

    /// Starts a task that looks until the store answers. It ends with the source, unless what came of
    /// a redemption would end with it.
    pub(super) fn look_after(
        self: &Arc<Self>,
        store: &Arc<dyn ErasedStore>,
        key: &StoreKey,
        clock: &Clock,
    ) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let started = self.with(key, |known| {
            if matches!(known.unsaved, Some((_, Unsaved::Outcome { .. }))) {
                known.kept_alive = Some(Arc::clone(self));
            }
            std::mem::replace(&mut known.is_looked_after, true)
        });
        if started {
            return;
        }
        let memory = Arc::downgrade(self);
        let (store, key, clock) = (Arc::clone(store), key.clone(), clock.clone());
        // However it ends, also with its runtime, the next one may start.
        let watch = Watch(Arc::downgrade(self), key.clone());
        runtime.spawn(async move {
            let _watch = watch;
            let mut pause = FIRST_PAUSE;
            loop {
                sleep(pause.mul_f64(1.0 - fastrand::f64() / 2.0)).await;
                pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
                let Some(memory) = memory.upgrade() else {
                    return;
                };
                let looked = memory.look(&store, &key, clock.now()).await;
                if looked.is_ok() && memory.with(&key, Known::is_at_rest) {
                    return;
                }
            }
        });
    }

    /// Nothing that runs under the lock leaves it half done, or waits.
    fn with<T>(&self, key: &StoreKey, act: impl FnOnce(&mut Known) -> T) -> T {
        let mut all = self.lock();
        // A login that has begun anew has another key: what nobody needs, goes.
        if all.len() > MOST_KEYS {
            all.retain(|of, known| of == key || known.unsaved.is_some() || known.is_looked_after);
        }
        act(all.entry(key.clone()).or_default())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<StoreKey, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Clones of a source may have names of their own.
const MOST_KEYS: usize = 64;

impl Known {
    fn hold(&mut self, there: &mut There, now: Moment) {
        for token in &mut there.kept.tokens {
            self.ends.hold(token, now);
        }
    }

    fn saw(&mut self, record: Option<&Record>) {
        let generation = |record: Option<&Record>| record.map(Record::generation);
        if generation(record) >= generation(self.seen.as_ref()) {
            self.seen = record.cloned();
        }
    }

    /// The record to be written over what is there. If there is none, all is as it should be, and
    /// nothing is unsaved any more.
    fn lacking(&mut self, there: &There, now: Moment) -> Option<Record> {
        if let Some(seen) = self.forgotten(there, now) {
            return Some(seen.clone());
        }
        let unsaved = self.unsaved.as_ref().map(|(_, unsaved)| unsaved);
        let lacking = unsaved.and_then(|unsaved| unsaved.over(there, now));
        if lacking.is_none() {
            self.saw(there.record());
            self.unsaved = None;
        }
        lacking
    }

    /// What the store had and has no more, unless somebody has logged in anew since.
    fn forgotten(&self, there: &There, now: Moment) -> Option<&Record> {
        let seen = self.seen.as_ref()?;
        let is_of_use = seen.keep_until().is_none_or(|end| now.wall < end);
        let is_newer = Some(seen.generation()) > there.generation();
        let known = There::of(Some(seen.clone()))?.kept;
        (is_of_use && is_newer && known.knows_the_seeds_of(&there.kept)).then_some(seen)
    }

    fn is_at_rest(&mut self) -> bool {
        self.is_looked_after = self.unsaved.is_some();
        !self.is_looked_after
    }

    /// Nobody looks after this place any more. What is handed back is dropped outside the lock.
    fn is_left(&mut self) -> Option<Arc<Memory>> {
        self.is_looked_after = false;
        self.kept_alive.take()
    }
}

impl Unsaved {
    fn over(&self, there: &There, now: Moment) -> Option<Record> {
        match self {
            Self::Outcome { record, over } => there.is(over).then(|| record.clone()),
            Self::Undone { intent, before } => {
                let applies = there.is(intent) || there.is_as_found(before.record());
                applies.then(|| there.next_record_as(before))
            }
            Self::Token {
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
}

/// Says at its end that nobody looks after this place any more.
struct Watch(std::sync::Weak<Memory>, StoreKey);

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(memory) = self.0.upgrade() {
            drop(memory.with(&self.1, Known::is_left));
        }
    }
}
