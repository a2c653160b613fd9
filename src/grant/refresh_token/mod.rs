//! The refresh token grant (RFC 6749 §6), as logins leave it behind.
//!
//! ```text
//! RefreshToken ──▶ flight ──▶ redemption ──▶ rotation
//! (a clone, its    (one at    (one refresh    (the new pair is kept
//!  scope)           a time)    token, once)    by whoever asked for it)
//! ```

mod error;
mod flight;
mod holding;
mod redemption;
mod rotation;

use std::{fmt, future::Future, sync::Arc};

use self::{flight::Shared, holding::Holding};
use super::wanted::Wanted;
use crate::{
    clock::Moment,
    endpoint::{TokenEndpoint, TokenResponse},
    secret::Secret,
    source::{BoxError, Demand, Identity, TokenError, TokenSource},
    token::AccessToken,
};

pub use self::{error::NoRefreshToken, rotation::Rotation};

/// Tokens by a refresh token (RFC 6749 §6), as a login leaves one: for a user, or for a server that
/// hands out no tokens otherwise.
///
/// Many servers rotate: each answer brings a new refresh token, and the old one is dead; sent once
/// more it ends the login. So a refresh token is redeemed on a task of its own, one at a time for
/// all clones: a caller that goes away cancels nothing, and callers that come meanwhile share the
/// outcome. [`on_rotation`](Self::on_rotation) gets each new refresh token before it is used, to
/// keep it for the next start of the program.
///
/// ```
/// # #[cfg(feature = "https-client")] {
/// use tower_oauth::{ClientAuth, RefreshToken, Secret, TokenEndpoint};
///
/// let endpoint = TokenEndpoint::builder("https://auth.example.com/oauth/token")
///     .client_auth(ClientAuth::none("client-id"))
///     .build()?;
/// let kept = Secret::from_file("refresh-token");
/// let source = RefreshToken::new(endpoint, kept).on_rotation(|pair| async move {
///     let new = pair.refresh_token().to_owned();
///     tokio::task::spawn_blocking(move || {
///         std::fs::write("refresh-token.new", new)?;
///         std::fs::rename("refresh-token.new", "refresh-token")
///     })
///     .await??;
///     Ok(())
/// });
/// # drop(source);
/// # }
/// # Ok::<(), tower_oauth::EndpointConfigError>(())
/// ```
///
/// Clones share the refresh token. Two sources that were made from the same text don't, and neither
/// do two processes, where the server rotates one of them loses; unless they share a store
/// ([`TokenSource::shared`]), which is stricter in what follows.
///
/// If the answer never comes (a timeout, a broken connection), the same refresh token is sent
/// again by the next call. If the server says that it is invalid (`invalid_grant`), a [`Secret`]
/// with a provider is asked for another; one that the server hasn't seen is redeemed in the same
/// call, so that a new login needs no restart.
#[derive(Clone)]
pub struct RefreshToken {
    wanted: Wanted,
    shared: Arc<Shared>,
}

impl RefreshToken {
    /// Asks `endpoint` for tokens, the first time with `refresh_token`; from then on with what the
    /// server sends.
    ///
    /// A [`Secret`] with a provider is asked when the first token is, and again after an
    /// `invalid_grant`.
    pub fn new(endpoint: TokenEndpoint, refresh_token: impl Into<Secret>) -> Self {
        Self::holding(endpoint, Some(refresh_token.into()), Holding::Unasked)
    }

    /// What a login yielded: its access token is handed out first, with what is left of its
    /// lifetime since it was `asked` for.
    pub(super) fn logged_in(
        endpoint: TokenEndpoint,
        response: TokenResponse,
        asked: Moment,
    ) -> Self {
        let holding = Holding::after_login(response, asked);
        Self::holding(endpoint, None, holding)
    }

    fn holding(endpoint: TokenEndpoint, first: Option<Secret>, holding: Holding) -> Self {
        Self {
            wanted: Wanted::default(),
            shared: Arc::new(Shared::new(endpoint, first, holding)),
        }
    }

