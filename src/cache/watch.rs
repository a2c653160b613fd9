//! How a cache is doing, for those who look at it or wait for a change.

use std::time::Instant;

use tokio::sync::watch;

use crate::source::TokenError;

/// How a [`TokenCache`](crate::TokenCache) is doing.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum CacheState {
    /// No token, and none is being fetched: new, idle or invalidated.
    Empty,
    /// A token is at hand; whether servers accept it is for their answers to say.
    Valid,
    /// A token is being fetched, after no failure; an older one may still be at hand
    /// ([`has_token`](crate::TokenCache::has_token)).
    Renewing,
    /// The last fetch failed. An older token may still be at hand
    /// ([`has_token`](crate::TokenCache::has_token)). Lasts until a token is fetched, also while
    /// that is being tried.
    #[non_exhaustive]
    Failing {
        /// When the first of the failures in a row was.
        since: Instant,
        /// The last failure.
        error: TokenError,
        /// Before this moment nothing is asked of the source.
        retry_at: Instant,
    },
    /// It was closed, and stays so.
    Closed,
}

impl CacheState {
    /// Whether a watcher would see no difference.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Empty, Self::Empty)
            | (Self::Valid, Self::Valid)
            | (Self::Renewing, Self::Renewing)
            | (Self::Closed, Self::Closed) => true,
            (Self::Failing { retry_at: a, .. }, Self::Failing { retry_at: b, .. }) => a == b,
            _ => false,
        }
    }
}

/// Follows the state of a [`TokenCache`](crate::TokenCache); made by its
/// [`watch`](crate::TokenCache::watch). It doesn't keep the cache alive.
#[derive(Debug, Clone)]
pub struct CacheWatch {
    states: watch::Receiver<CacheState>,
}

impl CacheWatch {
    pub(super) fn of(states: watch::Receiver<CacheState>) -> Self {
        Self { states }
    }

    /// Waits until the state is another than when it was last looked at through this watch, and
    /// gives it; states in between may be missed. `None` once the last clone of the cache is gone.
    pub async fn changed(&mut self) -> Option<CacheState> {
        self.states.changed().await.ok()?;
        Some(self.current())
    }

    /// Waits until the state is one that `is_it` says it is, which it may be already, and gives
    /// it. `None` once the last clone of the cache is gone.
    pub async fn wait_for(&mut self, is_it: impl Fn(&CacheState) -> bool) -> Option<CacheState> {
        loop {
            let state = self.current();
            if is_it(&state) {
                return Some(state);
            }
            self.states.changed().await.ok()?;
        }
    }

    /// The state as it is now.
    pub fn current(&mut self) -> CacheState {
        self.states.borrow_and_update().clone()
    }
}
