//! The body that is sent, and may be sent once more.

use std::{
    fmt, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::{
    BoxError,
    buffer::Buffer,
    rest::{Polled, Rest, poll_bytes},
    tape::{GivenUp, Tape, Then},
    whole::read_ahead,
};

/// A request body that can be sent once more; what the inner service of an [`OAuth`](crate::OAuth) gets.
///
/// It yields what `B` yields, data and trailers, and has its size hint, also on the second attempt. Data
/// that is `Bytes` is shared, not copied. A body of known length that is no longer than may be sent again is
/// read before the connection asks for it, as far as it is at hand: two frames of data at most. Any other is
/// read at the connection's pace, the first frame with a look at what follows.
///
/// It has 32 bytes, whatever `B` is: a request is moved some twenty times on its way through a client, and
/// a move of more than 256 bytes costs twice as much as one of less.
pub struct ReplayBody<B> {
    stage: Stage<B>,
}

/// Where the frames come from.
enum Stage<B> {
    /// All that is left is at hand, as one frame, and its length was known; at the end it is empty.
    Whole(Bytes),
    Other(Other<B>),
}

/// Beside a `Bytes` there is room for this in the same place.
enum Other<B> {
    /// The body as it is: nothing is recorded.
    Passing(Pin<Box<B>>),
    /// The tape: the first attempt, as long as there may be a second. So many bytes of it were read.
    First { tape: Arc<Tape<B>>, read: u64 },
    /// The body, by its only reader: the second attempt, or the first where there is no other.
    Only(Box<Only<B>>),
    /// It was read to its end, and is so many bytes shorter than it said.
    Short(u64),
}

/// First what was recorded, then what is left.
struct Only<B> {
    recorded: Buffer,
    /// `Err` as long as the other reader is reading a frame, which it hands in with the rest.
    left: Result<Rest<B>, Arc<Tape<B>>>,
    size: SizeHint,
}

impl<B> ReplayBody<B> {
    /// A body that is at hand as a whole, as one frame; or an empty one.
    #[inline]
    pub(super) fn whole(data: Bytes) -> Self {
        let stage = Stage::Whole(data);
        Self { stage }
    }

    pub(super) fn first(tape: Arc<Tape<B>>) -> Self {
        Other::First { tape, read: 0 }.into()
    }

    /// `size` is how much is left by what was known before anything was read. What was sent in chunks is
    /// sent in chunks again even if its length is known by now: a `Content-Length` would make it another
    /// request, and over HTTP/1.1 there are no trailers beside one.
    pub(super) fn only(
        recorded: Buffer,
        left: Result<Rest<B>, Arc<Tape<B>>>,
        size: SizeHint,
    ) -> Self {
        let only = Only {
            recorded,
            left,
            size,
        };
        Other::Only(Box::new(only)).into()
    }

    /// One that was read to its end; `size` as in [`only`](Self::only).
    fn ended(size: SizeHint) -> Self {
        match size.lower() {
            0 => Self::whole(Bytes::new()),
            missing => Other::Short(missing).into(),
        }
    }
}

impl<B: Body<Error: Into<BoxError>>> ReplayBody<B> {
    /// A body that is sent once and not recorded, as it is.
    pub(crate) fn passing(body: B) -> Self {
        match body.is_end_stream() {
            true => Self::whole(Bytes::new()),
            false => Other::Passing(Box::pin(body)).into(),
        }
    }

    /// A body that is sent once and not recorded. A short one of known length is read if it is at hand, for
    /// then there is nothing to allocate.
    #[inline]
    pub(crate) fn once(body: B) -> Self
    where
        B: 'static,
    {
        let size = body.size_hint();
        match size.exact() {
            Some(length @ 1..=LONGEST_READ_AHEAD) => match read_ahead(body, length) {
                Ok(data) => Self::whole(data),
                Err(rest) => Self::only(Buffer::default(), Ok(rest), size),
            },
            _ => Self::passing(body),
        }
    }
}

impl<B> From<Other<B>> for ReplayBody<B> {
    fn from(other: Other<B>) -> Self {
        let stage = Stage::Other(other);
        Self { stage }
    }
}

/// An empty body, where that is `B`'s default: redirect followers below the layer need one.
impl<B: Body<Error: Into<BoxError>> + Default> Default for ReplayBody<B> {
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

    #[inline]
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.stage {
            Stage::Whole(data) if data.is_empty() => Poll::Ready(None),
            Stage::Whole(data) => Poll::Ready(Some(Ok(Frame::data(mem::take(data))))),
            Stage::Other(other) => {
                let (polled, then) = other.poll_frame(cx);
                if let Some(then) = then {
                    *self = then;
                }
                polled
            }
        }
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        match &self.stage {
            Stage::Whole(data) => data.is_empty(),
            Stage::Other(Other::Passing(body)) => body.is_end_stream(),
            // Not before it was read to its end, not even where nothing will come: that decides
            // over HTTP/1.1 whether there is a `Content-Length` of zero. And a first attempt that
            // was given up must not pass for one that ended. One that is shorter than it said is not
            // at its end, but broken: the connection finds out when it asks for more.
            Stage::Other(Other::First { .. } | Other::Only(_) | Other::Short(_)) => false,
        }
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        match &self.stage {
            Stage::Whole(data) => SizeHint::with_exact(length(data)),
            Stage::Other(Other::Passing(body)) => body.size_hint(),
            Stage::Other(Other::First { tape, read }) => less(tape.size(), *read),
            Stage::Other(Other::Only(only)) => only.size,
            Stage::Other(Other::Short(missing)) => SizeHint::with_exact(*missing),
        }
    }
}

