//! What one more attempt needs: the head of the request, and its body as it was sent.
//!
//! [`record`] splits a request in two: the one that is sent, whose body notes what is read of it,
//! and a [`Replay`] that can become the second attempt. Nothing is noted that isn't needed: a body
//! that is empty, or known to be too long, passes as it is, and a small one of known length that is at
//! hand as a whole is read at once and shared.

mod attempt;
mod body;
mod buffer;
mod claim;
mod deadline;
mod head;
mod kept;
mod place;
mod rest;
mod tape;
mod text;
mod whole;

use std::error::Error;

use http::{Request, request::Parts};
use http_body::Body;
use tokio::time::Instant;

pub(crate) use self::deadline::{Deadline, within};
pub use self::{attempt::Attempt, body::ReplayBody, deadline::DeadlinePassed};
use self::{claim::Claim, kept::Shelf};

type BoxError = Box<dyn Error + Send + Sync>;

/// A request that can be sent once more.
pub(crate) struct Replay<B> {
    kept: Shelf,
    body: Claim<B>,
}

/// Readies a body to be sent, and, unless it is known to be longer than `limit` bytes, the request
/// to be sent once more. The clock is read only for a call that has a deadline.
#[inline(always)]
pub(crate) fn record<B>(
    head: &Parts,
    body: B,
    limit: usize,
    now: impl FnOnce() -> Instant,
) -> (ReplayBody<B>, Option<Replay<B>>)
where
    B: Body<Error: Into<BoxError>> + 'static,
{
    if claim::is_too_long(&body, limit) {
        return (ReplayBody::passing(body), None);
    }
    let mut shelf = Shelf::free();
    let kept = shelf.get();
    kept.head.note(head);
    kept.deadline = Deadline::of(&head.method, &head.headers, now);
    let (first, claim) = claim::record(body, limit, kept);
    let replay = Replay {
        kept: shelf,
        body: claim,
    };
    (first, Some(replay))
}

/// Readies a request to be sent and forgotten.
pub(crate) fn pass<B>(request: Request<B>) -> Request<ReplayBody<B>>
where
    B: Body<Error: Into<BoxError>>,
{
    request.map(ReplayBody::passing)
}

impl<B> Replay<B> {
    /// Holds the first attempt where it is until this is taken or dropped; false if the request
    /// can't be sent again.
    pub(crate) fn pause(&self) -> bool {
        self.body.pause()
    }

    /// When a call must be over, the second attempt included.
    pub(crate) fn deadline(&self) -> Option<Deadline> {
        self.kept.deadline()
    }

    /// The second attempt. The first, if it is still being sent, is given up; what it has not read
    /// yet is the second's to read. `None` if the body was too long, or broke.
    pub(crate) fn take(mut self) -> Option<Request<ReplayBody<B>>> {
        let kept = self.kept.get();
        let head = kept.head.take()?;
        let body = self.body.take_over(kept)?;
        Some(head.map(|()| body))
    }
}
