//! The body that is sent, recorded while it is read, and read once more.
//!
//! The connection reads the first attempt's body in a task of its own, at its own pace, and may
//! still do so when the answer is in. So the two attempts share one [`Tape`] behind a lock, and
//! who may read is a state of the tape: there is one reader at any time, and a reader that was
//! relieved gets an error, never a clean end, which would pass for a whole body.

use std::{
    error::Error,
    fmt, mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::buffer::Buffer;

type BoxError = Box<dyn Error + Send + Sync>;

pin_project! {
    /// A request body that can be sent once more; what the inner service of an
    /// [`OAuth`](crate::OAuth) gets.
    ///
    /// It yields what `B` yields, data and trailers, and has its size hint, also on the second
    /// attempt. Data that is `Bytes` is shared, not copied.
    pub struct ReplayBody<B> {
        #[pin]
        stage: Stage<B>,
    }
}

pin_project! {
    #[project = StageProj]
    enum Stage<B> {
        // Read as it is: nothing is recorded.
        Passing { #[pin] body: B },
        // The first attempt, as long as it isn't given up.
        First { tape: Arc<Mutex<Tape<B>>> },
        // The second attempt: first what was recorded, then what the first has not read. `size` is
        // what was known of the size before anything was read.
        Second { recorded: Buffer, rest: Option<Pin<Box<B>>>, size: SizeHint },
    }
}

/// What the two attempts share.
pub(super) enum Tape<B> {
    /// The first attempt reads, and what it reads is recorded.
    Recording(Take<B>),
    /// The first attempt was refused: it waits until there is a second one, or none.
    Paused(Take<B>),
    /// The first attempt reads; there will be no second one, or none is possible.
    Reading { rest: Option<Pin<Box<B>>> },
    /// The second attempt has taken over.
    GivenUp,
}

/// A body with what was read of it.
pub(super) struct Take<B> {
    recorded: Buffer,
    /// What was not read yet; `None` after the end.
    rest: Option<Pin<Box<B>>>,
    /// Whom to wake when the tape changes hands.
    reader: Option<Waker>,
    size: SizeHint,
}

/// The second attempt's claim on a body.
pub(super) enum Claim<B> {
    /// The body is empty, and so will the second one be.
    Empty,
    /// What the first attempt reads is recorded.
    Tape(Arc<Mutex<Tape<B>>>),
}

/// Readies a body for a first attempt, with a claim for the second unless the body is known to be
/// too long.
pub(super) fn record<B: Body>(body: B, limit: usize) -> (ReplayBody<B>, Option<Claim<B>>) {
    if body.is_end_stream() {
        return (ReplayBody::passing(body), Some(Claim::Empty));
    }
    let size = body.size_hint();
    let fits = usize::try_from(size.lower()).is_ok_and(|known| known <= limit);
    if !fits {
        return (ReplayBody::passing(body), None);
    }
    let tape = Arc::new(Mutex::new(Tape::Recording(Take {
        recorded: Buffer::with_limit(limit),
        rest: Some(Box::pin(body)),
        reader: None,
        size,
    })));
    let first = ReplayBody {
        stage: Stage::First {
            tape: Arc::clone(&tape),
        },
    };
    (first, Some(Claim::Tape(tape)))
}

impl<B: Body> Claim<B> {
    /// Holds the first attempt where it is, if all that was read is there to be read again.
    pub(super) fn pause(&self) -> bool {
        match self {
            Self::Empty => true,
            // A body that panicked while it was read may have lost a frame.
            Self::Tape(tape) => !tape.is_poisoned() && lock(tape).pause(),
        }
    }

    /// The second attempt's body. The first reader, if it is still at work, is relieved; where no
    /// second attempt is possible it isn't, and reads on.
    pub(super) fn take_over(self) -> Option<ReplayBody<B>> {
        let take = match &self {
            Self::Empty => Take {
                recorded: Buffer::with_limit(0),
                rest: None,
                reader: None,
                size: SizeHint::with_exact(0),
            },
            Self::Tape(tape) => lock(tape).hand_over()?,
        };
        // It must learn that it was relieved, or its connection waits for it forever.
        if let Some(reader) = take.reader {
            reader.wake();
        }
        Some(ReplayBody {
            stage: Stage::Second {
                recorded: take.recorded,
                rest: take.rest,
                size: take.size,
            },
        })
    }
}

impl<B> Drop for Claim<B> {
    /// There will be no second attempt: recording ends, what was recorded is freed, and the first
    /// attempt reads on.
    fn drop(&mut self) {
        if let Self::Tape(tape) = self {
            let reader = lock(tape).stop_recording();
            if let Some(reader) = reader {
                reader.wake();
            }
        }
    }
}

impl<B> ReplayBody<B> {
    /// A body that is sent once and not recorded.
    pub(crate) fn passing(body: B) -> Self {
        Self {
            stage: Stage::Passing { body },
        }
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
        match self.project().stage.project() {
            StageProj::Passing { body } => poll_bytes(body, cx),
            StageProj::First { tape } => lock(tape).poll_frame(cx),
            StageProj::Second { recorded, rest, .. } => {
                if let Some(data) = recorded.pop_data() {
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                if let Some(trailers) = recorded.pop_trailers() {
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                poll_rest(rest, cx)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.stage {
            Stage::Passing { body } => body.is_end_stream(),
            // A body that was given up must not pass for one that ended.
            Stage::First { tape } => lock(tape).rest().is_some_and(is_at_end),
            Stage::Second { recorded, rest, .. } => recorded.is_empty() && is_at_end(rest),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.stage {
            Stage::Passing { body } => body.size_hint(),
            Stage::First { tape } => lock(tape).rest().map(size_of).unwrap_or_default(),
            Stage::Second {
                recorded,
                rest,
                size,
            } => {
                let recorded = u64::try_from(recorded.bytes()).unwrap_or(u64::MAX);
                let rest = size_of(rest);
                let mut left = SizeHint::default();
                match size.exact() {
                    Some(_) => {
                        let upper = rest.upper().unwrap_or(u64::MAX);
                        left.set_upper(upper.saturating_add(recorded));
                        left.set_lower(rest.lower().saturating_add(recorded));
                    }
                    // By now the size may be known. What was sent in chunks is sent in chunks
                    // again all the same: a `Content-Length` would make it another request, and
                    // over HTTP/1.1 there are no trailers beside one.
                    None => {
                        let lower = rest.lower().saturating_add(recorded);
                        left.set_lower(lower.min(size.lower()));
                        if let Some(upper) = size.upper() {
                            left.set_upper(upper);
                        }
                    }
                }
                left
            }
        }
    }
}

impl<B> Tape<B> {
    /// What the first attempt has not read yet, as long as it is the first attempt's to read.
    fn rest(&self) -> Option<&Option<Pin<Box<B>>>> {
        match self {
            Self::Recording(take) | Self::Paused(take) => Some(&take.rest),
            Self::Reading { rest } => Some(rest),
            Self::GivenUp => None,
        }
    }

    fn pause(&mut self) -> bool {
        match mem::replace(self, Self::GivenUp) {
            Self::Recording(take) | Self::Paused(take) => {
                *self = Self::Paused(take);
                true
            }
            other => {
                *self = other;
                false
            }
        }
    }

    fn hand_over(&mut self) -> Option<Take<B>> {
        match mem::replace(self, Self::GivenUp) {
            Self::Recording(take) | Self::Paused(take) => Some(take),
            other => {
                *self = other;
                None
            }
        }
    }

    /// Gives the reader to be woken, if it was paused.
    fn stop_recording(&mut self) -> Option<Waker> {
        match mem::replace(self, Self::GivenUp) {
            Self::Recording(take) => {
                *self = Self::Reading { rest: take.rest };
                None
            }
            Self::Paused(take) => {
                *self = Self::Reading { rest: take.rest };
                take.reader
            }
            other => {
                *self = other;
                None
            }
        }
    }
}

impl<B> Tape<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    /// The first attempt reads.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let take = match self {
            Self::Recording(take) => take,
            Self::Paused(take) => {
                take.remember(cx);
                return Poll::Pending;
            }
            Self::Reading { rest } => return poll_rest(rest, cx),
            Self::GivenUp => return Poll::Ready(Some(Err(GivenUp.into()))),
        };
        let Poll::Ready(frame) = poll_rest(&mut take.rest, cx) else {
            take.remember(cx);
            return Poll::Pending;
        };
        let kept = match &frame {
            Some(Ok(frame)) => take.recorded.push(frame),
            // A body that broke can't be sent again.
            Some(Err(_)) => false,
            None => true,
        };
        if !kept {
            self.stop_recording();
        }
        Poll::Ready(frame)
    }
}

impl<B> Take<B> {
    fn remember(&mut self, cx: &Context<'_>) {
        match &mut self.reader {
            Some(reader) => reader.clone_from(cx.waker()),
            None => self.reader = Some(cx.waker().clone()),
        }
    }
}

fn poll_rest<B>(
    rest: &mut Option<Pin<Box<B>>>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, BoxError>>>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    let Some(body) = rest else {
        return Poll::Ready(None);
    };
    let frame = ready!(poll_bytes(body.as_mut(), cx));
    if frame.is_none() {
        *rest = None;
    }
    Poll::Ready(frame)
}

/// A frame, its data as `Bytes`: free if it is that already.
fn poll_bytes<B>(
    body: Pin<&mut B>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, BoxError>>>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    let frame = ready!(body.poll_frame(cx));
    Poll::Ready(frame.map(|frame| {
        let frame = frame.map_err(Into::into)?;
        Ok(frame.map_data(|mut data| data.copy_to_bytes(data.remaining())))
    }))
}

fn is_at_end<B: Body>(rest: &Option<Pin<Box<B>>>) -> bool {
    rest.as_ref().is_none_or(|body| body.is_end_stream())
}

fn size_of<B: Body>(rest: &Option<Pin<Box<B>>>) -> SizeHint {
    let nothing = || SizeHint::with_exact(0);
    rest.as_ref().map_or_else(nothing, |body| body.size_hint())
}

fn lock<B>(tape: &Mutex<Tape<B>>) -> MutexGuard<'_, Tape<B>> {
    // A body that panicked while it was read is as good as broken; `Claim::pause` looks at that.
    tape.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<B> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match &self.stage {
            Stage::Passing { .. } => "passing",
            Stage::First { .. } => "first attempt",
            Stage::Second { .. } => "second attempt",
        };
        f.debug_struct("ReplayBody").field("stage", &stage).finish()
    }
}

/// What the first attempt's reader gets when the second has taken over.
#[derive(Debug)]
struct GivenUp;

impl fmt::Display for GivenUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request was answered with a refusal of its token and is being sent again")
    }
}

impl Error for GivenUp {}
