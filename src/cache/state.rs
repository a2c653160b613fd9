//! What a cache knows beyond the token that requests read; all of it behind one lock.

use std::sync::Arc;

use tokio::{sync::watch, task::AbortHandle, time::Instant};

use super::{
    CacheState,
    backoff::{Backoff, Doubt},
    snapshot::{Generation, Snapshot},
};
use crate::{clock::Moment, source::TokenError, token::AccessToken};

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
    /// The token whose refusal led to the next flight.
    pub(super) rejected: Option<AccessToken>,
}

pub(super) struct Flight {
    pub(super) id: u64,
    pub(super) took_off: Instant,
    /// The refused token that the source was told of.
    pub(super) rejected: Option<AccessToken>,
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
        if let Some(failing) = self.backoff.failing() {
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
