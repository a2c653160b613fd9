//! The members of a JSON object, their values not read.

use std::{collections::HashMap, fmt};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// By name; of one that stands twice, there is no value: parsers differ in which one they take.
pub(super) struct Members<'a>(HashMap<String, Option<&'a RawValue>>);

impl<'a> Members<'a> {
    /// `None` if it is no object.
    pub(super) fn of(value: &'a RawValue) -> Option<Self> {
        serde_json::from_str(value.get()).ok()
    }

    /// `None` if there is no such member.
    pub(super) fn only(&self, name: &str) -> Result<Option<&'a RawValue>, Twice> {
        let value = self.0.get(name).copied();
        value.map(|value| value.ok_or(Twice)).transpose()
    }

    /// `None` if there is no such member, or more than one.
    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.get(name).copied().flatten()
    }
}

/// A member stands twice.
#[derive(Debug, PartialEq)]
pub(super) struct Twice;

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor).map(Self)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = HashMap<String, Option<&'de RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members: Self::Value = HashMap::new();
        while let Some((name, value)) = map.next_entry()? {
            members
                .entry(name)
                .and_modify(|value| *value = None)
                .or_insert(Some(value));
        }
        Ok(members)
    }
}
