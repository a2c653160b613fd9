//! Whose turn it is to replace the file: for milliseconds, so it is no lease.

use std::{
    fs::{self, TryLockError},
    path::Path,
    thread,
    time::Duration,
};

use super::{
    problem::{Problem, failed},
    system::{is_at, open_private},
};
use crate::source::StoreError;

/// The right to replace the file, until it is dropped. The kernel takes it back from a process that is
/// killed.
#[derive(Debug)]
pub(super) struct Lock {
    _file: fs::File,
}

impl Lock {
    /// Waits for the lock of the file at `path` for as long as `patience`, unless `settled` says that
    /// there is no more need to; it is asked before each attempt.
    pub(super) fn get_unless<T>(
        settled: impl Fn() -> Result<Option<T>, StoreError>,
        path: &Path,
        patience: Duration,
    ) -> Result<Result<Self, T>, StoreError> {
        let shown = format!("the lock file {}", path.display());
        // The pauses are counted and no clock is asked: a test's may stand still.
        let mut waited = Duration::ZERO;
        loop {
            if let Some(settled) = settled()? {
                return Ok(Err(settled));
            }
            let file =
                open_private(path).map_err(|error| failed(shown.clone(), "opened", error))?;
            match file.try_lock() {
                Ok(()) if is_at(&file, path) => return Ok(Ok(Self { _file: file })),
                // Somebody has deleted it meanwhile; the one that is there now counts.
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(failed(shown, "locked", error)),
            }
            if waited >= patience {
                return Err(StoreError::unavailable(Problem::alone(format!(
                    "another process has held {shown} for {patience:?}: let it go on if it was \
                     stopped, or end it"
                ))));
            }
            // Not all at the same time.
            let pause = Duration::from_millis(fastrand::u64(1..=4));
            thread::sleep(pause);
            waited = waited.saturating_add(pause);
        }
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    fn get(path: &Path) -> Result<Lock, StoreError> {
        let lock = Lock::get_unless(|| Ok(None::<()>), path, Duration::from_millis(20))?;
        Ok(lock.unwrap())
    }

    #[test]
    fn a_lock_file_that_was_deleted_and_made_anew_is_another() {
        let name = format!("tower-oauth-lock-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let lock = get(&path).unwrap();
        assert!(get(&path).unwrap_err().is_transient());
        fs::remove_file(&path).unwrap();
        // Who waited for the old one and gets it, has nothing.
        let (old, new) = (lock._file.try_clone().unwrap(), get(&path).unwrap());
        drop(lock);
        assert!(!is_at(&old, &path));
        assert!(is_at(&new._file, &path));
        assert!(get(&path).is_err());
        fs::remove_file(&path).unwrap();
    }
}
