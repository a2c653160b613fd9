//! Texts that are only shown, read as far as they can be.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

/// With U+FFFD for what isn't UTF-8.
pub(super) fn utf8(body: &[u8]) -> Zeroizing<String> {
    // Room for the longest case, so that it doesn't grow and leave copies behind.
    let mut text = Zeroizing::new(String::with_capacity(body.len().saturating_mul(3)));
    for chunk in body.utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    text
}

/// A JSON string, with U+FFFD for what no text can have: half of a surrogate pair (RFC 8259 §8.2).
/// `None` for any other value.
pub(super) fn string(value: &RawValue) -> Option<String> {
    let Octets(octets) = serde_json::from_str(value.get()).ok()?;
    Some(String::from_utf8_lossy(&octets).into_owned())
}

/// A JSON string as octets, in which half of a surrogate pair can stand.
struct Octets(Vec<u8>);

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(OctetsVisitor)
    }
}

struct OctetsVisitor;

impl Visitor<'_> for OctetsVisitor {
    type Value = Octets;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON string")
    }

    fn visit_bytes<E: Error>(self, octets: &[u8]) -> Result<Octets, E> {
        Ok(Octets(octets.to_vec()))
    }
}
