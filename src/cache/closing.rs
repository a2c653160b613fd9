//! The end of a cache: no token any more, and those that it holds are given back.

use std::sync::Arc;

use tokio::{
    runtime::Handle,
    sync::watch,
    time::{error::Elapsed, timeout},
};

use super::{
    flight::FlightError,
    state::{Life, Shared},
};
use crate::{
    source::{Panicked, TokenError, caught},
    token::AccessToken,
};

type Ended = watch::Receiver<Option<Result<(), TokenError>>>;

impl Shared {
    /// Closes the cache, or waits for the close that is under way.
    pub(super) async fn close(self: &Arc<Self>) -> Result<(), TokenError> {
        self.check_not_in_flight()?;
        let mut ended = self.begin_to_close()?;
        let deadline = self.policy.deadline;
        // The one who closes may be on a runtime that stands still.
        let problem = match timeout(deadline, ended.wait_for(Option::is_some)).await {
            Ok(Ok(outcome)) => match &*outcome {
                Some(outcome) => return outcome.clone(),
                None => FlightError::ClosingLost,
            },
            Ok(Err(_)) => FlightError::ClosingLost,
            Err(Elapsed { .. }) => FlightError::NotClosedInTime(deadline),
        };
        Err(TokenError::transient(problem))
    }

    /// From here on the cache is closed, whether or not somebody waits for the rest.
    fn begin_to_close(self: &Arc<Self>) -> Result<Ended, TokenError> {
        let runtime =
            Handle::try_current().map_err(|_| TokenError::permanent(FlightError::NoRuntime))?;
        let mut state = self.lock();
        if let Life::Closed { ended, .. } = &state.life {
            return Ok(ended.clone());
        }
        let (end, ended) = watch::channel(None);
        state.life = Life::Closed {
            late: None,
            ended: ended.clone(),
        };
        let held = state.held.as_ref().map(|token| token.token.clone());
        let then = self.withdraw(&mut state);
        drop(state);
        self.finish(then);
        let shared = Arc::clone(self);
        runtime.spawn(async move {
            let deadline = shared.policy.deadline;
            let giving_back = shared.give_back(held);
            let problem = match caught(timeout(deadline, giving_back)).await {
                Ok(Ok(outcome)) => {
                    end.send_replace(Some(outcome));
                    return;
                }
                Ok(Err(Elapsed { .. })) => FlightError::NotClosedInTime(deadline),
                Err(Panicked) => FlightError::RevocationPanicked,
            };
            end.send_replace(Some(Err(TokenError::transient(problem))));
        });
        Ok(ended)
    }

    /// Calls the source once; twice only where a newer token came in while the cache was closing.
    ///
    /// A flight that hangs gets half of the time, so that the token that is held can be given back
    /// before it, and the rest afterwards.
    async fn give_back(&self, held: Option<AccessToken>) -> Result<(), TokenError> {
        let half = self.policy.deadline.checked_div(2).unwrap_or_default();
        let in_time = timeout(half, self.landing_of_the_last()).await;
        let in_time = in_time.ok().flatten();
        let first = held.as_ref().or(in_time.as_ref());
        let given_back = self.source.revoke(first).await;
        let late = match in_time.clone() {
            Some(late) => Some(late),
            None => self.landing_of_the_last().await,
        };
        match late.filter(|late| first != Some(late)) {
            Some(late) => given_back.and(self.source.revoke(Some(&late)).await),
            None => given_back,
        }
    }

    /// Waits for the flight under way, if there is one, and gives what it brought.
    async fn landing_of_the_last(&self) -> Option<AccessToken> {
        let under_way = self
            .lock()
            .flight
            .as_ref()
            .map(|flight| flight.outcome.clone());
        if let Some(mut under_way) = under_way {
            // Landed, or lost with its runtime.
            let _ = under_way.wait_for(Option::is_some).await;
        }
        match &mut self.lock().life {
            Life::Closed { late, .. } => late.take().map(|token| *token),
            Life::Open => None,
        }
    }
}
