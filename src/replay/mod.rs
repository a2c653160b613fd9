//! What one more attempt needs: the head of the request, and its body as it was sent.
//!
//! [`record`] splits a request in two: the one that is sent, whose body notes what is read of it,
//! and a [`Replay`] that can become the second attempt. Nothing is noted that isn't needed: a body
//! that is empty, or known to be too long, passes as it is, and a small one that is at hand as a
//! whole is read at once and shared.

mod attempt;
mod body;
mod buffer;
mod claim;
mod deadline;
mod head;
mod place;
mod rest;
mod tape;
mod whole;

use std::error::Error;

use http::Request;
use http_body::Body;

pub(crate) use self::deadline::{Deadline, within};
pub use self::{attempt::Attempt, body::ReplayBody, deadline::DeadlinePassed};
use self::{claim::Claim, head::Head};

type BoxError = Box<dyn Error + Send + Sync>;

/// A request that can be sent once more.
pub(crate) struct Replay<B> {
    head: Head,
    body: Claim<B>,
}

/// Readies a request to be sent, and, unless its body is known to be longer than `limit` bytes, to
/// be sent once more.
pub(crate) fn record<B>(
    request: Request<B>,
    limit: usize,
) -> (Request<ReplayBody<B>>, Option<Replay<B>>)
where
    B: Body<Error: Into<BoxError>> + 'static,
{
    let (parts, body) = request.into_parts();
    let (body, claim) = claim::record(body, limit);
    let replay = claim.map(|body| Replay {
        head: Head::of(&parts),
        body,
    });
    (Request::from_parts(parts, body), replay)
}

/// Readies a request to be sent and forgotten.
pub(crate) fn pass<B>(request: Request<B>) -> Request<ReplayBody<B>> {
    request.map(ReplayBody::passing)
}

impl<B> Replay<B> {
    /// Holds the first attempt where it is until this is taken or dropped; false if the request
    /// can't be sent again.
    pub(crate) fn pause(&self) -> bool {
        self.body.pause()
    }

    /// The second attempt. The first, if it is still being sent, is given up; what it has not read
    /// yet is the second's to read. `None` if the body was too long, or broke.
    pub(crate) fn take(self) -> Option<Request<ReplayBody<B>>> {
        let body = self.body.take_over()?;
        Some(self.head.with(body))
    }
}
