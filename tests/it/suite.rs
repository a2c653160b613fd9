//! The suite itself: a test file that nobody names never runs.

use std::{fs, path::Path};

#[test]
fn every_file_is_named() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    check(&folder, &folder.join("main.rs"));
}

/// Each file and folder in `folder` is a module that `names` names.
fn check(folder: &Path, names: &Path) {
    let list = fs::read_to_string(names).unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if path == names {
            continue;
        }
        let named = list
            .lines()
            .any(|line| line == format!("mod {name};") || line == format!("pub mod {name};"));
        assert!(
            named,
            "{} is not named in {}",
            path.display(),
            names.display()
        );
        if path.is_dir() {
            check(&path, &path.join("mod.rs"));
        }
    }
}
