//! Puts the token on the request, if it may travel there.

mod bearer;
mod origin;
mod wish;

use http::{Extensions, HeaderValue, Request, Uri, header::AUTHORIZATION};

pub(crate) use self::bearer::put;
pub(crate) use self::origin::Origins;
use self::wish::Wish;
pub use self::{
    origin::{DestinationError, InvalidOrigin},
    wish::{Fresh, NoToken},
};

/// What a request needs of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The token goes on it.
    Authorize,
    /// A newer token than the one at hand goes on it.
    AuthorizeAnew,
    /// It goes elsewhere, it carries credentials of the caller's own, or it is to have none: it
    /// passes untouched.
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
    /// Looks at where the request goes and what is wished for it, not yet at its `Authorization`.
    #[inline]
    pub(crate) fn step<B>(&self, request: &Request<B>) -> Result<Step, DestinationError> {
        let (extensions, uri) = (request.extensions(), request.uri());
        if extensions.is_empty() && self.origins.are_plainly(uri, self.allow_plaintext) {
            return Ok(Step::Authorize);
        }
        self.step_as_read(extensions, uri)
    }

    /// Out of the way of a request to an origin that was named, as nearly all are.
    #[inline(never)]
    fn step_as_read(&self, extensions: &Extensions, uri: &Uri) -> Result<Step, DestinationError> {
        let wish = Wish::of(extensions);
        if wish == Wish::None {
            return Ok(Step::Leave);
        }
        match self.origins.step(uri, self.allow_plaintext)? {
            Step::Authorize if wish == Wish::Newer => Ok(Step::AuthorizeAnew),
            step => Ok(step),
        }
    }

    /// Whether the request carries credentials that are the caller's own.
    pub(crate) fn is_the_callers<B>(&self, request: &Request<B>) -> bool {
        !self.replace_authorization && request.headers().contains_key(AUTHORIZATION)
    }

    /// Puts the token on; false if the request carries credentials that are the caller's own, and then
    /// it is as it was.
    #[inline]
    #[must_use]
    pub(crate) fn put<B>(&self, request: &mut Request<B>, value: &HeaderValue) -> bool {
        if self.replace_authorization {
            bearer::put(request.headers_mut(), value.clone());
            return true;
        }
        bearer::put_if_none(request.headers_mut(), value)
    }
}
