//! What one hop may say to the next (RFC 9110 §7.6).

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version,
    header::{
        CONNECTION, CONTENT_LENGTH, COOKIE, MAX_FORWARDS, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION,
        TE, TRANSFER_ENCODING, UPGRADE, VIA,
    },
};

use super::problem::{self, Problem};

/// On the way to the upstream, of a request that came in this version.
pub fn request(headers: &mut HeaderMap, version: Version) {
    let takes_trailers = takes_trailers(headers);
    strip(headers);
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    join_cookies(headers);
    headers.append(VIA, via(version));
}

/// On the way back, of an answer that came in this version.
pub fn answer(headers: &mut HeaderMap, version: Version) {
    strip(headers);
    problem::only_ours(headers);
    headers.append(VIA, via(version));
}

/// What is meant for this hop only (RFC 9110 §7.6.1), and what is between the caller and a proxy.
fn strip(headers: &mut HeaderMap) {
    // It says nothing of a body that came with a Transfer-Encoding: "an intermediary ... MUST first
    // remove the received Content-Length field" (RFC 9112 §6.3).
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|names| names.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-authentication-info"),
    PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// A caller may count the hops that OPTIONS takes (RFC 9110 §7.6.2).
pub fn count(method: &Method, headers: &mut HeaderMap) -> Result<(), Problem> {
    let left = headers
        .get(MAX_FORWARDS)
        .filter(|_| *method == Method::OPTIONS);
    let left = left.and_then(|left| left.to_str().ok()?.parse::<u64>().ok());
    if let Some(left) = left {
        let left = left.checked_sub(1).ok_or_else(|| {
            let text = "the request may go no further (Max-Forwards)";
            Problem::new(StatusCode::OK, "http_request_denied", text)
        })?;
        headers.insert(MAX_FORWARDS, left.into());
    }
    Ok(())
}

/// `TE` is for one hop, but trailers pass through here, so the question for them does, too.
fn takes_trailers(headers: &HeaderMap) -> bool {
    let values = headers.get_all(TE).iter();
    let mut codings = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|codings| codings.split(','));
    codings.any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

/// HTTP/2 may send cookies one by one, HTTP/1.1 must not (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let cookies: Vec<_> = headers.get_all(COOKIE).iter().collect();
    if cookies.len() > 1 {
        let cookies: Vec<_> = cookies.iter().map(|value| value.as_bytes()).collect();
        if let Ok(joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..])) {
            headers.insert(COOKIE, joined);
        }
    }
}

/// Who forwarded what came in this version (RFC 9110 §7.6.3).
fn via(received: Version) -> HeaderValue {
    HeaderValue::from_static(match received {
        Version::HTTP_10 => "1.0 egress_proxy",
        Version::HTTP_2 => "2 egress_proxy",
        _ => "1.1 egress_proxy",
    })
}
