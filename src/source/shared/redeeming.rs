//! A turn for which a refresh token is sent: once, whatever happens.
//!
//! ```text
//! next ──▶ note the intent ──▶ ask the source ──▶ conclude: the outcome, over the intent
//! ```

use std::time::{Duration, SystemTime};

use tokio::time::timeout;

use super::{
    super::{
        StoreError, TokenError, TokenSource,
        entrusted::Entrusted,
        identity::Login,
        token_store::{Record, Written},
    },
    Shared,
    error::{PossiblyRotated, SharedError},
    kept::Refresh,
    memory::Unsaved,
    there::There,
    turn::{Effort, Stop, Turn},
};
use crate::{secret::SecretString, token::AccessToken};

/// How often an outcome is written, and for how long, before it is left to be written later.
const MOST_WRITES: u32 = 5;
const LONGEST_WRITE: Duration = Duration::from_secs(6);

impl<S: TokenSource> Turn<S> {
    pub(super) async fn redeem(&self, there: There, login: &Login) -> Result<AccessToken, Stop> {
        // Where the lease is over, it is somebody's who is alive, and says in a moment what came of it.
        if there.kept.is_redeeming() && !self.is_still_ours().await? {
            return Err(Stop::Overtaken);
        }
        let before = there.clone();
        let (there, next) = self.next(there, login)?;
        let Some(refresh_token) = next else {
            // The source says why there is none.
            return self.ask(there).await;
        };
        let (memory, key) = (&self.shared.memory, &self.place.key);
        let since = self.now().wall;
        // Whatever a store that forgets may say.
        if memory.was_sent(key, &refresh_token) && !login.tolerates_replay {
            return Err(possibly_rotated(since, None));
        }
        let mut there = self.note(there, &before, &refresh_token, since).await?;
        memory.send(key, &refresh_token);
        let entrusted = Entrusted::with(Some(refresh_token.clone()));
        // To write an intent takes time, which is none of the token's.
        let asked = self.now();
        let asking = self.shared.ask(&self.place, self.demand(), &entrusted);
        let outcome = asking.await;
        if let Some(new) = entrusted.brought() {
            if self.place.has_name {
                there.kept.remember_rotated(&new);
            }
            there.kept.refresh = Refresh::Ready(new);
        } else if outcome.is_err() && entrusted.is_untouched() {
            // All is as before: a new login that the server couldn't be asked about is still new, and
            // one that is none takes the place of nothing.
            there.kept = before.kept;
            if outcome.as_ref().is_err_and(TokenError::is_invalid_grant)
                && there.kept.is_news(&refresh_token)
            {
                there.kept.remember_seed(&refresh_token);
            }
            memory.is_whole(key, &refresh_token);
        } else if outcome.is_ok() || login.tolerates_replay {
            memory.is_whole(key, &refresh_token);
            there.kept.refresh = Refresh::Ready(refresh_token);
        } else {
            // The intent stays: nobody must send this one again.
            return Err(possibly_rotated(since, outcome.err()));
        }
        let outcome = outcome.map(|token| self.kept(token, asked));
        if let Ok(kept) = &outcome {
            there = there.with(kept.clone());
        }
        self.conclude(&there).await?;
        if let Some(afterwards) = entrusted.afterwards() {
            afterwards.await.map_err(Stop::Failed)?;
        }
        match outcome {
            Ok(kept) => Ok(kept.as_of(self.now())),
            Err(error) => self.last_second(&there, error).map_err(Stop::Failed),
        }
    }

    /// The refresh token to send. A new login counts more than what the record says.
    fn next(&self, mut there: There, login: &Login) -> Result<(There, Option<SecretString>), Stop> {
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
            return Ok((there, Some(seed.clone())));
        }
        let next = match &kept.refresh {
            Refresh::Ready(refresh_token) => Some(refresh_token.clone()),
            Refresh::None => login.seed.clone().map_err(Stop::Failed)?,
            Refresh::Redeeming { refresh_token, .. } if login.tolerates_replay => {
                Some(refresh_token.clone())
            }
            Refresh::Redeeming { since, .. } => return Err(possibly_rotated(*since, None)),
        };
        Ok((there, next))
    }

    /// Writes down that this refresh token is about to be sent. Only whoever has the lease may, and
    /// without it nothing is sent.
    async fn note(
        &self,
        mut there: There,
        before: &There,
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
            Ok(Written::Done) => memory.saw(key, Some(&intent)),
            Ok(Written::Changed | Written::Fenced) => return Err(Stop::Overtaken),
            // It may stand there all the same, now or later.
            Err(error) => return Err(self.take_back(intent, before, error.into())),
        }
        // Where the lease is over, others take the intent for a dead process's.
        match self.is_still_ours().await {
            Ok(true) => Ok(there.after(&intent)),
            Ok(false) => Err(self.take_back(intent, before, Stop::Overtaken)),
            Err(error) => Err(self.take_back(intent, before, error.into())),
        }
    }

    /// Nothing was sent for this intent.
    fn take_back(&self, intent: Record, before: &There, stop: Stop) -> Stop {
        let before = before.clone();
        let undone = Unsaved::Undone { intent, before };
        self.shared.memory.set_unsaved(&self.place.key, undone);
        self.shared.look_after(&self.place);
        stop
    }

    /// Writes what came of it, over the intent and nothing else. The lease may be over by now: as long
    /// as the intent stands, nobody has sent anything since.
    async fn conclude(&self, there: &There) -> Result<(), Stop> {
        let Some(intent) = there.record().cloned() else {
            return Ok(()); // Nothing is sent without one.
        };
        let record = there.next_record();
        let unsaved = Unsaved::Outcome {
            record: record.clone(),
            over: intent,
        };
        let effort = Effort {
            fence: None,
            attempts: MOST_WRITES,
        };
        let writing = self.write(there, &record, unsaved, effort);
        let written = timeout(LONGEST_WRITE, writing).await;
        let late = |_| StoreError::unavailable("it took too long");
        match written.map_err(late).and_then(|written| written) {
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
}

fn possibly_rotated(since: SystemTime, cause: Option<TokenError>) -> Stop {
    Stop::Failed(TokenError::permanent(PossiblyRotated { since, cause }))
}
