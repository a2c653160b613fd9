//! One token for many processes.
//!
//! ```text
//!            look ──▶ a token that fits? ──yes──▶ done
//!  token ──▶  ▲              │ no
//!             │            lease ──not mine──▶ wait for a change ──┐
//!             │              │ mine                                │
//!             └──────────────┼─────────────────────────────────────┘
//!                          turn: look again, note the intent, ask the source, write, give back
//! ```

mod ends;
mod error;
mod kept;
mod memory;
mod place;
mod redeeming;
mod there;
mod turn;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::{error::Elapsed, sleep, timeout};

pub use self::error::PossiblyRotated;
use self::{
    error::SharedError,
    memory::{Memory, Unsaved},
    place::Place,
    there::There,
};
use super::{
    Demand, Identity, Panicked, TokenError, TokenSource,
    budget::purse,
    caught,
    demand::Sharing,
    entrusted::Entrusted,
    erased_store::ErasedStore,
    token_store::{Leased, StoreError, StoreKey, TokenStore},
};
use crate::{clock::Clock, token::AccessToken};

/// A source whose tokens many processes share through a [`TokenStore`]; made by
/// [`TokenSource::shared`].
///
/// Whoever needs a token looks in the store first. If none there fits, one process leases the right to
/// fetch the next, looks again, fetches, writes it down and only then hands it out; the others are told
/// and read it there. So there is one token request for the whole fleet, and a refresh token is
/// redeemed once, whoever is killed or stopped in the middle of it. A token that was refused is known
/// by its text: where the store has another one by now, that is used, and nothing is fetched.
///
/// The key of the record is a hash of all that shapes the token: the endpoint, the client, the grant,
/// what is asked for. A source that can't say all that needs a [name](Self::named).
///
/// ```
/// # #[cfg(feature = "https-client")] {
/// use tower_oauth::{ClientAuth, ClientCredentials, TokenCache, TokenEndpoint, TokenSource, store};
///
/// let endpoint = TokenEndpoint::builder("https://auth.example.com/oauth/token")
///     .client_auth(ClientAuth::basic("client-id", "client-secret"))
///     .build()?;
/// let source = ClientCredentials::new(endpoint).shared(store::Memory::new());
/// let cache = TokenCache::builder(source).thrifty().build();
/// # drop(cache);
/// # }
/// # Ok::<(), tower_oauth::EndpointConfigError>(())
/// ```
///
/// # Refresh tokens
///
/// For a [`RefreshToken`](crate::RefreshToken) the record holds the refresh token as well, and the
/// source's own is only what it begins with. Before one is sent, that is written down; a process that
/// finds such an intent without an outcome fails with [`PossiblyRotated`], and never sends it again.
/// Sources that begin with the same refresh token share a login; where the beginning differs from
/// process to process, a [name](Self::named) says whose it is.
///
/// # Where the store is lost
///
/// Tokens in hand serve on. For a new one see [`on_store_loss`](Self::on_store_loss). What this process
/// knows and the store doesn't (what it couldn't write, what the store forgot) is written when the
/// store is back.
pub struct Shared<S> {
    source: Arc<S>,
    store: Arc<dyn ErasedStore>,
    settings: Settings,
    memory: Arc<Memory>,
}

#[derive(Clone)]
struct Settings {
    name: Option<Arc<str>>,
    lease: Duration,
    patience: Duration,
    on_store_loss: OnStoreLoss,
    clock: Clock,
}

const LEASE: Duration = Duration::from_secs(10);
/// Less than a cache's deadline, so that who waits in vain learns why.
const PATIENCE: Duration = Duration::from_secs(25);
/// For a source without a deadline of its own, whose lease would be prolonged for good.
const LONGEST_CALL: Duration = Duration::from_secs(5 * 60);
/// A store may have reason to look again all the time.
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// What a shared source does for a new token while its store can't be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnStoreLoss {
    /// It fails: no token request that nobody else knows of.
    #[default]
    Fail,
    /// Each process fetches one for itself, and writes it into the store when that is back. Refresh
    /// tokens aren't redeemed so, and nothing with a [budget](TokenSource::budget) is fetched, as
    /// neither is safe alone.
    FetchAlone,
}

