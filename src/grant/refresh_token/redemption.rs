//! What a flight does: redeems one refresh token, or gives it back.

use std::sync::Arc;

use super::{
    super::wanted::Wanted,
    error::{FlightError, Lack, NoRefreshToken},
    flight::Shared,
    holding::{Granted, Holding, Pair},
    rotation,
};
use crate::{
    endpoint::{EndpointError, TokenKind},
    secret::SecretString,
    source::{Entrusted, TokenError},
    token::AccessToken,
};

impl Shared {
    /// Gets an access token other than the `rejected` one.
    pub(super) async fn redeem(
        self: Arc<Self>,
        id: u64,
        wanted: &Wanted,
        rejected: Option<&AccessToken>,
    ) -> Result<Granted, TokenError> {
        match self.held(id)? {
            Holding::Pending(pair) => {
                self.acknowledge(id, &pair).await?;
                let fits = pair.wanted.is_like(wanted);
                if fits && pair.granted.is_worth_it(rejected, &self.clock) {
                    return Ok(pair.granted);
                }
            }
            Holding::AccessOnly(granted) => {
                return if !wanted.is_like(&Wanted::default()) {
                    Err(lack(Lack::OtherScope))
                } else if granted.is_worth_it(rejected, &self.clock) {
                    Ok(granted)
                } else {
                    Err(lack(Lack::NotSent))
                };
            }
            _ => {}
        }
        let refresh_token = self.next_refresh_token(id)?;
        match self.send(id, wanted, refresh_token.clone()).await {
            Err(error) if error.is_invalid_grant() => {
                self.hold(id, Holding::Refused(refresh_token.clone()));
                match self.newer_than(Some(&refresh_token)) {
                    Some(newer) => self.last_chance(id, wanted, newer).await,
                    None => Err(error),
                }
            }
            outcome => outcome,
        }
    }

    /// A refresh token that the server hasn't seen yet, after it refused the one before.
    async fn last_chance(
        &self,
        id: u64,
        wanted: &Wanted,
        newer: SecretString,
    ) -> Result<Granted, TokenError> {
        self.hold(id, Holding::Ready(newer.clone()));
        let outcome = self.send(id, wanted, newer.clone()).await;
        if let Err(error) = &outcome
            && error.is_invalid_grant()
        {
            self.hold(id, Holding::Refused(newer));
        }
        outcome
    }

    /// The refresh token to send.
    fn next_refresh_token(&self, id: u64) -> Result<SecretString, TokenError> {
        let next = match self.held(id)? {
            Holding::Ready(refresh_token) | Holding::Unpaired(refresh_token) => {
                return Ok(refresh_token);
            }
            // Acknowledged by now.
            Holding::Pending(pair) => pair.refresh_token,
            Holding::Unasked => {
                let first = self.first.as_ref().ok_or_else(|| lack(Lack::NotSent))?;
                let first = first
                    .reveal()
                    .map_err(|cause| TokenError::transient(FlightError::NoProvision(cause)))?;
                check(&first).map_err(lack)?;
                self.is_news(&first);
                first
            }
            Holding::Refused(refused) => self.newer_than(Some(&refused)).unwrap_or(refused),
            Holding::Revoked(revoked) => self
                .newer_than(revoked.as_ref())
                .ok_or_else(|| lack(Lack::Revoked))?,
            Holding::AccessOnly(_) => return Err(lack(Lack::NotSent)),
        };
        self.hold(id, Holding::Ready(next.clone()));
        Ok(next)
    }

    /// What the provider says by now, if that was never sent: neither this one nor one before it,
    /// which a rotation has spent since. A provider may say such a one if it lags behind the hook.
    fn newer_than(&self, old: Option<&SecretString>) -> Option<SecretString> {
        let said = self.first.as_ref()?.reveal().ok()?;
        let usable = check(&said).is_ok() && old.is_none_or(|old| **old != *said);
        (usable && self.is_news(&said)).then_some(said)
    }

    /// One token request. Whatever it brings is held before anything else happens.
    ///
    /// Where no answer comes, the refresh token stays the one to send. The server may have redeemed
    /// it, and the answer was lost on the way; then sending it again may end the login, but without
    /// that answer there is nothing else to send, and the login is lost already. Servers with a
    /// grace period answer again.
    async fn send(
        &self,
        id: u64,
        wanted: &Wanted,
        refresh_token: SecretString,
    ) -> Result<Granted, TokenError> {
        let grant = [
            ("grant_type", "refresh_token"),
            ("refresh_token", &*refresh_token),
        ];
        let params = wanted.with(&grant)?;
        self.is_news(&refresh_token);
        let unpaired = matches!(self.held(id)?, Holding::Unpaired(_));
        let is_new = |new: &SecretString| **new != *refresh_token;
        let asked = self.clock.now();
        let response = self
            .endpoint
            .refresh(&params)
            .await
            .map_err(|(error, brought)| {
                if let Some(new) = brought.filter(is_new) {
                    self.hold(id, Holding::Unpaired(new));
                }
                error
            })?;
        let granted = Granted {
            token: response.token,
            asked,
        };
        // RFC 6749 §6: "The authorization server MAY issue a new refresh token, in which case the
        // client MUST discard the old refresh token and replace it with the new refresh token."
        let rotated = response.refresh_token.filter(is_new);
        let to_keep = rotated.or_else(|| unpaired.then(|| refresh_token.clone()));
        if let Some(new) = to_keep {
            let pair = Pair {
                refresh_token: new,
                granted: granted.clone(),
                wanted: wanted.clone(),
            };
            self.hold(id, Holding::Pending(pair.clone()));
            self.acknowledge(id, &pair).await?;
        }
        Ok(granted)
    }

