//! The parameters of an answer, as they stand in JSON or in a form, not yet judged.

use std::fmt;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::{
    lossy,
    members::{Members, Twice},
    pointer::JsonPointer,
    values::text,
};

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
    /// `None` if it isn't a JSON object from end to end, and `wrapped` leads to none.
    ///
    /// The fields are those of the object that `wrapped` leads to, if it leads to one. Where they
    /// can't be read, an error still counts, with nothing beside it but its own words.
    pub(super) fn from_json(body: &[u8], wrapped: &JsonPointer) -> Option<Self> {
        let read = Self::read::<Self>(body, wrapped);
        if read.as_ref().is_some_and(Self::says_something) {
            return read;
        }
        let refusal = Self::read::<Refusal>(lossy::utf8(body).as_bytes(), wrapped);
        refusal
            .filter(|fields| text(&fields.error).is_some())
            .or(read)
    }

    fn read<T: DeserializeOwned + Into<Self>>(body: &[u8], wrapped: &JsonPointer) -> Option<Self> {
        let outer = serde_json::from_slice::<T>(body).ok().map(Into::into);
        match wrapped.follow(body) {
            Ok(inner) => inner
                .and_then(|inner| serde_json::from_str::<T>(inner.get()).ok())
                .map(Into::into)
                // An empty object beside an error says nothing.
                .filter(Self::says_something)
                .or(outer),
            Err(Twice) => Some(Self {
                repeated: true,
                ..outer.unwrap_or_default()
            }),
        }
    }

    fn says_something(&self) -> bool {
        self.access_token.is_some() || self.device_code.is_some() || self.error.is_some()
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

/// The fields of an error (RFC 6749 §5.2), which are only compared and shown.
struct Refusal(Fields);

impl From<Refusal> for Fields {
    fn from(Refusal(fields): Refusal) -> Self {
        fields
    }
}

impl<'de> Deserialize<'de> for Refusal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let members = Members::deserialize(deserializer)?;
        let text = |name| members.get(name).and_then(lossy::string).map(Value::String);
        Ok(Self(Fields {
            error: text("error"),
            error_description: text("error_description"),
            error_uri: text("error_uri"),
            ..Fields::default()
        }))
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
    fn an_error_is_read_whatever_stands_beside_it() {
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        let error = br#""error":"invalid_grant""#.as_slice();
        for (beside, description) in [
            (
                b"\"error_description\":\"Ung\xfcltig\"".as_slice(),
                Some("Ung\u{fffd}ltig"),
            ),
            (
                br#""error_description":"\ud83d!""#,
                Some("\u{fffd}\u{fffd}\u{fffd}!"),
            ),
            (format!(r#""error_description":{deep}"#).as_bytes(), None),
            (br#""error_description":{"a":"\ud83d"}"#, None),
            (br#""expires_in":1e400"#, None),
            (b"\"access_token\":\"\xff\"", None),
        ] {
            for (open, pointer, close) in [("{", "", "}"), (r#"{"data":[{"#, "/data/0", "}]}")] {
                let body = [open.as_bytes(), error, b",", beside, close.as_bytes()].concat();
                let wrapped = JsonPointer::parse(pointer).unwrap();
                let fields = Fields::from_json(&body, &wrapped).unwrap();
                assert_eq!(fields.error, Some(Value::from("invalid_grant")));
                let shown = fields.error_description.as_ref().and_then(Value::as_str);
                assert_eq!(shown, description);
                assert_eq!(fields.access_token, None);
            }
        }
    }

    #[test]
    fn a_token_is_read_only_as_it_came() {
        for body in [
            b"{\"access_token\":\"a\xff\"}".as_slice(),
            br#"{"access_token":"a\ud83d"}"#,
            b"{\"access_token\":\"a\",\"refresh_token\":\"r\xff\"}",
            b"{\"access_token\":\"a\",\"error\":7,\"error_description\":\"\xff\"}",
            b"{\"error\":\"invalid_grant\",\"error_description\":\"\xff",
        ] {
            assert!(Fields::from_json(body, &JsonPointer::default()).is_none());
        }
        // What isn't known doesn't matter.
        let body = b"{\"access_token\":\"a\",\"user\":\"J\xfcrg\"}";
        let fields = Fields::from_json(body, &JsonPointer::default()).unwrap();
        assert_eq!(fields.access_token, Some(Value::from("a")));
    }

    #[test]
    fn a_list_can_hold_the_object() {
        let first = JsonPointer::parse("/0").unwrap();
        let fields = Fields::from_json(br#"[{"access_token":"a"}]"#, &first).unwrap();
        assert_eq!(fields.access_token, Some(Value::from("a")));
        for other in ["[]", "[1]", r#"[{"access_token":"a"}"#] {
            assert!(Fields::from_json(other.as_bytes(), &first).is_none());
        }
    }

    #[test]
    fn a_wrapper_that_stands_twice_is_noticed() {
        let wrapped = JsonPointer::parse("/data/token").unwrap();
        for body in [
            r#"{"data":{"token":{"access_token":"a"}},"data":{"token":{"access_token":"b"}}}"#,
            r#"{"data":{"token":{"access_token":"a"},"token":{"access_token":"b"}}}"#,
        ] {
            let fields = Fields::from_json(body.as_bytes(), &wrapped).unwrap();
            assert!(fields.repeated, "{body}");
        }
        let beside = r#"{"x":1,"x":2,"data":{"y":1,"y":2,"token":{"access_token":"a"}}}"#;
        let fields = Fields::from_json(beside.as_bytes(), &wrapped).unwrap();
        assert!(!fields.repeated && fields.access_token.is_some());
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
