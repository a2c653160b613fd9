//! gRPC's answer, when it comes without a message.
//!
//! gRPC sends its status in the trailers, after the body, with HTTP status 200. A call that fails before the first message, as
//! one with a bad token does, is answered *trailers-only*: the status stands in the head, where it can be judged before anybody
//! has seen a part of the response. Source: gRPC over HTTP/2, "Responses"; the codes from gRPC's "Status codes and their use".
//!
//! The field's presence is the sign, not the content type: some servers and proxies leave that out.

use http::{HeaderMap, HeaderName};

use super::Verdict;

pub(super) static STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The verdict of fields that hold a status: the head of a trailers-only response, or trailers. `None` for any other.
#[inline]
pub(super) fn verdict(fields: &HeaderMap) -> Option<Verdict> {
    // Through the names, which are few, for less than a hash of the name that is looked for.
    if !fields.keys().any(|name| name == STATUS) {
        return None;
    }
    Some(of_status(fields.get(&STATUS)?.as_bytes()))
}

fn of_status(status: &[u8]) -> Verdict {
    match status {
        // UNAUTHENTICATED: "the request does not have valid authentication credentials".
        b"16" => Verdict::Refused,
        // UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, INTERNAL, UNAVAILABLE: libraries and proxies make these up on the
        // way, too, so a server need not have seen the token.
        b"2" | b"4" | b"8" | b"13" | b"14" => Verdict::Unrelated,
        code if !code.is_empty() && code.iter().all(u8::is_ascii_digit) => Verdict::Accepted,
        // What is no number reads as UNKNOWN.
        _ => Verdict::Unrelated,
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::Verdict;

    fn verdict(status: &'static str) -> Option<Verdict> {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-status", HeaderValue::from_static(status));
        super::verdict(&headers)
    }

    #[test]
    fn only_unauthenticated_refuses() {
        assert_eq!(verdict("16"), Some(Verdict::Refused));
        for accepted in [
            "0", "1", "3", "5", "6", "7", "9", "10", "11", "12", "15", "17",
        ] {
            assert_eq!(verdict(accepted), Some(Verdict::Accepted), "{accepted}");
        }
        for unrelated in ["2", "4", "8", "13", "14", "", "unauthenticated", "-1"] {
            assert_eq!(verdict(unrelated), Some(Verdict::Unrelated), "{unrelated}");
        }
    }

    #[test]
    fn a_head_without_a_status_is_not_judged() {
        assert_eq!(super::verdict(&HeaderMap::new()), None);
    }
}
