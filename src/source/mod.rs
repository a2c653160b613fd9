//! Where tokens come from: the one trait in which the request's way and the token's way meet.

mod budget;
mod caught;
mod date;
mod demand;
mod entrusted;
mod erased_store;
mod error;
mod file;
mod identity;
mod or_else;
mod shared;
mod token_store;

use std::{error::Error, future::Future, pin::Pin};

use crate::{secret::Secret, token::AccessToken};

#[cfg(feature = "redis")]
pub(crate) use self::token_store::LOOK_AGAIN;
pub(crate) use self::{
    budget::purse,
    caught::{Panicked, caught},
    entrusted::Entrusted,
    error::{LONGEST_RETRY_AFTER, means_invalid_grant},
    identity::Login,
};
pub use self::{
    budget::{Budget, BudgetSpent, Budgeted, Pace, Per},
    demand::Demand,
    error::TokenError,
    file::{FileToken, FileTokenError},
    identity::Identity,
    or_else::OrElse,
    shared::{OnStoreLoss, PossiblyRotated, Shared},
    token_store::{Lease, Leased, Record, StoreError, StoreKey, TokenStore, Written},
};

/// Any error, as Tower's middlewares pass it on.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Gets an access token: a grant, a file, a metadata server, an SDK's own logic.
///
/// The cache calls it for one token at a time and bounds each call by a deadline, so a source
/// needs no cache, no lock and no timer of its own. An `async` closure without arguments is a
/// source:
///
/// ```
/// use tower_oauth::{AccessToken, TokenCache};
///
/// let cache = TokenCache::from(|| async { Ok(AccessToken::bearer("mF_9.B5f-4.1JqM")?) });
/// # drop(cache);
/// ```
///
/// What it captures it clones for each call, which may outlive the one before:
///
/// ```
/// use std::{fs, path::PathBuf};
/// use tower_oauth::{AccessToken, TokenCache, TokenError};
///
/// let path = PathBuf::from("/var/run/secrets/token");
/// let cache = TokenCache::from(move || {
///     let path = path.clone();
///     async move {
///         let text = fs::read_to_string(path).map_err(TokenError::transient)?;
///         Ok(AccessToken::bearer(text.trim_end())?)
///     }
/// });
/// # drop(cache);
/// ```
///
/// A source with a memory of its own must not hand back the token that was just refused:
///
/// ```
/// use tower_oauth::{AccessToken, Demand, TokenError, TokenSource};
/// # struct Sidecar;
/// # impl Sidecar {
/// #     async fn fetch(&self, fresh: bool) -> Result<String, std::io::Error> { Ok(fresh.to_string()) }
/// # }
///
/// impl TokenSource for Sidecar {
///     async fn token(&self, demand: Demand<'_>) -> Result<AccessToken, TokenError> {
///         let fresh = demand.rejected().is_some();
///         let text = self.fetch(fresh).await.map_err(TokenError::transient)?;
///         Ok(AccessToken::bearer(text)?)
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no source of tokens",
    note = "pass a `TokenCache` by value (`cache.clone()`), finish a builder with `.build()`, pass \
            an `async` closure without arguments, or implement `TokenSource`"
)]
pub trait TokenSource: Send + Sync + 'static {
    /// Gets one token.
    ///
    /// # Errors
    ///
    /// [`TokenError::transient`] if trying again may help, [`TokenError::permanent`] if somebody
    /// must act first. Either way the cache tries again, after a pause that grows.
    fn token(
        &self,
        demand: Demand<'_>,
    ) -> impl Future<Output = Result<AccessToken, TokenError>> + Send;

    /// Gives back what was obtained, because nobody needs it any more: `held` is the token that
    /// the cache holds, if any. By default nothing happens, and tokens live until they expire.
    ///
    /// [`TokenCache::close`](crate::TokenCache::close) calls it once, within a deadline; once more
    /// where a newer token came in while the cache was closing.
    ///
    /// # Errors
    ///
    /// As [`token`](Self::token); the tokens may live on then.
    fn revoke(
        &self,
        held: Option<&AccessToken>,
    ) -> impl Future<Output = Result<(), TokenError>> + Send {
        let _ = held;
        async { Ok(()) }
    }

    /// Asks `other` where this one has no token, or only one that was refused.
    ///
    /// The first is asked first each time. Where both fail, the error names both. The last eight tokens
    /// that were refused are handed out again only where there is no other at all. Each source keeps its
    /// secrets to itself, also where both are [`shared`](Self::shared) in one: a refresh token that one
    /// of them keeps isn't in the store then.
    ///
    /// ```
    /// use tower_oauth::{AccessToken, FileToken, TokenCache, TokenSource};
    ///
    /// let source = FileToken::new("/run/secrets/token")
    ///     .or_else(|| async { Ok(AccessToken::bearer("mF_9.B5f-4.1JqM")?) });
    /// let cache = TokenCache::from(source);
    /// # drop(cache);
    /// ```
    fn or_else<S: TokenSource>(self, other: S) -> OrElse<Self, S>
    where
        Self: Sized,
    {
        OrElse::new(self, other)
    }

    /// Shares the tokens with all processes that use the same store, so that there is one token
    /// request for all of them.
    ///
    /// Differs from a cache that is cloned in that processes needn't know of each other. Each has its
    /// own cache in front, whose requests ask nobody while it holds a token.
    ///
    /// ```
    /// use tower_oauth::{AccessToken, TokenCache, TokenSource, store};
    ///
    /// let source = || async { Ok(AccessToken::bearer("mF_9.B5f-4.1JqM")?) };
    /// let cache = TokenCache::from(source.shared(store::Memory::new()).named("accounts"));
    /// # drop(cache);
    /// ```
    fn shared(self, store: impl TokenStore) -> Shared<Self>
    where
        Self: Sized,
    {
        Shared::new(self, store)
    }

    /// Makes no more than so many token requests in each period; where the source is
    /// [`shared`](Self::shared), all processes together.
    ///
    /// ```
    /// use tower_oauth::{AccessToken, Per, TokenCache, TokenSource};
    ///
    /// let source = || async { Ok(AccessToken::bearer("mF_9.B5f-4.1JqM")?) };
    /// let source = source.budget(1_000, Per::Month);
    /// let budget = source.watch();
    /// let cache = TokenCache::builder(source).thrifty().build();
    /// assert_eq!(budget.remaining(), 1_000);
    /// # drop(cache);
    /// ```
    fn budget(self, requests: u32, per: impl Into<Per>) -> Budgeted<Self>
    where
        Self: Sized,
    {
        Budgeted::new(self, requests, per.into())
    }

    /// Says what its tokens depend on, so that two sources share one only if it would be the same. By
    /// default that isn't known, and a source that is [`shared`](Self::shared) needs a
    /// [name](Shared::named).
    ///
    /// ```
    /// use tower_oauth::{AccessToken, Demand, Identity, TokenError, TokenSource};
    ///
    /// struct Tenant(String);
    ///
    /// impl TokenSource for Tenant {
    ///     async fn token(&self, _: Demand<'_>) -> Result<AccessToken, TokenError> {
    ///         Ok(AccessToken::bearer(format!("token-of-{}", self.0))?)
    ///     }
    ///
    ///     fn identify(&self, identity: &mut Identity) {
    ///         identity.part("tenant", &self.0);
    ///     }
    /// }
    /// ```
    fn identify(&self, identity: &mut Identity) {
        identity.is_unknown("this one doesn't (a closure, or a source of one's own)");
    }
}

