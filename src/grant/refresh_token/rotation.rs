//! A new refresh token is kept before it is used.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::time::{error::Elapsed, timeout};

use super::{
    error::{HookProblem, RotationError},
    holding::Pair,
};
use crate::{
    secret::SecretString,
    source::{BoxError, Panicked, TokenError, caught},
    token::AccessToken,
};

/// How long a hook may take. One that never ends would otherwise hold up all callers for good.
pub(super) const HOOK_LIMIT: Duration = Duration::from_secs(60);

/// What keeps a new pair.
pub(super) type Hook = Arc<
    dyn Fn(Rotation) -> Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>> + Send + Sync,
>;

/// A new pair of tokens, to be kept together:
/// [`RefreshToken::on_rotation`](crate::RefreshToken::on_rotation).
///
/// It prints neither of them.
#[derive(Clone)]
pub struct Rotation {
    refresh_token: SecretString,
    access_token: AccessToken,
}

impl Rotation {
    /// The refresh token to begin with after a restart; the one before it is spent.
    pub fn refresh_token(&self) -> &str {
        &self.refresh_token
    }

    /// The access token that came with it. Its lifetime counts from when it was asked for.
    pub fn access_token(&self) -> &AccessToken {
        &self.access_token
    }
}

impl fmt::Debug for Rotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rotation")
            .field("access_token", &self.access_token)
            .finish_non_exhaustive()
    }
}

/// Hands the pair to the hook, and waits until it is kept.
pub(super) async fn keep(pair: &Pair, hook: &Hook) -> Result<(), TokenError> {
    let rotation = Rotation {
        refresh_token: pair.refresh_token.clone(),
        access_token: pair.granted.token.clone(),
    };
    hand_over(rotation, hook, false).await
}

/// The same for a pair that a store keeps.
pub(super) async fn tell(
    refresh_token: SecretString,
    access_token: AccessToken,
    hook: &Hook,
) -> Result<(), TokenError> {
    let rotation = Rotation {
        refresh_token,
        access_token,
    };
    hand_over(rotation, hook, true).await
}

async fn hand_over(rotation: Rotation, hook: &Hook, is_stored: bool) -> Result<(), TokenError> {
    // A hook may panic before there is a future to poll.
    let keeping = async { hook(rotation).await };
    let problem = match caught(timeout(HOOK_LIMIT, keeping)).await {
        Ok(Ok(Ok(()))) => return Ok(()),
        Ok(Ok(Err(cause))) => HookProblem::Failed(cause),
        Ok(Err(Elapsed { .. })) => HookProblem::TimedOut(HOOK_LIMIT),
        Err(Panicked) => HookProblem::Panicked,
    };
    Err(TokenError::transient(RotationError { problem, is_stored }))
}
