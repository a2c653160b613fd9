//! One's turn: the lease is held, and the next token is fetched for all.

use std::{
    future::{Future, pending, poll_fn},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use tokio::{
    runtime::Handle,
    time::{error::Elapsed, sleep, timeout},
};

use super::{
    super::{
        Demand, TokenError, TokenSource,
        budget::{LAST_SECOND, purse},
        entrusted::Entrusted,
        token_store::{Lease, Record, StoreError, Written},
    },
    Lost, Shared,
    error::SharedError,
    kept::{KeptToken, Refresh},
    memory::Unsaved,
    place::Place,
    there::There,
};
use crate::{clock::Moment, token::AccessToken};

/// Longer than the longest call of a source.
const LONGEST_TURN: Duration = Duration::from_secs(6 * 60);
/// After a store couldn't be reached.
const SOON: Duration = Duration::from_millis(100);
const BETWEEN_WRITES: Duration = Duration::from_millis(100);

impl<S: TokenSource> Shared<S> {
    /// Fetches the next token, on a task of its own: a caller that goes away must not cost what the
    /// server has handed out. `None` if somebody else's turn has come meanwhile.
    pub(super) async fn take_turn(
        &self,
        place: &Place,
        lease: Lease,
        leased: Moment,
        demand: Demand<'_>,
    ) -> Result<Option<AccessToken>, TokenError> {
        let runtime =
            Handle::try_current().map_err(|_| TokenError::permanent(SharedError::NoRuntime))?;
        let turn = Turn {
            shared: self.clone(),
            place: place.clone(),
            lease,
            leased: Mutex::new(leased),
            rejected: demand.rejected().cloned(),
            held: demand.held().cloned(),
        };
        match runtime.spawn(purse::carried(turn.run())).await {
            Ok(outcome) => outcome,
            Err(ended) if ended.is_panic() => {
                Err(TokenError::transient(SharedError::SourcePanicked))
            }
            Err(_) => Err(TokenError::transient(SharedError::Lost)),
        }
    }
}

pub(super) struct Turn<S> {
    pub(super) shared: Shared<S>,
    pub(super) place: Place,
    pub(super) lease: Lease,
    /// When it was granted or prolonged last, at the earliest.
    leased: Mutex<Moment>,
    rejected: Option<AccessToken>,
    held: Option<AccessToken>,
}

/// How a turn may end before anything was asked for.
pub(super) enum Stop {
    /// Somebody else's turn has come.
    Overtaken,
    Failed(TokenError),
}

impl<S: TokenSource> Turn<S> {
    async fn run(self) -> Result<Option<AccessToken>, TokenError> {
        let outcome = beside(self.fetch(), self.prolong()).await;
        // Nobody waits for it, and where it fails, the lease ends by itself.
        let (store, key) = (Arc::clone(&self.shared.store), self.place.key);
        tokio::spawn(async move { store.release(&key, &self.lease).await });
        match outcome {
            Ok(token) => Ok(Some(token)),
            Err(Stop::Overtaken) => Ok(None),
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    /// Keeps the lease for as long as the fetch takes, but not for good: a store may hang. A lease that
    /// is lost is found out by the next write. Never ends.
    async fn prolong(&self) {
        let time = self.shared.settings.lease;
        let third = time.checked_div(3).unwrap_or(time);
        let prolonging = async {
            let mut pause = third;
            loop {
                sleep(pause).await;
                // A store that is away for less than the rest of the lease costs no lease.
                pause = if self.renew().await.is_err() {
                    third.min(SOON)
                } else {
                    third
                };
            }
        };
        let _: Result<(), Elapsed> = timeout(LONGEST_TURN, prolonging).await;
        pending().await
    }

    /// Whether the lease is still ours, and now goes on for its full time.
    async fn renew(&self) -> Result<bool, StoreError> {
        let asked = self.shared.settings.clock.now();
        let Shared {
            store, settings, ..
        } = &self.shared;
        let renewed = store.renew(&self.place.key, &self.lease, settings.lease);
        let is_ours = renewed.await?;
        if is_ours {
            *self.leased() = asked;
        }
        Ok(is_ours)
    }

    /// Whether the lease goes on for a while yet; it may have run out while a store took its time.
    pub(super) async fn is_still_ours(&self) -> Result<bool, StoreError> {
        let half = self
            .shared
            .settings
            .lease
            .checked_div(2)
            .unwrap_or_default();
        let until = self.leased().after(half);
        if until.passed(self.shared.settings.clock.now()) {
            self.renew().await
        } else {
            Ok(true)
        }
    }

    fn leased(&self) -> MutexGuard<'_, Moment> {
        self.leased.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fetch(&self) -> Result<AccessToken, Stop> {
        // Somebody may have fetched it between the first look and the lease.
        let there = self.shared.look(&self.place).await?;
        let demand = self.demand();
        let now = self.now();
        if let Some(token) = there.fitting(&self.place, demand, now) {
            return Ok(token);
        }
        match &self.place.login {
            Some(login) => self.redeem(there, login).await,
            None => self.ask(there).await,
        }
    }

    pub(super) fn now(&self) -> Moment {
        self.shared.settings.clock.now()
    }

    pub(super) fn demand(&self) -> Demand<'_> {
        Demand::instead_of(self.rejected.as_ref()).while_held(self.held.as_ref())
    }

    /// For a source that can always be asked again.
    pub(super) async fn ask(&self, there: There) -> Result<AccessToken, Stop> {
        let kept = match &there.kept.refresh {
            Refresh::Ready(refresh_token) => Some(refresh_token.clone()),
            _ => None,
        };
        let entrusted = Entrusted::with(kept);
        let asked = self.now();
        let asking = self.shared.ask(&self.place, self.demand(), &entrusted);
        let token = match asking.await {
            Ok(token) => token,
            Err(error) => return self.last_second(&there, error).map_err(Stop::Failed),
        };
        let refresh_token = entrusted.brought();
        let kept = self.kept(token, asked);
        let unsaved = Unsaved::Token {
            token: kept.clone(),
            refresh_token: refresh_token.clone(),
        };
        let mut there = there.with(kept.clone());
        if let Some(refresh_token) = refresh_token {
            there.kept.refresh = Refresh::Ready(refresh_token);
        }
        // A caller waits for the token, and it can be written later.
        let once = Effort {
            fence: Some(self.lease.fence()),
            attempts: 1,
        };
        let record = there.next_record();
        match self.write(&there, &record, unsaved, once).await {
            Ok(true) => Ok(kept.as_of(self.now())),
            // Too slow. What all others have counts more than what nobody else knows.
            Ok(false) => {
                let theirs = self.shared.look(&self.place).await.ok();
                let now = self.now();
                let theirs =
                    theirs.and_then(|theirs| theirs.fitting(&self.place, self.demand(), now));
                Ok(theirs.unwrap_or_else(|| kept.as_of(now)))
            }
            // The server has counted it, and nothing is gained by throwing it away.
            Err(_) => {
                self.shared.look_after(&self.place);
                Ok(kept.as_of(self.now()))
            }
        }
    }

    /// A token that was asked for then, as it is kept.
    pub(super) fn kept(&self, token: AccessToken, asked: Moment) -> KeptToken {
        self.shared.memory.fetched(&self.place, token, asked)
    }

    /// Where the budget is spent, the token at hand is used to its end.
    pub(super) fn last_second(
        &self,
        there: &There,
        error: TokenError,
    ) -> Result<AccessToken, TokenError> {
        if !error.is_budget_spent() {
            return Err(error);
        }
        let now = self.now();
        let kept = there.kept.token(self.place.tag);
        kept.and_then(|kept| kept.left(now, LAST_SECOND))
            .filter(|token| self.rejected.as_ref() != Some(token))
            .ok_or(error)
    }

    /// Writes `record` over what was found `there`, and tries a few times. Until that is done, it is
    /// `unsaved`. `false` if another one stands instead.
    pub(super) async fn write(
        &self,
        there: &There,
        record: &Record,
        unsaved: Unsaved,
        Effort { fence, attempts }: Effort,
    ) -> Result<bool, StoreError> {
        let Shared { store, memory, .. } = &self.shared;
        let (key, expected) = (&self.place.key, there.generation());
        let ticket = memory.set_unsaved(key, unsaved);
        let mut attempt = 0_u32;
        loop {
            attempt = attempt.saturating_add(1);
            match store.compare_and_set(key, expected, record, fence).await {
                Ok(Written::Done) => {
                    memory.saw(key, Some(record));
                    memory.settle(key, ticket);
                    return Ok(true);
                }
                // It may be this very record, if an answer got lost; or the store has forgotten what
                // was there, and gets both.
                Ok(Written::Changed) => {
                    return match self.shared.look(&self.place).await {
                        Ok(there) => Ok(there.is(record)),
                        Err(Lost::Store(error)) => Err(error),
                        Err(Lost::Unreadable(_)) => Ok(false),
                    };
                }
                Ok(Written::Fenced) => {
                    memory.settle(key, ticket);
                    return Ok(false);
                }
                Err(error) if error.is_transient() && attempt < attempts => {
                    sleep(BETWEEN_WRITES.saturating_mul(attempt)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// How something is written.
pub(super) struct Effort {
    pub(super) fence: Option<u64>,
    pub(super) attempts: u32,
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<Lost> for Stop {
    fn from(lost: Lost) -> Self {
        Self::Failed(match lost {
            Lost::Store(error) => error.into(),
            Lost::Unreadable(error) => error,
        })
    }
}

/// Runs `work` to its end, and `other` beside it.
async fn beside<T>(work: impl Future<Output = T>, other: impl Future<Output = ()>) -> T {
    let mut work = pin!(work);
    let mut other = pin!(other);
    poll_fn(|cx| {
        if let Poll::Ready(outcome) = work.as_mut().poll(cx) {
            return Poll::Ready(outcome);
        }
        let _ = other.as_mut().poll(cx);
        Poll::Pending
    })
    .await
}
