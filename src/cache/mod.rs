//! The token that every request reads, and what keeps it fresh.

mod backoff;
mod closing;
mod flight;
mod keeper;
mod last_act;
mod refresh;
mod shards;
mod snapshot;
mod state;
mod tasks;
mod watch;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::HeaderValue;
use tokio::time::Instant;

pub use self::watch::{CacheState, CacheWatch};
use self::{
    flight::FlightError,
    refresh::Boarding,
    snapshot::{Policy, Snapshot},
    state::Shared,
};
pub(crate) use self::{
    shards::Shards,
    snapshot::{Credential, Generation, SentToken},
};
use crate::{
    clock::Clock,
    source::{ErasedSource, TokenError, TokenSource},
    token::AccessToken,
};

/// How many flights one caller boards, if each is lost with its runtime.
const MOST_FLIGHTS: usize = 3;

/// One token for any number of requests, layers and threads; cheap to clone.
///
/// It asks its [`TokenSource`] for one token at a time, however many callers wait, and on a task
/// of its own, so that a caller that goes away cancels nothing. From a fifth of the lifetime before
/// its end (at most 5 minutes) a token that is used is renewed in the background; an idle cache
/// asks for nothing. A failed renewal never replaces a token that is still valid.
///
/// A source goes into a layer directly; a cache is made by hand to warm it up, to watch it, or to
/// share one token among several layers:
///
/// ```
/// use tower_oauth::{AccessToken, OAuthLayer, TokenCache};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cache = TokenCache::from(|| async { Ok(AccessToken::bearer("mF_9.B5f-4.1JqM")?) });
/// cache.ready().await?;
///
/// let http = OAuthLayer::for_origin("https://api.example.com", cache.clone())?;
/// let grpc = OAuthLayer::for_origin("https://grpc.example.com", cache)?;
/// # drop((http, grpc));
/// # Ok(())
/// # }
/// ```
///
/// Tasks run on the Tokio runtime of the caller who needs them. They end with the last clone of
/// the cache. A cache outlives its runtimes: callers on another one start the tasks anew.
#[derive(Clone)]
pub struct TokenCache {
    shared: Arc<Shared>,
}

impl TokenCache {
    /// A cache whose refresh policy differs from the default; `TokenCache::from(source)` is the
    /// default one.
    pub fn builder(source: impl TokenSource) -> TokenCacheBuilder {
        TokenCacheBuilder {
            source: Arc::new(source),
            policy: Policy::default(),
            clock: Clock::default(),
        }
    }

