//! Why there is no token.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use super::{BoxError, BudgetSpent, or_else::Neither};
use crate::token::InvalidToken;

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

    /// Whether the server says that the grant itself is no good.
    pub(crate) fn is_invalid_grant(&self) -> bool {
        !self.transient && self.oauth_code().is_some_and(means_invalid_grant)
    }

    /// How long the server asked to be left alone (`Retry-After`, RFC 9110 §10.2.3).
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Whether a [`BudgetSpent`] is the reason, be it that of one of two sources
    /// ([`or_else`](crate::TokenSource::or_else)).
    pub(crate) fn is_budget_spent(&self) -> bool {
        match self.error.downcast_ref::<Neither>() {
            Some(neither) => neither.is_budget_spent(),
            None => self.error.is::<BudgetSpent>(),
        }
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

/// "Invalid, expired, revoked" (RFC 6749 §5.2), by the standard's code or by GitHub's or Slack's.
pub(crate) fn means_invalid_grant(code: &str) -> bool {
    [
        "invalid_grant",
        "bad_refresh_token",
        "invalid_refresh_token",
    ]
    .contains(&code)
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

#[cfg(test)]
mod tests {
    use super::*;

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
