//! Why a request to the authorization server failed, and whose turn it is then.

mod display;

use std::{error::Error, sync::Arc, time::Duration};

use http::StatusCode;

#[cfg(feature = "jwt")]
use super::SigningError;
use crate::{
    source::{BoxError, TokenError},
    token::InvalidToken,
};

/// Why a request to the authorization server failed, whichever endpoint it went to; found by
/// downcasting [`TokenError::get_ref`].
///
/// URLs stand up to their query. Text of the server is escaped, cut, and shows no secret that was
/// sent to it.
#[derive(Debug)]
#[non_exhaustive]
pub enum EndpointError {
    /// The provider of the client's secret failed. Nothing was sent. May pass.
    #[non_exhaustive]
    NoSecret {
        /// The URL of the request.
        url: Arc<str>,
        /// What the provider said.
        cause: BoxError,
    },
    /// The client's secret can't be sent as the method asks. Nothing was sent. The caller's turn.
    #[non_exhaustive]
    UnusableSecret {
        /// The URL of the request.
        url: Arc<str>,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The client's JWT can't be signed. Nothing was sent. It may pass if the provider of the key
    /// failed, else it is the caller's turn.
    #[cfg(feature = "jwt")]
    #[non_exhaustive]
    Unsigned {
        /// The URL of the request.
        url: Arc<str>,
        /// Why not.
        cause: SigningError,
    },
    /// The provider of the client's certificate or its key failed. Nothing was sent. May pass.
    #[non_exhaustive]
    NoCertificate {
        /// The URL of the request.
        url: Arc<str>,
        /// What the provider said.
        cause: BoxError,
    },
    /// What the providers of the client's certificate and its key said can't be used. Nothing was
    /// sent. May pass, as when they are being rotated.
    #[non_exhaustive]
    UnusableCertificate {
        /// The URL of the request.
        url: Arc<str>,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The server ended the TLS handshake over the client's certificate, or for want of one. The
    /// operator's turn.
    #[non_exhaustive]
    CertificateRefused {
        /// The URL of the request.
        url: Arc<str>,
        /// What the innermost cause says.
        problem: String,
        /// What the transport said.
        cause: BoxError,
    },
    /// DNS, the connection or TLS failed. Nothing was sent. May pass.
    #[non_exhaustive]
    Unreachable {
        /// The URL of the request.
        url: Arc<str>,
        /// What the innermost cause says.
        problem: String,
        /// What to look at.
        advice: &'static str,
        /// What the transport said.
        cause: BoxError,
    },
    /// The connection broke before the answer was complete. May pass.
    #[non_exhaustive]
    Interrupted {
        /// The URL of the request.
        url: Arc<str>,
        /// What the innermost cause says.
        problem: String,
        /// What the transport said.
        cause: BoxError,
    },
    /// The answer wasn't complete in time. May pass.
    #[non_exhaustive]
    TimedOut {
        /// The URL of the request.
        url: Arc<str>,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The answer is larger than 1 MiB. The operator's turn.
    #[non_exhaustive]
    TooLarge {
        /// The URL of the request.
        url: Arc<str>,
        /// The answer's status.
        status: StatusCode,
    },
    /// The server pointed elsewhere; redirects are never followed. The caller's turn.
    #[non_exhaustive]
    Redirected {
        /// The URL of the request.
        url: Arc<str>,
        /// The answer's status.
        status: StatusCode,
        /// The origin that `Location` leads to, if there is one.
        origin: Option<String>,
    },
    /// The server answered with an error. It may pass if the server said so; else it is the caller's
    /// turn or the operator's, by the code.
    #[non_exhaustive]
    Refused {
        /// The URL of the request.
        url: Arc<str>,
        /// The answer's status.
        status: StatusCode,
        /// `error` (RFC 6749 §5.2).
        code: Option<String>,
        /// `error_description`, the server's own words, or why there are none to be read.
        description: Option<String>,
        /// `error_uri`.
        uri: Option<String>,
        /// How long the server asked to be left alone, at most an hour.
        retry_after: Option<Duration>,
    },
    /// The answer is neither JSON nor a form. The caller's or the operator's turn.
    #[non_exhaustive]
    NotATokenResponse {
        /// The URL of the request.
        url: Arc<str>,
        /// The answer's status.
        status: StatusCode,
        /// What the answer says it is.
        content_type: Option<String>,
        /// Its `Content-Encoding`, if it isn't `identity`.
        content_encoding: Option<String>,
    },
    /// The answer lacks what a token response must have, or has it in another form. The operator's
    /// turn, or the caller's by the server's words.
    #[non_exhaustive]
    Malformed {
        /// The URL of the request.
        url: Arc<str>,
        /// What is wrong with it.
        problem: &'static str,
        /// What the server says in place of a token, in a `message` or the like.
        words: Option<String>,
    },
    /// The answer is no device authorization response (RFC 8628 §3.2). The caller's or the
    /// operator's turn.
    #[non_exhaustive]
    DeviceAuthorization {
        /// The URL of the request.
        url: Arc<str>,
        /// The answer's status.
        status: StatusCode,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The token is of a type that can't be used (RFC 6749 §7.1). The operator's turn.
    #[non_exhaustive]
    TokenType {
        /// The URL of the request.
        url: Arc<str>,
        /// The type.
        token_type: String,
    },
    /// The token can't be sent. The operator's turn.
    #[non_exhaustive]
    Token {
        /// The URL of the request.
        url: Arc<str>,
        /// What is wrong with it.
        cause: InvalidToken,
    },
}

impl EndpointError {
    /// Whether it may pass by itself.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::NoSecret { .. }
            | Self::NoCertificate { .. }
            | Self::UnusableCertificate { .. }
            | Self::Unreachable { .. }
            | Self::Interrupted { .. }
            | Self::TimedOut { .. } => true,
            #[cfg(feature = "jwt")]
            Self::Unsigned { cause, .. } => cause.is_transient(),
            Self::Refused { status, code, .. } => may_pass(*status, code.as_deref()),
            _ => false,
        }
    }
}

impl EndpointError {
    /// Whether the server can't have got the request.
    pub(crate) fn nothing_was_sent(&self) -> bool {
        match self {
            Self::NoSecret { .. }
            | Self::UnusableSecret { .. }
            | Self::NoCertificate { .. }
            | Self::UnusableCertificate { .. }
            | Self::Unreachable { .. } => true,
            #[cfg(feature = "jwt")]
            Self::Unsigned { .. } => true,
            _ => false,
        }
    }

    /// Whether the server can't have done what was asked: it didn't get it, or said no. What it did
    /// before a 5xx, an answer that broke off, or one that can't be read, nobody knows.
    pub(crate) fn nothing_was_done(&self) -> bool {
        match self {
            Self::CertificateRefused { .. } | Self::Redirected { .. } => true,
            // A bare 503 is what a proxy says, also when the server behind it broke off in the middle.
            Self::Refused {
                status,
                code,
                retry_after,
                ..
            } if *status == StatusCode::SERVICE_UNAVAILABLE => {
                code.is_some() || retry_after.is_some()
            }
            // An error in a 200 is the only answer to a request that some servers refuse.
            Self::Refused { status, code, .. } if status.is_success() => {
                code.as_deref().is_some_and(|code| code != "server_error")
            }
            Self::Refused { status, .. } => {
                status.is_client_error() && *status != StatusCode::REQUEST_TIMEOUT
            }
            _ => self.nothing_was_sent(),
        }
    }
}

/// Codes of RFC 6749 §4.1.2.1 that token endpoints send as well, and RFC 8628 §3.5.
fn may_pass(status: StatusCode, code: Option<&str>) -> bool {
    let codes = ["temporarily_unavailable", "server_error", "slow_down"];
    is_unavailable(status) || code.is_some_and(|code| codes.contains(&code))
}

/// Whether a server says so that it can't answer now (RFC 9110 §15.5.9 and §15.6, RFC 6585 §4).
pub(super) fn is_unavailable(status: StatusCode) -> bool {
    status.is_server_error()
        || status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
}

impl From<EndpointError> for TokenError {
    fn from(error: EndpointError) -> Self {
        let (code, retry_after) = match &error {
            EndpointError::Refused {
                code, retry_after, ..
            } => (code.clone(), *retry_after),
            _ => (None, None),
        };
        let transient = error.is_transient();
        Self::judged(transient, code.as_deref(), retry_after, error.into())
    }
}

impl Error for EndpointError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NoSecret { cause, .. }
            | Self::NoCertificate { cause, .. }
            | Self::CertificateRefused { cause, .. }
            | Self::Unreachable { cause, .. }
            | Self::Interrupted { cause, .. } => Some(&**cause),
            #[cfg(feature = "jwt")]
            Self::Unsigned { cause, .. } => Some(cause),
            Self::Token { cause, .. } => Some(cause),
            _ => None,
        }
    }
}
