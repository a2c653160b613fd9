//! What the layer was told, for all its services.

use crate::{authorize::Authorize, cache::TokenCache, rejection::Judge};

/// What an [`OAuthLayer`](crate::OAuthLayer) was told.
#[derive(Debug, Clone)]
pub(crate) struct Choices {
    pub(crate) cache: TokenCache,
    pub(crate) authorize: Authorize,
    pub(crate) retry: Retry,
    pub(crate) judge: Judge,
    /// Whether every answer says which attempt it is to, or only those that had a refusal.
    pub(crate) report_attempts: bool,
}

/// Whether a refused request is sent once more.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Retry {
    /// Never.
    Never,
    /// Yes, if its body is at most this long.
    UpTo(usize),
}
