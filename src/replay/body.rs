//! The body that is sent, and may be sent once more.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::{
    BoxError,
    buffer::Buffer,
    rest::{Polled, Rest, poll_bytes},
    tape::{GivenUp, Tape, Then},
    whole::Whole,
};

pin_project! {
    /// A request body that can be sent once more; what the inner service of an
    /// [`OAuth`](crate::OAuth) gets.
    ///
    /// It yields what `B` yields, data and trailers, and has its size hint, also on the second
    /// attempt. Data that is `Bytes` is shared, not copied. A body of known length, if it is short
    /// enough to be sent again, may be read before the connection asks for it.
    pub struct ReplayBody<B> {
        #[pin]
        stage: Stage<B>,
    }
}

pin_project! {
    // Where the frames come from. As small as can be: a request is moved some twenty times on its way
    // through a client, and each move of more than 256 bytes costs twice as much.
    //
    // `size` is how much is left by what was known before anything was read. What was sent in chunks
    // is sent in chunks again even if its length is known by now: a `Content-Length` would make it
    // another request, and over HTTP/1.1 there are no trailers beside one.
    #[project = StageProj]
    enum Stage<B> {
        // The body as it is: nothing is recorded.
        Passing { #[pin] body: B },
        // All of the body, which was at hand and whose length was known, on either attempt: nothing is
        // shared but the data.
        Whole { whole: Whole },
        // The tape: the first attempt, as long as there may be a second.
        First { tape: Arc<Tape<B>>, size: SizeHint },
        // The body, by its only reader: the second attempt, or the first where there is no other.
        Only { only: Box<Only<B>> },
        // Nothing: it was read to its end, or is empty.
        Ended { size: SizeHint },
    }
}

/// First what was recorded, then what is left.
struct Only<B> {
    recorded: Buffer,
    /// `Err` as long as the other reader is reading a frame, which it hands in with the rest.
    left: Result<Rest<B>, Arc<Tape<B>>>,
    size: SizeHint,
}

impl<B> ReplayBody<B> {
    /// A body that is sent once and not recorded.
    pub(crate) fn passing(body: B) -> Self {
        let stage = Stage::Passing { body };
        Self { stage }
    }

    pub(super) fn whole(whole: Whole) -> Self {
        let stage = Stage::Whole { whole };
        Self { stage }
    }

    pub(super) fn ended(size: SizeHint) -> Self {
        let stage = Stage::Ended { size };
        Self { stage }
    }

    pub(super) fn first(tape: Arc<Tape<B>>, size: SizeHint) -> Self {
        let stage = Stage::First { tape, size };
        Self { stage }
    }

    pub(super) fn second(
        recorded: Buffer,
        left: Result<Rest<B>, Arc<Tape<B>>>,
        size: SizeHint,
    ) -> Self {
        let only = Box::new(Only {
            recorded,
            left,
            size,
        });
        let stage = Stage::Only { only };
        Self { stage }
    }
}

/// An empty body, where that is `B`'s default: redirect followers below the layer need one.
impl<B: Default> Default for ReplayBody<B> {
    fn default() -> Self {
        Self::passing(B::default())
    }
}

impl<B> Body for ReplayBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut stage = self.project().stage;
        match stage.as_mut().project() {
            StageProj::Passing { body } => poll_bytes(body, cx),
            StageProj::Whole { whole } => Poll::Ready(whole.next().map(Ok)),
            StageProj::First { tape, size } => {
                let (polled, then) = tape.poll_frame(cx);
                count(size, &polled);
                let size = *size;
                match then {
                    Then::Stays => {}
                    Then::Alone(rest) => {
                        let only = Self::second(Buffer::default(), Ok(rest), size);
                        stage.set(only.stage);
                    }
                    Then::Ended => stage.set(Stage::Ended { size }),
                }
                polled
            }
            StageProj::Only { only } => {
                let (polled, ended) = only.poll_frame(cx);
                count(&mut only.size, &polled);
                if ended {
                    let size = only.size;
                    stage.set(Stage::Ended { size });
                }
                polled
            }
            StageProj::Ended { .. } => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.stage {
            Stage::Passing { body } => body.is_end_stream(),
            Stage::Whole { whole } => whole.is_at_end(),
            // One that is shorter than it said is not at its end, but broken: the connection finds
            // out when it asks for more.
            Stage::Ended { size } => size.lower() == 0,
            // Not before it was read to its end, not even where nothing will come: that decides
            // over HTTP/1.1 whether there is a `Content-Length` of zero. And a first attempt that
            // was given up must not pass for one that ended.
            Stage::First { .. } | Stage::Only { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.stage {
            Stage::Passing { body } => body.size_hint(),
            Stage::Whole { whole } => SizeHint::with_exact(whole.bytes()),
            Stage::First { size, .. } | Stage::Ended { size } => *size,
            Stage::Only { only } => only.size,
        }
    }
}

impl<B: Body<Error: Into<BoxError>>> Only<B> {
    /// Also says whether it was read to its end.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> (Polled, bool) {
        if let Some(frame) = self.recorded.pop() {
            let left = self.left.as_ref();
            let ended = self.recorded.is_empty() && left.is_ok_and(Rest::is_at_end);
            return (Poll::Ready(Some(Ok(frame))), ended);
        }
        if let Err(tape) = &self.left {
            match tape.poll_left(cx) {
                Poll::Pending => return (Poll::Pending, false),
                Poll::Ready(Some(rest)) => self.left = Ok(rest),
                Poll::Ready(None) => {}
            }
        }
        match &mut self.left {
            Ok(rest) => rest.poll_frame(cx),
            Err(_) => (Poll::Ready(Some(Err(GivenUp.into()))), false),
        }
    }
}

/// Takes what was read off what is left.
fn count(size: &mut SizeHint, polled: &Polled) {
    if let Poll::Ready(Some(Ok(frame))) = polled
        && let Some(data) = frame.data_ref()
    {
        let read = u64::try_from(data.len()).unwrap_or(u64::MAX);
        let mut left = SizeHint::default();
        left.set_lower(size.lower().saturating_sub(read));
        if let Some(upper) = size.upper() {
            left.set_upper(upper.saturating_sub(read));
        }
        *size = left;
    }
}

impl<B> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match &self.stage {
            Stage::Passing { .. } => "passing",
            Stage::Whole { .. } => "whole",
            Stage::First { .. } => "first attempt",
            Stage::Only { .. } => "only reader",
            Stage::Ended { .. } => "ended",
        };
        f.debug_struct("ReplayBody").field("stage", &stage).finish()
    }
}
