//! A store for a fleet: a hash and a lease per key, changed by scripts only.
//!
//! ```text
//! {prefix:KEY}        hash    generation, data (sealed or plain), keep_until, fence
//! {prefix:KEY}:lease  string  its owner; it expires with the lease
//! {prefix:KEY}:changed        the channel that says: look again
//! ```
//!
//! The braces are a hash tag: in a cluster's slots both keys lie together.

mod address;
mod failure;
mod link;
mod scripts;
mod waiting;

use std::{fmt, sync::Arc, time::Duration};

use redis::Cmd;
use tokio::time::{sleep, timeout};

pub use self::address::InvalidRedisUrl;
use self::{failure::Place, link::Link, scripts::Kept};
use super::seal::{self, EncryptionKey};
use crate::source::{LOOK_AGAIN, Lease, Leased, Record, StoreError, StoreKey, TokenStore, Written};

/// Records in Redis (6 or newer, or Valkey), for a fleet. Clones share one connection, which is made
/// at the first operation and made anew when it broke.
///
/// ```
/// use tower_oauth::store::{EncryptionKey, Redis};
///
/// # let key = "mBYxS6lqkPbmT1mNJnGdDhCz8b0jl0LpCXQGN3UCpFo=";
/// let store = Redis::new("rediss://tokens:s3cr3t@redis.internal:6379/0")?
///     .prefix("billing")
///     .encrypted_with(EncryptionKey::from_base64(key)?);
/// # drop(store);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # How long it takes
///
/// Two seconds for a connection, two for an answer, and no operation more than 4.5. What became of a
/// write whose answer didn't come is not known: that is an error of the transient kind
/// ([`StoreError::is_transient`]), and whether it was done is seen by reading.
///
/// # How Redis is to be set up
///
/// Refresh tokens that rotate are lost if Redis forgets what it confirmed, and then somebody must log
/// in again. So it must
///
/// * keep each write before it confirms it: `appendonly yes` and `appendfsync always` (`everysec`
///   loses up to two seconds when the machine fails);
/// * evict nothing: `maxmemory-policy noeviction`;
/// * not fail over to a replica that lags behind: replication is asynchronous, and a replica that is
///   promoted has forgotten what it hadn't heard of (`min-replicas-to-write` narrows that, and nothing
///   closes it). Tokens that can be fetched again, as those of client credentials, bear all that.
///
/// The URL is that of the primary, or of what leads to it. Of a Redis Cluster with more nodes than one
/// a URL isn't enough: nobody follows its redirections.
///
/// For `rediss://` the program's rustls `CryptoProvider` is used. If none is installed when the first
/// connection is made, ring's is.
///
/// # What its user may do
///
/// ```text
/// ACL SETUSER tokens on >s3cr3t ~{tower-oauth:* &{tower-oauth:*
///   +evalsha +script|load +hmget +hget +hset +hexists +hincrby +get +set +del
///   +pttl +pexpire +pexpireat +persist +time +publish +subscribe +unsubscribe
/// ```
///
/// and `+select`, if the URL names a database other than 0.
#[derive(Clone)]
pub struct Redis {
    link: Arc<Link>,
    prefix: Arc<str>,
    key: Option<EncryptionKey>,
}

impl Redis {
    /// The one at this URL: `redis://user:password@host:port/database`, `rediss://…` for TLS with the
    /// system's root certificates, or `redis+unix:///path?db=0&user=…&pass=…` for a socket. The port is
    /// 6379 unless it says another one. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// [`InvalidRedisUrl`] if it isn't such a URL; also if it has what would go unused, as that is
    /// mostly a part of a password that isn't percent-encoded.
    pub fn new(url: &str) -> Result<Self, InvalidRedisUrl> {
        Ok(Self {
            link: Arc::new(Link::new(address::client(url)?)),
            prefix: "tower-oauth".into(),
            key: None,
        })
    }

    /// What its keys begin with, `tower-oauth` by default. Programs that are to share tokens need the
    /// same.
    pub fn prefix(mut self, prefix: &str) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Encrypts what it writes; by default whoever reads Redis, or its files, reads tokens.
    pub fn encrypted_with(mut self, key: EncryptionKey) -> Self {
        self.key = Some(key);
        self
    }

    fn place(&self, key: &StoreKey) -> Place {
        Place::new(self.link.host(), &self.prefix, key)
    }

