//! The first attempt's body, and the claim on a second.

use std::{mem, sync::Arc};

use http_body::{Body, SizeHint};

use super::{
    BoxError,
    body::ReplayBody,
    rest::Rest,
    tape::{Left, Tape},
    whole::{Whole, read_ahead},
};

/// The second attempt's claim on a body. `size` is what was known before anything was read.
pub(super) enum Claim<B> {
    /// All of the body is at hand; of an empty one that is nothing. The first attempt is never
    /// relieved: it has all of it too, and where it ends its connection is as good as before.
    Whole { whole: Whole, size: SizeHint },
    /// What the first attempt reads is recorded.
    Tape { tape: Arc<Tape<B>>, size: SizeHint },
}

/// Readies a body for a first attempt, with a claim for the second unless the body is known to be
/// too long.
pub(super) fn record<B>(body: B, limit: usize) -> (ReplayBody<B>, Option<Claim<B>>)
where
    B: Body<Error: Into<BoxError>> + 'static,
{
    let mut size = body.size_hint();
    if body.is_end_stream() {
        let whole = Whole::default();
        size.set_lower(0);
        return (
            ReplayBody::passing(body),
            Some(Claim::Whole { whole, size }),
        );
    }
    let fits = usize::try_from(size.lower()).is_ok_and(|known| known <= limit);
    if !fits {
        return (ReplayBody::passing(body), None);
    }
    let rest = match size.exact() {
        Some(length) => match read_ahead(body, length) {
            Ok(whole) => {
                let first = ReplayBody::whole(whole.clone(), size);
                return (first, Some(Claim::Whole { whole, size }));
            }
            Err(rest) => rest,
        },
        // It may be a stream, which the connection reads at its own pace.
        None => Rest::of(body),
    };
    let tape = Arc::new(Tape::recording(rest, limit));
    let first = ReplayBody::first(Arc::clone(&tape), size);
    (first, Some(Claim::Tape { tape, size }))
}

impl<B> Claim<B> {
    /// Holds the first attempt where it is, if all that was read is there to be read again.
    pub(super) fn pause(&self) -> bool {
        match self {
            Self::Whole { .. } => true,
            Self::Tape { tape, .. } => tape.pause(),
        }
    }

    /// The second attempt's body. The first reader, if it is still at work, is relieved; where no
    /// second attempt is possible it isn't, and reads on.
    pub(super) fn take_over(mut self) -> Option<ReplayBody<B>> {
        match &mut self {
            Self::Whole { whole, size } => Some(ReplayBody::whole(mem::take(whole), *size)),
            Self::Tape { tape, size } => {
                let (recorded, left) = tape.take_over()?;
                let left = match left {
                    Left::Here(rest) => Ok(rest),
                    Left::Awaited => Err(Arc::clone(tape)),
                };
                Some(ReplayBody::second(recorded, left, *size))
            }
        }
    }
}

impl<B> Drop for Claim<B> {
    /// There will be no second attempt, or it has taken over.
    fn drop(&mut self) {
        if let Self::Tape { tape, .. } = self {
            tape.stop();
        }
    }
}
