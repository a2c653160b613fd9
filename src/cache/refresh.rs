//! One flight at a time: whatever asks for a token (nothing at hand, due, expired, refused,
//! forced) boards the flight that is under way, or starts it.
//!
//! The flight is a task of its own, so a caller that goes away cancels nothing. All that changes
//! the cache happens here, under one lock that is never held across an `.await` and never taken by
//! a request that has a token. Tasks are started and stopped outside the lock: a runtime that is
//! being shut down drops a task at once, and a task's last act takes the lock.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::{
    runtime::Handle,
    sync::watch,
    task::AbortHandle,
    time::{error::Elapsed, timeout_at},
};

use super::{
    CacheState,
    flight::{self, FlightError},
    keeper,
    snapshot::{Generation, Policy, Snapshot, Times},
    state::{Flight, Keeper, Outcome, Seat, State},
};
use crate::{
    clock::{Clock, Deadline, Moment},
    metrics,
    source::{ErasedSource, TokenError},
    token::AccessToken,
};

/// How much longer than its deadline a flight is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// What all clones of a cache share.
pub(super) struct Shared {
    /// What every request reads. Stored only under the lock. What is here can be sent.
    pub(super) current: ArcSwapOption<Snapshot>,
    state: Mutex<State>,
    /// Whether an acceptance would be news; spares accepted requests the lock. A hint: `Relaxed`.
    in_doubt: AtomicBool,
    source: Arc<dyn ErasedSource>,
    policy: Policy,
    clock: Clock,
    watched: watch::Sender<CacheState>,
}

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

/// What is left to do once the lock is released.
#[must_use]
enum Then {
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
    pub(super) fn new(source: Arc<dyn ErasedSource>, policy: Policy, clock: Clock) -> Self {
        Self {
            current: ArcSwapOption::empty(),
            state: Mutex::default(),
            in_doubt: AtomicBool::new(false),
            source,
            policy,
            clock,
            watched: watch::Sender::new(CacheState::Empty),
        }
    }

    /// The guards of a receiver must not get to callers: one that is held across a call of the
    /// cache would make that call wait for itself.
    pub(super) fn watch(&self) -> watch::Receiver<CacheState> {
        self.watched.subscribe()
    }

