//! Why the file can't be used, and what to do.

use std::{error::Error, fmt, io};

use crate::source::StoreError;

/// What a [`StoreError`] of this store displays as.
#[derive(Debug)]
pub(super) struct Problem {
    said: String,
    cause: Option<io::Error>,
}

impl Problem {
    pub(super) fn alone(said: String) -> Self {
        Self { said, cause: None }
    }
}

/// The system didn't let `what` be `done`.
pub(super) fn failed(what: String, done: &str, cause: io::Error) -> StoreError {
    use io::ErrorKind as Kind;

    let (kept, advice) = match cause.kind() {
        Kind::PermissionDenied => (
            true,
            "let the user of this process read and write it and its folder",
        ),
        Kind::ReadOnlyFilesystem => (true, "give a path where this process may write"),
        Kind::NotADirectory | Kind::IsADirectory | Kind::InvalidInput | Kind::InvalidFilename => {
            (true, "check the path")
        }
        Kind::Unsupported => (
            true,
            "give a path on a file system of this machine, which can lock files",
        ),
        Kind::StorageFull | Kind::QuotaExceeded => (false, "make room on its disk"),
        _ => (false, "check its disk"),
    };
    let problem = Problem {
        said: format!("{what} can't be {done} ({cause}): {advice}"),
        cause: Some(cause),
    };
    if kept {
        StoreError::unusable(problem)
    } else {
        StoreError::unavailable(problem)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said)
    }
}

impl Error for Problem {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_ref().map(|cause| cause as _)
    }
}