impl<F, T> TokenSource for F
where
    F: Fn() -> T + Send + Sync + 'static,
    T: Future<Output = Result<AccessToken, TokenError>> + Send,
{
    fn token(&self, _: Demand<'_>) -> impl Future<Output = Result<AccessToken, TokenError>> + Send {
        self()
    }
}

/// A token that somebody else keeps fresh, such as a file of the platform
/// ([`Secret::from_file`]): whatever the text is when a token is asked for. A text that can be no
/// token is a permanent error; that its provider failed, a transient one.
impl TokenSource for Secret {
    async fn token(&self, _: Demand<'_>) -> Result<AccessToken, TokenError> {
        let text = self.reveal().map_err(TokenError::transient)?;
        Ok(AccessToken::bearer(&*text)?)
    }

    fn identify(&self, identity: &mut Identity) {
        match self.fixed() {
            Some(text) => identity.part("token", hmac_sha256::Hash::hash(text.as_bytes())),
            None => identity.is_unknown("this one has what a provider says at the time"),
        }
    }
}

/// A source behind a pointer, so that caches and layers need no type parameter for it. The box
/// is paid once per token, not per request.
pub(crate) trait ErasedSource: Send + Sync + 'static {
    fn token<'a>(&'a self, demand: Demand<'a>) -> SourceFuture<'a, AccessToken>;

    fn revoke<'a>(&'a self, held: Option<&'a AccessToken>) -> SourceFuture<'a, ()>;

    fn identify(&self, identity: &mut Identity);
}

pub(crate) type SourceFuture<'a, T> =
    Pin<Box<dyn Future<Output = Result<T, TokenError>> + Send + 'a>>;

impl<S: TokenSource> ErasedSource for S {
    fn token<'a>(&'a self, demand: Demand<'a>) -> SourceFuture<'a, AccessToken> {
        Box::pin(TokenSource::token(self, demand))
    }

    fn revoke<'a>(&'a self, held: Option<&'a AccessToken>) -> SourceFuture<'a, ()> {
        Box::pin(TokenSource::revoke(self, held))
    }

    fn identify(&self, identity: &mut Identity) {
        TokenSource::identify(self, identity);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::InvalidToken;

    #[tokio::test]
    async fn a_closure_is_a_source_and_a_bad_token_a_permanent_error() {
        let source = || async { Ok(AccessToken::bearer("not a token")?) };
        let error = TokenSource::token(&source, Demand::default())
            .await
            .unwrap_err();
        assert!(!error.is_transient());
        assert!(error.get_ref().is::<InvalidToken>());
        assert!(error.to_string().contains("byte 3"), "{error}");
    }
}
