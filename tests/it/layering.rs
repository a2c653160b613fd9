//! Imports in `src/` run one way: down the list.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// From the request's way to the token's way to what both stand on.
const HOUSE: [&str; 15] = [
    "layer",
    "service",
    "cache",
    "authorize",
    "rejection",
    "replay",
    "grant",
    "store",
    "endpoint",
    "source",
    "metrics",
    "token",
    "secret",
    "clock",
    "lib",
];
/// These know nothing of ours, not even each other.
const ISLANDS: [&str; 2] = ["rejection", "replay"];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

fn place(room: &str) -> usize {
    HOUSE
        .iter()
        .position(|name| *name == room)
        .unwrap_or_else(|| panic!("{room} has no place in the house"))
}

/// The rooms that a file names: `crate::room`, also in a braced list.
fn named(code: &str) -> Vec<String> {
    let code: String = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n");
    let mut rooms = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if at > 0 && code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = code[at + "crate::".len()..].trim_start();
        match rest.strip_prefix('{') {
            Some(list) => {
                let mut depth = 1;
                let mut item = String::new();
                for c in list.chars() {
                    match c {
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        ',' if depth == 1 => rooms.push(std::mem::take(&mut item)),
                        c if depth == 1 => item.push(c),
                        _ => {}
                    }
                    if depth == 0 {
                        break;
                    }
                }
                rooms.push(item);
            }
            None => rooms.push(rest.to_owned()),
        }
    }
    rooms
        .iter()
        .map(|path| {
            path.trim()
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect::<String>()
        })
        .filter(|room| !room.is_empty())
        .collect()
}

#[test]
fn imports_run_one_way() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut seen = 0;
    for file in sources(&src) {
        let inside = file.strip_prefix(&src).unwrap();
        let first = inside.iter().next().unwrap().to_str().unwrap();
        let room = first.trim_end_matches(".rs");
        if room == "lib" {
            continue;
        }
        for other in named(&fs::read_to_string(&file).unwrap()) {
            if other.starts_with(char::is_uppercase) {
                panic!("{}: name the room, not `crate::{other}`", inside.display());
            }
            assert!(
                room == other || !ISLANDS.contains(&room),
                "{}: {room} knows nothing of ours, but names {other}",
                inside.display()
            );
            assert!(
                place(room) <= place(&other),
                "{}: {room} must not import {other}, which lies above it",
                inside.display()
            );
            seen += usize::from(room != other);
        }
    }
    assert!(seen > 10, "the imports are no longer found");
}

#[test]
fn the_reader_of_imports_finds_them_all() {
    let code = "use crate::cache::X;\nuse crate::{\n    token::{A, B},\n    clock,\n};\n// crate::layer\n\
                fn f() -> crate::source::E { crate::metrics::m() }";
    let mut rooms = named(code);
    rooms.sort();
    assert_eq!(rooms, ["cache", "clock", "metrics", "source", "token"]);
}
