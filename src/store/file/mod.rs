//! A store for one machine.

mod contents;
mod disk;
mod format;
mod lock;
mod problem;
mod system;

use std::{
    fmt,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use tokio::{runtime::Handle, time::sleep};
use zeroize::Zeroizing;

use self::{
    contents::{Contents, Kept, millis},
    disk::{Disk, Look},
};
use super::seal::{self, EncryptionKey};
use crate::{
    clock::Clock,
    source::{Lease, Leased, Record, StoreError, StoreKey, TokenStore, Written},
};

/// How often who waits for another record looks at the file.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// How often he looks before he reads it in any case, as two files can look the same: a second in all.
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
/// A file that was damaged is never taken for "there are no tokens": it is set aside as `….corrupt`,
/// and all operations fail until somebody puts a backup in its place or deletes that one.
///
/// Leases and `keep_until` go by the wall clock, to the millisecond. A lease is over early if that
/// clock is set ahead, or is set back to before the lease began.
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
    disk: Disk,
    encryption: Option<EncryptionKey>,
    clock: Clock,
}

/// What there is for who waits.
struct Stand {
    /// How the file looked before the rest was read: if it looks so still, the rest is true.
    look: Option<Look>,
    generation: Option<u64>,
    held: bool,
}

impl File {
    /// The file at `path`, which needn't exist yet and isn't touched before it is used. What it says
    /// isn't encrypted.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            disk: Disk::new(path.into()),
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

    fn read_now(&self, key: &StoreKey) -> Result<Option<Record>, StoreError> {
        let contents = self.disk.read()?;
        let Some(kept) = contents.kept(key, self.now()) else {
            return Ok(None);
        };
        let encryption = self.encryption.as_ref();
        let text =
            seal::open(encryption, key, kept.generation, &kept.bytes).map_err(|problem| {
                let path = self.disk.path().display();
                StoreError::unusable(format!("a record in the token file {path}: {problem}"))
            })?;
        Ok(Some(Record::new(
            kept.generation,
            text,
            kept.keep_until.and_then(contents::time),
        )))
    }

    async fn stand(&self, key: &StoreKey) -> Result<Stand, StoreError> {
        let key = key.clone();
        self.blocking(move |file| {
            let look = file.disk.look();
            let (contents, now) = (file.disk.read()?, file.now());
            Ok(Stand {
                look,
                generation: contents.kept(&key, now).map(|kept| kept.generation),
                held: contents.held(&key, now).is_some(),
            })
        })
        .await
    }

    /// The clock is read when nobody else can write any more: waiting for the lock takes time, too.
    fn change<T>(&self, act: impl FnOnce(&mut Contents, u64) -> T) -> Result<T, StoreError> {
        self.disk.change(|contents| {
            let now = self.now();
            contents.forget(now);
            act(contents, now)
        })
    }

    /// On a thread for what blocks; what has begun there goes on to its end if the caller is cancelled.
    async fn blocking<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let this = self.clone();
        match Handle::try_current() {
            Ok(runtime) => runtime
                .spawn_blocking(move || act(&this))
                .await
                .map_err(StoreError::unavailable)?,
            Err(_) => act(&this),
        }
    }
}

impl TokenStore for File {
    async fn read(&self, key: &StoreKey) -> Result<Option<Record>, StoreError> {
        let key = key.clone();
        self.blocking(move |file| file.read_now(&key)).await
    }

    async fn compare_and_set(
        &self,
        key: &StoreKey,
        expected: Option<u64>,
        record: &Record,
        fence: Option<u64>,
    ) -> Result<Written, StoreError> {
        let (key, record) = (key.clone(), record.clone());
        self.blocking(move |file| {
            let encryption = file.encryption.as_ref();
            let bytes = seal::close(encryption, &key, record.generation(), record.text())?;
            let kept = Kept {
                generation: record.generation(),
                keep_until: record.keep_until().map(millis),
                bytes: Zeroizing::new(bytes),
            };
            file.change(|contents, _| contents.compare_and_set(&key, expected, kept, fence))
        })
        .await
    }

    async fn lease(
        &self,
        key: &StoreKey,
        owner: &str,
        time: Duration,
    ) -> Result<Leased, StoreError> {
        let (key, owner) = (key.clone(), owner.to_owned());
        self.blocking(move |file| {
            // When one is given back, all who wait ask for it; one gets it, and the others must not
            // keep the lock from him.
            let held = |contents: &Contents| {
                let remaining = contents.held(&key, file.now())?;
                Some(Leased::Held { remaining })
            };
            file.disk.change_unless(held, |contents| {
                let now = file.now();
                contents.forget(now);
                contents.lease(&key, &owner, time, now)
            })
        })
        .await
    }

    async fn renew(
        &self,
        key: &StoreKey,
        lease: &Lease,
        time: Duration,
    ) -> Result<bool, StoreError> {
        let (key, lease) = (key.clone(), lease.clone());
        self.blocking(move |file| {
            file.change(|contents, now| contents.renew(&key, &lease, time, now))
        })
        .await
    }

    async fn release(&self, key: &StoreKey, lease: &Lease) -> Result<(), StoreError> {
        let (key, lease) = (key.clone(), lease.clone());
        self.blocking(move |file| file.change(|contents, now| contents.release(&key, &lease, now)))
            .await
    }

    async fn changed(&self, key: &StoreKey, seen: Option<u64>) {
        // Whoever looks again is told why it can't be read; not all too often.
        let Ok(mut before) = self.stand(key).await else {
            return sleep(LOOK_EVERY).await;
        };
        if before.generation != seen {
            return;
        }
        let looks = if before.held { LOOKS } else { LOOKS_UNHELD };
        for _ in 0..looks {
            sleep(LOOK_EVERY).await;
            let look = self.blocking(|file| Ok(file.disk.look())).await;
            if look.is_ok_and(|look| look == before.look) {
                continue;
            }
            match self.stand(key).await {
                // Another key's, or renewed: if all who wait came running, they would be in the way.
                Ok(stand) if stand.generation == seen && stand.held => before = stand,
                _ => return,
            }
        }
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File")
            .field("path", &self.disk.path())
            .field("encrypted", &self.encryption.is_some())
            .finish_non_exhaustive()
    }
}
