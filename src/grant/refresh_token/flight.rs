//! One flight at a time: a redemption or a revocation, as a task of its own.
//!
//! Only a flight reads what is held in order to send it, so no refresh token is sent by two. What
//! it learns it writes down before it does anything else. So wherever it ends, even with its
//! runtime, the next one can go on from there.

use std::{
    collections::VecDeque,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::watch,
    task::AbortHandle,
    time::{Instant, timeout_at},
};

use super::{
    super::wanted::Wanted,
    error::FlightError,
    holding::{Granted, Holding},
    rotation::{HOOK_LIMIT, Hook},
};
use crate::{
    clock::Clock,
    endpoint::TokenEndpoint,
    secret::{Secret, SecretString},
    source::{Login, Panicked, TokenError, caught, purse},
    token::AccessToken,
};

/// How many flights one caller boards, if each is lost with its runtime.
const MOST_FLIGHTS: usize = 3;

/// For an endpoint without a time limit: near enough that adding it to a clock is safe.
const LONGEST_PATIENCE: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// How far a provider may lag behind the rotations.
const MOST_KNOWN: usize = 64;

/// What all clones of a source share.
pub(super) struct Shared {
    pub(super) endpoint: TokenEndpoint,
    /// Where the first refresh token comes from, and another after an `invalid_grant`; after a
    /// login, nowhere.
    pub(super) first: Option<Secret>,
    pub(super) clock: Clock,
    state: Mutex<State>,
}

struct State {
    holding: Holding,
    /// The hashes of the latest refresh tokens that were sent, or that `first` said: they are
    /// spent, or refused, or in use.
    known: VecDeque<[u8; 32]>,
    hook: Option<Hook>,
    tolerates_replay: bool,
    flight: Option<Flight>,
    flights: u64,
}

struct Flight {
    id: u64,
    /// After this it is given up: its runtime stands still.
    overdue: Instant,
    errand: Errand,
    landing: Landing,
    task: Option<AbortHandle>,
}

/// What a flight is for.
enum Errand {
    /// An access token, as it is wanted.
    Redeem(Wanted),
    /// To give back what is known.
    Revoke,
}

impl Errand {
    /// Whether who comes with this errand is served by the outcome of the other one.
    fn is_like(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Redeem(a), Self::Redeem(b)) if a.is_like(b))
    }
}

/// How a flight ended.
#[derive(Clone)]
enum Outcome {
    Granted(Granted),
    Revoked,
    Failed(TokenError),
}

type Landing = watch::Receiver<Option<Outcome>>;

/// What a caller gets who comes to board.
enum Seat {
    /// On a flight that was started for it.
    Own(Landing, Instant),
    /// On one that asks for the same.
    Joined(Landing, Instant),
    /// On none, until this one has ended.
    Behind(Landing, Instant),
}

impl Shared {
    pub(super) fn new(endpoint: TokenEndpoint, first: Option<Secret>, holding: Holding) -> Self {
        Self {
            endpoint,
            first,
            clock: Clock::default(),
            state: Mutex::new(State {
                holding,
                known: VecDeque::new(),
                hook: None,
                tolerates_replay: false,
                flight: None,
                flights: 0,
            }),
        }
    }

    pub(super) fn set_hook(&self, hook: Hook) {
        self.lock().hook = Some(hook);
    }

    pub(super) fn hook(&self) -> Option<Hook> {
        self.lock().hook.clone()
    }

    pub(super) fn set_tolerates_replay(&self) {
        self.lock().tolerates_replay = true;
    }

