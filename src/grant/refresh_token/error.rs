//! Why a refresh token source has no token, beyond what its endpoint says.

use std::{error::Error, fmt, time::Duration};

use crate::source::BoxError;

/// There is no refresh token that could be redeemed; found by downcasting
/// [`TokenError::get_ref`](crate::TokenError::get_ref). Somebody has to log in again, or to mend
/// where the refresh token comes from. Nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRefreshToken(pub(super) Lack);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lack {
    /// The one that was given is empty.
    Empty,
    /// The one that was given can't be one (RFC 6749 A.17).
    ControlCharacter,
    /// The login brought none, and its access token is over.
    NotSent,
    /// The login brought none, and a store keeps nothing else.
    NothingToShare,
    /// The login brought none, and its access token has another scope.
    OtherScope,
    /// It was revoked.
    Revoked,
}

impl fmt::Display for NoRefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Lack::Empty => {
                "there is no refresh token: the one that was given is empty; log in, or check \
                 where it is read from"
            }
            Lack::ControlCharacter => {
                "the refresh token can't be sent: it has a control character, such as a line break \
                 at its end; trim it"
            }
            Lack::NotSent => {
                "the access token of the login is over, and the server sent no refresh token with \
                 it: log in again; for one that lasts, ask for the scope offline_access (or what \
                 the server calls it), and let the client have refresh tokens"
            }
            Lack::NothingToShare => {
                "the server sent no refresh token with the login, so there is nothing that processes \
                 could share: use it without .shared(…), or, for one, ask for the scope \
                 offline_access (or what the server calls it), and let the client have refresh tokens"
            }
            Lack::OtherScope => {
                "the server sent no refresh token with the login, so there is only its access \
                 token, and none with another scope or resource: leave out .scope(…) and \
                 .resource(…) here, or let the client have refresh tokens"
            }
            Lack::Revoked => "the refresh token was revoked by this program: log in again",
        })
    }
}

impl Error for NoRefreshToken {}

/// A new pair of tokens isn't kept yet by the hook.
#[derive(Debug)]
pub(super) struct RotationError {
    pub(super) problem: HookProblem,
    /// A store keeps it, whatever the hook does.
    pub(super) is_stored: bool,
}

#[derive(Debug)]
pub(super) enum HookProblem {
    Failed(BoxError),
    Panicked,
    TimedOut(Duration),
}

impl fmt::Display for RotationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is a new refresh token, but the on_rotation hook didn't keep it: ")?;
        match &self.problem {
            HookProblem::Failed(cause) => write!(f, "{cause}")?,
            HookProblem::Panicked => f.write_str(
                "it panicked, and its message went to the panic hook (standard error by default)",
            )?,
            HookProblem::TimedOut(limit) => write!(f, "it took longer than {limit:?}")?,
        }
        f.write_str(if self.is_stored {
            "; the store has it, and the login goes on: mend what the hook writes to"
        } else {
            "; the next call for a token calls it again: mend what it writes to before the \
             program ends, or a new login is needed"
        })
    }
}

impl Error for RotationError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.problem {
            HookProblem::Failed(cause) => Some(&**cause),
            HookProblem::Panicked | HookProblem::TimedOut(_) => None,
        }
    }
}

/// What can go wrong between the callers and the task that serves them.
#[derive(Debug)]
pub(super) enum FlightError {
    NoProvision(BoxError),
    Panicked,
    NoRuntime,
    Lost,
}

impl fmt::Display for FlightError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoProvision(cause) => write!(
                f,
                "there is no refresh token: its provider failed ({cause}); check where it reads \
                 from"
            ),
            Self::Panicked => f.write_str(
                "the redemption of a refresh token panicked; its message went to the panic hook \
                 (standard error by default)",
            ),
            Self::NoRuntime => f.write_str(
                "no Tokio runtime to redeem a refresh token on: call from within one \
                 (tokio::main, Runtime::enter)",
            ),
            Self::Lost => f.write_str(
                "the runtime that a refresh token is redeemed on is being shut down; call from \
                 one that goes on",
            ),
        }
    }
}

impl Error for FlightError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NoProvision(cause) => Some(&**cause),
            Self::Panicked | Self::NoRuntime | Self::Lost => None,
        }
    }
}
