//! What tells the tokens of one configuration from those of another.

use std::{fmt, sync::Arc};

use hmac_sha256::Hash;

use super::{TokenError, erased_store::ErasedStore, token_store::StoreKey};
use crate::secret::SecretString;

/// What shapes the tokens of a source, from which a store's key is made: two configurations that
/// differ in any of it never share a token.
///
/// A source of one's own names all that its tokens depend on
/// ([`TokenSource::identify`](crate::TokenSource::identify)): which server, which client, for whom,
/// for what. Values are only hashed, never kept.
#[derive(Clone)]
pub struct Identity {
    shape: Hash,
    /// What differs between access tokens that one refresh token is good for.
    wish: Hash,
    unknown: Option<&'static str>,
    unshareable: Option<&'static str>,
    login: Option<Login>,
    is_metered: bool,
    store: Option<Arc<dyn ErasedStore>>,
}

/// The refresh token that a source redeems, as far as the source knows it.
#[derive(Clone)]
pub(crate) struct Login {
    /// The one it was configured with; `None` if there is none.
    pub(crate) seed: Result<Option<SecretString>, TokenError>,
    /// The server doesn't mind one that is sent again.
    pub(crate) tolerates_replay: bool,
    /// The seed follows the rotations, so that it tells nothing about whose login it is.
    pub(crate) seed_wanders: bool,
}

impl Identity {
    pub(super) fn new() -> Self {
        Self {
            shape: Hash::new(),
            wish: Hash::new(),
            unknown: None,
            unshareable: None,
            login: None,
            is_metered: false,
            store: None,
        }
    }

    /// Adds one thing that the tokens depend on, and what it is called.
    pub fn part(&mut self, name: &str, value: impl AsRef<[u8]>) {
        add(&mut self.shape, name, value.as_ref());
    }

    /// Adds what may differ between access tokens by one refresh token.
    pub(crate) fn wish(&mut self, name: &str, value: impl AsRef<[u8]>) {
        add(&mut self.wish, name, value.as_ref());
    }

    /// What the tokens depend on can't be known: only a name tells them apart.
    pub(crate) fn is_unknown(&mut self, because: &'static str) {
        self.unknown.get_or_insert(because);
    }

    /// The tokens come by a refresh token.
    pub(crate) fn redeems(&mut self, login: Login) {
        self.login = Some(login);
    }

    /// The source pays for each token request where it is sent ([`purse`](super::budget::purse)), or
    /// sends none.
    pub(crate) fn is_metered(&mut self) {
        self.is_metered = true;
    }

    /// The tokens lie in this store.
    pub(super) fn is_kept_in(&mut self, store: &Arc<dyn ErasedStore>) {
        self.store = Some(Arc::clone(store));
    }

    /// Adds the identity of a source that this one depends on.
    pub(crate) fn within(&mut self, name: &str, identify: impl FnOnce(&mut Self)) {
        let mut inner = Self::new();
        identify(&mut inner);
        self.part(name, inner.key().as_str());
        self.part(name, inner.tag().to_be_bytes());
        self.unknown = self.unknown.or(inner.unknown);
        self.unshareable = self.unshareable.or(inner.unshareable);
        if inner.login.is_some() {
            self.unshareable = Some(
                "the source that it depends on redeems refresh tokens, which each process would do by \
                 itself: share that one as well, as in TokenExchange::new(endpoint, \
                 login.shared(store)).shared(store)",
            );
        }
    }

    /// The tokens come from one of two.
    pub(super) fn are_either(&mut self, first: &Self, other: &Self) {
        for (name, either) in [("first", first), ("other", other)] {
            self.part(name, either.key().as_str());
            self.wish(name, either.tag().to_be_bytes());
            if let Some(because) = either.unknown {
                self.is_unknown(because);
            }
            if either.login.is_some() {
                self.unshareable = Some(
                    "one of two sources redeems refresh tokens, and a record has room for one login: \
                     share each by itself, as in one.shared(store).or_else(other.shared(store))",
                );
            }
            self.unshareable = self.unshareable.or(either.unshareable);
        }
        // A count has one place: better all processes' than this one's.
        self.store = first.store.clone().or_else(|| other.store.clone());
    }

    pub(super) fn metered(&self) -> bool {
        self.is_metered
    }

    pub(super) fn store(&self) -> Option<&Arc<dyn ErasedStore>> {
        self.store.as_ref()
    }

    pub(super) fn unknown(&self) -> Option<&'static str> {
        self.unknown
    }

    pub(super) fn unshareable(&self) -> Option<&'static str> {
        self.unshareable
    }

    pub(super) fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    pub(super) fn key(&self) -> StoreKey {
        StoreKey::of(&self.shape.finalize())
    }

    /// The hash of the wish, short: it tells a few access tokens in one record apart.
    pub(super) fn tag(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.wish.finalize();
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

/// Each with its length in front, so that no two lists of parts read the same.
fn add(hash: &mut Hash, name: &str, value: &[u8]) {
    for text in [name.as_bytes(), value] {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(parts: &[(&str, &str)]) -> StoreKey {
        let mut identity = Identity::new();
        for (name, value) in parts {
            identity.part(name, value);
        }
        identity.key()
    }

    // rule 67
    #[test]
    fn identities_that_differ_in_any_part_have_different_keys() {
        let lists: [&[(&str, &str)]; 7] = [
            &[],
            &[("a", "b")],
            &[("a", "c")],
            &[("ab", "")],
            &[("", "ab")],
            &[("a", "b"), ("a", "b")],
            &[("a", "ba"), ("", "b")],
        ];
        for (at, one) in lists.iter().enumerate() {
            for other in lists.iter().skip(at.saturating_add(1)) {
                assert_ne!(key(one), key(other), "{one:?} {other:?}");
            }
            assert_eq!(key(one), key(one));
        }
    }
}
