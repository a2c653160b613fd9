//! Why there is no signature.

use std::{error::Error, fmt};

use crate::source::{BoxError, TokenError};

/// Why a JWT can't be signed. It shows nothing of the key.
#[derive(Debug)]
#[non_exhaustive]
pub enum SigningError {
    /// The provider of the key failed. May pass.
    #[non_exhaustive]
    NoKey {
        /// What the provider said.
        cause: BoxError,
    },
    /// The key can't sign. The caller's turn.
    #[non_exhaustive]
    Key {
        /// What it should sign with (RFC 7518 §3.1), such as "ES256".
        algorithm: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The claims can't be signed. The caller's turn.
    #[non_exhaustive]
    Claims {
        /// What is wrong with them.
        problem: &'static str,
    },
    /// The operating system has no random numbers. May pass.
    NoRandomness,
}

impl fmt::Display for SigningError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoKey { cause } => write!(
                f,
                "there is no key to sign with: its provider failed ({cause}); check where it reads \
                 from"
            ),
            Self::Key { algorithm, problem } => {
                write!(f, "the key can't sign {algorithm}: {problem}")
            }
            Self::Claims { problem } => write!(f, "the claims can't be signed: {problem}"),
            Self::NoRandomness => f.write_str(
                "the operating system has no random numbers to sign with; trying again may help",
            ),
        }
    }
}

impl Error for SigningError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NoKey { cause } => Some(&**cause),
            _ => None,
        }
    }
}

impl SigningError {
    /// Whether it may pass by itself.
    pub(in crate::endpoint) fn is_transient(&self) -> bool {
        matches!(self, Self::NoKey { .. } | Self::NoRandomness)
    }
}

impl From<SigningError> for TokenError {
    fn from(error: SigningError) -> Self {
        Self::judged(error.is_transient(), None, None, error.into())
    }
}
