//! Why a shared source has no token, beyond what its store and the source inside say.

use std::{
    error::Error,
    fmt,
    time::{Duration, SystemTime},
};

use super::super::{StoreError, TokenError, token_store::StoreKey};

/// A refresh token was sent to the authorization server, and what came of it can't be known: whoever
/// sent it was killed or stopped before the answer was written down, or the answer got lost. Found by
/// downcasting [`TokenError::get_ref`].
///
/// The server may have replaced it, and where it watches for refresh tokens that come twice, sending it
/// again ends the login (RFC 9700 §4.14.2). So it isn't sent again: somebody has to log in again, and
/// give the new refresh token to the source. Where the one who sent it goes on after all, as after a
/// pause, it passes by itself.
#[derive(Debug, Clone)]
pub struct PossiblyRotated {
    pub(super) since: SystemTime,
    pub(super) cause: Option<TokenError>,
}

impl PossiblyRotated {
    /// When it was sent, by the wall clock of whoever sent it.
    pub fn since(&self) -> SystemTime {
        self.since
    }
}

impl fmt::Display for PossiblyRotated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = super::super::date::Date(self.since);
        write!(
            f,
            "a refresh token may have been replaced: it was sent at {since}, and no answer was written \
             down"
        )?;
        match &self.cause {
            Some(cause) => write!(f, " ({cause})")?,
            None => f.write_str(" (its sender was killed or stopped, or got no answer)")?,
        }
        f.write_str(
            "; sent again it could end the login, so it isn't: log in again and give the source the new \
             refresh token; for a server that keeps refresh tokens or grants a grace period there is \
             RefreshToken::tolerates_replay()",
        )
    }
}

impl Error for PossiblyRotated {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_ref().map(|cause| cause as _)
    }
}

/// What can go wrong between a source, its store and other processes.
#[derive(Debug)]
pub(super) enum SharedError {
    /// Nothing tells these tokens from others.
    Unnamed(&'static str),
    /// It must not be shared as it is.
    Unshareable(&'static str),
    /// The record is of somebody else's making.
    NotARecord(StoreKey),
    /// Another process has been at it for too long.
    Waited(Duration),
    /// The new refresh token isn't in the store yet.
    Unwritten(StoreError),
    /// The source didn't answer.
    TimedOut,
    SourcePanicked,
    NoRuntime,
    /// The runtime was shut down.
    Lost,
}

impl fmt::Display for SharedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unnamed(because) => write!(
                f,
                "a shared source must say whose tokens it shares, and {because}: give it a name that \
                 all processes agree on and no other source has, by .shared(store).named(…)"
            ),
            Self::Unshareable(because) => write!(f, "this source can't be shared: {because}"),
            Self::NotARecord(key) => write!(
                f,
                "the store's record {} isn't of this library's making, or of a newer version's: delete \
                 it there, or update this program",
                key.as_str()
            ),
            Self::Waited(patience) => write!(
                f,
                "other processes have been fetching this token for {patience:?} without an end; check \
                 on them and on the authorization server"
            ),
            Self::Unwritten(cause) => write!(
                f,
                "there is a new refresh token, but the store didn't take it: {cause}; this process \
                 keeps it and goes on trying: mend the store before the process ends, or a new login \
                 is needed"
            ),
            Self::TimedOut => f.write_str(
                "the source inside was given up after 5 minutes without an answer; give it a deadline",
            ),
            Self::SourcePanicked => f.write_str(
                "the source inside panicked; its message went to the panic hook (standard error by \
                 default)",
            ),
            Self::NoRuntime => f.write_str(
                "no Tokio runtime to fetch a token on: call from within one (tokio::main, \
                 Runtime::enter)",
            ),
            Self::Lost => f.write_str(
                "the runtime that a token is fetched on is being shut down; call from one that goes on",
            ),
        }
    }
}

impl Error for SharedError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unwritten(cause) => Some(cause),
            _ => None,
        }
    }
}
