//! A token that is shown to the authorization server to get another one.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    source::{Demand, ErasedSource, Identity, TokenError, TokenSource},
    token::AccessToken,
};

/// Where such tokens come from, and the one that the server refused last.
#[derive(Clone)]
pub(super) struct Presented {
    source: Arc<dyn ErasedSource>,
    refused: Arc<Mutex<Option<AccessToken>>>,
}

impl Presented {
    pub(super) fn by(source: impl TokenSource) -> Self {
        Self {
            source: Arc::new(source),
            refused: Arc::default(),
        }
    }

    /// One that isn't the one refused, if the source can help it.
    pub(super) async fn token(&self) -> Result<AccessToken, TokenError> {
        let refused = self.last_refused().clone();
        let demand = Demand::instead_of(refused.as_ref());
        let outcome = self.source.token(demand).await;
        // It may have no other. Then the one that was refused will do the next time: the server may
        // take it by now, or meant another one, and no refusal is final.
        if outcome.is_err() {
            self.last_refused()
                .take_if(|last| Some(&*last) == refused.as_ref());
        }
        outcome
    }

    /// Keeps in mind what the server said of `token`: a source with a memory of its own would hand
    /// it out again and again.
    pub(super) fn judged<T>(&self, token: AccessToken, outcome: &Result<T, TokenError>) {
        match outcome {
            Ok(_) => *self.last_refused() = None,
            Err(error) if error.oauth_code().is_some_and(blames_the_token) => {
                *self.last_refused() = Some(token);
            }
            Err(_) => {}
        }
    }

    /// Whom it stands for.
    pub(super) fn identify(&self, name: &str, identity: &mut Identity) {
        identity.within(name, |identity| self.source.identify(identity));
    }

    fn last_refused(&self) -> std::sync::MutexGuard<'_, Option<AccessToken>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// RFC 7523 §3.1 says `invalid_grant`, RFC 8693 §2.2.2 says `invalid_request`; some servers say
/// what a resource server would (RFC 6750 §3.1).
fn blames_the_token(code: &str) -> bool {
    matches!(code, "invalid_grant" | "invalid_request" | "invalid_token")
}

impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Presented(…)")
    }
}