impl<S: TokenSource> Shared<S> {
    pub(super) fn new(source: S, store: impl TokenStore) -> Self {
        Self {
            source: Arc::new(source),
            store: Arc::new(store),
            settings: Settings {
                name: None,
                lease: LEASE,
                patience: PATIENCE,
                on_store_loss: OnStoreLoss::default(),
                clock: Clock::default(),
            },
            memory: Arc::default(),
        }
    }

    /// Adds a name to what the key is made of; by default there is none.
    ///
    /// It is needed for a closure or another source that doesn't say what shapes its tokens
    /// ([`TokenSource::identify`]), and for a login whose first refresh token isn't the same in all
    /// processes, as where [`on_rotation`](crate::RefreshToken::on_rotation) keeps it: there it stands
    /// for the refresh token, and a refresh token that is new to the record replaces the one in it. Two
    /// users' logins must not have the same name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.settings.name = Some(Arc::from(name.into()));
        self
    }

    /// Sets for how long a process that is killed while it fetches may hold up the others; by default
    /// 10 seconds. A process that lives prolongs its lease, so that a fetch may take longer.
    #[must_use]
    pub fn lease(mut self, time: Duration) -> Self {
        self.settings.lease = time.max(Duration::from_millis(10));
        self
    }

    /// Sets how long a process waits for what others fetch; by default 25 seconds, somewhat less than a
    /// cache's [`deadline`](crate::TokenCacheBuilder::deadline), so that the error says what was waited
    /// for.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.settings.patience = patience;
        self
    }

    /// Sets what happens when a token is needed and the store can't be reached; by default
    /// [`OnStoreLoss::Fail`].
    #[must_use]
    pub fn on_store_loss(mut self, choice: OnStoreLoss) -> Self {
        self.settings.on_store_loss = choice;
        self
    }

    /// By default the system's: the wall clock that lifetimes in the store count by; for hosts with a
    /// time of their own, and for tests.
    #[must_use]
    pub fn wall_clock(mut self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.settings.clock = Clock::with_wall(now);
        self
    }

    /// A token with its lifetime from now on.
    async fn obtain(&self, place: &Place, demand: Demand<'_>) -> Result<AccessToken, TokenError> {
        let overdue = self.settings.clock.now().after(self.settings.patience);
        loop {
            let there = match self.look(place).await {
                Ok(there) => there,
                Err(error) => return self.without_store(error, place, demand).await,
            };
            let now = self.settings.clock.now();
            if let Some(token) = there.fitting(place, demand, now) {
                return Ok(token);
            }
            if overdue.passed(now) {
                let waited = SharedError::Waited(self.settings.patience);
                return Err(TokenError::transient(waited));
            }
            let owner = place::owner()?;
            let lease = self.settings.lease;
            match self.store.lease(&place.key, &owner, lease).await {
                Ok(Leased::Granted(lease)) => {
                    // It can't have been granted before it was asked for.
                    if let Some(token) = self.take_turn(place, lease, now, demand).await? {
                        return Ok(token);
                    }
                }
                Ok(Leased::Held { remaining }) => {
                    let longest = remaining.min(overdue.remaining(now));
                    let change = self.store.changed(&place.key, there.generation());
                    // Whether it was told or not, it looks again.
                    let _ = timeout(longest, change).await;
                    sleep(BETWEEN_LOOKS).await;
                }
                Err(error) => return self.without_store(error.into(), place, demand).await,
            }
        }
    }

    /// What is in the store, once that knows what this process knows.
    async fn look(&self, place: &Place) -> Result<There, Lost> {
        let now = self.settings.clock.now();
        self.memory.look(&self.store, &place.key, now).await
    }

    /// No store: what this process has, or what it may fetch by itself.
    async fn without_store(
        &self,
        lost: Lost,
        place: &Place,
        demand: Demand<'_>,
    ) -> Result<AccessToken, TokenError> {
        let error = match lost {
            Lost::Store(error) => error,
            Lost::Unreadable(error) => return Err(error),
        };
        let now = self.settings.clock.now();
        if let Some(token) = self.memory.known(place, now).fitting(place, demand, now) {
            return Ok(token);
        }
        let may_fetch = self.settings.on_store_loss == OnStoreLoss::FetchAlone
            && error.is_transient()
            && place.login.is_none();
        if !may_fetch {
            return Err(error.into());
        }
        let entrusted = Entrusted::default();
        let token = self.ask(place, demand, &entrusted).await?;
        let kept = self.memory.fetched(place, token, now);
        let unsaved = Unsaved::Token {
            token: kept.clone(),
            refresh_token: entrusted.brought(),
        };
        self.memory.set_unsaved(&place.key, unsaved);
        self.look_after(place);
        Ok(kept.as_of(self.settings.clock.now()))
    }

    /// One call of the source inside.
    async fn ask(
        &self,
        place: &Place,
        demand: Demand<'_>,
        entrusted: &Entrusted,
    ) -> Result<AccessToken, TokenError> {
        let demand = demand.in_a_share(Sharing {
            store: &self.store,
            key: &place.key,
            entrusted,
        });
        if !place.is_metered {
            purse::pay().await?;
        }
        // A source may panic before there is a future to poll.
        let token = async { self.source.token(demand).await };
        match caught(timeout(LONGEST_CALL, token)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(Elapsed { .. })) => Err(TokenError::transient(SharedError::TimedOut)),
            Err(Panicked) => Err(TokenError::transient(SharedError::SourcePanicked)),
        }
    }

    /// Goes on trying until the store has what this process couldn't write.
    fn look_after(&self, place: &Place) {
        self.memory
            .look_after(&self.store, &place.key, &self.settings.clock);
    }
}

