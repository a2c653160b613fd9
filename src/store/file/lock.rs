//! Whose turn it is to replace the file: for milliseconds, so it is no lease.

use std::{
    fs::{self, TryLockError},
    path::{Path, PathBuf},
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
    file: fs::File,
    path: PathBuf,
}

impl Lock {
    /// The lock of the file at `path`, which is made if it isn't there; `None` if another has it.
    pub(super) fn attempt(path: PathBuf) -> Result<Option<Self>, StoreError> {
        let file = open_private(&path).map_err(|error| failed(shown(&path), "opened", error))?;
        match file.try_lock() {
            // Somebody has deleted it meanwhile; the one that is there now counts.
            Ok(()) => Ok(is_at(&file, &path).then_some(Self { file, path })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(failed(shown(&path), "locked", error)),
        }
    }

    /// Whether it still keeps others out: where the file is deleted, the next one locks a new one.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if is_at(&self.file, &self.path) {
            return Ok(());
        }
        Err(StoreError::unavailable(Problem::alone(format!(
            "{} was deleted while it was locked, so nothing was written: let nothing clean up beside \
             the token file",
            shown(&self.path),
        ))))
    }
}

pub(super) fn shown(path: &Path) -> String {
    format!("the lock file {}", path.display())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_lock_file_that_was_deleted_and_made_anew_is_another() {
        let name = format!("tower-oauth-lock-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let attempt = || Lock::attempt(path.clone()).unwrap();
        let lock = attempt().unwrap();
        assert!(attempt().is_none());
        lock.check().unwrap();
        fs::remove_file(&path).unwrap();
        // Who waited for the old one and gets it, has nothing.
        let (old, new) = (lock.file.try_clone().unwrap(), attempt().unwrap());
        let error = lock.check().unwrap_err();
        assert!(error.is_transient());
        assert!(error.to_string().contains("was deleted while"), "{error}");
        drop(lock);
        assert!(!is_at(&old, &path));
        new.check().unwrap();
        assert!(attempt().is_none());
        fs::remove_file(&path).unwrap();
    }
}
