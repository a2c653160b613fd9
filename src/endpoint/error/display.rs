//! What an error of an endpoint says, and what it advises.

use std::fmt;

use http::StatusCode;

use super::{EndpointError, may_pass};
use crate::source::means_invalid_grant;

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SERVER: &str = "the authorization server at";
        match self {
            Self::NoSecret { url, cause } => write!(
                f,
                "there is no client secret for {url}: its provider failed ({cause}); check where \
                 it reads from"
            ),
            Self::UnusableSecret { url, problem } => {
                write!(f, "the client secret for {url} can't be sent: {problem}")
            }
            #[cfg(feature = "jwt")]
            Self::Unsigned { url, cause } => {
                write!(f, "the client can't be authenticated at {url}: {cause}")
            }
            Self::NoCertificate { url, cause } => write!(
                f,
                "there is no client certificate for {url}: its provider failed ({cause}); check \
                 where it reads from"
            ),
            Self::UnusableCertificate { url, problem } => {
                write!(
                    f,
                    "the client certificate for {url} can't be shown: {problem}"
                )
            }
            Self::CertificateRefused { url, problem, .. } => write!(
                f,
                "{SERVER} {url} refused the client's certificate, or wants one ({problem}); check \
                 that the client has it (ClientAuth::tls), that it hasn't expired, and that the \
                 server trusts it"
            ),
            Self::Unreachable {
                url,
                problem,
                advice,
                ..
            } => write!(
                f,
                "{SERVER} {url} can't be reached ({problem}), and nothing was sent; {advice}"
            ),
            Self::Interrupted { url, problem, .. } => {
                write!(
                    f,
                    "the connection to {SERVER} {url} broke before the answer was complete \
                     ({problem}); trying again may help"
                )?;
                if url.starts_with("http://") {
                    f.write_str(", unless it is an https server")?;
                }
                Ok(())
            }
            Self::TimedOut { url, limit } => write!(
                f,
                "{SERVER} {url} didn't answer within {limit:?}; trying again may help, or a longer \
                 .timeout(…)"
            ),
            Self::TooLarge { url, status } => write!(
                f,
                "{SERVER} {url} answered HTTP {} with more than 1 MiB: is this the \
                 endpoint's URL?",
                status.as_u16()
            ),
            Self::Redirected {
                url,
                status,
                origin,
            } => write!(
                f,
                "{SERVER} {url} answered HTTP {} and points to {}; redirects aren't followed, \
                 as requests carry secrets: set the URL to the final one",
                status.as_u16(),
                origin.as_deref().unwrap_or("no place")
            ),
            Self::Refused {
                url,
                status,
                code,
                description,
                uri,
                ..
            } => {
                let (what, advice) = judged(*status, code.as_deref());
                write!(f, "{SERVER} {url} {what}: ")?;
                match (code, description) {
                    (Some(code), Some(description)) => write!(f, "{code} ({description})")?,
                    (Some(only), None) | (None, Some(only)) => f.write_str(only)?,
                    (None, None) => {}
                }
                if let Some(uri) = uri {
                    write!(f, " <{uri}>")?;
                }
                if code.is_some() || description.is_some() || uri.is_some() {
                    f.write_str(", ")?;
                }
                write!(f, "HTTP {}; {advice}", status.as_u16())
            }
            Self::NotATokenResponse {
                url,
                status,
                content_type,
                content_encoding,
            } => {
                write!(
                    f,
                    "{SERVER} {url} answered HTTP {} with {}",
                    status.as_u16(),
                    content_type.as_deref().unwrap_or("no content type")
                )?;
                match content_encoding {
                    Some(coding) => write!(
                        f,
                        " in the Content-Encoding {coding}, which can't be read: only identity was \
                         asked for; mend the server, or decode it in the .transport(…)"
                    ),
                    None => {
                        f.write_str(", not a token response: is this the token endpoint's URL?")
                    }
                }
            }
            Self::Malformed {
                url,
                problem,
                words,
            } => {
                write!(
                    f,
                    "{SERVER} {url} sent a token response that breaks RFC 6749 §5.1: {problem}"
                )?;
                if let Some(words) = words {
                    write!(f, ", but says: {words}")?;
                }
                f.write_str(
                    "; is this the token endpoint's URL? If it is, tell the server's operator",
                )
            }
            Self::DeviceAuthorization {
                url,
                status,
                problem,
            } => write!(
                f,
                "{SERVER} {url} answered HTTP {} with what is no device authorization response \
                 (RFC 8628 §3.2): {problem}; is this the device authorization endpoint's URL? If it \
                 is, tell the server's operator",
                status.as_u16()
            ),
            Self::TokenType { url, token_type } => {
                write!(
                    f,
                    "{SERVER} {url} sent a token of the type \"{token_type}\"; "
                )?;
                f.write_str(type_advice(token_type))
            }
            Self::Token { url, cause } => {
                write!(f, "{SERVER} {url} sent a token that can't be used: {cause}")
            }
        }
    }
}

