//! Who pays for a token request: found by whoever is about to send one.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use super::{super::TokenError, account::Need, ledger::Ledger};

tokio::task_local! {
    static PURSE: Arc<Purse>;
}

/// What the token requests of one call of a source are paid from.
pub(super) struct Purse {
    pub(super) ledger: Ledger,
    pub(super) need: Need,
    pub(super) unsent: AtomicU32,
}

/// Runs `work`, whose token requests are paid from `purse`.
pub(super) async fn with<T>(purse: Arc<Purse>, work: impl Future<Output = T>) -> T {
    PURSE.scope(purse, work).await
}

/// Pays for one token request before it is sent; costs nothing where nobody keeps a budget.
///
/// # Errors
///
/// The budget is spent, or it can't be counted.
pub(crate) async fn pay() -> Result<(), TokenError> {
    let Ok(purse) = PURSE.try_with(Arc::clone) else {
        return Ok(());
    };
    purse.ledger.spend(purse.need).await
}

/// What was paid for wasn't sent.
pub(crate) fn unsent() {
    // Relaxed: who asks has awaited who said so.
    let _ = PURSE.try_with(|purse| purse.unsent.fetch_add(1, Ordering::Relaxed));
}

/// The same work for a task of its own, which pays from the purse of whoever starts it.
pub(crate) fn carried<T>(work: impl Future<Output = T>) -> impl Future<Output = T> {
    let purse = PURSE.try_with(Arc::clone).ok();
    async move {
        match purse {
            Some(purse) => PURSE.scope(purse, work).await,
            None => work.await,
        }
    }
}
