//! Where tokens come from: the one trait in which the request's way and the token's way meet.

mod caught;
mod file;
mod or_else;

use std::{error::Error, fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use crate::{
    secret::Secret,
    token::{AccessToken, InvalidToken},
};

pub(crate) use self::caught::{Panicked, caught};
pub use self::{
    file::{FileToken, FileTokenError},
    or_else::OrElse,
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

    /// Asks `other` where this one has no token, or only the one that was just refused.
    ///
    /// The first is asked first each time. Where both fail, the error names both.
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
}

/// What is asked of a [`TokenSource`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Demand<'a> {
    rejected: Option<&'a AccessToken>,
}

impl<'a> Demand<'a> {
    /// The token that a server has just refused, or that a caller wants a newer one than
    /// ([`Fresh`](crate::Fresh)), if any: a source that caches must not hand it back.
    pub fn rejected(&self) -> Option<&'a AccessToken> {
        self.rejected
    }

    pub(crate) fn instead_of(rejected: Option<&'a AccessToken>) -> Self {
        Self { rejected }
    }
}

/// Why there is no token. Cheap to clone: one failure is handed to every caller that waited.
///
/// It displays as the error it was made from, and leads to that one's cause by
/// [`source`](Error::source). The error itself can be had, too:
///
/// ```
/// use tower_oauth::{BoxError, EndpointError, TokenError};
///
/// fn wrong_credentials(error: &BoxError) -> bool {
///     let Some(error) = error.downcast_ref::<TokenError>() else {
///         return false; // the inner service's own
///     };
///     let refused = error.get_ref().downcast_ref::<EndpointError>();
///     matches!(refused, Some(EndpointError::Refused { code: Some(code), .. }) if code == "invalid_client")
/// }
/// # let error: BoxError = TokenError::transient("down").into();
/// # assert!(!wrong_credentials(&error));
/// ```
#[derive(Clone)]
pub struct TokenError {
    transient: bool,
    oauth_code: Option<Arc<str>>,
    retry_after: Option<Duration>,
    error: Arc<dyn Error + Send + Sync>,
}

impl TokenError {
    /// A failure that may pass by itself: the network, an overloaded server.
    pub fn transient(error: impl Into<BoxError>) -> Self {
        Self::judged(true, None, None, error.into())
    }

    /// A failure that lasts until somebody acts: refused credentials, a wrong URL.
    ///
    /// It is no terminal state: the cache tries again, only less often.
    pub fn permanent(error: impl Into<BoxError>) -> Self {
        Self::judged(false, None, None, error.into())
    }

    /// For errors that know whether they may pass, and what the server said besides.
    pub(crate) fn judged(
        transient: bool,
        oauth_code: Option<&str>,
        retry_after: Option<Duration>,
        error: BoxError,
    ) -> Self {
        Self {
            transient,
            oauth_code: oauth_code.map(Arc::from),
            retry_after,
            error: Arc::from(error),
        }
    }

    /// Adds the authorization server's error code (RFC 6749 §5.2); none by default.
    #[must_use]
    pub fn with_oauth_code(mut self, code: impl AsRef<str>) -> Self {
        self.oauth_code = Some(Arc::from(code.as_ref()));
        self
    }

    /// Adds how long the server asked to be left alone; by default it didn't say. The cache waits
    /// an hour at most.
    #[must_use]
    pub fn with_retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// Whether the failure may pass by itself.
    pub fn is_transient(&self) -> bool {
        self.transient
    }

    /// The authorization server's error code (RFC 6749 §5.2), such as `invalid_client`.
    pub fn oauth_code(&self) -> Option<&str> {
        self.oauth_code.as_deref()
    }

    /// How long the server asked to be left alone (`Retry-After`, RFC 9110 §10.2.3).
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The error this one was made from, to be downcast.
    pub fn get_ref(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.error
    }
}

impl From<InvalidToken> for TokenError {
    fn from(error: InvalidToken) -> Self {
        Self::permanent(error)
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl fmt::Debug for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenError")
            .field("transient", &self.transient)
            .field("oauth_code", &self.oauth_code)
            .field("retry_after", &self.retry_after)
            .field("error", &self.error)
            .finish()
    }
}

impl Error for TokenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

/// The longest that a server is left alone because it asked for it: one that asks for more is
/// likelier wrong than patient.
pub(crate) const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60 * 60);

/// A source behind a pointer, so that caches and layers need no type parameter for it. The box
/// is paid once per token, not per request.
pub(crate) trait ErasedSource: Send + Sync + 'static {
    fn token<'a>(&'a self, demand: Demand<'a>) -> SourceFuture<'a, AccessToken>;

    fn revoke<'a>(&'a self, held: Option<&'a AccessToken>) -> SourceFuture<'a, ()>;
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
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn an_error_says_what_its_maker_said() {
        let io = std::io::Error::other("no route to host");
        let error = TokenError::transient(io).with_retry_after(Duration::from_secs(7));
        assert!(error.is_transient());
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
        assert_eq!(error.oauth_code(), None);
        assert_eq!(error.to_string(), "no route to host");
    }
}
