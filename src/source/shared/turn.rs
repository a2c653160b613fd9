//! One's turn: the lease is held, and the next token is fetched for all.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::{Duration, SystemTime},
};

use tokio::{runtime::Handle, time::sleep};

use super::{
    super::{
        BudgetSpent, Demand, TokenError, TokenSource,
        budget::purse,
        entrusted::Entrusted,
        identity::Login,
        token_store::{Lease, Record, StoreError, Written},
    },
    Lost, Shared,
    error::{PossiblyRotated, SharedError},
    kept::{KeptToken, Refresh},
    memory::Unsaved,
    place::Place,
    there::There,
};
use crate::{secret::SecretString, token::AccessToken};

/// How often an outcome is written before it is left to be written back.
const MOST_WRITES: u32 = 5;
const BETWEEN_WRITES: Duration = Duration::from_millis(100);

/// A token that is used to its last second still has one.
const LAST_SECOND: Duration = Duration::from_secs(1);

impl<S: TokenSource> Shared<S> {
    /// Fetches the next token, on a task of its own: a caller that goes away must not cost what the
    /// server has handed out. `None` if somebody else's turn has come meanwhile.
    pub(super) async fn take_turn(
        &self,
        place: &Place,
        lease: Lease,
        demand: Demand<'_>,
    ) -> Result<Option<AccessToken>, TokenError> {
        let runtime =
            Handle::try_current().map_err(|_| TokenError::permanent(SharedError::NoRuntime))?;
        let turn = Turn {
            shared: self.clone(),
            place: place.clone(),
            lease,
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

struct Turn<S> {
    shared: Shared<S>,
    place: Place,
    lease: Lease,
    rejected: Option<AccessToken>,
    held: Option<AccessToken>,
}

/// How a turn may end before anything was asked for.
enum Stop {
    /// Somebody else's turn has come.
    Overtaken,
    Failed(TokenError),
}

impl<S: TokenSource> Turn<S> {
    async fn run(self) -> Result<Option<AccessToken>, TokenError> {
        let outcome = beside(self.fetch(), self.prolong()).await;
        // Where that fails, the lease ends by itself.
        let released = self.shared.store.release(&self.place.key, &self.lease);
        let _ = released.await;
        match outcome {
            Ok(token) => Ok(Some(token)),
            Err(Stop::Overtaken) => Ok(None),
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    /// Keeps the lease for as long as the fetch takes. Never ends; a lease that is lost is found out by
    /// the next write.
    async fn prolong(&self) {
        let time = self.shared.settings.lease;
        let third = time.checked_div(3).unwrap_or(time);
        loop {
            sleep(third).await;
            let renewed = self.shared.store.renew(&self.place.key, &self.lease, time);
            let _ = renewed.await;
        }
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

    fn now(&self) -> SystemTime {
        self.shared.settings.clock.now().wall
    }

    fn demand(&self) -> Demand<'_> {
        Demand::instead_of(self.rejected.as_ref()).while_held(self.held.as_ref())
    }

    /// For a source that can always be asked again.
    async fn ask(&self, there: There) -> Result<AccessToken, Stop> {
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
        let kept = KeptToken {
            tag: self.place.tag,
            token,
            asked,
        };
        let unsaved = Unsaved::Token {
            token: kept.clone(),
            refresh_token: refresh_token.clone(),
        };
        let mut there = there.with(kept.clone());
        if let Some(refresh_token) = refresh_token {
            there.kept.refresh = Refresh::Ready(refresh_token);
        }
        let fence = Some(self.lease.fence());
        match self
            .write(&there, &there.next_record(), unsaved, fence)
            .await
        {
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

    /// Where the budget is spent, the token at hand is used to its end.
    fn last_second(&self, there: &There, error: TokenError) -> Result<AccessToken, TokenError> {
        if !error.get_ref().is::<BudgetSpent>() {
            return Err(error);
        }
        let now = self.now();
        let kept = there.kept.token(self.place.tag);
        kept.and_then(|kept| kept.left(now, LAST_SECOND))
            .filter(|token| self.rejected.as_ref() != Some(token))
            .ok_or(error)
    }

    /// For a source that redeems a refresh token: each is sent once.
    async fn redeem(&self, mut there: There, login: &Login) -> Result<AccessToken, Stop> {
        let before = there.kept.refresh.clone();
        let Some(refresh_token) = self.next(&mut there, login)? else {
            // The source says why there is none.
            return self.ask(there).await;
        };
        let since = self.now();
        let mut there = self.note(there, &refresh_token, since).await?;
        let entrusted = Entrusted::with(Some(refresh_token.clone()));
        let asking = self.shared.ask(&self.place, self.demand(), &entrusted);
        let outcome = asking.await;
        let stays = outcome.is_ok() || login.tolerates_replay;
        let next = entrusted.brought().or(stays.then_some(refresh_token));
        there.kept.refresh = match (next, &outcome) {
            (Some(next), _) => {
                if self.place.has_name {
                    there.kept.remember_rotated(&next);
                }
                Refresh::Ready(next)
            }
            // A new login that is none takes the place of nothing.
            (None, _) if entrusted.is_untouched() => before,
            // The intent stays: nobody must send this one again.
            (None, cause) => {
                let cause = cause.as_ref().err().cloned();
                let possibly = PossiblyRotated { since, cause };
                return Err(Stop::Failed(TokenError::permanent(possibly)));
            }
        };
        let outcome = outcome.map(|token| KeptToken {
            tag: self.place.tag,
            token,
            asked: since,
        });
        if let Ok(kept) = &outcome {
            there = there.with(kept.clone());
        }
        self.conclude(&there).await?;
        match outcome {
            Ok(kept) => Ok(kept.as_of(self.now())),
            Err(error) => self.last_second(&there, error).map_err(Stop::Failed),
        }
    }

    /// The refresh token to send. A new login counts more than what the record says.
    fn next(&self, there: &mut There, login: &Login) -> Result<Option<SecretString>, Stop> {
        let kept = &mut there.kept;
        let seed = login.seed.as_ref().ok().and_then(Option::as_ref);
        let is_new = |seed: &&SecretString| {
            let is_current = matches!(&kept.refresh, Refresh::Ready(kept) if **kept == ***seed);
            kept.is_news(seed) && !is_current
        };
        if self.place.has_name
            && let Some(seed) = seed.filter(is_new)
        {
            kept.remember_seed(seed);
            return Ok(Some(seed.clone()));
        }
        match &kept.refresh {
            Refresh::Ready(refresh_token) => Ok(Some(refresh_token.clone())),
            Refresh::None => match &login.seed {
                Ok(seed) => Ok(seed.clone()),
                Err(error) => Err(Stop::Failed(error.clone())),
            },
            Refresh::Redeeming { refresh_token, .. } if login.tolerates_replay => {
                Ok(Some(refresh_token.clone()))
            }
            Refresh::Redeeming { since, .. } => {
                let since = *since;
                let possibly = PossiblyRotated { since, cause: None };
                Err(Stop::Failed(TokenError::permanent(possibly)))
            }
        }
    }

    /// Writes down that this refresh token is about to be sent. Only whoever has the lease may, and
    /// without it nothing is sent.
    async fn note(
        &self,
        mut there: There,
        refresh_token: &SecretString,
        since: SystemTime,
    ) -> Result<There, Stop> {
        there.kept.refresh = Refresh::Redeeming {
            refresh_token: refresh_token.clone(),
            since,
            by: self.lease.owner().to_owned(),
        };
        let Shared { store, memory, .. } = &self.shared;
        let key = &self.place.key;
        let intent = there.next_record();
        let fence = Some(self.lease.fence());
        let written = store.compare_and_set(key, there.generation(), &intent, fence);
        match written.await {
            Ok(Written::Done) => {
                memory.saw(key, Some(&intent));
                Ok(there.after(&intent))
            }
            Ok(Written::Changed | Written::Fenced) => Err(Stop::Overtaken),
            Err(error) => {
                // It may stand there all the same, and nothing was sent: this takes it back.
                let mut undone = there.after(&intent);
                undone.kept.refresh = Refresh::Ready(refresh_token.clone());
                let record = undone.next_record();
                let unsaved = Unsaved::Outcome {
                    record,
                    over: intent,
                };
                memory.set_unsaved(key, Some(unsaved));
                self.shared.look_after(&self.place);
                Err(Stop::Failed(error.into()))
            }
        }
    }

    /// Writes what came of a redemption, over the intent and nothing else. The lease may be over by
    /// now: as long as the intent stands, nobody has sent anything since.
    async fn conclude(&self, there: &There) -> Result<(), Stop> {
        let Some(intent) = there.record() else {
            return Ok(()); // Nothing was redeemed without one.
        };
        let record = there.next_record();
        let unsaved = Unsaved::Outcome {
            record: record.clone(),
            over: intent.clone(),
        };
        match self.write(there, &record, unsaved, None).await {
            Ok(true) => Ok(()),
            // A new login has taken its place.
            Ok(false) => Err(Stop::Overtaken),
            Err(error) => {
                self.shared.look_after(&self.place);
                let unwritten = SharedError::Unwritten(error);
                Err(Stop::Failed(TokenError::transient(unwritten)))
            }
        }
    }

    /// Writes `record` over what was found `there`, and tries a few times. Until that is done, it is
    /// `unsaved`. `false` if another one stands instead.
    async fn write(
        &self,
        there: &There,
        record: &Record,
        unsaved: Unsaved,
        fence: Option<u64>,
    ) -> Result<bool, StoreError> {
        let Shared { store, memory, .. } = &self.shared;
        let (key, expected) = (&self.place.key, there.generation());
        memory.set_unsaved(key, Some(unsaved));
        let mut attempt = 0_u32;
        loop {
            attempt = attempt.saturating_add(1);
            match store.compare_and_set(key, expected, record, fence).await {
                Ok(Written::Done) => {
                    memory.saw(key, Some(record));
                    memory.set_unsaved(key, None);
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
                    memory.set_unsaved(key, None);
                    return Ok(false);
                }
                Err(error) if error.is_transient() && attempt < MOST_WRITES => {
                    sleep(BETWEEN_WRITES.saturating_mul(attempt)).await;
                }
                Err(error) => return Err(error),
            }
        }
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
