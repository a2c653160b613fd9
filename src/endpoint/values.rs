//! What servers write for a text, a lifetime, a scope and a delay.

use std::time::{Duration, SystemTime};

use http::{
    HeaderMap,
    header::{CONTENT_ENCODING, RETRY_AFTER},
};
use serde_json::Value;

use crate::source::LONGEST_RETRY_AFTER;

/// A text that isn't empty: `"error": null` and `"error": ""` say that there is none.
pub(super) fn text(value: &Option<Value>) -> Option<&str> {
    value.as_ref()?.as_str().filter(|text| !text.is_empty())
}

/// As [`text`], without leaving a copy behind.
pub(super) fn owned_text(value: Option<Value>) -> Option<String> {
    match value {
        Some(Value::String(text)) if !text.is_empty() => Some(text),
        _ => None,
    }
}

/// A value of a form that has no meaning here.
#[derive(Debug, PartialEq)]
pub(super) struct Unreadable;

/// `expires_in` as servers send it: a number, a fraction, a number in quotes. Zero, less and
/// nothing are `None`: unknown.
pub(super) fn lifetime(value: Option<Value>) -> Result<Option<Duration>, Unreadable> {
    let seconds = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => Some(text.trim())
            // Else `inf` and `nan` would be numbers.
            .filter(|text| text.bytes().all(|byte| b"+-.0123456789eE".contains(&byte)))
            .and_then(|text| text.parse().ok()),
        Some(_) => None,
    };
    let seconds = seconds.ok_or(Unreadable)?;
    if seconds <= 0.0 {
        return Ok(None);
    }
    // Less than a second is a second: a token that is gone at once would be asked for at once.
    Duration::try_from_secs_f64(seconds.clamp(1.0, MAX_LIFETIME))
        .map(Some)
        .map_err(|_| Unreadable)
}

/// Some 68 years: far beyond any token, and near enough that adding it to a clock is safe.
const MAX_LIFETIME: f64 = i32::MAX as f64;

/// RFC 6749 §3.3: a text of words with spaces between. Some servers send a list.
pub(super) fn scope(value: Option<Value>) -> Result<Option<String>, Unreadable> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Array(words)) => {
            let words: Option<Vec<&str>> = words.iter().map(Value::as_str).collect();
            Ok(Some(words.ok_or(Unreadable)?.join(" ")))
        }
        Some(_) => Err(Unreadable),
    }
}

/// RFC 9110 §10.2.3: `Retry-After` is a number of seconds or a date. What is neither is ignored.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let delay = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let date = httpdate::parse_http_date(text).ok()?;
        date.duration_since(now).unwrap_or_default()
    };
    Some(delay.min(LONGEST_RETRY_AFTER))
}

/// RFC 9110 §8.4: the coding of an answer, which isn't undone, unless it is `identity`.
pub(super) fn content_coding(headers: &HeaderMap) -> Option<&str> {
    let coding = headers.get(CONTENT_ENCODING)?.to_str().ok()?.trim();
    Some(coding).filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity"))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use http::HeaderValue;

    use super::*;

    fn json(text: &str) -> Option<Value> {
        Some(serde_json::from_str(text).unwrap())
    }

    // rules F20, F21, F22
    #[test]
    fn lifetimes_are_read_as_servers_send_them() {
        for known in ["60", "60.0", "6e1", "\"60\"", "\" 60 \"", "\"60.0\""] {
            assert_eq!(
                lifetime(json(known)),
                Ok(Some(Duration::from_secs(60))),
                "{known}"
            );
        }
        for unknown in ["0", "-1", "-0.0", "null", "\"0\"", "-1e300"] {
            assert_eq!(lifetime(json(unknown)), Ok(None), "{unknown}");
        }
        assert_eq!(lifetime(None), Ok(None));
        assert_eq!(lifetime(json("0.01")), Ok(Some(Duration::from_secs(1))));
        let huge = Ok(Some(Duration::from_secs(2_147_483_647)));
        for clamped in ["2147483648", "18446744073709551616", "1e300", "\"1e999\""] {
            assert_eq!(lifetime(json(clamped)), huge, "{clamped}");
        }
        for bad in [
            "true",
            "[]",
            "\"\"",
            "\"0xE10\"",
            "\"inf\"",
            "\"nan\"",
            "\"1 2\"",
        ] {
            assert_eq!(lifetime(json(bad)), Err(Unreadable), "{bad}");
        }
    }

    #[test]
    fn a_scope_is_a_text_or_a_list_of_texts() {
        for (sent, expected) in [
            (r#""read write""#, Ok(Some("read write"))),
            (r#"["read","write"]"#, Ok(Some("read write"))),
            ("null", Ok(None)),
            ("[1]", Err(Unreadable)),
            ("{}", Err(Unreadable)),
        ] {
            let expected = expected.map(|text| text.map(ToOwned::to_owned));
            assert_eq!(scope(json(sent)), expected, "{sent}");
        }
    }

    // rule 44
    #[test]
    fn retry_after_is_seconds_or_a_date_and_an_hour_at_most() {
        let now = UNIX_EPOCH + Duration::from_secs(1_767_225_600); // 2026-01-01T00:00:00Z
        for (text, seconds) in [
            ("120", Some(120)),
            ("0", Some(0)),
            ("3601", Some(3600)),
            ("99999999999999999999999", Some(3600)),
            ("Thu, 01 Jan 2026 00:00:30 GMT", Some(30)),
            ("Wed, 31 Dec 2025 23:59:59 GMT", Some(0)),
            ("Fri, 31 Dec 2055 23:59:59 GMT", Some(3600)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            let value = HeaderValue::from_static(text);
            let headers = HeaderMap::from_iter([(RETRY_AFTER, value)]);
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(retry_after(&headers, now), expected, "{text:?}");
        }
    }
}
