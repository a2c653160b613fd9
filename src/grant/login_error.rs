//! Why a login yielded nothing, and whose turn it is then.

use std::{error::Error, fmt, time::Duration};

use crate::{
    endpoint::TokenEndpoint,
    secret::NoRandomness,
    source::{BoxError, TokenError},
};

/// Whose login it is (RFC 6749 §4.1.1, RFC 8628 §3.1: "REQUIRED").
pub(super) fn client_id(endpoint: &TokenEndpoint) -> Result<&str, LoginError> {
    match endpoint.client_id() {
        "" => Err(LoginError::Param {
            key: String::from("client_id"),
            problem: "it is missing, as ClientAuth::anonymous() has none; use ClientAuth::none(…)",
        }),
        id => Ok(id),
    }
}

/// Why a login yielded no token.
///
/// Text of the server is escaped, cut, and shows no secret that was sent to it. Unless it says
/// otherwise, the login has ended, and a new one can be started.
#[derive(Debug)]
#[non_exhaustive]
pub enum LoginError {
    /// It isn't known where to log in. Nothing was sent. The caller's turn.
    #[non_exhaustive]
    NoEndpoint {
        /// Which endpoint is missing, such as "authorization endpoint".
        endpoint: &'static str,
        /// How to give it.
        advice: &'static str,
    },
    /// The redirect URI can't be one (RFC 6749 §3.1.2). Nothing was sent. The caller's turn.
    #[non_exhaustive]
    RedirectUri {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A parameter can't be added. Nothing was sent. The caller's turn.
    #[non_exhaustive]
    Param {
        /// Its name.
        key: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The operating system gave no random numbers. Nothing was sent. May pass.
    #[non_exhaustive]
    NoRandomness {
        /// What it said.
        cause: BoxError,
    },
    /// Nothing can be heard on the loopback address. Nothing was sent. The caller's turn.
    #[cfg(feature = "loopback")]
    #[cfg_attr(docsrs, doc(cfg(feature = "loopback")))]
    #[non_exhaustive]
    Listen {
        /// Where it was tried; port 0 is any that is free.
        address: std::net::SocketAddr,
        /// What the operating system said.
        cause: std::io::Error,
    },
    /// The browser didn't come back in time. The user's turn.
    #[cfg(feature = "loopback")]
    #[cfg_attr(docsrs, doc(cfg(feature = "loopback")))]
    #[non_exhaustive]
    TimedOut {
        /// How long it was waited for.
        limit: Duration,
    },
    /// The response isn't one to this login: another one's, or an attacker's (RFC 6749 §10.12).
    /// Nothing was sent. The user's turn, unless the caller has mixed up two logins.
    #[non_exhaustive]
    State {
        /// What is wrong with its `state`.
        problem: &'static str,
    },
    /// The response comes from another authorization server than the one asked (RFC 9207 §2.4).
    /// Nothing was sent. The operator's turn.
    #[non_exhaustive]
    Issuer {
        /// The issuer that was asked, if it is known.
        expected: Option<String>,
        /// The one in the response, if there is one.
        got: Option<String>,
    },
    /// The response to this login lacks what it must have (RFC 6749 §4.1.2). Nothing was sent. The
    /// operator's turn.
    #[non_exhaustive]
    Response {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The user or the authorization server said no (RFC 6749 §4.1.2.1, RFC 8628 §3.5). It may pass
    /// if the server said so; else it is the user's turn (`access_denied`) or, by the code, the
    /// caller's or the operator's.
    #[non_exhaustive]
    Refused {
        /// `error`, such as `access_denied`.
        code: String,
        /// `error_description`.
        description: Option<String>,
        /// `error_uri`.
        uri: Option<String>,
    },
    /// Nobody typed in the user code in time (RFC 8628 §3.5). The user's turn.
    #[non_exhaustive]
    Expired {
        /// How long there was time.
        lifetime: Duration,
    },
    /// The authorization server gave no token, or no codes to a device. What is asked for can be
    /// wrong, too: then nothing was sent. Whose turn it is, the error says that
    /// it was made from ([`TokenError::get_ref`]).
    NoToken(TokenError),
}

impl LoginError {
    /// Whether another login may succeed by itself: the network, an overloaded server, an operating
    /// system without random numbers. One that needs the user to act differently doesn't.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NoToken(error) => error.is_transient(),
            Self::Refused { code, .. } => may_pass(code),
            Self::NoRandomness { .. } => true,
            _ => false,
        }
    }

    /// The authorization server's error code, such as `access_denied`. An expired user code is
    /// `expired_token`, whether the server said so or the clock.
    pub fn oauth_code(&self) -> Option<&str> {
        match self {
            Self::NoToken(error) => error.oauth_code(),
            Self::Refused { code, .. } => Some(code),
            Self::Expired { .. } => Some("expired_token"),
            _ => None,
        }
    }
}

/// RFC 6749 §4.1.2.1.
fn may_pass(code: &str) -> bool {
    matches!(code, "temporarily_unavailable" | "server_error")
}

impl From<NoRandomness> for LoginError {
    fn from(NoRandomness(cause): NoRandomness) -> Self {
        let cause = cause.into();
        Self::NoRandomness { cause }
    }
}

impl From<TokenError> for LoginError {
    fn from(error: TokenError) -> Self {
        Self::NoToken(error)
    }
}

impl fmt::Display for LoginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEndpoint { endpoint, advice } => {
                write!(f, "the {endpoint} isn't known; {advice}")
            }
            Self::RedirectUri { problem } => {
                write!(f, "the redirect URI can't be used: {problem}")
            }
            Self::Param { key, problem } => write!(
                f,
                "the parameter {key:?} can't be added to the authorization request: {problem}"
            ),
            Self::NoRandomness { cause } => write!(
                f,
                "the operating system gave no random numbers ({cause}), and a login that can be \
                 guessed isn't started; trying again may help"
            ),
            #[cfg(feature = "loopback")]
            Self::Listen { address, cause } => write!(
                f,
                "nothing can be heard at {address} ({cause}); choose another port, or leave it \
                 out for any that is free"
            ),
            #[cfg(feature = "loopback")]
            Self::TimedOut { limit } => write!(
                f,
                "the browser didn't come back within {limit:?}; log in again, or give more time \
                 by .timeout(…)"
            ),
            Self::State { problem } => write!(
                f,
                "the response isn't one to this login: {problem} (RFC 6749 §10.12), so nothing \
                 was sent; log in again"
            ),
            Self::Issuer { expected, got } => {
                f.write_str("the response ")?;
                match got {
                    Some(got) => write!(f, "comes from the issuer \"{got}\"")?,
                    None => f.write_str("doesn't name its issuer, though the server does so")?,
                }
                if let Some(expected) = expected {
                    write!(f, ", and {expected:?} was asked")?;
                }
                f.write_str(
                    " (RFC 9207 §2.4), so nothing was sent; check .issuer(…), which counts byte \
                     for byte, or tell the server's operator",
                )
            }
            Self::Response { problem } => write!(
                f,
                "the response to this login can't be used: {problem} (RFC 6749 §4.1.2); log in \
                 again, and if it lasts, tell the server's operator"
            ),
            Self::Refused {
                code,
                description,
                uri,
            } => {
                write!(f, "the login was refused: {code}")?;
                if let Some(description) = description {
                    write!(f, " ({description})")?;
                }
                if let Some(uri) = uri {
                    write!(f, " <{uri}>")?;
                }
                write!(f, "; {}", advice(code))
            }
            Self::Expired { lifetime } => write!(
                f,
                "nobody finished the login within {lifetime:?}, and its code has expired; start \
                 it again for a new one"
            ),
            Self::NoToken(error) => fmt::Display::fmt(error, f),
        }
    }
}