impl<B: Body<Error: Into<BoxError>>> Other<B> {
    /// Also gives what comes after this stage, once it is over.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> (Polled, Option<ReplayBody<B>>) {
        match self {
            Self::Passing(body) => (poll_bytes(body.as_mut(), cx), None),
            Self::First { tape, read } => {
                let (polled, then) = tape.poll_frame(cx, *read == 0);
                *read = read.saturating_add(bytes(&polled));
                let size = less(tape.size(), *read);
                let then = match then {
                    Then::Stays => None,
                    Then::Alone(rest) => Some(ReplayBody::only(Buffer::default(), Ok(rest), size)),
                    Then::Ended => Some(ReplayBody::ended(size)),
                };
                (polled, then)
            }
            Self::Only(only) => {
                let (polled, ended) = only.poll_frame(cx);
                only.size = less(only.size, bytes(&polled));
                (polled, ended.then(|| ReplayBody::ended(only.size)))
            }
            Self::Short(_) => (Poll::Ready(None), None),
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

/// Where there is no limit to what is recorded.
const LONGEST_READ_AHEAD: u64 = 64 * 1024;

/// How much data was read.
fn bytes(polled: &Polled) -> u64 {
    match polled {
        Poll::Ready(Some(Ok(frame))) => frame.data_ref().map_or(0, length),
        Poll::Ready(_) | Poll::Pending => 0,
    }
}

fn length(data: &Bytes) -> u64 {
    u64::try_from(data.len()).unwrap_or(u64::MAX)
}

/// What is left of `size` when so much was read.
fn less(size: SizeHint, read: u64) -> SizeHint {
    let mut left = SizeHint::default();
    left.set_lower(size.lower().saturating_sub(read));
    if let Some(upper) = size.upper() {
        left.set_upper(upper.saturating_sub(read));
    }
    left
}

impl<B> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match &self.stage {
            Stage::Whole(_) => "whole",
            Stage::Other(Other::Passing(_)) => "passing",
            Stage::Other(Other::First { .. }) => "first attempt",
            Stage::Other(Other::Only(_)) => "only reader",
            Stage::Other(Other::Short(_)) => "ended short",
        };
        f.debug_struct("ReplayBody").field("stage", &stage).finish()
    }
}
