//! Starts and stops a cache's tasks, and takes in what they bring.
//!
//! Always with the lock released: a runtime that is being shut down drops a task at once, and a
//! task's last act takes the lock.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::AbortHandle};

use super::{
    flight::{self, FlightError, Wish},
    keeper,
    snapshot::{Snapshot, Times},
    state::{Keeper, Life, Outcome, Shared, State},
};
use crate::{
    clock::{Deadline, Moment},
    metrics,
    source::TokenError,
    token::AccessToken,
};

/// What is left to do once the lock is released.
#[must_use]
pub(super) enum Then {
    Nothing,
    Keep {
        id: u64,
        token: Arc<Snapshot>,
        times: Times,
        due: Deadline,
        relieved: Option<Keeper>,
    },
    Relieve(Option<Keeper>),
}

impl Shared {
    /// Takes the token out of the cache.
    pub(super) fn withdraw(&self, state: &mut State) -> Then {
        if let Some(token) = state.held.take() {
            state.rejected = Some(Box::new(token.token.clone()));
        }
        self.current.store(None);
        let keeper = state.keeper.take();
        self.tell(state);
        Then::Relieve(keeper)
    }

    /// A token without a keeper isn't published: its keeper died with its runtime.
    pub(super) fn publish_if_unkept(
        &self,
        state: &mut State,
        token: &Arc<Snapshot>,
        now: Moment,
    ) -> Then {
        if state.keeper.is_some() || token.times.is_none() {
            return Then::Nothing;
        }
        self.publish(state, token, now)
    }

    pub(super) fn publish(&self, state: &mut State, token: &Arc<Snapshot>, now: Moment) -> Then {
        self.current.store(Some(Arc::clone(token)));
        let Some(times) = token.times else {
            return Then::Relieve(state.keeper.take());
        };
        let pause = match state.backoff.pausing(now.mono) {
            Some(failing) => failing.retry_at.saturating_duration_since(now.mono),
            None => Duration::ZERO,
        };
        // A failure brings no renewal forward: somebody may have wished one long before.
        let due = match times.due.remaining(now) < pause {
            true => now.after(pause),
            false => times.due,
        };
        let id = state.next_task();
        let relieved = state.keeper.replace(Keeper { id, task: None });
        Then::Keep {
            id,
            token: Arc::clone(token),
            times,
            due,
            relieved,
        }
    }

    pub(super) fn take_off(
        self: &Arc<Self>,
        id: u64,
        landing: watch::Sender<Option<Outcome>>,
        wish: Wish,
    ) {
        let shared = Arc::downgrade(self);
        let on_end = move |end| {
            let Some(shared) = shared.upgrade() else {
                return;
            };
            match end {
                flight::End::Arrived { asked, result } => {
                    if let Some(outcome) = shared.landed(id, asked, result) {
                        landing.send_replace(Some(outcome));
                    }
                }
                flight::End::Lost => shared.lost(id),
            }
        };
        let task = flight::start(
            self.id(),
            Arc::clone(&self.source),
            wish,
            self.policy.deadline,
            self.clock.clone(),
            on_end,
        );
        if let Some(flight) = self.lock().flight_numbered(id) {
            flight.task = task;
        }
    }

    /// Starts and stops tasks, with the lock released.
    pub(super) fn finish(self: &Arc<Self>, then: Then) {
        match then {
            Then::Nothing => {}
            Then::Relieve(keeper) => abort(keeper.and_then(|keeper| keeper.task)),
            Then::Keep {
                id,
                token,
                times,
                due,
                relieved,
            } => {
                abort(relieved.and_then(|keeper| keeper.task));
                let shared = Arc::downgrade(self);
                let on_end = move |end| {
                    if let Some(shared) = shared.upgrade() {
                        shared.keeper_ended(id, end);
                    }
                };
                let task = keeper::start(token, times, due, self.clock.clone(), on_end);
                // One that was replaced in the meantime had left no handle to stop it by.
                let stray = match self.lock().keeper_numbered(id) {
                    Some(keeper) => {
                        keeper.task = task;
                        None
                    }
                    None => task,
                };
                abort(stray);
            }
        }
    }

    /// The keeper's last act.
    fn keeper_ended(&self, id: u64, end: keeper::End) {
        let mut state = self.lock();
        if state.keeper_numbered(id).is_none() {
            return;
        }
        state.keeper = None;
        self.current.store(None);
        if end == keeper::End::Expired {
            state.held = None;
        }
        self.tell(&state);
    }

    /// The flight's last act, when it arrived. `None` if its passengers must board anew.
    fn landed(
        self: &Arc<Self>,
        id: u64,
        asked: Moment,
        result: Result<AccessToken, TokenError>,
    ) -> Option<Outcome> {
        let now = self.clock.now();
        let mut state = self.lock();
        // One that was given up and arrives after all changes nothing: there is a newer one.
        let flight = state.close_flight(id)?;
        if let Life::Closed { late, .. } = &mut state.life {
            *late = result.ok().map(Box::new);
            return Some(Err(TokenError::permanent(FlightError::Closed)));
        }
        if let (Ok(token), Some(rejected)) = (&result, state.rejected.as_deref()) {
            // The token was refused while this flight was in the air, whose source was not told.
            if token == rejected && flight.rejected.as_deref() != Some(rejected) {
                self.tell(&state);
                return None;
            }
        }
        let outcome = result.and_then(|token| self.admit(&mut state, token, asked, now));
        let then = match &outcome {
            Ok(token) => {
                state.held = Some(Arc::clone(token));
                state.backoff.succeeded();
                state.rejected = None;
                self.publish(&mut state, token, now)
            }
            Err(error) => {
                state.backoff.failed(error.clone(), now.mono);
                // A failed refresh never replaces a valid token; it only moves the next attempt.
                match state.usable(now) {
                    Some(token) => self.publish(&mut state, &token, now),
                    None => Then::Nothing,
                }
            }
        };
        self.tell(&state);
        drop(state);
        self.finish(then);
        // Outside the lock: whoever collects events may send them through this very cache.
        match &outcome {
            Ok(token) => metrics::renewed(token.generation.number(), token.token.lifetime()),
            Err(error) => metrics::failed(error),
        }
        Some(outcome)
    }

    fn admit(&self, state: &mut State, token: AccessToken, asked: Moment, now: Moment) -> Outcome {
        let times = token
            .lifetime()
            .map(|lifetime| self.policy.times(lifetime, token.since(asked, now)));
        if times.is_some_and(|times| times.gone.passed(now)) {
            return Err(TokenError::transient(FlightError::ArrivedExpired {
                lifetime: token.lifetime().unwrap_or_default(),
            }));
        }
        state.newest = state.newest.next();
        Ok(Arc::new(Snapshot::new(token, state.newest, times)))
    }

    /// The flight was lost: its runtime was shut down, or stands still.
    pub(super) fn lost(&self, id: u64) {
        let mut state = self.lock();
        if state.close_flight(id).is_some() {
            if let Some(token) = &state.held {
                token.mark_due();
            }
            self.tell(&state);
        }
    }
}

fn abort(task: Option<AbortHandle>) {
    if let Some(task) = task {
        task.abort();
    }
}
