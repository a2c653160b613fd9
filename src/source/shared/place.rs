//! Where the tokens of a source lie, and which of them are its own.

use super::{
    super::{
        TokenError, TokenSource,
        identity::{Identity, Login},
        token_store::StoreKey,
    },
    error::SharedError,
};
use crate::secret::{NoRandomness, SecretString};

/// The key of a source's record, and what else its identity says.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) key: StoreKey,
    /// Which of the access tokens there.
    pub(super) tag: u64,
    pub(super) login: Option<Login>,
    /// Whether the source counts its own requests.
    pub(super) is_metered: bool,
    pub(super) has_name: bool,
}

impl Place {
    pub(super) fn of(source: &impl TokenSource, name: Option<&str>) -> Result<Self, TokenError> {
        let unnamed = |because| Err(TokenError::permanent(SharedError::Unnamed(because)));
        let mut identity = Identity::new();
        source.identify(&mut identity);
        if let Some(because) = identity.unshareable() {
            return Err(TokenError::permanent(SharedError::Unshareable(because)));
        }
        match (name, identity.unknown(), identity.login().cloned()) {
            (Some(name), ..) => identity.part("name", name),
            (None, Some(because), _) => return unnamed(because),
            (None, None, Some(login)) => {
                if login.seed_wanders {
                    return unnamed(
                        "its first refresh token is another one at each start, as on_rotation keeps the \
                         latest",
                    );
                }
                // A login is known by what it began with.
                let seed = login.seed?;
                let seed = seed.as_deref().unwrap_or_default();
                identity.part("login", hmac_sha256::Hash::hash(seed.as_bytes()));
            }
            (None, None, None) => {}
        }
        Ok(Self {
            key: identity.key(),
            tag: identity.tag(),
            login: identity.login().cloned(),
            is_metered: identity.metered(),
            has_name: name.is_some(),
        })
    }
}

/// A name that nobody else has, for a lease.
pub(super) fn owner() -> Result<SecretString, TokenError> {
    SecretString::random().map_err(|NoRandomness(cause)| {
        TokenError::transient(format!("the system gave no random numbers: {cause}"))
    })
}
