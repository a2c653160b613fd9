//! Where the file lies, what lies beside it, and what is said of it.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::problem::{Problem, failed};
use crate::source::StoreError;

/// Tokens are small. What is larger is something else, or would bring the host down.
pub(super) const LARGEST: u64 = 64 * 1024 * 1024;
const WRITING: &str = ".writing-";

/// The path of the token file.
#[derive(Debug, Clone)]
pub(super) struct Place(Arc<Path>);

impl Place {
    pub(super) fn new(path: PathBuf) -> Self {
        // Without a `/` at its end, which would make it lead into a folder.
        let path: PathBuf = path.components().collect();
        Self(path.into())
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.beside(".lock")
    }

    pub(super) fn corrupt(&self) -> PathBuf {
        self.beside(".corrupt")
    }

    /// Another one each time.
    pub(super) fn writing(&self) -> PathBuf {
        self.beside(&format!("{WRITING}{:016x}", fastrand::u64(..)))
    }

    pub(super) fn folder(&self) -> &Path {
        match self.0.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }

    /// What there is, if there is a file. It comes before anything is opened or made: to open a pipe
    /// may take for ever, and a link would be replaced by a file that others, who know where it leads
    /// to, don't find.
    pub(super) fn there(&self) -> Result<Option<fs::Metadata>, StoreError> {
        match fs::symlink_metadata(&self.0) {
            Ok(there) if there.is_file() => return Ok(Some(there)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.check_folder()?;
                if self.0.file_name().is_some() {
                    return Ok(None);
                }
            }
            Err(error) => return Err(failed(self.shown(), "read", error)),
        }
        Err(StoreError::unusable(Problem::alone(format!(
            "{} is a folder, a link or a device: give the path of a file, which needn't exist yet",
            self.shown(),
        ))))
    }

    /// No folder isn't no tokens: perhaps a volume isn't there yet. None is made for the same reason.
    fn check_folder(&self) -> Result<(), StoreError> {
        let folder = self.folder();
        match fs::metadata(folder) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(StoreError::unavailable(Problem::alone(format!(
                    "there is no folder {} for {}: make it, for the user of this process alone \
                     (mode 0700)",
                    folder.display(),
                    self.shown(),
                ))))
            }
            Err(error) => Err(failed(self.shown(), "read", error)),
        }
    }

    /// Files are written under the lock only, so whoever wrote these was killed. One that can't be
    /// removed harms nobody.
    pub(super) fn remove_leftovers(&self) {
        let Some(name) = self.0.file_name() else {
            return;
        };
        let Ok(folder) = fs::read_dir(self.folder()) else {
            return;
        };
        for entry in folder.flatten() {
            let other = entry.file_name();
            let rest = other.as_encoded_bytes();
            let number = rest
                .strip_prefix(name.as_encoded_bytes())
                .and_then(|rest| rest.strip_prefix(WRITING.as_bytes()));
            if number.is_some_and(|rest| rest.len() == 16 && rest.iter().all(u8::is_ascii_hexdigit))
            {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    pub(super) fn was_set_aside(&self) -> StoreError {
        let corrupt = self.corrupt();
        StoreError::unusable(Problem::alone(format!(
            "{} was damaged (cut, changed, or not written by tower-oauth) and has been set aside as \
             {corrupt}: put a backup in its place, or delete {corrupt} to begin anew",
            self.shown(),
            corrupt = corrupt.display(),
        )))
    }

    pub(super) fn is_too_large(&self) -> StoreError {
        StoreError::unusable(Problem::alone(format!(
            "{} is, or would be, larger than {} MiB: check that the path is right, or give some of \
             the sources a file of their own",
            self.shown(),
            LARGEST >> 20
        )))
    }

    pub(super) fn has_other_version(&self, version: &str) -> StoreError {
        StoreError::unusable(Problem::alone(format!(
            "{} has the format {version:?}, which this version of tower-oauth doesn't know: let all \
             processes use the newest",
            self.shown(),
        )))
    }

    pub(super) fn shown(&self) -> String {
        format!("the token file {}", self.0.display())
    }

    fn beside(&self, end: &str) -> PathBuf {
        let mut path = OsString::from(self.0.as_os_str());
        path.push(end);
        path.into()
    }
}