fn type_advice(token_type: &str) -> &'static str {
    match token_type.to_ascii_lowercase().as_str() {
        "dpop" => "DPoP isn't supported: let the server issue Bearer tokens to this client",
        "" | "mac" | "n_a" => {
            "only Bearer can be used: let the server issue such tokens to this client"
        }
        _ => {
            "only Bearer can be used: let the server issue such tokens to this client, or, if its \
             documentation says that these are bearer tokens, say so by .token_type(…)"
        }
    }
}

/// What the server did by refusing, and what to do about it.
type Judgement = (&'static str, &'static str);

fn judged(status: StatusCode, code: Option<&str>) -> Judgement {
    if may_pass(status, code) {
        return (
            "can't serve requests now",
            "trying again later may help; if it lasts, ask its operator",
        );
    }
    code.and_then(|code| by_code(code, status))
        .unwrap_or_else(|| by_status(status, code.is_some()))
}

const CLIENT_REFUSED: Judgement = (
    "refused the client",
    "check the client id, its secret, key or certificate, and the method (ClientAuth)",
);

const REQUEST_REFUSED: Judgement = (
    "refused the request",
    "check the grant, the scope and the parameters (.param)",
);

/// For the codes of RFC 6749 §5.2 and its kin, which mean the same whatever the status is.
fn by_code(code: &str, status: StatusCode) -> Option<Judgement> {
    Some(match code {
        // The second is GitHub's.
        "invalid_client" | "incorrect_client_credentials" => CLIENT_REFUSED,
        // Keycloak says so of a wrong secret.
        "unauthorized_client" if status == StatusCode::UNAUTHORIZED => (
            "refused the client",
            "check the client id, its secret, key or certificate, and whether the authorization \
             server allows the client this grant",
        ),
        "unauthorized_client" => (
            "refused the client",
            "allow the client this grant at the authorization server",
        ),
        "unsupported_grant_type" => (
            "refused the grant",
            "check the token endpoint's URL, and whether the server offers this grant",
        ),
        code if means_invalid_grant(code) => (
            "refused the grant",
            "it is expired, revoked, used up or another client's: get a new one (for a refresh \
             token: log in again)",
        ),
        "invalid_request" => REQUEST_REFUSED,
        "invalid_scope" => (
            "refused the scope",
            "check the scope, and which scopes the client may have",
        ),
        "invalid_target" => (
            "refused the target",
            "check the parameters resource and audience",
        ),
        // RFC 7009 §2.2.1
        "unsupported_token_type" => (
            "refused to revoke the token",
            "it doesn't revoke tokens of this kind: they live until they expire",
        ),
        _ => return None,
    })
}

/// For an answer without a code, or with one of the server's own: some put the status' reason there.
fn by_status(status: StatusCode, has_code: bool) -> Judgement {
    match status.as_u16() {
        401 => CLIENT_REFUSED,
        // Some servers answer so to a wrong secret.
        403 if !has_code => (
            "refused the client or its request",
            "check the client id, its secret, key or certificate, and what the client may ask for, \
             and from where",
        ),
        404 | 405 | 410 => ("refused the request", "check the endpoint's URL"),
        415 => (
            "refused the request",
            "check .encoding(…): it seems to take token requests in another form",
        ),
        _ if has_code => REQUEST_REFUSED,
        _ => (
            "refused the request",
            "check the endpoint's URL, the client's credentials, the parameters and .encoding(…)",
        ),
    }
}
