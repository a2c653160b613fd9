//! Puts the token on the request, if it may travel there.

mod bearer;
mod origin;

use http::{Request, header::AUTHORIZATION};

pub(crate) use self::bearer::put;
pub(crate) use self::origin::Origins;
pub use self::origin::{DestinationError, InvalidOrigin};

/// What a request needs of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The token goes on it.
    Authorize,
    /// It goes elsewhere, or it carries credentials of the caller's own: it passes untouched.
    Leave,
}

/// Where the token may travel, and whose `Authorization` wins.
#[derive(Debug, Clone)]
pub(crate) struct Authorize {
    pub(crate) origins: Origins,
    pub(crate) allow_plaintext: bool,
    pub(crate) replace_authorization: bool,
}

impl Authorize {
    pub(crate) fn step<B>(&self, request: &Request<B>) -> Result<Step, DestinationError> {
        if !self.replace_authorization && request.headers().contains_key(AUTHORIZATION) {
            return Ok(Step::Leave);
        }
        self.origins.step(request.uri(), self.allow_plaintext)
    }
}
