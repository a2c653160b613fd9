//! The bearer token in the `Authorization` header (RFC 6750 §2.1).

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};

/// One value goes out, whatever was there: two would be ambiguous (RFC 9449 §7.2).
pub(crate) fn put(headers: &mut HeaderMap, value: HeaderValue) {
    headers.insert(AUTHORIZATION, value);
}