    /// Waits until a token is at hand, for instance before a service reports that it is ready.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn ready(&self) -> Result<(), TokenError> {
        self.obtain().await.map(drop)
    }

    /// The token, for what can't go through a layer, with what is left of its lifetime. Differs
    /// from a request in nothing else: it counts as use, and waits where there is none.
    ///
    /// # Errors
    ///
    /// The source's last failure. While the authorization server is left alone after a failure,
    /// it comes at once.
    pub async fn get(&self) -> Result<AccessToken, TokenError> {
        let token = self.obtain().await?;
        Ok(token.token_at(self.shared.now()))
    }

    /// Drops the token; whoever asks next waits for a new one, and the source is told that this
    /// one was rejected. Differs from a refusal by a server in that nothing holds it back.
    pub fn invalidate(&self) {
        self.shared.invalidate();
    }

    /// Closes the cache, for all its clones: from now on it hands out no token, and requests fail
    /// with a permanent error that says so. Then gives back what it holds: the source
    /// [revokes](TokenSource::revoke) it, which a grant does only where its endpoint knows a
    /// [`revocation_endpoint`](crate::TokenEndpointBuilder::revocation_endpoint). Differs from
    /// [`invalidate`](Self::invalidate) in that there is no way back.
    ///
    /// A fetch under way is waited for, and what it brings is given back as well. All of it is
    /// bounded by the [`deadline`](TokenCacheBuilder::deadline) and runs on a task of its own, so
    /// that a caller that goes away cancels nothing. The first close does this once; others wait
    /// for it, and have its outcome.
    ///
    /// ```
    /// use tower_oauth::{AccessToken, CacheState, TokenCache};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cache = TokenCache::from(|| async { Ok(AccessToken::bearer("mF_9.B5f-4.1JqM")?) });
    /// cache.ready().await?;
    /// // … at the end of the program:
    /// cache.close().await?;
    /// assert!(matches!(cache.state(), CacheState::Closed));
    /// assert!(cache.get().await.is_err());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The source's, and a transient one when the deadline has passed; the cache is closed all the
    /// same, and tokens may live on until they expire.
    pub async fn close(&self) -> Result<(), TokenError> {
        self.shared.close().await
    }

    /// Whether requests have a token right now, and needn't wait for one. An idle cache lets its
    /// token go, so this is no readiness check either: see [`state`](Self::state).
    pub fn has_token(&self) -> bool {
        self.shared.current.load().is_some()
    }

    /// How the cache is doing: for a dashboard, a log or a health page.
    ///
    /// It gets better only when somebody asks for a token, so a readiness check that goes by it
    /// would never recover without traffic. Such a check asks itself, which costs nothing while
    /// there is a token:
    ///
    /// ```
    /// use std::time::Duration;
    /// use tokio::time::timeout;
    /// use tower_oauth::TokenCache;
    ///
    /// /// The status for `/readyz`.
    /// async fn readyz(cache: &TokenCache) -> u16 {
    ///     match timeout(Duration::from_secs(1), cache.ready()).await {
    ///         Ok(Ok(())) => 200,
    ///         Ok(Err(_)) | Err(_) => 503,
    ///     }
    /// }
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    /// # let cache = TokenCache::from(|| async { Ok(tower_oauth::AccessToken::bearer("a")?) });
    /// # assert_eq!(runtime.block_on(readyz(&cache)), 200);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn state(&self) -> CacheState {
        self.shared.lock().describe()
    }

    /// Follows [`state`](Self::state). Differs from it in that a change can be waited for.
    pub fn watch(&self) -> CacheWatch {
        CacheWatch::of(self.shared.watch())
    }

    /// Shows the token to `put`, which puts it on a request: one load, no lock, no clock. `None` where
    /// there is none, and where it is to be renewed ahead of time: whoever meets that asks for it as
    /// [`obtained`](Self::obtained), gets it at once, and starts the renewal.
    #[inline]
    pub(crate) fn put_on<T>(&self, put: impl FnOnce(&HeaderValue) -> T) -> Option<(T, SentToken)> {
        let current = self.shared.current.load();
        let token = current.as_ref().filter(|token| !token.is_due())?;
        Some((put(token.header()), token.sent()))
    }

    /// The token at hand, also where it is to be renewed: the next request sees to that.
    pub(crate) fn credential(&self) -> Option<Credential> {
        let current = self.shared.current.load();
        Some(current.as_ref()?.credential())
    }

    /// What a request without a token at hand waits for.
    pub(crate) async fn obtained(self) -> Result<Credential, TokenError> {
        self.obtain().await.map(|token| token.credential())
    }

    /// What a request waits for that wants a newer token than the one at hand.
    pub(crate) async fn newer(self) -> Result<Credential, TokenError> {
        if let Some(seat) = self.shared.earlier_flight() {
            self.shared.arrival(seat).await;
        }
        let token = self.boarded(Shared::board_anew).await?;
        Ok(token.credential())
    }

    /// What there is instead of the token that a server has just refused; `None` where nothing
    /// better can be had.
    pub(crate) async fn instead_of(self, refused: Generation) -> Option<Credential> {
        let token = match self.shared.refused(refused)? {
            Boarding::Token(token) => token,
            Boarding::Flight(seat) => match self.shared.arrival(seat).await {
                Some(outcome) => outcome.ok()?,
                None => self.obtain().await.ok()?,
            },
        };
        Some(token.credential())
    }

    pub(crate) fn now(&self) -> Instant {
        self.shared.now().mono
    }

    /// A server has just refused the token of a request that can't be sent again.
    pub(crate) fn refused(&self, generation: Generation) {
        self.shared.refused_in_vain(generation);
    }

    /// A server accepted the token on a first send.
    #[inline]
    pub(crate) fn accepted(&self, generation: Generation) {
        self.shared.accepted(generation);
    }

    /// A refused request was sent again with this token, and a server accepted it or not.
    pub(crate) fn sent_again(&self, generation: Generation, accepted: bool) {
        self.shared.sent_again(generation, accepted);
    }

    async fn obtain(&self) -> Result<Arc<Snapshot>, TokenError> {
        match self.current() {
            Some(token) => Ok(token),
            None => self.boarded(Shared::board).await,
        }
    }

    async fn boarded(
        &self,
        board: impl Fn(&Arc<Shared>) -> Result<Boarding, TokenError>,
    ) -> Result<Arc<Snapshot>, TokenError> {
        // A flight that is lost with another runtime is started anew on this one. If that is lost
        // as well, this runtime is being shut down.
        for _ in 0..MOST_FLIGHTS {
            let seat = match board(&self.shared)? {
                Boarding::Token(token) => return Ok(token),
                Boarding::Flight(seat) => seat,
            };
            if let Some(outcome) = self.shared.arrival(seat).await {
                return outcome;
            }
        }
        Err(TokenError::transient(FlightError::Lost))
    }

    /// The published token. Unlike a request, this reads the clock: its keeper may be on a runtime
    /// that stands still.
    fn current(&self) -> Option<Arc<Snapshot>> {
        let token = self.shared.current.load_full()?;
        if token.is_gone(self.shared.now()) {
            return None;
        }
        if token.is_due() && token.take_due() {
            self.shared.renew(&token);
        }
        Some(token)
    }
}

