//! A store for one machine.

mod change;
mod contents;
mod disk;
#[cfg(test)]
mod folder;
mod format;
mod lock;
mod place;
mod problem;
mod queue;
mod system;

use std::{
    fmt,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use tokio::time::sleep;
use zeroize::Zeroizing;

use self::{
    contents::{Contents, Kept, millis},
    queue::Queue,
};
use super::seal::{self, EncryptionKey};
use crate::{
    clock::Clock,
    source::{Lease, Leased, Record, StoreError, StoreKey, TokenStore, Written},
};

/// How often who waits for another record looks at the file.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// How often he looks: for a second in all.
const LOOKS: u32 = 40;
/// How often if nobody has the lease: perhaps it was given back just before.
const LOOKS_UNHELD: u32 = 4;

/// Records in one file that all processes of a machine share; any of them may be killed at any
/// moment. [`Redis`](super::Redis) is for several machines.
///
/// The file belongs on a local file system, in a folder that only the user of these processes can
/// write to, as all of them need the same user: it and what is made beside it have the mode 0600
/// (on Unix). It is replaced as a whole, under the lock of a file `….lock` that stays there; whoever
/// can't get that for 5 seconds, fails. The folder isn't made, and the path can't be a symbolic link.
///
/// What many tasks of a process want changed at the same moment is written at once, if they use clones
/// of one `File`; a write takes as long as the disk needs, often some ten milliseconds.
///
/// A file that was damaged is never taken for "there are no tokens": it is set aside as `….corrupt`,
/// and all operations fail until somebody puts a backup in its place or deletes that one.
///
/// Leases and `keep_until` go by the wall clock, to the millisecond. A lease is over early if that
/// clock is set ahead, or is set back to more than 5 seconds before the lease began.
///
/// ```
/// use tower_oauth::store::{EncryptionKey, File};
///
/// # let text = "mBYxS6lqkPbmT1mNJnGdDhCz8b0jl0LpCXQGN3UCpFo=";
/// let key = EncryptionKey::from_base64(text)?;
/// let store = File::new("/var/lib/my-service/tokens").encrypted_with(key);
/// # drop(store);
/// # Ok::<(), tower_oauth::store::InvalidKey>(())
/// ```
#[derive(Clone)]
pub struct File {
    queue: Queue,
    encryption: Option<EncryptionKey>,
    clock: Clock,
}

impl File {
    /// The file at `path`, which needn't exist yet and isn't touched before it is used. What it says
    /// isn't encrypted.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            queue: Queue::new(path.into()),
            encryption: None,
            clock: Clock::default(),
        }
    }

    /// Encrypts the records by `key`; by default they aren't. Records that were written without it, or
    /// with another, can't be read then.
    #[must_use]
    pub fn encrypted_with(mut self, key: EncryptionKey) -> Self {
        self.encryption = Some(key);
        self
    }

    /// Where the time comes from; by default the system's wall clock. All processes that share the
    /// file need the same time.
    #[must_use]
    pub fn wall_clock(mut self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Clock::with_wall(now);
        self
    }

    fn now(&self) -> u64 {
        millis(self.clock.now().wall)
    }

    /// The clock is read when nobody else can write any more: waiting for the lock takes time, too.
    async fn change<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Contents, u64) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        self.queue.change(self.at_its_time(act)).await
    }

    fn at_its_time<T>(
        &self,
        act: impl FnOnce(&mut Contents, u64) -> T + Send + 'static,
    ) -> impl FnOnce(&mut Contents) -> T + Send + 'static {
        let clock = self.clock.clone();
        move |contents| {
            let now = millis(clock.now().wall);
            contents.forget(now);
            act(contents, now)
        }
    }
}

impl TokenStore for File {
    async fn read(&self, key: &StoreKey) -> Result<Option<Record>, StoreError> {
        let contents = self.queue.read().await?.contents;
        let Some(kept) = contents.kept(key, self.now()) else {
            return Ok(None);
        };
        let encryption = self.encryption.as_ref();
        let text =
            seal::open(encryption, key, kept.generation, &kept.bytes).map_err(|problem| {
                let path = self.queue.path().display();
                StoreError::unusable(format!("a record in the token file {path}: {problem}"))
            })?;
        Ok(Some(Record::new(
            kept.generation,
            text,
            kept.keep_until.and_then(contents::time),
        )))
    }

    async fn compare_and_set(
        &self,
        key: &StoreKey,
        expected: Option<u64>,
        record: &Record,
        fence: Option<u64>,
    ) -> Result<Written, StoreError> {
        let encryption = self.encryption.as_ref();
        let bytes = seal::close(encryption, key, record.generation(), record.text())?;
        let kept = Kept {
            generation: record.generation(),
            keep_until: record.keep_until().map(millis),
            bytes: Zeroizing::new(bytes),
        };
        let key = key.clone();
        self.change(move |contents, _| contents.compare_and_set(&key, expected, kept, fence))
            .await
    }

    async fn lease(
        &self,
        key: &StoreKey,
        owner: &str,
        time: Duration,
    ) -> Result<Leased, StoreError> {
        let (asked, clock) = (key.clone(), self.clock.clone());
        // When one is given back, all who wait ask for it; one gets it, and the others must not keep
        // the lock from him.
        let held = move |contents: &Contents| {
            let remaining = contents.held(&asked, millis(clock.now().wall))?;
            Some(Leased::Held { remaining })
        };
        let (key, owner) = (key.clone(), owner.to_owned());
        let lease = self.at_its_time(move |contents, now| contents.lease(&key, &owner, time, now));
        self.queue.change_unless(held, lease).await
    }

    async fn renew(
        &self,
        key: &StoreKey,
        lease: &Lease,
        time: Duration,
    ) -> Result<bool, StoreError> {
        let (key, lease) = (key.clone(), lease.clone());
        self.change(move |contents, now| contents.renew(&key, &lease, time, now))
            .await
    }

    async fn release(&self, key: &StoreKey, lease: &Lease) -> Result<(), StoreError> {
        let (key, lease) = (key.clone(), lease.clone());
        self.change(move |contents, now| contents.release(&key, &lease, now))
            .await
    }

    async fn changed(&self, key: &StoreKey, seen: Option<u64>) {
        // Whoever looks again is told why it can't be read; not all too often.
        let Ok(mut before) = self.queue.read().await else {
            return sleep(LOOK_EVERY).await;
        };
        let is_same = |contents: &Contents| {
            let kept = contents.kept(key, self.now());
            kept.map(|kept| kept.generation) == seen
        };
        let is_held = |contents: &Contents| contents.held(key, self.now()).is_some();
        if !is_same(&before.contents) {
            return;
        }
        let looks = if is_held(&before.contents) {
            LOOKS
        } else {
            LOOKS_UNHELD
        };
        for _ in 0..looks {
            sleep(LOOK_EVERY).await;
            let Ok(now) = self.queue.read_after(&before).await else {
                return;
            };
            // Another key's, or renewed: if all who wait came running, they would be in the way.
            let is_none =
                now.contents == before.contents || is_same(&now.contents) && is_held(&now.contents);
            if !is_none {
                return;
            }
            before = now;
        }
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File")
            .field("path", &self.queue.path())
            .field("encrypted", &self.encryption.is_some())
            .finish_non_exhaustive()
    }
}
