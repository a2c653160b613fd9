//! Where the tests of this folder write.
#![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]

use std::{fs, path::PathBuf};

/// A folder of a test's own; it is deleted when this is dropped.
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn new(name: &str) -> Self {
        let name = format!("tower-oauth-file-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
