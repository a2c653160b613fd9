//! What a shared source asks of a store: one record a key, replaced as a whole, and a lease.

use std::{
    error::Error,
    fmt,
    future::Future,
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::{BoxError, TokenError};

/// Where processes find each other's tokens: one record a key, replaced as a whole, and a lease
/// that says whose turn it is to fetch the next.
///
/// [`store`](crate::store) has some; another one is a matter of these six operations. A store knows
/// nothing of tokens: what a record says is the business of [`Shared`](crate::Shared). It is a
/// secret, and a store must neither print it nor let others read it.
///
/// An operation must not hang: a store that can't be reached says so within a few seconds. It may be
/// cancelled at any point, and what it was about is then either done as a whole or not at all.
pub trait TokenStore: Send + Sync + 'static {
    /// The record at `key`, if there is one. Whatever can't be read as a record is an error, and never
    /// "there is none".
    ///
    /// # Errors
    ///
    /// [`StoreError::unavailable`] if trying again may help, [`StoreError::unusable`] if somebody must
    /// act first; as with all operations.
    fn read(
        &self,
        key: &StoreKey,
    ) -> impl Future<Output = Result<Option<Record>, StoreError>> + Send;

    /// Writes `record` if the one that is there has the generation `expected`, where `None` is "there
    /// is no record"; in one step, so that of two who expect the same one succeeds. It is kept, also
    /// if the power fails, when this returns.
    ///
    /// With a `fence` it is written only if no lease with a higher number was ever granted for this
    /// key: its holder was too slow, and somebody else's turn has come.
    fn compare_and_set(
        &self,
        key: &StoreKey,
        expected: Option<u64>,
        record: &Record,
        fence: Option<u64>,
    ) -> impl Future<Output = Result<Written, StoreError>> + Send;

    /// Grants `owner` the lease of this key for a time, unless somebody else has it. It ends by
    /// itself, so that one who is killed holds up nobody for longer.
    fn lease(
        &self,
        key: &StoreKey,
        owner: &str,
        time: Duration,
    ) -> impl Future<Output = Result<Leased, StoreError>> + Send;

    /// Lets a lease last `time` from now. `false` if it is over: somebody else may have it.
    fn renew(
        &self,
        key: &StoreKey,
        lease: &Lease,
        time: Duration,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Gives a lease back; nothing happens if it is over, and never to somebody else's.
    fn release(
        &self,
        key: &StoreKey,
        lease: &Lease,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Returns when there is reason to look again: the record has another generation than `seen`, or
    /// the lease was given back. It may return sooner and for no reason, and whoever waits gives up by
    /// himself. By default after 100 ms.
    fn changed(&self, key: &StoreKey, seen: Option<u64>) -> impl Future<Output = ()> + Send {
        let _ = (key, seen);
        tokio::time::sleep(LOOK_AGAIN)
    }
}

/// How long who can't be told waits before he looks again.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What a record is kept under: a hash of all that shapes the tokens in it, so that two
/// configurations never share one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StoreKey(Arc<str>);

impl StoreKey {
    /// The key of what has this name; for tests of a store.
    pub fn named(name: &str) -> Self {
        Self::of(&hmac_sha256::Hash::hash(name.as_bytes()))
    }

    pub(super) fn of(hash: &[u8; 32]) -> Self {
        Self(BASE64_URL_SAFE_NO_PAD.encode(hash).into())
    }

    /// The hash as 43 letters, digits, `-` and `_`: good for the name of a file or a key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What stands at a key: a secret text with a number. It doesn't print.
#[derive(Clone)]
pub struct Record {
    generation: u64,
    text: Arc<Zeroizing<Vec<u8>>>,
    keep_until: Option<SystemTime>,
}

impl Record {
    /// A record as it was written: the parts of one that a store took apart.
    pub fn new(generation: u64, text: Vec<u8>, keep_until: Option<SystemTime>) -> Self {
        Self {
            generation,
            text: Arc::new(Zeroizing::new(text)),
            keep_until,
        }
    }

    /// Grows with each record at a key.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// What it says; a secret.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// When nobody needs it any more, and the store may forget it; `None` is never.
    pub fn keep_until(&self) -> Option<SystemTime> {
        self.keep_until
    }
}

/// The generation of what is written over a record of this one. By a step that nobody foresees: where a
/// store forgets, two records with one history each would have the same otherwise.
pub(super) fn next_generation(before: Option<u64>) -> u64 {
    let step = u64::from(fastrand::u32(..)).saturating_add(1);
    before.unwrap_or_default().saturating_add(step)
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("generation", &self.generation)
            .field("keep_until", &self.keep_until)
            .finish_non_exhaustive()
    }
}

/// What became of a record that was to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It is kept.
    Done,
    /// Another one has been written meanwhile; that one stands.
    Changed,
    /// Somebody else has had the lease meanwhile; nothing was written.
    Fenced,
}

/// What became of a wish for a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leased {
    /// It is one's turn.
    Granted(Lease),
    /// It is somebody else's.
    Held {
        /// For how long at most, unless it is renewed.
        remaining: Duration,
    },
}

/// One's turn to fetch what stands at a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    owner: Arc<str>,
    fence: u64,
}

impl Lease {
    /// What a store granted to `owner`, with a `fence` higher than all before it at this key.
    pub fn new(owner: &str, fence: u64) -> Self {
        Self {
            owner: owner.into(),
            fence,
        }
    }

    /// Who has it; no two have the same name.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Its number, which the next lease of this key has a higher one than.
    pub fn fence(&self) -> u64 {
        self.fence
    }
}

/// Why a store failed. Cheap to clone; displays as what it was made from.
#[derive(Debug, Clone)]
pub struct StoreError {
    transient: bool,
    error: Arc<dyn Error + Send + Sync>,
}

impl StoreError {
    /// It can't be reached now, and trying again may help.
    pub fn unavailable(error: impl Into<BoxError>) -> Self {
        Self {
            transient: true,
            error: Arc::from(error.into()),
        }
    }

    /// It answers, but not as it should, until somebody acts: a wrong password, a record that is none.
    pub fn unusable(error: impl Into<BoxError>) -> Self {
        Self {
            transient: false,
            error: Arc::from(error.into()),
        }
    }

    /// Whether it may pass by itself.
    pub fn is_transient(&self) -> bool {
        self.transient
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

impl From<StoreError> for TokenError {
    fn from(error: StoreError) -> Self {
        Self::judged(error.transient, None, None, error.into())
    }
}

/// One store for several sources.
impl<S: TokenStore> TokenStore for Arc<S> {
    async fn read(&self, key: &StoreKey) -> Result<Option<Record>, StoreError> {
        S::read(self, key).await
    }

    async fn compare_and_set(
        &self,
        key: &StoreKey,
        expected: Option<u64>,
        record: &Record,
        fence: Option<u64>,
    ) -> Result<Written, StoreError> {
        S::compare_and_set(self, key, expected, record, fence).await
    }

    async fn lease(
        &self,
        key: &StoreKey,
        owner: &str,
        time: Duration,
    ) -> Result<Leased, StoreError> {
        S::lease(self, key, owner, time).await
    }

    async fn renew(
        &self,
        key: &StoreKey,
        lease: &Lease,
        time: Duration,
    ) -> Result<bool, StoreError> {
        S::renew(self, key, lease, time).await
    }

    async fn release(&self, key: &StoreKey, lease: &Lease) -> Result<(), StoreError> {
        S::release(self, key, lease).await
    }

    async fn changed(&self, key: &StoreKey, seen: Option<u64>) {
        S::changed(self, key, seen).await;
    }
}
