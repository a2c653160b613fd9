//! How the contents are written down.
//!
//! ```text
//! tower-oauth-tokens 1
//! floor=0
//! key=…&fence=3&owner=…&end=1798000000000&time=30000&generation=7&record=…     one line a key
//! sha256=…                                                of all before it, without its line break
//! ```
//!
//! Each version, also one to come, begins with such a first line and ends with such a last one: so a
//! file that was damaged is told from one that a newer version wrote.

use std::{collections::BTreeMap, fmt::Display, str, sync::Arc};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use form_urlencoded::Serializer;
use hmac_sha256::Hash;
use zeroize::Zeroizing;

use super::contents::{Contents, Kept, Shelf, Turn};

const NAME: &str = "tower-oauth-tokens ";
const VERSION: &str = "1";

/// Why there are no contents.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// Cut, changed, or never written by this library.
    Damaged,
    /// Whole, but of a version that isn't known here.
    OtherVersion(String),
}

/// The lines of a text, by key. Most stay when it changes, and needn't be written or read again.
#[derive(Default)]
pub(super) struct Lines(BTreeMap<String, Arc<Line>>);

struct Line {
    text: Zeroizing<String>,
    shelf: Arc<Shelf>,
}

/// The text, and its lines; `before` are those of the one that was written or read before.
pub(super) fn write(contents: &Contents, before: &Lines) -> (Zeroizing<String>, Lines) {
    let shelves = contents.shelves.iter();
    let lines: BTreeMap<_, _> = shelves
        .map(|(key, shelf)| {
            let known = before.0.get(key).filter(|line| line.shelf == *shelf);
            let line = known.map_or_else(|| Arc::new(Line::write(key, shelf)), Arc::clone);
            (key.clone(), line)
        })
        .collect();
    let length: usize = lines.values().map(|line| line.text.len()).sum();
    // Large enough from the beginning: a text that grows leaves copies behind.
    let room = length.saturating_add(lines.len()).saturating_add(200);
    let mut text = Zeroizing::new(String::with_capacity(room));
    for part in [NAME, VERSION, "\nfloor=", &contents.floor.to_string(), "\n"] {
        text.push_str(part);
    }
    for line in lines.values() {
        text.push_str(&line.text);
        text.push('\n');
    }
    let whole = text.strip_suffix('\n').unwrap_or(&text);
    let sum = checksum(whole);
    text.push_str(&sum);
    text.push('\n');
    (text, Lines(lines))
}

/// Whatever bytes are given; `before` are the lines of another text, which may have some of these.
pub(super) fn parse(bytes: &[u8], before: &Lines) -> Result<(Contents, Lines), Unreadable> {
    let text = checked(bytes).ok_or(Unreadable::Damaged)?;
    let mut lines = text.split('\n');
    let version = lines.next().and_then(|first| first.strip_prefix(NAME));
    match version.ok_or(Unreadable::Damaged)? {
        VERSION => parse_lines(lines, before).ok_or(Unreadable::Damaged),
        other => Err(Unreadable::OtherVersion(other.to_owned())),
    }
}

impl Line {
    fn write(key: &str, shelf: &Arc<Shelf>) -> Self {
        let mut text = Zeroizing::new(String::with_capacity(room(shelf)));
        write_shelf(key, shelf, &mut text);
        Self {
            text,
            shelf: Arc::clone(shelf),
        }
    }
}

fn write_shelf(key: &str, shelf: &Shelf, line: &mut String) {
    let mut fields = Serializer::new(line);
    let number = |fields: &mut Serializer<'_, &mut String>, name, value: &dyn Display| {
        fields.append_pair(name, &value.to_string());
    };
    fields.append_pair("key", key);
    number(&mut fields, "fence", &shelf.fence);
    if let Some(turn) = &shelf.turn {
        fields.append_pair("owner", &turn.owner);
        number(&mut fields, "end", &turn.end);
        number(&mut fields, "time", &turn.time);
    }
    if let Some(kept) = &shelf.kept {
        number(&mut fields, "generation", &kept.generation);
        if let Some(end) = &kept.keep_until {
            number(&mut fields, "keep_until", end);
        }
        let record = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(kept.bytes.as_slice()));
        fields.append_pair("record", &record);
    }
}

