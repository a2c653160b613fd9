//! Was the token refused?
//!
//! Servers have many ways to say no, and only some of them are about the token. Renewing a token that was fine costs a token
//! request for every answer, forever; keeping one that was revoked costs every answer until it expires. [`standard`] draws the
//! line, from the head of the response alone:
//!
//! | answer | verdict |
//! |---|---|
//! | 401 without a challenge, or with a header that cannot be read | [`Refused`](Verdict::Refused) |
//! | 401 with a `Bearer` challenge: no `error`, or `invalid_token` | `Refused` |
//! | 401 with a `Bearer` challenge: any other `error` (`insufficient_scope`, `insufficient_claims`, …) | [`Unrelated`](Verdict::Unrelated) |
//! | 401 that offers only other schemes (`Basic`, `Negotiate`, `DPoP`, …) | `Unrelated` |
//! | 200 with gRPC status 16 (`UNAUTHENTICATED`) in the head, a trailers-only response | `Refused` |
//! | 200 with gRPC status 2, 4, 8, 13, 14, or one that is no number, in the head | `Unrelated` |
//! | 200 with a gRPC status in trailers that follow no message, below a [`GrpcTrailersLayer`] | as in the head |
//! | another 2xx, 304, and 403 with `insufficient_scope`: the token was understood | [`Accepted`](Verdict::Accepted) |
//! | everything else: given by a proxy, in haste, in trouble, or before the token was looked at | `Unrelated` |
//!
//! Nobody renews because of a 403: the same grant yields a token with the same rights.
//!
//! A server that deviates needs another classifier: any `Fn(ResponseHead<'_>) -> Verdict`, usually one exception in front of
//! [`standard`].
//!
//! ```
//! use tower_oauth::rejection::{self, ResponseHead, Verdict};
//!
//! // This server answers 403 once a token has been revoked.
//! let classifier = |head: ResponseHead<'_>| {
//!     if head.status() == 403 { Verdict::Refused } else { rejection::standard(head) }
//! };
//!
//! let forbidden = http::Response::builder().status(403).body(())?;
//! assert_eq!(rejection::standard(ResponseHead::of(&forbidden)), Verdict::Unrelated);
//! assert_eq!(classifier(ResponseHead::of(&forbidden)), Verdict::Refused);
//! # Ok::<(), http::Error>(())
//! ```
//!
//! Sources: RFC 6750 §3 and §3.1 (`Bearer` challenges and their error codes), RFC 9110 §11 (challenges) and §15 (status codes),
//! the gRPC over HTTP/2 protocol (trailers-only responses).

mod challenge;
mod grpc;
mod judge;
mod trailers;

#[cfg(test)]
mod cases;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod reading;

use self::challenge::Complaint;
pub(crate) use self::judge::Judge;
pub use self::trailers::{GrpcTrailers, GrpcTrailersBody, GrpcTrailersFuture, GrpcTrailersLayer};

/// What an answer says of the token that was sent with the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// The server took the token.
    Accepted,
    /// The server refused the token: it must not be used again, and a fresh one may do better.
    Refused,
    /// The answer tells nothing about whether the token is valid, or a fresh one would not change it.
    Unrelated,
}

/// The head of a response: everything but the body, borrowed.
#[derive(Debug, Clone, Copy)]
pub struct ResponseHead<'a> {
    status: http::StatusCode,
    version: http::Version,
    headers: &'a http::HeaderMap,
    extensions: &'a http::Extensions,
}

impl<'a> ResponseHead<'a> {
    /// The head of `response`; nothing is copied.
    #[inline]
    pub fn of<R>(response: &'a http::Response<R>) -> Self {
        Self {
            status: response.status(),
            version: response.version(),
            headers: response.headers(),
            extensions: response.extensions(),
        }
    }

    /// The status code.
    pub fn status(&self) -> http::StatusCode {
        self.status
    }

    /// The HTTP version.
    pub fn version(&self) -> http::Version {
        self.version
    }

    /// The header fields, as received.
    pub fn headers(&self) -> &'a http::HeaderMap {
        self.headers
    }

    /// What services below left with the response.
    pub fn extensions(&self) -> &'a http::Extensions {
        self.extensions
    }

    /// The trailers of a gRPC response that has no message, if a [`GrpcTrailersLayer`] waited for them; the caller gets them
    /// after the head, as sent.
    #[inline]
    pub fn trailers(&self) -> Option<&'a http::HeaderMap> {
        let early = self.extensions.get::<trailers::EarlyTrailers>()?;
        Some(&early.0)
    }
}