/// What to do about an `error` (RFC 6749 §4.1.2.1, RFC 8707 §2, OpenID Connect Core §3.1.2.6).
fn advice(code: &str) -> &'static str {
    match code {
        _ if may_pass(code) => "trying again later may help; if it lasts, ask its operator",
        "access_denied" | "authorization_declined" => {
            "the user or the server's policy said no: log in again to say yes"
        }
        "unauthorized_client" | "unsupported_response_type" => {
            "allow the client this grant at the authorization server"
        }
        "invalid_scope" => "check the scope, and which scopes the client may have",
        "invalid_target" => "check the resource and the audience",
        "login_required"
        | "consent_required"
        | "interaction_required"
        | "account_selection_required" => {
            "the user has to act, which the parameter prompt may have forbidden"
        }
        _ => "check the redirect URI, the scope and the parameters (.param)",
    }
}

impl Error for LoginError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NoRandomness { cause } => Some(&**cause),
            #[cfg(feature = "loopback")]
            Self::Listen { cause, .. } => Some(cause),
            Self::NoToken(error) => error.source(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_login_may_succeed_where_the_trouble_passes() {
        let no_randomness = LoginError::NoRandomness {
            cause: "not yet".into(),
        };
        let refused = |code: &str| LoginError::Refused {
            code: code.to_owned(),
            description: None,
            uri: None,
        };
        for (error, transient) in [
            (no_randomness, true),
            (refused("server_error"), true),
            (refused("access_denied"), false),
            (TokenError::transient("busy").into(), true),
            (TokenError::permanent("wrong").into(), false),
        ] {
            assert_eq!(error.is_transient(), transient, "{error}");
        }
    }
}
