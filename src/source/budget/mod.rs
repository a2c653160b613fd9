//! No more token requests than the authorization server allows.
//!
//! ```text
//! Budgeted ──▶ the source inside ──▶ token endpoint ──▶ purse ──▶ ledger ──▶ account
//!                                    (about to send)              (memory    (may it
//!                                                                 or store)   be?)
//! ```

mod account;
mod error;
mod ledger;
mod period;
pub(crate) mod purse;

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

pub use self::{account::Pace, error::BudgetSpent, period::Per};
use self::{
    account::{Need, Terms},
    ledger::{Book, Ledger},
    purse::Purse,
};
use super::{Demand, Identity, TokenError, TokenSource};
use crate::{
    clock::{Clock, Deadline},
    token::AccessToken,
};

/// A source that makes no more token requests than it may; made by [`TokenSource::budget`].
///
/// Each token request is counted before it is sent, also the second of one call and one that fails; one
/// that certainly never left, as where the server can't be reached, is not. When the budget is spent, a
/// call for a token fails with [`BudgetSpent`], which says when the next is allowed; while a token at
/// hand has time left it is handed out again instead, and so used to its last second.
///
/// Where the source is [`shared`](TokenSource::shared), the count stands in the store, and holds for
/// all processes and over restarts; else it is this process's. In which order the two are called
/// doesn't matter.
///
/// Around two sources ([`or_else`](TokenSource::or_else)) of which one is shared, it stands in that
/// one's store; of two stores, in the first.
///
/// # Clocks
///
/// Periods go by the wall clock. Where machines' clocks differ, or one is set back, the fastest begins
/// the next period for all, once: nobody gets more requests for it, and the others wait until their
/// clocks get there. A clock that says another date is told by a period that begins more than a day
/// later than now, or for a [`Per::Duration`] more than its own length, at least a minute: it is counted
/// beside the others, in periods of its own, and holds nobody up. So one machine with a wrong date has a
/// budget to itself.
///
/// ```
/// # #[cfg(feature = "https-client")] {
/// use tower_oauth::{ClientAuth, ClientCredentials, Pace, Per, TokenEndpoint, TokenSource, store};
///
/// let endpoint = TokenEndpoint::builder("https://auth.example.com/oauth/token")
///     .client_auth(ClientAuth::basic("client-id", "client-secret"))
///     .build()?;
/// let source = ClientCredentials::new(endpoint)
///     .budget(1_000, Per::Month)
///     .pace(Pace::Even)
///     .reserve(50);
/// let budget = source.watch();
/// let source = source.shared(store::Memory::new());
/// assert_eq!(budget.remaining(), 1_000);
/// # drop(source);
/// # }
/// # Ok::<(), tower_oauth::EndpointConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Budgeted<S> {
    source: S,
    book: Arc<Book>,
    name: Option<Arc<str>>,
    /// The tokens that were handed out, the latest first.
    handed_out: Arc<Mutex<VecDeque<HandedOut>>>,
}

/// A token that was handed out, and when it ends.
#[derive(Debug)]
struct HandedOut {
    token: AccessToken,
    end: Option<Deadline>,
}

/// Clones in several caches have a token each.
const REMEMBERED: usize = 8;

/// A token that is used to its last second still has one.
pub(super) const LAST_SECOND: Duration = Duration::from_secs(1);

impl<S: TokenSource> Budgeted<S> {
    pub(super) fn new(source: S, requests: u32, per: Per) -> Self {
        let terms = Terms {
            requests,
            per,
            pace: Pace::default(),
            reserve: requests / 20,
        };
        Self {
            source,
            book: Book::new(terms, Clock::default()),
            name: None,
            handed_out: Arc::default(),
        }
    }

    /// Sets how it is spent; by default [`Pace::Greedy`].
    #[must_use]
    pub fn pace(self, pace: Pace) -> Self {
        self.on(|terms| terms.pace = pace)
    }

    /// Sets how many of the requests are kept for tokens that a server refuses before their time, and
    /// not for callers that want a newer one ([`Fresh`](crate::Fresh)); by default a twentieth.
    #[must_use]
    pub fn reserve(self, requests: u32) -> Self {
        self.on(|terms| terms.reserve = requests.min(terms.requests))
    }

