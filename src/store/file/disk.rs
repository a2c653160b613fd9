//! The file on the disk: read without a lock, replaced as a whole under one.
//!
//! Beside `tokens` lie `tokens.lock`, which is locked for as long as one replacement takes and never
//! deleted; `tokens.writing-…`, what a killed writer left, until the next one; and `tokens.corrupt`,
//! what was found damaged, until somebody has looked at it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    contents::Contents,
    format::{self, Lines, Unreadable},
    lock::Lock,
    place::{LARGEST, Place},
    problem::failed,
    system::{Look, read_private, sync_folder, write_private},
};
use crate::source::StoreError;

/// The file, and what this process knows of it.
pub(super) struct Disk {
    place: Place,
    known: Mutex<Option<Known>>,
}

/// What was read or written last. It is true for as long as the file looks like that: another one in
/// its place has another inode, as this one's isn't free before it is closed.
struct Known {
    look: Look,
    contents: Arc<Contents>,
    lines: Arc<Lines>,
    _open: fs::File,
}

/// What lies at the path.
enum Found {
    Nothing,
    Whole(Arc<Contents>),
    Damaged,
}

impl Disk {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            place: Place::new(path),
            known: Mutex::default(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        self.place.path()
    }

    pub(super) fn lock_path(&self) -> PathBuf {
        self.place.lock()
    }

    /// Without the lock: a file is replaced in one step and never written to, so what is opened is
    /// whole, and readers neither wait for a writer nor hold one up. `None` if it is damaged: whoever
    /// has the lock sets it aside.
    pub(super) fn read(&self) -> Result<Option<Arc<Contents>>, StoreError> {
        Ok(match self.find()? {
            Found::Nothing => Some(Arc::default()),
            Found::Whole(contents) => Some(contents),
            Found::Damaged => None,
        })
    }

    /// `None` if another has it.
    pub(super) fn lock(&self) -> Result<Option<Lock>, StoreError> {
        self.place.there()?;
        Lock::attempt(self.place.lock())
    }

    /// Lets `act` change what is kept. It is written if it then says something else.
    pub(super) fn change<T>(
        &self,
        lock: &Lock,
        act: impl FnOnce(&mut Contents) -> T,
    ) -> Result<T, StoreError> {
        let before = self.read_alone(lock)?;
        let mut contents = Contents::clone(&before);
        let acted = act(&mut contents);
        if contents != *before {
            let lasts = contents.has_the_records_of(&before);
            self.replace(contents, lock)?;
            // Where only leases changed, the power may fail and bring back the file that was there
            // before: it has the same records, and who had a lease is gone, too. What is never left
            // out is to write the new one's text to the disk before it gets its name, as the records
            // that others were told are kept stand in it, too. Who is killed takes back neither.
            if !lasts {
                let synced = sync_folder(self.place.folder());
                synced.map_err(|error| failed(self.place.shown(), "written", error))?;
            }
        }
        Ok(acted)
    }

    /// A damaged file is set aside. Only here, where nobody can have replaced it since it was read.
    fn read_alone(&self, lock: &Lock) -> Result<Arc<Contents>, StoreError> {
        match self.find()? {
            Found::Nothing => Ok(Arc::default()),
            Found::Whole(contents) => Ok(contents),
            Found::Damaged => Err(self.set_aside(lock)),
        }
    }

    fn find(&self) -> Result<Found, StoreError> {
        let look = self.place.there()?.map(|there| Look::of(&there));
        // Until it is read: of all who find another file, one reads it.
        let mut known = self.known();
        if let (Some(known), Some(look)) = (&*known, look)
            && known.look == look
        {
            return Ok(Found::Whole(Arc::clone(&known.contents)));
        }
        let before = known.take().map(|known| known.lines).unwrap_or_default();
        let opened = match look {
            Some(_) => read_private(self.place.path(), LARGEST),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        let (file, text) = match opened {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.find_nothing(),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                return Err(self.place.is_too_large());
            }
            Err(error) => return Err(failed(self.place.shown(), "read", error)),
        };
        match format::parse(&text, &before) {
            Ok((contents, lines)) => {
                let contents = Arc::new(contents);
                *known = Known::of(file, Arc::clone(&contents), lines);
                Ok(Found::Whole(contents))
            }
            Err(Unreadable::Damaged) => Ok(Found::Damaged),
            Err(Unreadable::OtherVersion(version)) => Err(self.place.has_other_version(&version)),
        }
    }

    fn find_nothing(&self) -> Result<Found, StoreError> {
        match fs::symlink_metadata(self.place.corrupt()) {
            Ok(_) => Err(self.place.was_set_aside()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Nothing),
            Err(error) => Err(failed(self.place.shown(), "looked for", error)),
        }
    }

    /// The new file's text is on the disk before it takes the old one's place; for good it has that
    /// when the folder is, too.
    fn replace(&self, contents: Contents, lock: &Lock) -> Result<(), StoreError> {
        let before = self.known().as_ref().map(|known| Arc::clone(&known.lines));
        let (text, lines) = format::write(&contents, &before.unwrap_or_default());
        if u64::try_from(text.len()).is_ok_and(|length| length > LARGEST) {
            return Err(self.place.is_too_large());
        }
        // Without it, what looks like a leftover may be what another one writes now.
        lock.check()?;
        self.place.remove_leftovers();
        let new = self.place.writing();
        let replaced = self.put(&new, text.as_bytes(), lock);
        let file = replaced.inspect_err(|_| {
            let _ = fs::remove_file(&new);
        })?;
        *self.known() = Known::of(file, Arc::new(contents), lines);
        Ok(())
    }