    pub(super) fn now(&self) -> Moment {
        self.clock.now()
    }

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
        self.join_or_take_off(state, now)
    }

    /// A reader found its token due: renews it in the background. The reader has a token, so an
    /// error is not for it; the next one tries again.
    pub(super) fn renew(self: &Arc<Self>, token: &Snapshot) {
        let now = self.clock.now();
        let boarding = self.check_not_in_flight().and_then(|()| {
            let state = self.lock();
            if token.generation == state.newest {
                self.join_or_take_off(state, now).map(drop)
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
        let boarding = self
            .check_not_in_flight()
            .and_then(|()| self.join_or_take_off(state, now));
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
    pub(super) fn accepted(&self, generation: Generation) {
        if self.in_doubt.load(Ordering::Relaxed) {
            let mut state = self.lock();
            if state.holds(generation) {
                state.doubt.accepted();
                self.note_doubt(&state);
            }
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

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under the lock leaves it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join_or_take_off(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        now: Moment,
    ) -> Result<Boarding, TokenError> {
        if Handle::try_current().is_err() {
            return Err(TokenError::permanent(FlightError::NoRuntime));
        }
        let patience = self.patience();
        if let Some(flight) = state
            .flight
            .as_ref()
            .filter(|flight| now.mono.saturating_duration_since(flight.took_off) <= patience)
        {
            return Ok(Boarding::Flight(Seat {
                flight: flight.id,
                took_off: flight.took_off,
                outcome: flight.outcome.clone(),
            }));
        }
        if let Some(failing) = state.backoff.pausing(now.mono) {
            return Err(failing.error.clone());
        }
        let (landing, outcome) = watch::channel(None);
        let id = state.next_task();
        let rejected = state.rejected.clone();
        state.flight = Some(Flight {
            id,
            took_off: now.mono,
            rejected: rejected.clone(),
            outcome: outcome.clone(),
            task: None,
        });
        self.tell(&state);
        drop(state);
        self.take_off(id, landing, rejected);
        Ok(Boarding::Flight(Seat {
            flight: id,
            took_off: now.mono,
            outcome,
        }))
    }

    fn take_off(
        self: &Arc<Self>,
        id: u64,
        landing: watch::Sender<Option<Outcome>>,
        rejected: Option<AccessToken>,
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
            rejected,
            self.policy.deadline,
            self.clock.clone(),
            on_end,
        );
        if let Some(flight) = self.lock().flight_numbered(id) {
            flight.task = task;
        }
    }

    /// Takes the token out of the cache.
    fn withdraw(&self, state: &mut State) -> Then {
        if let Some(token) = state.held.take() {
            state.rejected = Some(token.token.clone());
        }
        self.current.store(None);
        let keeper = state.keeper.take();
        self.tell(state);
        Then::Relieve(keeper)
    }

    /// A token without a keeper isn't published: its keeper died with its runtime.
    fn publish_if_unkept(&self, state: &mut State, token: &Arc<Snapshot>, now: Moment) -> Then {
        if state.keeper.is_some() || token.times.is_none() {
            return Then::Nothing;
        }
        self.publish(state, token, now)
    }

    fn publish(&self, state: &mut State, token: &Arc<Snapshot>, now: Moment) -> Then {
        self.current.store(Some(Arc::clone(token)));
        let Some(times) = token.times else {
            return Then::Relieve(state.keeper.take());
        };
        let due = match state.backoff.pausing(now.mono) {
            Some(failing) => now.after(failing.retry_at.saturating_duration_since(now.mono)),
            None => times.due,
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

    fn note_doubt(&self, state: &State) {
        self.in_doubt
            .store(state.doubt.awaits_acceptance(), Ordering::Relaxed);
    }

    fn tell(&self, state: &State) {
        let now_is = state.describe();
        self.watched.send_if_modified(|told| {
            let news = !told.is_like(&now_is);
            *told = now_is;
            news
        });
    }

    /// Starts and stops tasks, with the lock released.
    fn finish(self: &Arc<Self>, then: Then) {
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
        if let (Ok(token), Some(rejected)) = (&result, &state.rejected) {
            // The token was refused while this flight was in the air, whose source was not told.
            if token == rejected && flight.rejected.as_ref() != Some(rejected) {
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
            .map(|lifetime| self.policy.times(lifetime, asked));
        if times.is_some_and(|times| times.gone.passed(now)) {
            return Err(TokenError::transient(FlightError::ArrivedExpired {
                lifetime: token.lifetime().unwrap_or_default(),
            }));
        }
        state.newest = state.newest.next();
        Ok(Arc::new(Snapshot::new(token, state.newest, times)))
    }

    /// The flight was lost: its runtime was shut down, or stands still.
    fn lost(&self, id: u64) {
        let mut state = self.lock();
        if state.close_flight(id).is_some() {
            if let Some(token) = &state.held {
                token.mark_due();
            }
            self.tell(&state);
        }
    }

    /// A source that calls through the layer it serves would wait for itself.
    fn check_not_in_flight(self: &Arc<Self>) -> Result<(), TokenError> {
        if flight::is_aboard(self.id()) {
            return Err(TokenError::permanent(FlightError::Recursive));
        }
        Ok(())
    }

    fn id(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self).addr()
    }
}

impl Drop for Shared {
    /// Leaves no task behind.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        abort(state.keeper.take().and_then(|keeper| keeper.task));
        abort(state.flight.take().and_then(|flight| flight.task));
    }
}

fn abort(task: Option<AbortHandle>) {
    if let Some(task) = task {
        task.abort();
    }
}
