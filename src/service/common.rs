//! What the clones of a service and their requests under way have in common.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::choices::{Choices, Retry};
use crate::cache::Shards;

/// One for all clones of a service.
pub(super) struct Common<S> {
    core: Arc<Core<S>>,
    holds: Shards<Arc<Hold<S>>>,
}

/// What a request under way needs, also when all clones of its service are gone.
struct Core<S> {
    choices: Choices,
    /// A clone of the inner service that is never called, of which second sends get clones of their
    /// own: to clone an HTTP client for each request would cost more than all that is done here. Behind
    /// a lock, for a service need not be `Sync`.
    spare: OnceLock<Mutex<S>>,
}

/// A request's hold on that. Each has a cache line to itself, where the requests of a thread are counted.
#[repr(align(128))]
pub(super) struct Hold<S>(Arc<Core<S>>);

impl<S> Common<S> {
    pub(super) fn new(choices: Choices) -> Self {
        let spare = OnceLock::new();
        Self {
            core: Arc::new(Core { choices, spare }),
            holds: Shards::new(),
        }
    }

    /// The same choices, for another inner service.
    pub(super) fn anew(&self) -> Self {
        Self::new(self.core.choices.clone())
    }

    #[inline]
    pub(super) fn choices(&self) -> &Choices {
        &self.core.choices
    }
}

impl<S: Clone> Common<S> {
    /// For a request that is sent by `inner`, or a clone of it.
    #[inline]
    pub(super) fn hold(&self, inner: &S) -> Arc<Hold<S>> {
        if let Retry::UpTo(_) = self.core.choices.retry {
            self.core.spare.get_or_init(|| Mutex::new(inner.clone()));
        }
        let hold = || Arc::new(Hold(Arc::clone(&self.core)));
        Arc::clone(self.holds.mine(hold))
    }
}

impl<S> Hold<S> {
    #[inline]
    pub(super) fn choices(&self) -> &Choices {
        &self.0.choices
    }
}

impl<S: Clone> Hold<S> {
    /// A service for the second send; `None` where there is none.
    pub(super) fn spare(&self) -> Option<S> {
        let spare = self.0.spare.get()?.lock();
        Some(spare.unwrap_or_else(PoisonError::into_inner).clone())
    }
}
