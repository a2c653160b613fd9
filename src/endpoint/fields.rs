//! The parameters of an answer, as they stand in JSON or in a form, not yet judged.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::pointer::JsonPointer;

/// What RFC 6749 §5.1 and §5.2, RFC 8693 §2.2.1 and RFC 8628 §3.2 name. The values are kept as they
/// came, so that no text of a parser can repeat one.
#[derive(Default)]
pub(super) struct Fields {
    pub(super) access_token: Option<Value>,
    pub(super) token_type: Option<Value>,
    pub(super) expires_in: Option<Value>,
    pub(super) scope: Option<Value>,
    pub(super) refresh_token: Option<Value>,
    pub(super) issued_token_type: Option<Value>,
    pub(super) device_code: Option<Value>,
    pub(super) user_code: Option<Value>,
    pub(super) verification_uri: Option<Value>,
    /// As some servers call `verification_uri`.
    pub(super) verification_url: Option<Value>,
    pub(super) verification_uri_complete: Option<Value>,
    pub(super) interval: Option<Value>,
    pub(super) error: Option<Value>,
    pub(super) error_description: Option<Value>,
    pub(super) error_uri: Option<Value>,
    /// RFC 6749 §3.2: "Request and response parameters MUST NOT be included more than once."
    /// Parsers differ in which one they take, so neither is.
    pub(super) repeated: bool,
}

impl Fields {
    /// `None` if it isn't a JSON object from end to end.
    ///
    /// The fields are those of the object that `wrapped` leads to, if it leads to one.
    pub(super) fn from_json(body: &[u8], wrapped: &JsonPointer) -> Option<Self> {
        let outer = serde_json::from_slice(body).ok()?;
        let inner = wrapped
            .follow(body)
            .and_then(|inner| serde_json::from_str(inner.get()).ok())
            // An empty object beside an error says nothing.
            .filter(|inner: &Self| {
                inner.access_token.is_some() || inner.device_code.is_some() || inner.error.is_some()
            });
        Some(inner.unwrap_or(outer))
    }

    pub(super) fn from_form(body: &[u8]) -> Self {
        let mut fields = Self::default();
        for (key, value) in form_urlencoded::parse(body) {
            // RFC 6749 §3.2: "Parameters sent without a value MUST be treated as if they were
            // omitted".
            if !value.is_empty() {
                fields.set(&key, || Value::String(value.into_owned()));
            }
        }
        fields
    }

    fn set(&mut self, key: &str, value: impl FnOnce() -> Value) {
        if let Some(slot) = self.slot(key) {
            let repeated = slot.replace(value()).is_some();
            self.repeated |= repeated;
        }
    }

    fn slot(&mut self, key: &str) -> Option<&mut Option<Value>> {
        Some(match key {
            "access_token" => &mut self.access_token,
            "token_type" => &mut self.token_type,
            "expires_in" => &mut self.expires_in,
            "scope" => &mut self.scope,
            "refresh_token" => &mut self.refresh_token,
            "issued_token_type" => &mut self.issued_token_type,
            "device_code" => &mut self.device_code,
            "user_code" => &mut self.user_code,
            "verification_uri" => &mut self.verification_uri,
            "verification_url" => &mut self.verification_url,
            "verification_uri_complete" => &mut self.verification_uri_complete,
            "interval" => &mut self.interval,
            "error" => &mut self.error,
            "error_description" => &mut self.error_description,
            "error_uri" => &mut self.error_uri,
            _ => return None,
        })
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Fields::default();
        while let Some(key) = map.next_key::<String>()? {
            // RFC 6749 §5.1: "The client MUST ignore unrecognized value names in the response."
            if fields.slot(&key).is_none() {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = map.next_value()?;
            fields.set(&key, || value);
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Option<Fields> {
        Fields::from_json(text.as_bytes(), &JsonPointer::default())
    }

    // rule 16
    #[test]
    fn unknown_members_are_ignored_however_deep_or_often() {
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        let fields = json(&format!(r#"{{"x":1,"x":{deep},"token_type":"Bearer"}}"#)).unwrap();
        assert_eq!(fields.token_type, Some(Value::from("Bearer")));
        assert!(!fields.repeated);
    }

    #[test]
    fn a_known_member_twice_is_noticed_even_if_it_is_null() {
        assert!(json(r#"{"scope":null,"scope":"a"}"#).unwrap().repeated);
        assert!(Fields::from_form(b"scope=a&scope=b").repeated);
        assert!(!Fields::from_form(b"scope=&scope=b&x=1&x=2").repeated);
    }

    #[test]
    fn only_a_whole_object_is_one() {
        for text in [
            "",
            "null",
            "[]",
            "\"a\"",
            "{",
            "{}x",
            "/**/{}",
            r#"{"scope":1e400}"#,
        ] {
            assert!(json(text).is_none(), "{text}");
        }
        assert!(Fields::from_json(b"\xff\xfe{\0}\0", &JsonPointer::default()).is_none());
    }

    #[test]
    fn an_error_beside_an_empty_object_counts() {
        let wrapped = JsonPointer::parse("/data").unwrap();
        for data in ["{}", "null", r#"{"x":1}"#] {
            let body = format!(r#"{{"error":"invalid_grant","data":{data}}}"#);
            let fields = Fields::from_json(body.as_bytes(), &wrapped).unwrap();
            assert!(fields.error.is_some(), "{data}");
        }
    }

    #[test]
    fn a_form_is_decoded() {
        let fields = Fields::from_form(b"access_token=a%2Bb&scope=x+y");
        assert_eq!(fields.access_token, Some(Value::from("a+b")));
        assert_eq!(fields.scope, Some(Value::from("x y")));
    }
}
