//! What the clones of a cache share: the token that requests read, and the rest behind one lock.

use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use arc_swap::ArcSwapOption;
use tokio::{sync::watch, task::AbortHandle, time::Instant};

use super::{
    backoff::{Backoff, Doubt},
    snapshot::{Generation, Policy, Snapshot},
    watch::CacheState,
};
use crate::{
    clock::{Clock, Moment},
    source::{ErasedSource, TokenError},
    token::AccessToken,
};

/// What all clones of a cache share.
pub(super) struct Shared {
    /// What every request reads. Stored only under the lock. What is here can be sent.
    pub(super) current: ArcSwapOption<Snapshot>,
    state: Mutex<State>,
    /// Whether an acceptance would be news; spares accepted requests the lock. A hint: `Relaxed`.
    pub(super) in_doubt: AtomicBool,
    pub(super) source: Arc<dyn ErasedSource>,
    pub(super) policy: Policy,
    pub(super) clock: Clock,
    /// Made when somebody watches: most caches are never watched.
    watched: OnceLock<watch::Sender<CacheState>>,
}

#[derive(Default)]
pub(super) struct State {
    /// The newest token, until it is invalidated or its time is over. It outlives its keeper: the
    /// next caller publishes it again.
    pub(super) held: Option<Arc<Snapshot>>,
    pub(super) newest: Generation,
    pub(super) flight: Option<Flight>,
    pub(super) keeper: Option<Keeper>,
    /// Numbers flights and keepers, so that a late last act is told from the one in charge.
    tasks: u64,
    pub(super) backoff: Backoff,
    pub(super) doubt: Doubt,
    /// The token whose refusal led to the next flight. Boxed, as it is in flights: most caches have none,
    /// and there may be a cache for each tenant.
    pub(super) rejected: Option<Box<AccessToken>>,
    pub(super) life: Life,
}

/// Whether the cache serves.
#[derive(Default)]
pub(super) enum Life {
    #[default]
    Open,
    /// For good.
    Closed {
        /// What a flight brought that was under way.
        late: Option<Box<AccessToken>>,
        /// How giving back went, once that has ended.
        ended: watch::Receiver<Option<Result<(), TokenError>>>,
    },
}

pub(super) struct Flight {
    pub(super) id: u64,
    pub(super) took_off: Instant,
    /// The token that the source was told must not be handed back: a server refused it, or a caller
    /// wants a newer one.
    pub(super) rejected: Option<Box<AccessToken>>,
    pub(super) outcome: watch::Receiver<Option<Outcome>>,
    pub(super) task: Option<AbortHandle>,
}

pub(super) struct Keeper {
    pub(super) id: u64,
    pub(super) task: Option<AbortHandle>,
}

/// How a flight ended, for all who boarded it.
pub(super) type Outcome = Result<Arc<Snapshot>, TokenError>;

/// A seat on a flight.
pub(super) struct Seat {
    pub(super) flight: u64,
    pub(super) took_off: Instant,
    pub(super) outcome: watch::Receiver<Option<Outcome>>,
}

impl Shared {
    pub(super) fn new(source: Arc<dyn ErasedSource>, policy: Policy, clock: Clock) -> Self {
        Self {
            current: ArcSwapOption::empty(),
            state: Mutex::default(),
            in_doubt: AtomicBool::new(false),
            source,
            policy,
            clock,
            watched: OnceLock::new(),
        }
    }

    /// The guards of a receiver must not get to callers: one that is held across a call of the
    /// cache would make that call wait for itself.
    pub(super) fn watch(&self) -> watch::Receiver<CacheState> {
        // Under the lock, as each change is told: none gets lost in between.
        let state = self.lock();
        let watched = self
            .watched
            .get_or_init(|| watch::Sender::new(state.describe()));
        watched.subscribe()
    }

    pub(super) fn now(&self) -> Moment {
        self.clock.now()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under the lock leaves it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note_doubt(&self, state: &State) {
        self.in_doubt
            .store(state.doubt.awaits_acceptance(), Ordering::Relaxed);
    }

    pub(super) fn tell(&self, state: &State) {
        let Some(watched) = self.watched.get() else {
            return;
        };
        let now_is = state.describe();
        watched.send_if_modified(|told| {
            let news = !told.is_like(&now_is);
            *told = now_is;
            news
        });
    }

    pub(super) fn id(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self).addr()
    }
}

impl Drop for Shared {
    /// Leaves no task behind.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let keeper = state.keeper.take().and_then(|keeper| keeper.task);
        let flight = state.flight.take().and_then(|flight| flight.task);
        for task in [keeper, flight].into_iter().flatten() {
            task.abort();
        }
    }
}

impl Flight {
    pub(super) fn seat(&self) -> Seat {
        Seat {
            flight: self.id,
            took_off: self.took_off,
            outcome: self.outcome.clone(),
        }
    }
}

impl State {
    pub(super) fn next_task(&mut self) -> u64 {
        self.tasks = self.tasks.wrapping_add(1);
        self.tasks
    }

    pub(super) fn usable(&self, now: Moment) -> Option<Arc<Snapshot>> {
        self.held
            .as_ref()
            .filter(|token| !token.is_gone(now))
            .cloned()
    }

    pub(super) fn holds(&self, generation: Generation) -> bool {
        self.held
            .as_ref()
            .is_some_and(|token| token.generation == generation)
    }

    pub(super) fn flight_numbered(&mut self, id: u64) -> Option<&mut Flight> {
        self.flight.as_mut().filter(|flight| flight.id == id)
    }

    pub(super) fn keeper_numbered(&mut self, id: u64) -> Option<&mut Keeper> {
        self.keeper.as_mut().filter(|keeper| keeper.id == id)
    }

    /// The flight, if it is still the one under way.
    pub(super) fn close_flight(&mut self, id: u64) -> Option<Flight> {
        self.flight.take_if(|flight| flight.id == id)
    }

    pub(super) fn describe(&self) -> CacheState {
        if let Life::Closed { .. } = self.life {
            CacheState::Closed
        } else if let Some(failing) = self.backoff.failing() {
            CacheState::Failing {
                since: failing.since.into_std(),
                error: failing.error.clone(),
                retry_at: failing.retry_at.into_std(),
            }
        } else if self.flight.is_some() {
            CacheState::Renewing
        } else if self.held.is_some() {
            CacheState::Valid
        } else {
            CacheState::Empty
        }
    }
}
