//! What a refresh token source holds, and what it would redeem next.

use std::time::Duration;

use super::super::wanted::Wanted;
use crate::{
    clock::{Clock, Moment},
    endpoint::TokenResponse,
    secret::SecretString,
    token::AccessToken,
};

/// What there is in memory.
#[derive(Debug, Clone)]
pub(super) enum Holding {
    /// Nothing yet: the first refresh token is to be asked for.
    Unasked,
    /// The refresh token to redeem.
    Ready(SecretString),
    /// A pair that waits to be acknowledged by the hook. The refresh token before it is spent.
    Pending(Pair),
    /// The refresh token to redeem, which came with an access token that can't be used. The hook
    /// gets it with the next one. The refresh token before it is spent.
    Unpaired(SecretString),
    /// The server said `invalid_grant` to this one. Another one is asked for first; where there is
    /// none, it is tried again, as no failure is final.
    Refused(SecretString),
    /// A login brought an access token and no refresh token.
    AccessOnly(Granted),
    /// Nothing any more: it was revoked, and this one isn't taken again.
    Revoked(Option<SecretString>),
}

impl Holding {
    pub(super) fn after_login(response: TokenResponse, asked: Moment) -> Self {
        let granted = Granted {
            token: response.token,
            asked,
        };
        match response.refresh_token {
            Some(refresh_token) => Self::Pending(Pair {
                refresh_token,
                granted,
                wanted: Wanted::default(),
            }),
            None => Self::AccessOnly(granted),
        }
    }
}

/// What a rotation or a login brought.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    pub(super) refresh_token: SecretString,
    pub(super) granted: Granted,
    /// What the access token was asked for with.
    pub(super) wanted: Wanted,
}

/// An access token, and when it was asked for.
#[derive(Debug, Clone)]
pub(super) struct Granted {
    pub(super) token: AccessToken,
    pub(super) asked: Moment,
}

impl Granted {
    /// For a caller who asked later, and counts the lifetime from then.
    pub(super) fn for_one_who_asked(&self, at: Moment) -> AccessToken {
        let token = self.token.clone();
        match token.lifetime() {
            Some(lifetime) => {
                let left = self.asked.after(lifetime).remaining(at).min(lifetime);
                token.with_left(left)
            }
            None => token,
        }
    }

    /// Whether it is worth being handed out: it isn't the `rejected` one, and not nearly over, by
    /// the measure by which a cache lets go of a token.
    pub(super) fn is_worth_it(&self, rejected: Option<&AccessToken>, clock: &Clock) -> bool {
        if rejected == Some(&self.token) {
            return false;
        }
        let Some(lifetime) = self.token.lifetime() else {
            return true;
        };
        let tenth = lifetime.checked_div(10).unwrap_or_default();
        let left = self.asked.after(lifetime).remaining(clock.now());
        left > tenth.min(Duration::from_secs(30))
    }
}
