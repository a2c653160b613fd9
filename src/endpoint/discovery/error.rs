//! Why nothing was discovered, and whose turn it is then.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use http::StatusCode;

use super::super::{EndpointConfigError, EndpointError};
use crate::source::TokenError;

/// Why the metadata of an authorization server can't be had.
///
/// URLs stand up to their query. Text of the server is escaped and cut.
#[derive(Debug)]
#[non_exhaustive]
pub enum DiscoveryError {
    /// The issuer or a setting can't be used. Nothing was sent. The caller's turn.
    Config(EndpointConfigError),
    /// A request failed. May pass.
    Failed(EndpointError),
    /// The server says that it can't answer now. May pass.
    #[non_exhaustive]
    Unavailable {
        /// Where it was asked.
        url: Arc<str>,
        /// The answer's status.
        status: StatusCode,
        /// How long the server asked to be left alone, at most an hour.
        retry_after: Option<Duration>,
    },
    /// There is no metadata at any of the places. The caller's turn.
    #[non_exhaustive]
    NotFound {
        /// The issuer.
        issuer: Arc<str>,
        /// Each place, and what it answered.
        tried: Vec<String>,
    },
    /// The metadata is another issuer's, and wasn't used (RFC 8414 §3.3). The caller's turn.
    #[non_exhaustive]
    OtherIssuer {
        /// Where it was.
        url: Arc<str>,
        /// The issuer that was asked for.
        issuer: Arc<str>,
        /// The issuer that it names.
        found: String,
    },
    /// The metadata lacks what it must have, or has it in another form. The operator's turn.
    #[non_exhaustive]
    Malformed {
        /// Where it was.
        url: Arc<str>,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl DiscoveryError {
    /// Whether it may pass by itself.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Failed(error) => error.is_transient(),
            Self::Unavailable { .. } => true,
            _ => false,
        }
    }

    /// How long the server asked to be left alone, at most an hour.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

impl From<EndpointConfigError> for DiscoveryError {
    fn from(error: EndpointConfigError) -> Self {
        Self::Config(error)
    }
}

/// For sources that discover their endpoint when they are asked for the first token.
impl From<DiscoveryError> for TokenError {
    fn from(error: DiscoveryError) -> Self {
        let (transient, retry_after) = (error.is_transient(), error.retry_after());
        Self::judged(transient, None, retry_after, error.into())
    }
}

impl fmt::Display for DiscoveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Failed(error) => error.fmt(f),
            Self::Unavailable { url, status, .. } => write!(
                f,
                "the authorization server can't give its metadata at {url} now: HTTP {}; trying \
                 again later may help, and if it lasts, ask its operator",
                status.as_u16()
            ),
            Self::NotFound { issuer, tried } => write!(
                f,
                "there is no metadata of the issuer {issuer}: {}; check the issuer, or describe \
                 the server by TokenEndpoint::builder(…)",
                tried.join(", ")
            ),
            Self::OtherIssuer { url, issuer, found } => write!(
                f,
                "the metadata at {url} is that of the issuer {found}, not of {issuer}, and wasn't \
                 used (RFC 8414 §3.3); if that is the server that is meant, give its issuer byte \
                 for byte as it says it"
            ),
            Self::Malformed { url, problem } => write!(
                f,
                "the metadata at {url} breaks RFC 8414 §2: {problem}; tell the server's operator, \
                 or describe the server by TokenEndpoint::builder(…)"
            ),
        }
    }
}

impl Error for DiscoveryError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            // They say the same, so their causes are this one's.
            Self::Config(error) => error.source(),
            Self::Failed(error) => error.source(),
            _ => None,
        }
    }
}
