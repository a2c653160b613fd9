//! The first attempt's body, and the claim on a second.

use std::{mem, sync::Arc};

use bytes::Bytes;

use http_body::Body;

use super::{
    BoxError,
    body::ReplayBody,
    kept::Kept,
    rest::Rest,
    tape::{Left, Tape},
    whole::read_ahead,
};

/// The second attempt's claim on a body.
pub(super) enum Claim<B> {
    /// All of the body is at hand, and kept; of an empty one there is nothing to keep. The first attempt is
    /// never relieved: it has all of it too, and where it ends its connection is as good as before.
    Whole,
    /// What the first attempt reads is recorded.
    Tape(Arc<Tape<B>>),
}

/// Whether a body is known to be longer than a second attempt may be.
#[inline]
pub(super) fn is_too_long<B: Body>(body: &B, limit: usize) -> bool {
    let known = usize::try_from(body.size_hint().lower());
    !known.is_ok_and(|known| known <= limit) && !body.is_end_stream()
}

/// Readies a body for a first attempt, and for the second: what is at hand is kept.
#[inline(always)]
pub(super) fn record<B>(body: B, limit: usize, kept: &mut Kept) -> (ReplayBody<B>, Claim<B>)
where
    B: Body<Error: Into<BoxError>> + 'static,
{
    if body.is_end_stream() {
        return (ReplayBody::whole(Bytes::new()), Claim::Whole);
    }
    record_data(body, limit, kept)
}

#[inline(always)]
fn record_data<B>(body: B, limit: usize, kept: &mut Kept) -> (ReplayBody<B>, Claim<B>)
where
    B: Body<Error: Into<BoxError>> + 'static,
{
    let size = body.size_hint();
    let rest = match size.exact() {
        Some(length) => match read_ahead(body, length) {
            Ok(whole) => {
                kept.whole = whole.clone();
                return (ReplayBody::whole(whole), Claim::Whole);
            }
            Err(rest) => rest,
        },
        // It may be a stream, which the connection reads at its own pace.
        None => Rest::of(body),
    };
    let tape = Arc::new(Tape::recording(rest, limit, size));
    let first = ReplayBody::first(Arc::clone(&tape));
    (first, Claim::Tape(tape))
}

impl<B> Claim<B> {
    /// Holds the first attempt where it is, if all that was read is there to be read again.
    pub(super) fn pause(&self) -> bool {
        match self {
            Self::Whole => true,
            Self::Tape(tape) => tape.pause(),
        }
    }

    /// The second attempt's body. The first reader, if it is still at work, is relieved; where no
    /// second attempt is possible it isn't, and reads on.
    pub(super) fn take_over(self, kept: &mut Kept) -> Option<ReplayBody<B>> {
        match &self {
            Self::Whole => Some(ReplayBody::whole(mem::take(&mut kept.whole))),
            Self::Tape(tape) => {
                let (recorded, left) = tape.take_over()?;
                let left = match left {
                    Left::Here(rest) => Ok(rest),
                    Left::Awaited => Err(Arc::clone(tape)),
                };
                Some(ReplayBody::only(recorded, left, tape.size()))
            }
        }
    }
}

impl<B> Drop for Claim<B> {
    /// There will be no second attempt, or it has taken over.
    #[inline]
    fn drop(&mut self) {
        if let Self::Tape(tape) = self {
            tape.stop();
        }
    }
}