/// Why the store's record can't be had.
enum Lost {
    Store(StoreError),
    Unreadable(TokenError),
}

impl Lost {
    fn unreadable(key: &StoreKey) -> Self {
        Self::Unreadable(TokenError::permanent(SharedError::NotARecord(key.clone())))
    }
}

impl From<StoreError> for Lost {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl<S: TokenSource> TokenSource for Shared<S> {
    async fn token(&self, demand: Demand<'_>) -> Result<AccessToken, TokenError> {
        let place = Place::of(&*self.source, self.settings.name.as_deref())?;
        let token = self.obtain(&place, demand).await?;
        // Whoever asks counts the lifetime from when he asked, and others may have kept him waiting.
        Ok(token.counted_from(self.settings.clock.mark()))
    }

    /// Nothing happens: other processes use the same tokens.
    async fn revoke(&self, _: Option<&AccessToken>) -> Result<(), TokenError> {
        Ok(())
    }

    /// Whose tokens these are is settled here: what is around needn't know of a login.
    fn identify(&self, identity: &mut Identity) {
        match Place::of(&*self.source, self.settings.name.as_deref()) {
            Ok(place) => {
                identity.part("shared", place.key.as_str());
                identity.wish("shared", place.tag.to_be_bytes());
            }
            Err(_) => identity.is_unknown("the one that it is around doesn't"),
        }
        identity.is_metered();
        identity.is_kept_in(&self.store);
    }
}

impl<S> Clone for Shared<S> {
    fn clone(&self) -> Self {
        Self {
            source: Arc::clone(&self.source),
            store: Arc::clone(&self.store),
            settings: self.settings.clone(),
            memory: Arc::clone(&self.memory),
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for Shared<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("source", &self.source)
            .field("name", &self.settings.name)
            .field("lease", &self.settings.lease)
            .field("patience", &self.settings.patience)
            .field("on_store_loss", &self.settings.on_store_loss)
            .finish_non_exhaustive()
    }
}
