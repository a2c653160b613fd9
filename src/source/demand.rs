//! What is asked of a source.

use std::{fmt, sync::Arc};

use super::{entrusted::Entrusted, erased_store::ErasedStore, token_store::StoreKey};
use crate::token::AccessToken;

/// What is asked of a [`TokenSource`](crate::TokenSource).
#[derive(Debug, Clone, Copy, Default)]
pub struct Demand<'a> {
    rejected: Option<&'a AccessToken>,
    held: Option<&'a AccessToken>,
    sharing: Option<Sharing<'a>>,
    /// It is asked of one of several sources in a share, whose record has room for one's secrets.
    lends_nothing: bool,
}

/// What a shared source lends to the one inside.
#[derive(Clone, Copy)]
pub(super) struct Sharing<'a> {
    pub(super) store: &'a Arc<dyn ErasedStore>,
    pub(super) key: &'a StoreKey,
    pub(super) entrusted: &'a Entrusted,
}

impl<'a> Demand<'a> {
    /// The token that a server has just refused, or that a caller wants a newer one than
    /// ([`Fresh`](crate::Fresh)), if any: a source that caches must not hand it back.
    pub fn rejected(&self) -> Option<&'a AccessToken> {
        self.rejected
    }

    /// The token that serves on meanwhile, if any: it is to be renewed ahead of time, and nobody waits.
    pub fn held(&self) -> Option<&'a AccessToken> {
        self.held
    }

    /// The token that a server has just refused. One that a caller only wants a newer one than serves on
    /// meanwhile.
    pub(super) fn refused(&self) -> Option<&'a AccessToken> {
        self.rejected.filter(|rejected| self.held != Some(rejected))
    }

    pub(crate) fn instead_of(rejected: Option<&'a AccessToken>) -> Self {
        Self {
            rejected,
            ..Self::default()
        }
    }

    pub(crate) fn while_held(mut self, held: Option<&'a AccessToken>) -> Self {
        self.held = held;
        self
    }

    pub(super) fn in_a_share(mut self, sharing: Sharing<'a>) -> Self {
        self.sharing = Some(sharing);
        self.lends_nothing = false;
        self
    }

    /// The same, asked of one of several sources: what the store keeps may be another one's.
    pub(super) fn lending_nothing(mut self) -> Self {
        self.lends_nothing = true;
        self
    }

    pub(super) fn sharing(&self) -> Option<Sharing<'a>> {
        self.sharing
    }

    /// What a store keeps for a source that redeems refresh tokens, where it is shared.
    pub(crate) fn entrusted(&self) -> Option<&'a Entrusted> {
        let sharing = self.sharing.filter(|_| !self.lends_nothing);
        sharing.map(|sharing| sharing.entrusted)
    }
}

impl fmt::Debug for Sharing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sharing")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}
