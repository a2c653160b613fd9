//! Where the count stands: in this process's memory, or in the store that the tokens lie in.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use super::{
    super::{
        TokenError,
        erased_store::ErasedStore,
        token_store::{Record, StoreError, StoreKey, Written},
    },
    account::{Account, Denied, Need, Terms},
    error::BudgetSpent,
};
use crate::{clock::Clock, metrics};

/// How often a count is read anew that others change at the same time.
const MOST_TRIES: usize = 64;

/// How long after its period a count is kept.
const AFTER_ITS_END: Duration = Duration::from_secs(24 * 60 * 60);

/// What all clones of a source with a budget share.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) terms: Terms,
    pub(super) clock: Clock,
    /// As this process knows it.
    account: Mutex<Account>,
}

impl Book {
    pub(super) fn new(terms: Terms, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            terms,
            clock,
            account: Mutex::default(),
        })
    }

    /// As this process knows it, now.
    pub(super) fn account(&self) -> (Account, SystemTime) {
        let now = self.clock.now().wall;
        let (account, period) = self.lock().at(now, &self.terms);
        (account, period.end)
    }

    fn lock(&self) -> MutexGuard<'_, Account> {
        // Nothing that runs under the lock leaves it half done.
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A book, and the store where all processes write into the same one.
#[derive(Clone)]
pub(super) struct Ledger {
    pub(super) book: Arc<Book>,
    pub(super) store: Option<(Arc<dyn ErasedStore>, StoreKey)>,
}

impl Ledger {
    /// Counts one more token request before it is sent: a process that is killed has spent it.
    ///
    /// # Errors
    ///
    /// [`BudgetSpent`], or the store's: what can't be counted must not be sent.
    pub(super) async fn spend(&self, need: Need) -> Result<(), TokenError> {
        let terms = &self.book.terms;
        let now = self.book.clock.now().wall;
        let counted = self
            .change(|account| account.spend(terms, need, now))
            .await?;
        match counted {
            Ok(account) => {
                metrics::budget(terms.requests, account.spent);
                Ok(())
            }
            Err(Denied { spent, next }) => {
                let wait = next.duration_since(now).unwrap_or_default();
                let spent = BudgetSpent {
                    requests: terms.requests,
                    per: terms.per,
                    spent,
                    next,
                };
                Err(TokenError::transient(spent).with_retry_after(wait))
            }
        }
    }

    /// Takes back what was counted and not sent. Where that fails, it stays spent.
    pub(super) async fn refund(&self, requests: u32) {
        let _ = self.change(|account| Ok(account.refund(requests))).await;
    }

    async fn change(
        &self,
        change: impl Fn(Account) -> Result<Account, Denied>,
    ) -> Result<Result<Account, Denied>, StoreError> {
        let Some((store, key)) = &self.store else {
            let mut account = self.book.lock();
            let changed = change(*account);
            if let Ok(changed) = changed {
                *account = changed;
            }
            return Ok(changed);
        };
        for _ in 0..MOST_TRIES {
            let there = store.read(key).await?;
            let generation = there.as_ref().map(Record::generation);
            let counted = match &there {
                Some(record) => Account::read(record.text()).ok_or_else(|| not_a_count(key))?,
                None => Account::default(),
            };
            // A store that has forgotten gets back what this process knows.
            let counted = counted.max(*self.book.lock());
            let changed = match change(counted) {
                Ok(changed) => changed,
                denied => {
                    *self.book.lock() = counted;
                    return Ok(denied);
                }
            };
            let record = self.record(generation, changed);
            match store
                .compare_and_set(key, generation, &record, None)
                .await?
            {
                Written::Done => {
                    *self.book.lock() = changed;
                    return Ok(Ok(changed));
                }
                Written::Changed | Written::Fenced => {}
            }
        }
        Err(StoreError::unavailable(
            "the budget's count changes faster than it can be read",
        ))
    }

    fn record(&self, generation: Option<u64>, account: Account) -> Record {
        let generation = generation.unwrap_or_default().saturating_add(1);
        let (_, period) = account.at(
            account.start.unwrap_or(SystemTime::UNIX_EPOCH),
            &self.book.terms,
        );
        let keep_until = period.end.checked_add(AFTER_ITS_END);
        Record::new(generation, account.written(), keep_until)
    }
}

fn not_a_count(key: &StoreKey) -> StoreError {
    StoreError::unusable(format!(
        "the store's record {} isn't the count of a budget, or a newer version's: delete it there, or \
         update this program",
        key.as_str()
    ))
}
