//! Who pays for a token request: found by whoever is about to send one.

use std::{future::Future, sync::Arc, time::SystemTime};

use super::{
    super::{Identity, TokenError, TokenSource},
    account::Need,
    ledger::Ledger,
};

tokio::task_local! {
    static PURSE: Arc<Purse>;
}

/// What the token requests of one call of a source are paid from.
pub(super) struct Purse {
    ledger: Ledger,
    need: Need,
    /// A budget around this one counts the same requests.
    outer: Option<Arc<Purse>>,
}

impl Purse {
    pub(super) fn new(ledger: Ledger, need: Need) -> Self {
        Self {
            ledger,
            need,
            outer: PURSE.try_with(Arc::clone).ok(),
        }
    }
}

/// Runs `work`, whose token requests are paid from `purse`.
pub(super) async fn with<T>(purse: Purse, work: impl Future<Output = T>) -> T {
    PURSE.scope(Arc::new(purse), work).await
}

/// One token request that was paid for.
#[derive(Default)]
pub(crate) struct Receipt {
    /// From where, and of which period.
    paid: Vec<(Ledger, SystemTime)>,
}

/// Pays for one token request before it is sent; costs nothing where nobody keeps a budget.
///
/// # Errors
///
/// A budget is spent, or can't be counted.
pub(crate) async fn pay() -> Result<Receipt, TokenError> {
    let mut receipt = Receipt::default();
    let mut next = PURSE.try_with(Arc::clone).ok();
    while let Some(purse) = next {
        match purse.ledger.spend(purse.need).await {
            Ok(period) => receipt.paid.push((purse.ledger.clone(), period)),
            Err(error) => {
                receipt.take_back().await;
                return Err(error);
            }
        }
        next = purse.outer.clone();
    }
    Ok(receipt)
}

/// Pays for a call of a source that doesn't say when it sends: it is taken to do it once each time.
///
/// # Errors
///
/// As [`pay`].
pub(crate) async fn pay_for_a_call_of(source: &impl TokenSource) -> Result<(), TokenError> {
    // To identify itself may cost a source something.
    if PURSE.try_with(|_| ()).is_err() {
        return Ok(());
    }
    let mut identity = Identity::new();
    source.identify(&mut identity);
    if !identity.metered() {
        pay().await?;
    }
    Ok(())
}

impl Receipt {
    /// What was paid for wasn't sent. Where it can't be taken back, it stays spent.
    pub(crate) async fn take_back(self) {
        for (ledger, period) in self.paid {
            ledger.refund(period).await;
        }
    }
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