    /// What this source begins with, for where it is shared.
    pub(super) fn login(&self) -> Login {
        let state = self.lock();
        let (tolerates_replay, seed_wanders) = (state.tolerates_replay, state.hook.is_some());
        let held = match &state.holding {
            Holding::Pending(pair) => Some(pair.refresh_token.clone()),
            Holding::Unasked | Holding::AccessOnly(_) | Holding::Revoked(_) => None,
            Holding::Ready(refresh_token)
            | Holding::Unpaired(refresh_token)
            | Holding::Refused(refresh_token) => Some(refresh_token.clone()),
        };
        drop(state);
        let seed = match &self.first {
            Some(first) => first
                .reveal()
                .map(|first| Some(first).filter(|first| !first.is_empty()))
                .map_err(|cause| TokenError::transient(FlightError::NoProvision(cause))),
            None => Ok(held),
        };
        Login {
            seed,
            tolerates_replay,
            seed_wanders,
        }
    }

    pub(super) async fn token(
        self: &Arc<Self>,
        wanted: &Wanted,
        rejected: Option<&AccessToken>,
    ) -> Result<AccessToken, TokenError> {
        let called = self.clock.now();
        wanted.with(&[])?; // What is invalid is told at once.
        let mut lost = 0;
        let mut waited = false;
        while lost < MOST_FLIGHTS {
            let redemption = |id| {
                let (shared, wanted) = (Arc::clone(self), wanted.clone());
                let rejected = rejected.cloned();
                async move {
                    let redeemed = shared.redeem(id, &wanted, rejected.as_ref()).await;
                    redeemed.map_or_else(Outcome::Failed, Outcome::Granted)
                }
            };
            let errand = Errand::Redeem(wanted.clone());
            let (outcome, joined) = match self.board(errand, redemption)? {
                Seat::Own(landing, overdue) => (arrival(landing, overdue).await, false),
                Seat::Joined(landing, overdue) => (arrival(landing, overdue).await, true),
                Seat::Behind(landing, overdue) => {
                    arrival(landing, overdue).await;
                    continue;
                }
            };
            match outcome {
                Some(Outcome::Granted(granted)) => {
                    // The flight that was under way didn't know of the refusal. One that began
                    // after this call has asked anew.
                    if joined && !waited && rejected == Some(&granted.token) {
                        waited = true;
                        continue;
                    }
                    return Ok(granted.for_one_who_asked(called));
                }
                Some(Outcome::Failed(error)) => return Err(error),
                // Nobody boards a revocation for a token.
                Some(Outcome::Revoked) | None => lost = lost.saturating_add(1),
            }
        }
        Err(TokenError::transient(FlightError::Lost))
    }

    pub(super) async fn revoke(
        self: &Arc<Self>,
        held: Option<&AccessToken>,
    ) -> Result<(), TokenError> {
        let mut lost = 0;
        while lost < MOST_FLIGHTS {
            let revocation = |id| {
                let (shared, held) = (Arc::clone(self), held.cloned());
                async move {
                    let revoked = shared.give_back(id, held).await;
                    revoked.map_or_else(Outcome::Failed, |()| Outcome::Revoked)
                }
            };
            match self.board(Errand::Revoke, revocation)? {
                Seat::Own(landing, overdue) => match arrival(landing, overdue).await {
                    Some(Outcome::Revoked) => return Ok(()),
                    Some(Outcome::Failed(error)) => return Err(error),
                    // Nor is a token granted to a revocation.
                    Some(Outcome::Granted(_)) | None => lost = lost.saturating_add(1),
                },
                Seat::Joined(landing, overdue) | Seat::Behind(landing, overdue) => {
                    arrival(landing, overdue).await;
                }
            }
        }
        Err(TokenError::transient(FlightError::Lost))
    }

