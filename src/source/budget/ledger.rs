//! Where the count stands: in this process's memory, or in the store that the tokens lie in.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use super::{
    super::{
        TokenError,
        erased_store::ErasedStore,
        token_store::{Record, StoreError, StoreKey, Written, next_generation},
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
    pages: Mutex<Pages>,
}

/// The counts as this process knows them: clones that are shared under several keys have one each.
#[derive(Debug, Default)]
struct Pages {
    /// That of clones without a store.
    alone: Account,
    /// Those of records, the last used first.
    kept: Vec<(StoreKey, Page)>,
}

/// Clones may have names of their own.
const MOST_PAGES: usize = 64;

impl Pages {
    fn of(&self, key: &StoreKey) -> Page {
        let page = self.kept.iter().find(|(of, _)| of == key);
        page.map(|(_, page)| *page).unwrap_or_default()
    }

    fn turn_to(&mut self, key: &StoreKey, page: Page) {
        self.kept.retain(|(of, _)| of != key);
        self.kept.insert(0, (key.clone(), page));
        self.kept.truncate(MOST_PAGES);
    }
}

/// The count as this process knows it, and the generation of the record that it stood in.
#[derive(Debug, Clone, Copy, Default)]
struct Page {
    account: Account,
    generation: Option<u64>,
}

impl Book {
    pub(super) fn new(terms: Terms, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            terms,
            clock,
            pages: Mutex::default(),
        })
    }

    /// As this process knows it, now; of several the fullest.
    pub(super) fn account(&self) -> (Account, SystemTime) {
        let now = self.clock.now().wall;
        let pages = self.lock();
        let kept = pages.kept.iter().map(|(_, page)| page.account);
        let of_now = |account: Account| account.at(now, &self.terms);
        let (account, period) =
            kept.map(of_now)
                .fold(of_now(pages.alone), |fullest, (account, period)| {
                    if fullest.0.spent < account.spent {
                        (account, period)
                    } else {
                        fullest
                    }
                });
        (account, period.end)
    }

    /// What the store says; or this process, where the store has forgotten what that has seen.
    fn newer(&self, key: &StoreKey, there: Page) -> Account {
        let page = self.lock().of(key);
        if there.generation < page.generation {
            there.account.max(page.account)
        } else {
            there.account
        }
    }

    fn turn_to(&self, key: &StoreKey, new: Page) {
        let mut pages = self.lock();
        if new.generation >= pages.of(key).generation {
            pages.turn_to(key, new);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pages> {
        // Nothing that runs under the lock leaves it half done.
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A book, and the store where all processes write into the same one.
#[derive(Clone)]
pub(super) struct Ledger {
    pub(super) book: Arc<Book>,
    pub(super) store: Option<(Arc<dyn ErasedStore>, StoreKey)>,
}

impl Ledger {
    /// Counts one more token request before it is sent: a process that is killed has spent it. Returns
    /// when the period began that it counts in.
    ///
    /// # Errors
    ///
    /// [`BudgetSpent`], or the store's: what can't be counted must not be sent.
    pub(super) async fn spend(&self, need: Need) -> Result<SystemTime, TokenError> {
        let terms = &self.book.terms;
        let now = self.book.clock.now().wall;
        let counted = self
            .change(|account| account.spend(terms, need, now))
            .await?;
        match counted {
            Ok(account) => {
                metrics::budget(terms.requests, account.spent);
                Ok(account.start.unwrap_or(now))
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

    /// Takes back what was counted in the period that began at `start`, and not sent. Where that
    /// fails, it stays spent.
    pub(super) async fn refund(&self, start: SystemTime) {
        let _ = self.change(|account| Ok(account.refund(start))).await;
    }

    async fn change(
        &self,
        change: impl Fn(Account) -> Result<Account, Denied>,
    ) -> Result<Result<Account, Denied>, StoreError> {
        let Some((store, key)) = &self.store else {
            let mut pages = self.book.lock();
            let changed = change(pages.alone);
            if let Ok(changed) = changed {
                pages.alone = changed;
            }
            return Ok(changed);
        };
        for _ in 0..MOST_TRIES {
            let there = store.read(key).await?;
            let generation = there.as_ref().map(Record::generation);
            let account = match &there {
                Some(record) => Account::read(record.text()).ok_or_else(|| not_a_count(key))?,
                None => Account::default(),
            };
            let there = Page {
                account,
                generation,
            };
            let counted = self.book.newer(key, there);
            let changed = match change(counted) {
                Ok(changed) => changed,
                denied => {
                    let page = Page {
                        account: counted,
                        generation,
                    };
                    self.book.turn_to(key, page);
                    return Ok(denied);
                }
            };
            let record = self.record(generation, changed);
            match store
                .compare_and_set(key, generation, &record, None)
                .await?
            {
                Written::Done => {
                    let page = Page {
                        account: changed,
                        generation: Some(record.generation()),
                    };
                    self.book.turn_to(key, page);
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
        let latest = account.latest().unwrap_or(SystemTime::UNIX_EPOCH);
        let (_, period) = account.at(latest, &self.book.terms);
        let keep_until = period.end.checked_add(AFTER_ITS_END);
        Record::new(next_generation(generation), account.written(), keep_until)
    }
}

fn not_a_count(key: &StoreKey) -> StoreError {
    StoreError::unusable(format!(
        "the store's record {} isn't the count of a budget, or a newer version's: delete it there, or \
         update this program",
        key.as_str()
    ))
}
