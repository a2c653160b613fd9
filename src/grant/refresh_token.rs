//! The refresh token grant (RFC 6749 §6).

use std::sync::Arc;

use tokio::sync::Mutex;

use super::wanted::Wanted;
use crate::{
    clock::Moment,
    endpoint::{TokenEndpoint, TokenResponse},
    secret::{Secret, SecretString},
    source::{Demand, TokenError, TokenSource},
    token::AccessToken,
};

/// Tokens by a refresh token (RFC 6749 §6), as a login leaves one.
#[derive(Clone)]
pub struct RefreshToken {
    endpoint: TokenEndpoint,
    wanted: Wanted,
    latest: Arc<Mutex<Option<SecretString>>>,
    first: Secret,
}

impl RefreshToken {
    /// Asks `endpoint` for tokens, the first time with `refresh_token`.
    pub fn new(endpoint: TokenEndpoint, refresh_token: impl Into<Secret>) -> Self {
        Self {
            endpoint,
            wanted: Wanted::default(),
            latest: Arc::default(),
            first: refresh_token.into(),
        }
    }

    /// What a login yielded: its access token is handed out first, with what is left of its
    /// lifetime since it was `asked` for.
    #[expect(dead_code, reason = "logins follow")]
    pub(super) fn logged_in(
        endpoint: TokenEndpoint,
        response: TokenResponse,
        asked: Moment,
    ) -> Self {
        let _ = asked;
        let mut this = Self::new(endpoint, Secret::from(""));
        this.latest = Arc::new(Mutex::new(response.refresh_token));
        this
    }
}

impl TokenSource for RefreshToken {
    async fn token(&self, _: Demand<'_>) -> Result<AccessToken, TokenError> {
        let mut latest = self.latest.lock().await;
        let refresh_token = match &*latest {
            Some(latest) => latest.clone(),
            None => self.first.reveal().map_err(TokenError::transient)?,
        };
        let grant = [
            ("grant_type", "refresh_token"),
            ("refresh_token", &*refresh_token),
        ];
        let response = self.endpoint.exchange(&self.wanted.with(&grant)?).await?;
        if response.refresh_token.is_some() {
            *latest = response.refresh_token;
        }
        Ok(response.token)
    }
}