    /// Sets the scope to ask for, words separated by spaces; by default none is asked for, and the
    /// tokens have the scope of the login (RFC 6749 §6, which allows no more than that).
    ///
    /// Clones may ask for different scopes by one refresh token. The access token of a login, which
    /// is handed out first, is skipped where a scope or a resource is set. With a scope that
    /// RFC 6749 doesn't allow, each request for a token fails with
    /// [`InvalidScope`](crate::InvalidScope), and nothing is sent.
    #[must_use]
    pub fn scope(mut self, scope: impl AsRef<str>) -> Self {
        self.wanted.scope(scope.as_ref());
        self
    }

    /// Adds a resource server that the tokens are for, an absolute URI without a fragment
    /// (RFC 8707 §2.2); by default none is named, and the server chooses.
    ///
    /// With one that isn't, each request for a token fails with
    /// [`InvalidResource`](crate::InvalidResource), and nothing is sent.
    #[must_use]
    pub fn resource(mut self, uri: impl Into<String>) -> Self {
        self.wanted.resource(uri.into());
        self
    }

    /// Says that the server takes a refresh token that is sent again: it doesn't rotate them, or grants a
    /// grace period. By default that isn't known.
    ///
    /// It matters where the source is [`shared`](TokenSource::shared), and a redemption was cut off
    /// before its answer was written down: then the refresh token is sent again, instead of failing
    /// with [`PossiblyRotated`](crate::PossiblyRotated). At a server that is stricter than this says,
    /// that ends the login.
    #[must_use]
    pub fn tolerates_replay(self) -> Self {
        self.shared.set_tolerates_replay();
        self
    }

    /// Sets what keeps a new refresh token, for all clones; by default it is kept in memory only,
    /// and a restart of the program needs a new login where the server rotates.
    ///
    /// It is called whenever the refresh token is another one, and for the refresh token of a
    /// login. Before it has said `Ok`, the new access token isn't handed out and the new refresh
    /// token isn't redeemed. If it fails, panics or takes longer than a minute, the call for a
    /// token fails with a transient error; the new pair stays in memory, the old one is never sent
    /// again, and the next call for a token calls the hook again, with the same pair. A new refresh
    /// token beside an access token that can't be used is no pair: it is redeemed for one first.
    ///
    /// Where the source is [`shared`](TokenSource::shared), the store keeps the pair, and the hook is
    /// called once, after that: where it fails, that one call for a token fails, and what the store
    /// has is used on.
    ///
    /// The hook must not ask this source for a token, not even through a layer: it would wait for
    /// itself until its minute is over.
    #[must_use]
    pub fn on_rotation<H, F>(self, hook: H) -> Self
    where
        H: Fn(Rotation) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.shared
            .set_hook(Arc::new(move |pair| Box::pin(hook(pair))));
        self
    }
}

impl TokenSource for RefreshToken {
    async fn token(&self, demand: Demand<'_>) -> Result<AccessToken, TokenError> {
        match demand.entrusted() {
            Some(entrusted) => self.shared.redeem_entrusted(&self.wanted, entrusted).await,
            None => self.shared.token(&self.wanted, demand.rejected()).await,
        }
    }

    /// Revokes the refresh token, and then the access tokens that are known, as not every server
    /// ends those with it (RFC 7009 §2.1). A redemption under way is waited for. Afterwards the
    /// source holds no refresh token.
    ///
    /// Without a [`revocation_endpoint`](crate::TokenEndpointBuilder::revocation_endpoint) nothing
    /// is sent. If the refresh token can't be revoked, the source keeps it, so that it can be
    /// tried again.
    async fn revoke(&self, held: Option<&AccessToken>) -> Result<(), TokenError> {
        self.shared.revoke(held).await
    }

    /// Access tokens of different scopes lie in one record: the refresh token is the same.
    fn identify(&self, identity: &mut Identity) {
        identity.part("grant", "refresh_token");
        self.wanted.each(|name, value| identity.wish(name, value));
        self.shared.endpoint.identify(identity);
        identity.redeems(self.shared.login());
    }
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshToken")
            .field("endpoint", &self.shared.endpoint)
            .field("wanted", &self.wanted)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