    /// Sets the name that the count has in a store; by default each source there has its own. Sources
    /// with the same name share one, as where the authorization server counts all of a tenant's
    /// clients together; they must have the same budget.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(Arc::from(name.into()));
        self
    }

    /// By default the system's: the wall clock that periods go by; for hosts with a time of their own,
    /// and for tests.
    #[must_use]
    pub fn wall_clock(mut self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.book = Book::new(self.book.terms.clone(), Clock::with_wall(now));
        self
    }

    /// What is spent and what is left, to be looked at while the source is in use. What is set
    /// afterwards makes another budget, of which it knows nothing.
    pub fn watch(&self) -> Budget {
        Budget(Arc::clone(&self.book))
    }

    /// A budget with other terms begins anew.
    fn on(mut self, change: impl FnOnce(&mut Terms)) -> Self {
        let mut terms = self.book.terms.clone();
        change(&mut terms);
        self.book = Book::new(terms, self.book.clock.clone());
        self
    }

    /// The token at hand, for who may not have another one: the one that the caller holds, or for who
    /// holds none the latest with time left.
    fn instead(&self, demand: Demand<'_>) -> Option<AccessToken> {
        let at_hand = |one: &&HandedOut| match demand.held() {
            Some(held) => one.token == *held,
            None => true,
        };
        let handed_out = self.handed_out();
        let mut wanted = handed_out
            .iter()
            .filter(|one| demand.rejected() != Some(&one.token))
            .filter(at_hand);
        wanted.find_map(|one| one.left(&self.book.clock))
    }

    fn remember(&self, token: &AccessToken, end: Option<Deadline>) {
        let token = token.clone();
        let mut handed_out = self.handed_out();
        handed_out.retain(|before| before.token != token);
        handed_out.push_front(HandedOut { token, end });
        handed_out.truncate(REMEMBERED);
    }

    /// No clone hands it out again.
    fn forget(&self, refused: &AccessToken) {
        self.handed_out().retain(|one| one.token != *refused);
    }

    fn handed_out(&self) -> MutexGuard<'_, VecDeque<HandedOut>> {
        // Nothing that runs under the lock leaves it half done.
        self.handed_out
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The key says whose count it is and for which time: others' counts would read as another
    /// period's.
    fn ledger(&self, demand: Demand<'_>, source: &Identity) -> Ledger {
        let shared = match demand.sharing() {
            Some(sharing) => Some((sharing.store, sharing.key.clone())),
            None => source.store().map(|store| (store, source.key())),
        };
        let store = shared.map(|(store, of)| {
            let mut key = Identity::new();
            match &self.name {
                Some(name) => key.part("budget", &**name),
                None => {
                    key.part("budget of", of.as_str());
                    key.part("source", source.key().as_str());
                    key.part("wish", source.tag().to_be_bytes());
                }
            }
            key.part("per", format!("{:?}", self.book.terms.per));
            (Arc::clone(store), key.key())
        });
        Ledger {
            book: Arc::clone(&self.book),
            store,
        }
    }
}

impl HandedOut {
    /// With what is left of its lifetime.
    fn left(&self, clock: &Clock) -> Option<AccessToken> {
        let token = self.token.clone();
        let Some(end) = self.end else {
            return Some(token);
        };
        let left = end.remaining(clock.now());
        (left > LAST_SECOND).then(|| token.expires_in(left).counted_from(clock.mark()))
    }
}

impl<S: TokenSource> TokenSource for Budgeted<S> {
    async fn token(&self, demand: Demand<'_>) -> Result<AccessToken, TokenError> {
        if let Some(refused) = demand.refused() {
            self.forget(refused);
        }
        let mut source = Identity::new();
        self.source.identify(&mut source);
        let purse = Purse::new(self.ledger(demand, &source), Need::of(demand));
        let asked = self.book.clock.now();
        let call = async {
            // A source that doesn't say when it sends, is taken to do it once each time.
            if !source.metered() {
                purse::pay().await?;
            }
            self.source.token(demand).await
        };
        let outcome = purse::with(purse, call).await;
        match outcome {
            Ok(token) => {
                let from = token.since(asked, self.book.clock.now());
                let end = token.lifetime().map(|lifetime| from.after(lifetime));
                self.remember(&token, end);
                Ok(token)
            }
            Err(error) if error.is_budget_spent() => self.instead(demand).ok_or(error),
            Err(error) => Err(error),
        }
    }

    async fn revoke(&self, held: Option<&AccessToken>) -> Result<(), TokenError> {
        self.source.revoke(held).await
    }

    fn identify(&self, identity: &mut Identity) {
        self.source.identify(identity);
        identity.is_metered();
    }
}

impl Need {
    fn of(demand: Demand<'_>) -> Self {
        if demand.refused().is_some() {
            Self::Refused
        } else if demand.rejected().is_some() || demand.held().is_none() {
            Self::Missing
        } else {
            Self::Ahead
        }
    }
}

/// A look at a [budget](TokenSource::budget), as this process knows it: what other processes have
/// spent since it asked last, it learns with its next token request. Where clones of the source are
/// shared under several keys, it is the fullest of their counts. Cheap to clone.
#[derive(Clone)]
pub struct Budget(Arc<Book>);

impl Budget {
    /// How many token requests may still be made in this period, with those in reserve.
    pub fn remaining(&self) -> u32 {
        self.requests().saturating_sub(self.spent())
    }

    /// How many were made in this period.
    pub fn spent(&self) -> u32 {
        self.0.account().0.spent
    }

    /// How many may be made in each period.
    pub fn requests(&self) -> u32 {
        self.0.terms.requests
    }

    /// When the next period begins, by the wall clock.
    pub fn resets_at(&self) -> SystemTime {
        self.0.account().1
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget")
            .field("requests", &self.requests())
            .field("spent", &self.spent())
            .field("resets_at", &self.resets_at())
            .finish()
    }
}
