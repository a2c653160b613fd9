//! The refresh token that a store keeps for a source, on its way there and back.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::TokenError;
use crate::secret::SecretString;

/// A refresh token out of a store, lent for one token request, and what that request made of it.
///
/// The source says what it learned as soon as it does, and also where it fails: what isn't said can't
/// be known any more.
#[derive(Default)]
pub(crate) struct Entrusted {
    refresh_token: Option<SecretString>,
    brought: Mutex<Option<SecretString>>,
    untouched: AtomicBool,
    afterwards: Mutex<Option<Afterwards>>,
}

/// What is left to do once what the request brought is kept.
pub(crate) type Afterwards = Pin<Box<dyn Future<Output = Result<(), TokenError>> + Send>>;

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

    /// What must succeed before the access token is handed out, once the refresh token is kept.
    pub(crate) fn do_afterwards(&self, work: Afterwards) {
        *self
            .afterwards
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(work);
    }

    pub(super) fn afterwards(&self) -> Option<Afterwards> {
        let mut afterwards = self
            .afterwards
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        afterwards.take()
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
