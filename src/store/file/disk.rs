//! The file on the disk: read without a lock, replaced as a whole under one.
//!
//! Beside `tokens` lie `tokens.lock`, which is locked for as long as one replacement takes and never
//! deleted; `tokens.writing-…`, what a killed writer left, until the next one; and `tokens.corrupt`,
//! what was found damaged, until somebody has looked at it.

use std::{
    convert::Infallible,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use zeroize::Zeroizing;

use super::{
    contents::Contents,
    format::{self, Unreadable},
    lock::Lock,
    problem::{Problem, failed},
    system::{inode, read_private, sync_folder, write_private},
};
use crate::source::StoreError;

/// How long the lock may be busy: it is held for milliseconds, unless its holder was stopped.
const PATIENCE: Duration = Duration::from_secs(5);
/// Tokens are small. What is larger is something else, or would bring the host down.
const LARGEST: u64 = 64 * 1024 * 1024;
const WRITING: &str = ".writing-";

/// Where the file lies.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    path: Arc<Path>,
    patience: Duration,
}

/// By what a file is known from the one that takes its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Look {
    inode: u64,
    modified: Option<SystemTime>,
    length: u64,
}

/// What lies at the path.
enum Found {
    Nothing,
    Whole {
        text: Zeroizing<Vec<u8>>,
        contents: Contents,
    },
    Damaged,
}

impl Disk {
    pub(super) fn new(path: PathBuf) -> Self {
        // Without a `/` at its end, which would make it lead into a folder.
        let path: PathBuf = path.components().collect();
        Self {
            path: path.into(),
            patience: PATIENCE,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Without the lock: a file is replaced in one step and never written to, so what is opened is
    /// whole, and readers neither wait for a writer nor hold one up.
    pub(super) fn read(&self) -> Result<Contents, StoreError> {
        match self.find()? {
            Found::Nothing => Ok(Contents::default()),
            Found::Whole { contents, .. } => Ok(contents),
            Found::Damaged => self.read_alone(&self.lock()?).map(|(_, contents)| contents),
        }
    }

    /// Lets `act` change what is kept, while nobody else does. It is written if it then says something
    /// else.
    pub(super) fn change<T>(&self, act: impl FnOnce(&mut Contents) -> T) -> Result<T, StoreError> {
        self.change_with(self.lock()?, act)
    }

    /// The same, unless `settled` finds in what is kept that there is no need to: it is asked before
    /// each attempt to get the lock.
    pub(super) fn change_unless<T>(
        &self,
        settled: impl Fn(&Contents) -> Option<T>,
        act: impl FnOnce(&mut Contents) -> T,
    ) -> Result<T, StoreError> {
        let settled = || Ok(settled(&self.read()?));
        match self.lock_unless(settled)? {
            Ok(lock) => self.change_with(lock, act),
            Err(settled) => Ok(settled),
        }
    }

    fn change_with<T>(
        &self,
        lock: Lock,
        act: impl FnOnce(&mut Contents) -> T,
    ) -> Result<T, StoreError> {
        let (before, mut contents) = self.read_alone(&lock)?;
        let acted = act(&mut contents);
        let text = format::write(&contents);
        if text.as_bytes() != before.as_slice() {
            self.replace(text.as_bytes(), &lock)?;
        }
        Ok(acted)
    }

    /// `None` if there is no file, or it can't be seen: reading it says why.
    pub(super) fn look(&self) -> Option<Look> {
        let file = fs::symlink_metadata(&self.path).ok()?;
        Some(Look {
            inode: inode(&file),
            modified: file.modified().ok(),
            length: file.len(),
        })
    }

    /// A damaged file is set aside. Only here, where nobody can have replaced it since it was read.
    fn read_alone(&self, lock: &Lock) -> Result<(Zeroizing<Vec<u8>>, Contents), StoreError> {
        match self.find()? {
            Found::Nothing => Ok(Default::default()),
            Found::Whole { text, contents } => Ok((text, contents)),
            Found::Damaged => Err(self.set_aside(lock)),
        }
    }

    fn find(&self) -> Result<Found, StoreError> {
        let Some(text) = self.text()? else {
            return match fs::symlink_metadata(self.beside(".corrupt")) {
                Ok(_) => Err(self.was_set_aside()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Nothing),
                Err(error) => Err(failed(self.shown(), "looked for", error)),
            };
        };
        match format::parse(&text) {
            Ok(contents) => Ok(Found::Whole { text, contents }),
            Err(Unreadable::Damaged) => Ok(Found::Damaged),
            Err(Unreadable::OtherVersion(version)) => {
                Err(StoreError::unusable(Problem::alone(format!(
                    "{} has the format {version:?}, which this version of tower-oauth doesn't know: \
                     let all processes use the newest",
                    self.shown(),
                ))))
            }
        }
    }

    /// `None` if there is no file.
    fn text(&self) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        if !self.exists()? {
            return Ok(None);
        }
        match read_private(&self.path, LARGEST) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Err(self.is_too_large()),
            // It was set aside since.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(self.shown(), "read", error)),
        }
    }