    fn put(&self, new: &Path, text: &[u8], lock: &Lock) -> Result<fs::File, StoreError> {
        let unwritten = |error| failed(self.place.shown(), "written", error);
        let file = write_private(new, text).map_err(unwritten)?;
        // Writing takes its time.
        lock.check()?;
        fs::rename(new, self.place.path()).map_err(unwritten)?;
        Ok(file)
    }

    fn set_aside(&self, lock: &Lock) -> StoreError {
        if let Err(error) = lock.check() {
            return error;
        }
        let moved = fs::rename(self.place.path(), self.place.corrupt())
            .and_then(|()| sync_folder(self.place.folder()));
        match moved {
            Ok(()) => self.place.was_set_aside(),
            Err(error) => failed(
                format!("{}, which is damaged,", self.place.shown()),
                "set aside",
                error,
            ),
        }
    }

    fn known(&self) -> MutexGuard<'_, Option<Known>> {
        // It is replaced as a whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// `None` where it couldn't be told from another one.
    fn of(open: fs::File, contents: Arc<Contents>, lines: Lines) -> Option<Self> {
        let look = Look::of(&open.metadata().ok()?);
        Look::IS_CERTAIN.then_some(Self {
            look,
            contents,
            lines: Arc::new(lines),
            _open: open,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::folder::Folder, *};

    impl Folder {
        fn disk(&self) -> Disk {
            Disk::new(self.0.join("tokens"))
        }

        fn look(&self) -> Look {
            Look::of(&fs::metadata(self.0.join("tokens")).unwrap())
        }
    }

    fn raise(disk: &Disk) -> Result<u64, StoreError> {
        let lock = disk.lock()?.expect("nobody else has it");
        disk.change(&lock, |contents| {
            contents.floor = contents.floor.saturating_add(1);
            contents.floor
        })
    }

    #[test]
    fn what_says_the_same_is_not_written() {
        let folder = Folder::new("same");
        let disk = folder.disk();
        disk.change(&disk.lock().unwrap().unwrap(), |_| ()).unwrap();
        assert!(!disk.path().exists());
        raise(&disk).unwrap();
        let look = folder.look();
        disk.change(&disk.lock().unwrap().unwrap(), |_| ()).unwrap();
        assert_eq!(folder.look(), look);
        raise(&disk).unwrap();
        assert_ne!(folder.look(), look);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_stays_is_read_once_and_each_other_one_is_read() {
        let folder = Folder::new("known");
        let (one, other) = (folder.disk(), folder.disk());
        let read = |disk: &Disk| disk.read().unwrap().unwrap();
        for floor in 1..10 {
            assert_eq!(
                raise(if floor % 3 == 0 { &other } else { &one }).unwrap(),
                floor
            );
            for disk in [&one, &other] {
                let contents = read(disk);
                assert_eq!(contents.floor, floor);
                assert!(Arc::ptr_eq(&contents, &read(disk)), "read again");
            }
        }
        // Into the file itself, as no process of this library does it.
        let text = fs::read(one.path()).unwrap();
        fs::write(one.path(), text).unwrap();
        let before = read(&other);
        fs::write(one.path(), "damaged").unwrap();
        assert!(one.read().unwrap().is_none());
        assert_eq!(before.floor, 9);
        fs::remove_file(one.path()).unwrap();
        assert_eq!(read(&other).floor, 0);
    }

    #[cfg(unix)]
    #[test]
    fn who_has_lost_the_lock_writes_nothing() {
        let folder = Folder::new("lost");
        let (disk, other) = (folder.disk(), folder.disk());
        raise(&disk).unwrap();
        let lock = disk.lock().unwrap().unwrap();
        let error = disk.change(&lock, |contents| {
            contents.floor = 100;
            // Between the first look and the rename.
            fs::remove_file(folder.0.join("tokens.lock")).unwrap();
            assert_eq!(raise(&other).unwrap(), 2);
        });
        // And after the second.
        let new = folder.0.join("new");
        let late = disk.put(&new, b"text", &lock).map(|_| ());
        for error in [error.unwrap_err(), late.unwrap_err()] {
            assert!(error.is_transient());
            assert!(error.to_string().contains("was deleted while"), "{error}");
        }
        assert_eq!(disk.read().unwrap().unwrap().floor, 2);
        drop(lock);
        assert_eq!(raise(&disk).unwrap(), 3);
        fs::write(disk.path(), "damaged").unwrap();
        let lock = disk.lock().unwrap().unwrap();
        fs::remove_file(folder.0.join("tokens.lock")).unwrap();
        let error = disk.change(&lock, |_| ()).unwrap_err();
        assert!(error.is_transient(), "it was set aside: {error}");
        assert!(disk.path().exists());
    }

    #[test]
    fn a_file_as_large_as_no_token_is_not_read_and_not_set_aside() {
        let folder = Folder::new("large");
        let disk = folder.disk();
        let file = fs::File::create(disk.path()).unwrap();
        file.set_len(LARGEST + 1).unwrap();
        let error = raise(&disk).unwrap_err();
        assert!(error.to_string().contains("larger than 64 MiB"), "{error}");
        assert!(!error.is_transient());
        assert!(disk.path().exists());
    }
}
