//! One flight at a time: whatever asks for a token (nothing at hand, due, expired, refused,
//! forced) boards the flight that is under way, or starts it.
//!
//! The flight is a task of its own, so a caller that goes away cancels nothing. All that callers ask
//! beyond a plain read comes here, under one lock that is never held across an `.await`. A request
//! that has a token takes it only to start a renewal, and after a refusal.

use std::{
    sync::{Arc, MutexGuard, atomic::Ordering},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::watch,
    time::{error::Elapsed, timeout_at},
};

use super::{
    flight::{self, FlightError, Wish},
    snapshot::{Generation, Snapshot},
    state::{Flight, Life, Outcome, Seat, Shared, State},
    tasks::Then,
};
use crate::{clock::Moment, metrics, source::TokenError, token::AccessToken};

/// How much longer than its deadline a flight is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a caller gets who needs a token.
pub(super) enum Boarding {
    Token(Arc<Snapshot>),
    Flight(Seat),
}

/// What became of a refused token.
enum Refusal {
    /// The cache holds a newer one: the refusal says nothing of that.
    Late(Arc<Snapshot>, Then),
    /// Refreshing did not help lately: the token stays, for those servers that do accept it.
    Doubted,
    /// It is gone.
    Taken(Then),
}

impl Shared {
    /// A caller found no token: the one that is held after all, or a seat on the flight.
    ///
    /// # Errors
    ///
    /// The last failure, while the authorization server is left alone.
    pub(super) fn board(self: &Arc<Self>) -> Result<Boarding, TokenError> {
        self.check_not_in_flight()?;
        let now = self.clock.now();
        let mut state = self.lock();
        if let Some(token) = state.usable(now) {
            let then = self.publish_if_unkept(&mut state, &token, now);
            drop(state);
            self.finish(then);
            return Ok(Boarding::Token(token));
        }
        let told = state.rejected.clone();
        self.join_or_take_off(state, now, told)
    }

    /// A caller wants a newer token than the one at hand, which serves on until it is there: a seat
    /// on the flight. While fresh tokens are known to be no help, it is the one at hand after all.
    ///
    /// # Errors
    ///
    /// As [`board`](Self::board).
    pub(super) fn board_anew(self: &Arc<Self>) -> Result<Boarding, TokenError> {
        self.check_not_in_flight()?;
        let now = self.clock.now();
        let mut state = self.lock();
        let at_hand = state.usable(now);
        if let Some(token) = &at_hand
            && !state.doubt.may_force(now.mono)
        {
            let then = self.publish_if_unkept(&mut state, token, now);
            drop(state);
            self.finish(then);
            return Ok(Boarding::Token(Arc::clone(token)));
        }
        // Or a source that caches would hand it back. It is not in disgrace otherwise.
        let unwanted = at_hand.map(|token| Box::new(token.token.clone()));
        let told = unwanted.or_else(|| state.rejected.clone());
        self.join_or_take_off(state, now, told)
    }

    /// A flight whose source was not told that the token at hand isn't wanted: what it brings was
    /// asked for before whoever wants a newer one.
    pub(super) fn earlier_flight(self: &Arc<Self>) -> Option<Seat> {
        // Nobody waits for the flight that they are aboard of; `board_anew` says so.
        self.check_not_in_flight().ok()?;
        let now = self.clock.now();
        let state = self.lock();
        let at_hand = &state.usable(now)?.token;
        let flight = state.flight.as_ref()?;
        (flight.rejected.as_deref() != Some(at_hand)).then(|| flight.seat())
    }

    /// A reader found its token due: renews it in the background. The reader has a token, so an
    /// error is not for it; the next one tries again.
    pub(super) fn renew(self: &Arc<Self>, token: &Snapshot) {
        let now = self.clock.now();
        let boarding = self.check_not_in_flight().and_then(|()| {
            let state = self.lock();
            if token.generation == state.newest {
                let told = state.rejected.clone();
                self.join_or_take_off(state, now, told).map(drop)
            } else {
                Ok(()) // Somebody was faster.
            }
        });
        if boarding.is_err() {
            token.mark_due();
        }
    }

    /// A server refused the token of `generation`: what there is instead, if anything.
    pub(super) fn refused(self: &Arc<Self>, generation: Generation) -> Option<Boarding> {
        metrics::refused(generation.number());
        let now = self.clock.now();
        let mut state = self.lock();
        let then = match self.refuse(&mut state, generation, now) {
            Refusal::Late(token, then) => {
                drop(state);
                self.finish(then);
                return Some(Boarding::Token(token));
            }
            Refusal::Doubted => return None,
            Refusal::Taken(then) => then,
        };
        let told = state.rejected.clone();
        let boarding = self
            .check_not_in_flight()
            .and_then(|()| self.join_or_take_off(state, now, told));
        self.finish(then);
        boarding.ok()
    }