/// At least as many bytes as the line of `shelf` has, as long as its owner's name is no novel.
fn room(shelf: &Shelf) -> usize {
    let record = shelf.kept.as_ref().map_or(0, |kept| kept.bytes.len());
    let owner = shelf.turn.as_ref().map_or(0, |turn| turn.owner.len());
    record
        .saturating_mul(4)
        .div_ceil(3)
        .saturating_add(owner.saturating_mul(3))
        .saturating_add(300)
}

/// The text before the last line, if that is its checksum.
fn checked(bytes: &[u8]) -> Option<&str> {
    let text = str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let (before, last) = text.rsplit_once('\n')?;
    (last == checksum(before)).then_some(before)
}

/// It finds accidents. Who wants to can make another: that is what the encryption is for.
fn checksum(text: &str) -> String {
    let hash = BASE64_URL_SAFE_NO_PAD.encode(Hash::hash(text.as_bytes()));
    format!("sha256={hash}")
}

fn parse_lines<'a>(
    mut texts: impl Iterator<Item = &'a str>,
    before: &Lines,
) -> Option<(Contents, Lines)> {
    let floor = texts.next()?.strip_prefix("floor=")?.parse().ok()?;
    let (mut shelves, mut lines) = (BTreeMap::new(), BTreeMap::new());
    for text in texts {
        let (key, line) = match known(text, before) {
            Some((key, line)) => (key.to_owned(), Arc::clone(line)),
            None => {
                let (key, shelf) = parse_shelf(text)?;
                let (text, shelf) = (Zeroizing::new(text.to_owned()), Arc::new(shelf));
                (key, Arc::new(Line { text, shelf }))
            }
        };
        shelves.insert(key.clone(), Arc::clone(&line.shelf));
        lines.insert(key, line);
    }
    Some((Contents { floor, shelves }, Lines(lines)))
}

/// The line of `before` with this text. What a key consists of is written down as it is.
fn known<'a>(text: &str, before: &'a Lines) -> Option<(&'a String, &'a Arc<Line>)> {
    let (key, _) = text.strip_prefix("key=")?.split_once('&')?;
    let known = before.0.get_key_value(key);
    known.filter(|(_, line)| line.text.as_str() == text)
}