    async fn kept(&self, place: &Place) -> Result<Option<Kept>, StoreError> {
        let mut ask = Cmd::new();
        ask.arg("HMGET").arg(&place.record).arg(&scripts::FIELDS);
        let fields = self.link.ask(place, &ask).await?;
        Kept::read(fields).map_err(|problem| place.unusable(problem))
    }
}

impl TokenStore for Redis {
    async fn read(&self, key: &StoreKey) -> Result<Option<Record>, StoreError> {
        let place = self.place(key);
        let Some(kept) = self.kept(&place).await? else {
            return Ok(None);
        };
        let text = seal::open(self.key.as_ref(), key, kept.generation, &kept.data)
            .map_err(|problem| place.unusable(problem))?;
        Ok(Some(Record::new(kept.generation, text, kept.keep_until)))
    }

    async fn compare_and_set(
        &self,
        key: &StoreKey,
        expected: Option<u64>,
        record: &Record,
        fence: Option<u64>,
    ) -> Result<Written, StoreError> {
        let place = self.place(key);
        let data = seal::close(self.key.as_ref(), key, record.generation(), record.text())?;
        let end = record.keep_until();
        let mut call = scripts::SET.key(&place.record);
        call.arg(number(expected))
            .arg(record.generation())
            .arg(data)
            .arg(number(fence))
            .arg(number(end.map(scripts::nanos)))
            .arg(number(end.and_then(scripts::expiry)))
            .arg(&place.channel);
        let answer: Vec<u8> = self.link.invoke(&place, &call).await?;
        match answer.as_slice() {
            b"done" => Ok(Written::Done),
            b"changed" => Ok(Written::Changed),
            b"fenced" => Ok(Written::Fenced),
            _ => Err(place.unusable(scripts::NO_RECORD)),
        }
    }

    async fn lease(
        &self,
        key: &StoreKey,
        owner: &str,
        time: Duration,
    ) -> Result<Leased, StoreError> {
        let place = self.place(key);
        let time = scripts::millis(time);
        let mut call = scripts::LEASE.key(&place.record);
        call.key(&place.lease)
            .arg(owner)
            .arg(time)
            .arg(time.saturating_add(scripts::FENCE_IS_KEPT));
        let (fence, remaining): (Option<Vec<u8>>, i64) = self.link.invoke(&place, &call).await?;
        let Some(fence) = fence else {
            // Below zero: it was given no end, which only somebody else's hand can have done.
            let remaining = u64::try_from(remaining).map_or(Duration::MAX, Duration::from_millis);
            return Ok(Leased::Held { remaining });
        };
        let fence = scripts::parsed(&fence).ok_or_else(|| place.unusable(scripts::NO_RECORD))?;
        Ok(Leased::Granted(Lease::new(owner, fence)))
    }

    async fn renew(
        &self,
        key: &StoreKey,
        lease: &Lease,
        time: Duration,
    ) -> Result<bool, StoreError> {
        let place = self.place(key);
        let mut call = scripts::RENEW.key(&place.lease);
        call.arg(lease.owner()).arg(scripts::millis(time));
        self.link.invoke(&place, &call).await
    }

    async fn release(&self, key: &StoreKey, lease: &Lease) -> Result<(), StoreError> {
        let place = self.place(key);
        let mut call = scripts::RELEASE.key(&place.lease);
        call.arg(lease.owner()).arg(&place.channel);
        self.link.invoke(&place, &call).await
    }

    async fn changed(&self, key: &StoreKey, seen: Option<u64>) {
        let place = self.place(key);
        let Ok(told) = self.link.listen(&place).await else {
            return sleep(LOOK_AGAIN).await;
        };
        // What happened before the subscription was told to nobody.
        let now = self.kept(&place).await;
        match now.map(|kept| kept.map(|kept| kept.generation)) {
            Ok(now) if now == seen => {}
            Ok(_) => return,
            Err(_) => return sleep(LOOK_AGAIN).await,
        }
        // If the connection broke instead, whoever waits must not look again at once, and again.
        if let Ok(Err(_)) = timeout(NOT_TOLD, told).await {
            sleep(LOOK_AGAIN).await;
        }
    }
}

/// How long who waits for a message may wait: Redis delivers one at most once.
const NOT_TOLD: Duration = Duration::from_secs(2);

/// An argument for a script, where nothing is none.
fn number(number: Option<impl fmt::Display>) -> String {
    number.map(|number| number.to_string()).unwrap_or_default()
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("host", &self.link.host())
            .field("prefix", &self.prefix)
            .field("encrypted", &self.key.is_some())
            .finish_non_exhaustive()
    }
}