    /// Whether there is a file. It comes before anything is opened or made: to open a pipe may take for
    /// ever, and a link would be replaced by a file that others, who know where it leads to, don't
    /// find.
    fn exists(&self) -> Result<bool, StoreError> {
        let regular = match fs::symlink_metadata(&self.path) {
            Ok(there) => there.is_file(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.check_folder()?;
                if self.path.file_name().is_some() {
                    return Ok(false);
                }
                false
            }
            Err(error) => return Err(failed(self.shown(), "read", error)),
        };
        if regular {
            return Ok(true);
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

    fn lock(&self) -> Result<Lock, StoreError> {
        match self.lock_unless(|| Ok(None::<Infallible>))? {
            Ok(lock) => Ok(lock),
            Err(never) => match never {},
        }
    }

    fn lock_unless<T>(
        &self,
        settled: impl Fn() -> Result<Option<T>, StoreError>,
    ) -> Result<Result<Lock, T>, StoreError> {
        self.exists()?;
        Lock::get_unless(settled, &self.beside(".lock"), self.patience)
    }

    /// The new file is whole on the disk before it takes the old one's place, and has it for good when
    /// this returns.
    fn replace(&self, text: &[u8], _: &Lock) -> Result<(), StoreError> {
        if u64::try_from(text.len()).is_ok_and(|length| length > LARGEST) {
            return Err(self.is_too_large());
        }
        self.remove_leftovers();
        let new = self.beside(&format!("{WRITING}{:016x}", fastrand::u64(..)));
        let written = write_private(&new, text)
            .and_then(|()| fs::rename(&new, &self.path))
            .and_then(|()| sync_folder(self.folder()));
        written.map_err(|error| {
            let _ = fs::remove_file(&new);
            failed(self.shown(), "written", error)
        })
    }

    /// Files are written under the lock only, so whoever wrote these was killed. One that can't be
    /// removed harms nobody.
    fn remove_leftovers(&self) {
        let Some(name) = self.path.file_name() else {
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

    fn set_aside(&self, _: &Lock) -> StoreError {
        let moved = fs::rename(&self.path, self.beside(".corrupt"))
            .and_then(|()| sync_folder(self.folder()));
        match moved {
            Ok(()) => self.was_set_aside(),
            Err(error) => failed(
                format!("{}, which is damaged,", self.shown()),
                "set aside",
                error,
            ),
        }
    }

    fn was_set_aside(&self) -> StoreError {
        let corrupt = self.beside(".corrupt");
        StoreError::unusable(Problem::alone(format!(
            "{} was damaged (cut, changed, or not written by tower-oauth) and has been set aside as \
             {corrupt}: put a backup in its place, or delete {corrupt} to begin anew",
            self.shown(),
            corrupt = corrupt.display(),
        )))
    }

    fn is_too_large(&self) -> StoreError {
        StoreError::unusable(Problem::alone(format!(
            "{} is, or would be, larger than {} MiB: check that the path is right, or give some of \
             the sources a file of their own",
            self.shown(),
            LARGEST >> 20
        )))
    }

    fn shown(&self) -> String {
        format!("the token file {}", self.path.display())
    }

    fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }

    fn beside(&self, end: &str) -> PathBuf {
        let mut path = OsString::from(self.path.as_os_str());
        path.push(end);
        path.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of its own; it is deleted when this is dropped.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let name = format!("tower-oauth-disk-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn disk(&self) -> Disk {
            let mut disk = Disk::new(self.0.join("tokens"));
            disk.patience = Duration::from_millis(20);
            disk
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn raise(contents: &mut Contents) -> u64 {
        contents.floor = contents.floor.saturating_add(1);
        contents.floor
    }

    #[test]
    fn a_lock_that_somebody_holds_for_long_is_an_error_and_readers_go_on() {
        let folder = Folder::new("held");
        let disk = folder.disk();
        assert_eq!(disk.change(raise).unwrap(), 1);
        let other = fs::File::open(folder.0.join("tokens.lock")).unwrap();
        other.lock().unwrap();
        let error = disk.change(raise).unwrap_err();
        assert!(error.is_transient());
        let said = error.to_string();
        assert!(
            said.contains("tokens.lock for 20ms: let it go on"),
            "{said}"
        );
        assert_eq!(disk.read().unwrap().floor, 1);
        drop(other);
        assert_eq!(disk.change(raise).unwrap(), 2);
    }

    #[test]
    fn who_is_settled_meanwhile_does_not_wait_for_the_lock() {
        let folder = Folder::new("settled");
        let mut disk = folder.disk();
        disk.patience = PATIENCE;
        disk.change(raise).unwrap();
        let other = fs::File::open(folder.0.join("tokens.lock")).unwrap();
        other.lock().unwrap();
        let asked = std::cell::Cell::new(0);
        let third = |contents: &Contents| {
            asked.set(asked.get() + 1);
            (asked.get() == 3).then_some(contents.floor)
        };
        assert_eq!(disk.change_unless(third, raise).unwrap(), 1);
        drop(other);
        assert_eq!(disk.change_unless(|_| None, raise).unwrap(), 2);
    }

    #[test]
    fn what_says_the_same_is_not_written() {
        let folder = Folder::new("same");
        let disk = folder.disk();
        disk.change(raise).unwrap();
        let look = disk.look().unwrap();
        disk.change(|_| ()).unwrap();
        assert_eq!(disk.look().unwrap(), look);
        disk.change(raise).unwrap();
        assert_ne!(disk.look().unwrap(), look);
    }

    #[test]
    fn a_file_as_large_as_no_token_is_not_read_and_not_set_aside() {
        let folder = Folder::new("large");
        let disk = folder.disk();
        let file = fs::File::create(folder.0.join("tokens")).unwrap();
        file.set_len(LARGEST + 1).unwrap();
        let error = disk.change(raise).unwrap_err();
        assert!(error.to_string().contains("larger than 64 MiB"), "{error}");
        assert!(!error.is_transient());
        assert!(folder.0.join("tokens").exists());
    }
}
