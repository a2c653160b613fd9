//! What a server says of a refusal in words of its own, where it doesn't use those of RFC 6749 §5.2.

use serde_json::Value;

/// The longest text that isn't JSON and still is a sentence.
const LONGEST: usize = 512;

/// What people are told, if the body says it where others do.
pub(super) fn words(body: &[u8], is_text: bool) -> Option<String> {
    let Ok(answer) = serde_json::from_slice::<Value>(body) else {
        let text = std::str::from_utf8(body).ok()?.trim();
        let is_sentence = is_text && !text.is_empty() && text.len() <= LONGEST;
        return is_sentence.then(|| text.to_owned());
    };
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
        ] {
            assert_eq!(words(body.as_bytes(), false).as_deref(), expected, "{body}");
        }
        assert_eq!(words(b" no tenant\n", true).as_deref(), Some("no tenant"));
        assert_eq!(words(b"<html>", false), None);
        assert_eq!(words(&[b'a'; 600], true), None);
        assert_eq!(words(b"\xff", true), None);
    }
}
