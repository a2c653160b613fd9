//! Tokens that somebody else keeps fresh in a file.

use std::{
    error::Error,
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::runtime::Handle;
use zeroize::Zeroizing;

use super::{Demand, Identity, TokenError, TokenSource};
use crate::token::{AccessToken, InvalidToken};

/// How long the file's content counts: what Kubernetes asks of clients of projected tokens.
const READ_AT_LEAST_EVERY: Duration = Duration::from_secs(60);

/// The token in a file that somebody else keeps fresh, such as a Kubernetes projected service
/// account token.
///
/// The file is read when a token is needed: at least every 60 seconds while requests go out, and
/// when a server refuses the token. It is opened by its path each time, so that a swapped symbolic
/// link leads to the new file. White space around the token is left out. While the file can't be
/// read, or is empty, the last good token is used on. If it still has the token that was refused,
/// that is an error once; the next time that token is used again, as there is no other.
///
/// ```
/// use tower_oauth::{FileToken, OAuthLayer};
///
/// let source = FileToken::new("/var/run/secrets/kubernetes.io/serviceaccount/token");
/// let layer = OAuthLayer::for_origin("https://kubernetes.default.svc", source)?;
/// # drop(layer);
/// # Ok::<(), tower_oauth::InvalidOrigin>(())
/// ```
#[derive(Debug, Clone)]
pub struct FileToken {
    path: Arc<Path>,
    last_good: Arc<Mutex<Option<AccessToken>>>,
    /// The refused token that was the last answer, as an error.
    told: Arc<Mutex<Option<AccessToken>>>,
}

impl FileToken {
    /// The token in the file at `path`, which needn't exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: Arc::from(path.into()),
            last_good: Arc::default(),
            told: Arc::default(),
        }
    }

    /// Files may lie on a network, so a thread for what blocks reads it.
    async fn read(&self) -> Result<AccessToken, Problem> {
        let path = Arc::clone(&self.path);
        match Handle::try_current() {
            Ok(runtime) => runtime
                .spawn_blocking(move || read(&path))
                .await
                .map_err(|stopped| Problem::Unreadable(io::Error::other(stopped)))?,
            Err(_) => read(&path),
        }
    }

    fn last_good(&self) -> Option<AccessToken> {
        let last_good = self.last_good.lock();
        last_good.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn remember(&self, token: &AccessToken) {
        let last_good = self.last_good.lock();
        *last_good.unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
    }

    /// Whether it is still to be told that this is the refused one. Only once: there is no other,
    /// other servers may accept it, and this one may by now.
    fn is_news(&self, refused: &AccessToken) -> bool {
        let told = self.told.lock();
        let mut told = told.unwrap_or_else(PoisonError::into_inner);
        let before = told.take();
        if before.as_ref() == Some(refused) {
            return false;
        }
        *told = Some(refused.clone());
        true
    }

    fn error(&self, problem: Problem) -> TokenError {
        TokenError::transient(FileTokenError {
            path: Arc::clone(&self.path),
            problem,
        })
    }
}

impl TokenSource for FileToken {
    async fn token(&self, demand: Demand<'_>) -> Result<AccessToken, TokenError> {
        let token = match self.read().await {
            Ok(token) => {
                self.remember(&token);
                token
            }
            Err(problem) => self.last_good().ok_or_else(|| self.error(problem))?,
        };
        if demand.rejected() == Some(&token) && self.is_news(&token) {
            return Err(self.error(Problem::Refused));
        }
        Ok(token.expires_in(READ_AT_LEAST_EVERY))
    }

    fn identify(&self, identity: &mut Identity) {
        // On each machine the same path leads to another file.
        identity.is_unknown("this one has what a file says at the time");
        // To read a file is no token request.
        identity.is_metered();
    }
}

fn read(path: &Path) -> Result<AccessToken, Problem> {
    let text = match fs::read_to_string(path) {
        // A link is being swapped: the path leads somewhere again at once.
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::read_to_string(path),
        read => read,
    };
    let text = Zeroizing::new(text.map_err(Problem::Unreadable)?);
    AccessToken::bearer(text.trim()).map_err(Problem::Unusable)
}

/// Why a [`FileToken`] has no token. It may pass: files are written by others.
#[derive(Debug)]
pub struct FileTokenError {
    path: Arc<Path>,
    problem: Problem,
}

#[derive(Debug)]
enum Problem {
    Unreadable(io::Error),
    Unusable(InvalidToken),
    Refused,
}

impl fmt::Display for FileTokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.problem {
            Problem::Unreadable(error) => write!(
                f,
                "the token file {path} can't be read ({error}); check the path, and that this \
                 process may read it"
            ),
            Problem::Unusable(error) => write!(
                f,
                "the token file {path} has no usable token: {error}; check what writes it"
            ),
            Problem::Refused => write!(
                f,
                "the token file {path} still has the token that the server refused; check what \
                 writes it, and that the token is meant for that server"
            ),
        }
    }
}

impl Error for FileTokenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.problem {
            Problem::Unreadable(error) => Some(error),
            Problem::Unusable(error) => Some(error),
            Problem::Refused => None,
        }
    }
}
