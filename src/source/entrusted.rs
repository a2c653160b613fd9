//! The refresh token that a store keeps for a source, on its way there and back.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use crate::secret::SecretString;

/// A refresh token out of a store, lent for one token request, and what that request made of it.
///
/// The source says what it learned as soon as it does, and also where it fails: what isn't said can't
/// be known any more.
#[derive(Debug, Default)]
pub(crate) struct Entrusted {
    refresh_token: Option<SecretString>,
    brought: Mutex<Option<SecretString>>,
    untouched: AtomicBool,
}

impl Entrusted {
    pub(super) fn with(refresh_token: Option<SecretString>) -> Self {
        Self {
            refresh_token,
            ..Self::default()
        }
    }

    /// The one to send.
    pub(crate) fn refresh_token(&self) -> Option<&SecretString> {
        self.refresh_token.as_ref()
    }

    /// The answer brought this one, whatever else is wrong with it.
    pub(crate) fn bring(&self, refresh_token: SecretString) {
        let mut brought = self.brought.lock().unwrap_or_else(PoisonError::into_inner);
        *brought = Some(refresh_token);
    }

    /// There was no access token, and the refresh token can't have been redeemed.
    pub(crate) fn leave_untouched(&self) {
        self.untouched.store(true, Ordering::Relaxed);
    }

    pub(super) fn brought(&self) -> Option<SecretString> {
        let brought = self.brought.lock().unwrap_or_else(PoisonError::into_inner);
        brought.clone()
    }

    /// Relaxed: who asks has awaited who said so.
    pub(super) fn is_untouched(&self) -> bool {
        self.untouched.load(Ordering::Relaxed)
    }
}