/// The default classifier: RFC 6750 for HTTP, `UNAUTHENTICATED` for gRPC.
///
/// The [module's table](self) lists its verdicts. An answer with status 200 costs two lookups, of a header and of an
/// extension; no answer makes it allocate, and the time it takes is linear in the size of the `WWW-Authenticate` fields.
///
/// # Examples
///
/// ```
/// use tower_oauth::rejection::{self, ResponseHead, Verdict};
///
/// let expired = http::Response::builder()
///     .status(401)
///     .header("WWW-Authenticate", r#"Bearer realm="example", error="invalid_token""#)
///     .body(())?;
/// assert_eq!(rejection::standard(ResponseHead::of(&expired)), Verdict::Refused);
///
/// let lacking = http::Response::builder()
///     .status(401)
///     .header("WWW-Authenticate", r#"Bearer error="insufficient_scope", scope="write""#)
///     .body(())?;
/// assert_eq!(rejection::standard(ResponseHead::of(&lacking)), Verdict::Unrelated);
/// # Ok::<(), http::Error>(())
/// ```
#[inline]
pub fn standard(head: ResponseHead<'_>) -> Verdict {
    match head.status.as_u16() {
        200 => grpc::verdict(head.headers)
            .or_else(|| grpc::verdict(head.trailers()?))
            .unwrap_or(Verdict::Accepted),
        401 => match Complaint::of(head.headers) {
            // RFC 6750 §3.1: "the client MAY request a new access token and retry". Without an error code the server saw no
            // token it knows as one; we did send one.
            Complaint::Unnamed | Complaint::InvalidToken => Verdict::Refused,
            Complaint::NotBearer | Complaint::InsufficientScope | Complaint::Other => {
                Verdict::Unrelated
            }
        },
        201..=299 | 304 => Verdict::Accepted,
        // RFC 6750 §3.1: the token is good, its rights are not enough.
        403 if Complaint::of(head.headers) == Complaint::InsufficientScope => Verdict::Accepted,
        // Servers that say 403 or 404 where they mean 401, gateways that answer before they look at the token, redirects to
        // a login page: no reason to renew, no proof of a good token either.
        _ => Verdict::Unrelated,
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        reason = "a test that meets the unexpected must fail"
    )]

    use super::{ResponseHead, Verdict, standard};

    fn verdict(status: u16, headers: &[(&str, &str)]) -> Verdict {
        let mut response = http::Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        standard(ResponseHead::of(&response.body(()).unwrap()))
    }

    fn challenged(status: u16, value: &str) -> Verdict {
        verdict(status, &[("WWW-Authenticate", value)])
    }

    // rules 31, 33
    #[test]
    fn a_401_that_is_bare_or_names_the_token_refuses_it() {
        assert_eq!(verdict(401, &[]), Verdict::Refused);
        for value in [
            "Bearer",
            r#"Bearer realm="example""#,
            r#"Bearer realm="example", error="invalid_token""#,
            r#"Bearer error="invalid\_token""#,
            r#"Bearer, DPoP algs="ES256 PS256""#,
            r#"Basic realm="x", bEaReR error=invalid_token"#,
            r#"Bearer error="""#,
        ] {
            assert_eq!(challenged(401, value), Verdict::Refused, "{value}");
        }
    }

    // rule 32
    #[test]
    fn a_401_with_another_bearer_error_is_not_about_the_token() {
        for error in [
            "insufficient_scope",
            "invalid_request",
            "insufficient_claims",
            "insufficient_user_authentication",
            "use_dpop_nonce",
            "invalid_token_type",
            "not_invalid_token",
        ] {
            let value = format!(r#"Bearer realm="a", error="{error}""#);
            assert_eq!(challenged(401, &value), Verdict::Unrelated, "{value}");
        }
    }

    #[test]
    fn an_error_code_in_odd_dress_is_recognised() {
        for error in ["INVALID_TOKEN", "'invalid_token'", "Invalid_Token"] {
            let value = format!("Bearer error={error}");
            assert_eq!(challenged(401, &value), Verdict::Refused, "{value}");
        }
        assert_eq!(
            challenged(401, "Bearer error='insufficient_scope'"),
            Verdict::Unrelated
        );
    }

    #[test]
    fn of_several_bearer_challenges_the_one_that_renewing_cannot_answer_decides() {
        let (expired, lacking) = (
            r#"Bearer error="invalid_token""#,
            r#"Bearer error="insufficient_scope""#,
        );
        for (first, second) in [(expired, lacking), (lacking, expired), (lacking, "Bearer")] {
            let one_line = challenged(401, &format!("{first}, {second}"));
            assert_eq!(one_line, Verdict::Unrelated, "{first}, {second}");
            let two_lines = [("WWW-Authenticate", first), ("WWW-Authenticate", second)];
            assert_eq!(verdict(401, &two_lines), Verdict::Unrelated);
        }
        assert_eq!(
            challenged(401, &format!("Bearer, {expired}")),
            Verdict::Refused
        );
    }

    // rule 40
    #[test]
    fn a_401_that_offers_only_other_schemes_is_not_about_the_token() {
        for value in [
            r#"Basic realm="simple""#,
            "Negotiate",
            "Negotiate abc123==, NTLM",
            r#"DPoP error="invalid_token", algs="ES256""#,
            r#"Bearerish error="invalid_token""#,
            r#"Newauth title="Bearer error=invalid_token""#,
        ] {
            assert_eq!(challenged(401, value), Verdict::Unrelated, "{value}");
        }
        let to_the_proxy = [("Proxy-Authenticate", r#"Basic realm="p""#)];
        assert_eq!(verdict(401, &to_the_proxy), Verdict::Refused);
    }

    #[test]
    fn a_401_that_cannot_be_read_refuses_unless_it_names_another_error() {
        for value in [
            "",
            ",,",
            "???",
            r#"Bearer error"invalid_token""#,
            r#"error="insufficient_scope""#,
            r#"Basic realm="x"#,
            r#"Basic, realm="x""#,
            "Negotiate abc== ???",
            r#"Bearer scope="" error="invalid_token" error_description="expired""#,
            "Bearer authorization_uri=https://login.example/x resource_id=https://storage.example",
        ] {
            assert_eq!(challenged(401, value), Verdict::Refused, "{value}");
        }
        for value in [
            r#"Bearer scope="" error="insufficient_scope" error_description="no""#,
            r#"Bearer, error="insufficient_scope""#,
            r#"Bearer realm="x, error="insufficient_scope""#,
            r#"Bearer realm="x"error="insufficient_scope""#,
            r#"Bearer error="insufficient_scope"#,
            r#"Basic realm="x" Bearer error="insufficient_scope""#,
            r#"Bearer resource=https://a.example, error="insufficient_scope""#,
            "Bearer\terror=insufficient_scope",
            "Bearer: error=insufficient_scope",
        ] {
            assert_eq!(challenged(401, value), Verdict::Unrelated, "{value}");
        }
    }

    // rules 32, F9
    #[test]
    fn a_403_never_refuses() {
        assert_eq!(verdict(403, &[]), Verdict::Unrelated);
        let of = |value| challenged(403, value);
        assert_eq!(of("Bearer error=insufficient_scope"), Verdict::Accepted);
        for value in [
            "Bearer",
            "???",
            "Bearer error=invalid_token",
            "Bearer error=unheard_of",
        ] {
            assert_eq!(of(value), Verdict::Unrelated, "{value}");
        }
    }

    // rules 32, 40, F41
    #[test]
    fn other_statuses_never_refuse() {
        let expired = r#"Bearer error="invalid_token""#;
        for status in [
            302, 400, 404, 405, 407, 408, 409, 421, 429, 500, 502, 503, 599, 999,
        ] {
            assert_eq!(verdict(status, &[]), Verdict::Unrelated, "{status}");
            assert_eq!(
                challenged(status, expired),
                Verdict::Unrelated,
                "{status}, challenged"
            );
        }
        for status in [200, 201, 204, 206, 304] {
            assert_eq!(verdict(status, &[]), Verdict::Accepted, "{status}");
        }
        assert_eq!(challenged(200, expired), Verdict::Accepted);
    }

    #[test]
    fn a_head_shows_what_the_response_has() {
        let mut response = http::Response::new("body");
        *response.version_mut() = http::Version::HTTP_2;
        response.headers_mut().insert("a", "b".parse().unwrap());
        response.extensions_mut().insert(7_u8);

        let head = ResponseHead::of(&response);
        assert_eq!(head.status(), 200);
        assert_eq!(head.version(), http::Version::HTTP_2);
        assert_eq!(head.headers().get("a").unwrap(), "b");
        assert_eq!(head.extensions().get::<u8>(), Some(&7));
    }
}