    /// As [`refused`](Self::refused), for a request that can't be sent again: fetches nothing.
    pub(super) fn refused_in_vain(self: &Arc<Self>, generation: Generation) {
        metrics::refused(generation.number());
        let now = self.clock.now();
        let mut state = self.lock();
        let refusal = self.refuse(&mut state, generation, now);
        drop(state);
        if let Refusal::Late(_, then) | Refusal::Taken(then) = refusal {
            self.finish(then);
        }
    }

    fn refuse(&self, state: &mut State, generation: Generation, now: Moment) -> Refusal {
        let Some(token) = state.usable(now) else {
            return Refusal::Taken(Then::Nothing);
        };
        if token.generation > generation {
            let then = self.publish_if_unkept(state, &token, now);
            return Refusal::Late(token, then);
        }
        // To join a flight asks nothing more of the authorization server; to start one does.
        if state.flight.is_none() {
            if !state.doubt.may_force(now.mono) {
                return Refusal::Doubted;
            }
            if state.backoff.pausing(now.mono).is_none() {
                state.doubt.forced(now.mono);
                self.note_doubt(state);
            }
        }
        Refusal::Taken(self.withdraw(state))
    }

    /// Waits for the flight; `None` if it was lost with its runtime, and the caller must board
    /// anew.
    pub(super) async fn arrival(&self, mut seat: Seat) -> Option<Outcome> {
        // The flight keeps its deadline by itself, but its runtime may have stopped in mid-air (a
        // `block_on` that returned); this caller's has not.
        let landing = seat.outcome.wait_for(Option::is_some);
        let landed = match seat.took_off.checked_add(self.patience()) {
            Some(overdue) => timeout_at(overdue, landing).await,
            None => Ok(landing.await),
        };
        match landed {
            Ok(landed) => landed.ok()?.clone(),
            Err(Elapsed { .. }) => {
                self.lost(seat.flight);
                None
            }
        }
    }

    /// How long after its start a flight is given up.
    fn patience(&self) -> Duration {
        self.policy.deadline.saturating_add(PATIENCE)
    }

    /// A server accepted the token of `generation` on a first send.
    #[inline]
    pub(super) fn accepted(&self, generation: Generation) {
        if self.in_doubt.load(Ordering::Relaxed) {
            self.accepted_after_all(generation);
        }
    }

    #[cold]
    fn accepted_after_all(&self, generation: Generation) {
        let mut state = self.lock();
        if state.holds(generation) {
            state.doubt.accepted();
            self.note_doubt(&state);
        }
    }

    /// A request that was refused was sent again with the token of `generation`.
    pub(super) fn sent_again(&self, generation: Generation, accepted: bool) {
        let mut state = self.lock();
        if state.holds(generation) {
            state.doubt.sent_again(accepted);
            self.note_doubt(&state);
        }
    }

    /// Drops the token; whoever asks next waits for a new one.
    pub(super) fn invalidate(self: &Arc<Self>) {
        let mut state = self.lock();
        let then = self.withdraw(&mut state);
        drop(state);
        self.finish(then);
    }

    fn join_or_take_off(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        now: Moment,
        rejected: Option<Box<AccessToken>>,
    ) -> Result<Boarding, TokenError> {
        if Handle::try_current().is_err() {
            return Err(TokenError::permanent(FlightError::NoRuntime));
        }
        if let Life::Closed { .. } = state.life {
            return Err(TokenError::permanent(FlightError::Closed));
        }
        let patience = self.patience();
        if let Some(flight) = state
            .flight
            .as_ref()
            .filter(|flight| now.mono.saturating_duration_since(flight.took_off) <= patience)
        {
            return Ok(Boarding::Flight(flight.seat()));
        }
        if let Some(failing) = state.backoff.pausing(now.mono) {
            return Err(failing.error.clone());
        }
        let (landing, outcome) = watch::channel(None);
        let id = state.next_task();
        state.flight = Some(Flight {
            id,
            took_off: now.mono,
            rejected: rejected.clone(),
            outcome: outcome.clone(),
            task: None,
        });
        let held = state.usable(now).map(|token| token.token.clone());
        self.tell(&state);
        drop(state);
        self.take_off(id, landing, Wish { rejected, held });
        Ok(Boarding::Flight(Seat {
            flight: id,
            took_off: now.mono,
            outcome,
        }))
    }

    /// A source that calls through the layer it serves would wait for itself.
    pub(super) fn check_not_in_flight(self: &Arc<Self>) -> Result<(), TokenError> {
        if flight::is_aboard(self.id()) {
            return Err(TokenError::permanent(FlightError::Recursive));
        }
        Ok(())
    }
}
