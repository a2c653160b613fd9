//! What the file's place asks of the system, some of it different on each.

use std::{
    fs,
    io::{self, Read, Write},
    path::Path,
};

use zeroize::Zeroizing;

/// # Errors
///
/// Also [`FileTooLarge`](io::ErrorKind::FileTooLarge), if it has more than `most` bytes.
pub(super) fn read_private(path: &Path, most: u64) -> io::Result<(fs::File, Zeroizing<Vec<u8>>)> {
    let file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    if length > most {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    // Large enough from the beginning: a buffer that grows leaves copies behind.
    let room = usize::try_from(length).unwrap_or_default();
    let mut text = Zeroizing::new(Vec::with_capacity(room.saturating_add(1)));
    (&file).take(most).read_to_end(&mut text)?;
    Ok((file, text))
}

/// A new file, which is on the disk when this returns, though perhaps not its name.
pub(super) fn write_private(path: &Path, text: &[u8]) -> io::Result<fs::File> {
    let mut file = private().create_new(true).open(path)?;
    file.write_all(text)?;
    file.sync_all()?;
    Ok(file)
}

/// The file that is there, or an empty one.
pub(super) fn open_private(path: &Path) -> io::Result<fs::File> {
    private().truncate(false).create(true).open(path)
}

/// What is made is for this user alone.
fn private() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// So that a new name outlasts a power failure.
#[cfg(unix)]
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    match fs::File::open(folder)?.sync_all() {
        // Some network file systems have nothing of the kind.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}

/// Folders can't be opened here.
#[cfg(not(unix))]
pub(super) fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Whether `path` still leads to `file`.
#[cfg(unix)]
pub(super) fn is_at(file: &fs::File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;

    let place = |file: fs::Metadata| (file.dev(), file.ino());
    let (Ok(file), Ok(there)) = (file.metadata(), fs::metadata(path)) else {
        return false;
    };
    place(file) == place(there)
}

/// The lock file was opened so that nobody can put another in its place.
#[cfg(not(unix))]
pub(super) fn is_at(_: &fs::File, _: &Path) -> bool {
    true
}

/// By what a file is known from the one that takes its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg(unix)]
pub(super) struct Look {
    place: (u64, u64),
    /// Of the text, the name or the mode; nobody can set it.
    changed: (i64, i64),
    length: u64,
}

#[cfg(unix)]
impl Look {
    /// No two look the same while one of them is held open.
    pub(super) const IS_CERTAIN: bool = true;

    pub(super) fn of(file: &fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;

        Self {
            place: (file.dev(), file.ino()),
            changed: (file.ctime(), file.ctime_nsec()),
            length: file.len(),
        }
    }
}

/// By what a file is known from the one that takes its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg(not(unix))]
pub(super) struct Look {
    modified: Option<std::time::SystemTime>,
    length: u64,
}

#[cfg(not(unix))]
impl Look {
    pub(super) const IS_CERTAIN: bool = false;

    pub(super) fn of(file: &fs::Metadata) -> Self {
        Self {
            modified: file.modified().ok(),
            length: file.len(),
        }
    }
}
