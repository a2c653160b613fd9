//! What a server says is wrong in words of its own, where it doesn't use those of RFC 6749 §5.2.

use serde_json::value::RawValue;

use crate::endpoint::{lossy, members::Members};

/// What people are told, if the body says it where others do. A text without such a place isn't
/// shown: anything may stand in it, a token as well.
pub(super) fn words(body: &[u8]) -> Option<String> {
    let body = lossy::utf8(body);
    let answer = Members::of(serde_json::from_str(&body).ok()?)?;
    said(&answer)
        .or_else(|| said(&Members::of(answer.get("error")?)?))
        .or_else(|| first_of(answer.get("errors")?))
}

fn said(place: &Members<'_>) -> Option<String> {
    const NAMES: [&str; 10] = [
        "error_description",
        "message",
        "msg",
        "errmsg",
        "description",
        "detail",
        "errorSummary",
        "error_message",
        "reason",
        "title",
    ];
    let named = |name: &&str| lossy::string(place.get(name)?);
    NAMES.iter().find_map(named).filter(|text| !text.is_empty())
}

/// The first of several errors, each an object or a text.
fn first_of(errors: &RawValue) -> Option<String> {
    let errors: Vec<&RawValue> = serde_json::from_str(errors.get()).ok()?;
    let first = errors.first()?;
    match Members::of(first) {
        Some(error) => said(&error),
        None => lossy::string(first).filter(|text| !text.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_where_servers_put_them() {
        for (body, expected) in [
            (
                r#"{"message":"audience is required"}"#,
                Some("audience is required"),
            ),
            (
                r#"{"title":"Bad Request","detail":"no tenant"}"#,
                Some("no tenant"),
            ),
            (
                r#"{"error":{"code":7,"message":"no tenant"}}"#,
                Some("no tenant"),
            ),
            (
                r#"{"errors":[{"message":"first"},{"message":"second"}]}"#,
                Some("first"),
            ),
            (r#"{"errorSummary":"Invalid value"}"#, Some("Invalid value")),
            (r#"{"code":7,"msg":"no tenant"}"#, Some("no tenant")),
            (r#"{"errcode":7,"errmsg":"no tenant"}"#, Some("no tenant")),
            (r#"{"error":"x","reason":"no tenant"}"#, Some("no tenant")),
            (r#"{"errors":["first","second"]}"#, Some("first")),
            (r#""no tenant""#, None),
            (r#"{"message":"","detail":7}"#, None),
            (r#"{"message":{"a":1}}"#, None),
            ("[]", None),
            ("null", None),
            ("", None),
            ("no tenant", None),
            ("<html>", None),
        ] {
            assert_eq!(words(body.as_bytes()).as_deref(), expected, "{body}");
        }
    }
}