impl<S: TokenSource> From<S> for TokenCache {
    fn from(source: S) -> Self {
        Self::builder(source).build()
    }
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCache")
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

/// The refresh policy of a [`TokenCache`].
#[must_use]
pub struct TokenCacheBuilder {
    source: Arc<dyn ErasedSource>,
    policy: Policy,
    clock: Clock,
}

impl TokenCacheBuilder {
    /// By default 5 minutes: how long before its end a used token is renewed, but at most a fifth
    /// of its lifetime. Tokens so short that a fetch takes longer than a twentieth of their
    /// lifetime may make callers wait.
    pub fn renew_ahead(mut self, window: Duration) -> Self {
        self.policy.renew_ahead = window;
        self
    }

    /// By default 30 seconds: how long before its end a token is no longer used, but at most a
    /// tenth of its lifetime. Covers the way to the server, and clocks that differ.
    pub fn expiry_margin(mut self, margin: Duration) -> Self {
        self.policy.expiry_margin = margin;
        self
    }

    /// Lets each token serve until 30 seconds before its end ([`expiry_margin`](Self::expiry_margin)):
    /// the fewest tokens, at the price that one caller waits for each. By default a used token is
    /// renewed ahead of that, in the background.
    ///
    /// For a server that counts tokens. A process that is always busy needs 737 one-hour tokens in
    /// a month, one that is idle none. The same as a [`renew_ahead`](Self::renew_ahead) of zero.
    pub fn thrifty(self) -> Self {
        self.renew_ahead(Duration::ZERO)
    }

    /// By default 30 seconds: how long one call of the source may take in all, and closing the
    /// cache.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.policy.deadline = deadline;
        self
    }

    /// By default the system's: the wall clock that says, beside the monotonic one, when a token
    /// is too old; for hosts with a time of their own, and for tests.
    pub fn wall_clock(mut self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Clock::with_wall(now);
        self
    }

    /// The cache. It asks for nothing until it is used.
    pub fn build(self) -> TokenCache {
        TokenCache {
            shared: Arc::new(Shared::new(self.source, self.policy, self.clock)),
        }
    }
}

impl fmt::Debug for TokenCacheBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCacheBuilder")
            .field("policy", &self.policy)
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}