fn parse_shelf(line: &str) -> Option<(String, Shelf)> {
    let (mut key, mut fence) = (None, None);
    let (mut owner, mut end, mut time) = (None, None, None);
    let (mut generation, mut keep_until, mut record) = (None, None, None);
    for (name, value) in form_urlencoded::parse(line.as_bytes()) {
        match &*name {
            "key" => key = Some(value.into_owned()),
            "fence" => fence = Some(value.parse().ok()?),
            "owner" => owner = Some(value.into_owned()),
            "end" => end = Some(value.parse().ok()?),
            "time" => time = Some(value.parse().ok()?),
            "generation" => generation = Some(value.parse().ok()?),
            "keep_until" => keep_until = Some(value.parse().ok()?),
            "record" => record = Some(BASE64_URL_SAFE_NO_PAD.decode(&*value).ok()?),
            _ => return None,
        }
    }
    let turn = match (owner, end, time) {
        (None, None, None) => None,
        (owner, end, time) => Some(Turn {
            owner: owner?,
            end: end?,
            time: time?,
        }),
    };
    let kept = match (generation, record) {
        (None, None) => None,
        (generation, record) => Some(Kept {
            generation: generation?,
            keep_until,
            bytes: Zeroizing::new(record?),
        }),
    };
    let fence = fence?;
    Some((key?, Shelf { fence, turn, kept }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents() -> Contents {
        let full = Shelf {
            fence: 3,
            turn: Some(Turn {
                owner: "host & co = ü\n7".to_owned(),
                end: 1_798_000_000_000,
                time: u64::MAX,
            }),
            kept: Some(Kept {
                generation: 7,
                keep_until: Some(1_799_000_000_000),
                bytes: Zeroizing::new((0..=255).collect()),
            }),
        };
        let empty = Shelf {
            fence: 0,
            turn: None,
            kept: None,
        };
        Contents {
            floor: 9,
            shelves: [
                ("full".to_owned(), Arc::new(full)),
                ("empty".to_owned(), Arc::new(empty)),
            ]
            .into(),
        }
    }

    fn write(contents: &Contents) -> Zeroizing<String> {
        super::write(contents, &Lines::default()).0
    }

    fn parse(bytes: &[u8]) -> Result<Contents, Unreadable> {
        super::parse(bytes, &Lines::default()).map(|(contents, _)| contents)
    }

    #[test]
    fn what_is_written_is_read() {
        for contents in [contents(), Contents::default()] {
            assert_eq!(parse(write(&contents).as_bytes()).unwrap(), contents);
        }
    }

    #[test]
    fn lines_that_were_known_before_say_the_same_as_when_they_are_new() {
        let first = contents();
        let mut second = first.clone();
        for (key, shelf) in [
            ("empty", &first.shelves["full"]),
            ("more", &first.shelves["empty"]),
        ] {
            second.shelves.insert(key.to_owned(), Arc::clone(shelf));
        }
        let third = Contents {
            floor: 10,
            ..Contents::default()
        };
        let (mut writes, mut reads) = (Lines::default(), Lines::default());
        for contents in [&first, &second, &first, &third, &second] {
            let (text, written) = super::write(contents, &writes);
            assert_eq!(text, write(contents));
            let (read, lines) = super::parse(text.as_bytes(), &reads).unwrap();
            assert_eq!(read, *contents);
            (writes, reads) = (written, lines);
        }
        let (text, lines) = super::write(&second, &writes);
        assert!(
            Arc::ptr_eq(&lines.0["full"], &writes.0["full"]),
            "written anew"
        );
        let (_, lines) = super::parse(text.as_bytes(), &reads).unwrap();
        assert!(Arc::ptr_eq(&lines.0["full"], &reads.0["full"]), "read anew");
    }

    #[test]
    fn a_text_has_room_from_the_beginning() {
        let contents = contents();
        let text = write(&contents);
        assert!(text.capacity() < 2 * text.len().max(200), "it grew");
        for (key, shelf) in &contents.shelves {
            let (line, room) = (Line::write(key, shelf).text, room(shelf));
            assert!(line.len() <= room && line.capacity() < 2 * room, "it grew");
        }
    }

    #[test]
    fn no_cut_and_no_changed_byte_is_overlooked() {
        let text = write(&contents());
        let whole = text.as_bytes();
        for cut in 0..whole.len() {
            assert_eq!(
                parse(&whole[..cut]),
                Err(Unreadable::Damaged),
                "cut at {cut}"
            );
        }
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut changed = whole.to_vec();
                changed[at] ^= 1 << bit;
                assert_eq!(
                    parse(&changed),
                    Err(Unreadable::Damaged),
                    "bit {bit} at {at}"
                );
            }
        }
        let doubled = [whole, whole].concat();
        assert_eq!(parse(&doubled), Err(Unreadable::Damaged));
    }

    fn with_sum(text: &str) -> Vec<u8> {
        format!("{text}\n{}\n", checksum(text)).into_bytes()
    }

    #[test]
    fn another_version_is_no_damage() {
        let newer = with_sum("tower-oauth-tokens 2\nwhatever");
        let version = Unreadable::OtherVersion("2".to_owned());
        assert_eq!(parse(&newer), Err(version));
        let newer = String::from_utf8(newer).unwrap().replace("what", "that");
        assert_eq!(parse(newer.as_bytes()), Err(Unreadable::Damaged));
    }

    #[test]
    fn a_text_with_a_checksum_is_still_read_with_care() {
        let good = "tower-oauth-tokens 1\nfloor=0\nkey=a&fence=1";
        assert!(parse(&with_sum(good)).is_ok());
        for bad in [
            "",
            "something else",
            "tower-oauth-tokens 1",
            "tower-oauth-tokens 1\nfloor=x",
            &format!("{good}\n"),
            &format!("{good}&more=1"),
            &format!("{good}&owner=me&end=1"),
            &format!("{good}&generation=1"),
            &format!("{good}&record=_w"),
            &format!("{good}&generation=1&record=_"),
            &format!("{good}&generation=-1&record=_w"),
        ] {
            assert_eq!(parse(&with_sum(bad)), Err(Unreadable::Damaged), "{bad}");
        }
    }
}
