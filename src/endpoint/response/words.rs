//! What a server says of a refusal in words of its own, where it doesn't use those of RFC 6749 §5.2.

use serde_json::Value;

/// What people are told, if the body says it where others do. A text without such a place isn't
/// shown: anything may stand in it, a token as well.
pub(super) fn words(body: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let places = [
        Some(&answer),
        answer.get("error"),
        answer.pointer("/errors/0"),
    ];
    places.into_iter().flatten().find_map(said)
}

fn said(place: &Value) -> Option<String> {
    const NAMES: [&str; 7] = [
        "error_description",
        "message",
        "description",
        "detail",
        "errorSummary",
        "error_message",
        "title",
    ];
    let named = NAMES.iter().find_map(|name| place.get(name)?.as_str());
    let text = named.filter(|text| !text.is_empty())?;
    Some(text.to_owned())
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