    fn board<F>(
        self: &Arc<Self>,
        errand: Errand,
        work: impl FnOnce(u64) -> F,
    ) -> Result<Seat, TokenError>
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let runtime =
            Handle::try_current().map_err(|_| TokenError::permanent(FlightError::NoRuntime))?;
        let now = self.clock.now().mono;
        let mut state = self.lock();
        if let Some(flight) = state.flight.as_ref().filter(|flight| now < flight.overdue) {
            let (landing, overdue) = (flight.landing.clone(), flight.overdue);
            return Ok(if flight.errand.is_like(&errand) {
                Seat::Joined(landing, overdue)
            } else {
                Seat::Behind(landing, overdue)
            });
        }
        let (landed, landing) = watch::channel(None);
        state.flights = state.flights.wrapping_add(1);
        let id = state.flights;
        let overdue = now.checked_add(self.patience()).unwrap_or(now);
        let stranded = state.flight.replace(Flight {
            id,
            overdue,
            errand,
            landing: landing.clone(),
            task: None,
        });
        drop(state);
        // Its runtime may go on one day; it must not send then what this one has sent before.
        if let Some(task) = stranded.and_then(|flight| flight.task) {
            task.abort();
        }
        let aloft = Aloft {
            shared: Arc::clone(self),
            id,
            landed,
        };
        let work = work(id);
        // Not under the lock: a runtime that is being shut down drops the task at once, and the
        // lock is taken then.
        let task = runtime.spawn(purse::carried(async move {
            let outcome = match caught(work).await {
                Ok(outcome) => outcome,
                Err(Panicked) => Outcome::Failed(TokenError::transient(FlightError::Panicked)),
            };
            aloft.land(outcome);
        }));
        if let Some(flight) = self.lock().flight_numbered(id) {
            flight.task = Some(task.abort_handle());
        }
        Ok(Seat::Own(landing, overdue))
    }

    /// How long after its start a flight is given up: longer than all that it may do takes, which
    /// is two token requests or three revocations, and two hooks.
    fn patience(&self) -> Duration {
        let requests = self.endpoint.timeout().saturating_mul(3);
        let hooks = HOOK_LIMIT.saturating_mul(2);
        let all = requests.saturating_add(hooks).saturating_add(HOOK_LIMIT);
        all.min(LONGEST_PATIENCE)
    }

    /// What there is for flight `id`; nothing any more for one that was given up.
    pub(super) fn held(&self, id: u64) -> Result<Holding, TokenError> {
        let mut state = self.lock();
        match state.flight_numbered(id) {
            Some(_) => Ok(state.holding.clone()),
            None => Err(TokenError::transient(FlightError::Lost)),
        }
    }

    /// What flight `id` learned; a flight that was given up learns nothing.
    pub(super) fn hold(&self, id: u64, holding: Holding) {
        let mut state = self.lock();
        if state.flight_numbered(id).is_some() {
            state.holding = holding;
        }
    }

    /// Whether this refresh token wasn't known yet; from now on it is.
    pub(super) fn is_news(&self, refresh_token: &SecretString) -> bool {
        let hash = hmac_sha256::Hash::hash(refresh_token.as_bytes());
        let mut state = self.lock();
        if state.known.contains(&hash) {
            return false;
        }
        if state.known.len() >= MOST_KNOWN {
            state.known.pop_front();
        }
        state.known.push_back(hash);
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under the lock leaves it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn flight_numbered(&mut self, id: u64) -> Option<&mut Flight> {
        self.flight.as_mut().filter(|flight| flight.id == id)
    }
}

/// A flight's own end of it: makes way for the next however the flight ends.
struct Aloft {
    shared: Arc<Shared>,
    id: u64,
    landed: watch::Sender<Option<Outcome>>,
}

impl Aloft {
    fn land(self, outcome: Outcome) {
        self.make_way();
        self.landed.send_replace(Some(outcome));
    }

    fn make_way(&self) {
        self.shared
            .lock()
            .flight
            .take_if(|flight| flight.id == self.id);
    }
}

impl Drop for Aloft {
    fn drop(&mut self) {
        self.make_way();
    }
}

/// Waits for a flight's end; `None` if it was lost with its runtime, or that one stands still.
async fn arrival(mut landing: Landing, overdue: Instant) -> Option<Outcome> {
    let landed = timeout_at(overdue, landing.wait_for(Option::is_some)).await;
    landed.ok()?.ok()?.clone()
}