    /// One token request for the refresh token that a store keeps. What it brings is that store's.
    pub(super) async fn redeem_entrusted(
        &self,
        wanted: &Wanted,
        entrusted: &Entrusted,
    ) -> Result<AccessToken, TokenError> {
        let redeemed = self.send_entrusted(wanted, entrusted).await;
        if let Err(error) = &redeemed
            && error
                .get_ref()
                .downcast_ref()
                .is_none_or(EndpointError::nothing_was_done)
        {
            entrusted.leave_untouched();
        }
        let (token, refresh_token) = redeemed?;
        if let (Some(hook), Some(refresh_token)) = (self.hook(), refresh_token) {
            let token = token.clone();
            let hand_over = async move { rotation::tell(refresh_token, token, &hook).await };
            entrusted.do_afterwards(Box::pin(hand_over));
        }
        Ok(token)
    }

    async fn send_entrusted(
        &self,
        wanted: &Wanted,
        entrusted: &Entrusted,
    ) -> Result<(AccessToken, Option<SecretString>), TokenError> {
        let Some(refresh_token) = entrusted.refresh_token() else {
            return Err(lack(match self.first {
                Some(_) => Lack::Empty,
                None => Lack::NothingToShare,
            }));
        };
        check(refresh_token).map_err(lack)?;
        let grant = [
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh_token),
        ];
        let params = wanted.with(&grant)?;
        let is_new = |new: &SecretString| **new != **refresh_token;
        match self.endpoint.refresh(&params).await {
            Ok(response) => {
                let new = response.refresh_token.filter(is_new);
                if let Some(new) = &new {
                    entrusted.bring(new.clone());
                }
                Ok((response.token, new))
            }
            Err((error, brought)) => {
                if let Some(new) = brought.filter(is_new) {
                    entrusted.bring(new);
                }
                Err(error)
            }
        }
    }

    /// Lets the hook keep a new pair; only then it may be used.
    async fn acknowledge(&self, id: u64, pair: &Pair) -> Result<(), TokenError> {
        if let Some(hook) = self.hook() {
            rotation::keep(pair, &hook).await?;
        }
        self.hold(id, Holding::Ready(pair.refresh_token.clone()));
        Ok(())
    }

    /// Revokes all that is known.
    pub(super) async fn give_back(
        self: Arc<Self>,
        id: u64,
        held: Option<AccessToken>,
    ) -> Result<(), TokenError> {
        let (refresh_token, access_token) = match self.held(id)? {
            Holding::Unasked => match self.next_refresh_token(id) {
                Ok(refresh_token) => (Some(refresh_token), None),
                Err(error) if error.get_ref().is::<NoRefreshToken>() => (None, None),
                Err(error) => return Err(error),
            },
            Holding::Ready(refresh_token)
            | Holding::Unpaired(refresh_token)
            | Holding::Refused(refresh_token) => (Some(refresh_token), None),
            Holding::Pending(pair) => (Some(pair.refresh_token), Some(pair.granted.token)),
            Holding::AccessOnly(granted) => (None, Some(granted.token)),
            Holding::Revoked(_) => (None, None),
        };
        let mut outcome = Ok(());
        if let Some(refresh_token) = &refresh_token {
            let kind = TokenKind::RefreshToken;
            outcome = self.endpoint.revoke(refresh_token, kind).await;
        }
        if outcome.is_ok() {
            self.hold(id, Holding::Revoked(refresh_token));
        }
        let access_token = access_token.filter(|token| held.as_ref() != Some(token));
        for token in [held, access_token].into_iter().flatten() {
            let revoked = self.endpoint.revoke_held(Some(&token)).await;
            // RFC 7009 §2: servers "SHOULD support the revocation of access tokens". Where one
            // doesn't, the refresh token was what mattered.
            let kept = matches!(&revoked, Err(error) if is_unsupported(error));
            if !kept {
                outcome = outcome.and(revoked);
            }
        }
        outcome
    }
}

fn lack(lack: Lack) -> TokenError {
    TokenError::permanent(NoRefreshToken(lack))
}

/// RFC 6749 A.17: `refresh-token = 1*VSCHAR`. A request carries other text as well, so only what
/// shows a mistake is refused.
fn check(refresh_token: &str) -> Result<(), Lack> {
    if refresh_token.is_empty() {
        return Err(Lack::Empty);
    }
    if refresh_token.contains(char::is_control) {
        return Err(Lack::ControlCharacter);
    }
    Ok(())
}

/// RFC 7009 §2.2.1.
fn is_unsupported(error: &TokenError) -> bool {
    error.oauth_code() == Some("unsupported_token_type")
}
