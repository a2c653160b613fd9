//! What the two attempts share of a body that is read while it is sent.
//!
//! The connection reads the first attempt's body in a task of its own, at its own pace, and may
//! still do so when the answer is in. So who may read is a state of the tape, behind a lock: there is
//! one reader at any time, and a reader that was relieved gets an error, never a clean end, which
//! would pass for a whole body.
//!
//! The lock is never held while foreign code runs: the body is lent to its reader for each frame,
//! and what is dropped or woken is dropped or woken after the lock. A body may block, wake inline,
//! or drop the future that waits for the answer.

use std::{
    error::Error,
    fmt, mem,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use http_body::{Body, SizeHint};

use super::{
    BoxError,
    buffer::Buffer,
    rest::{Polled, Rest},
};

pub(super) struct Tape<B> {
    /// What was known of the body before anything was read.
    size: SizeHint,
    state: Mutex<State<B>>,
}

/// Who may read.
enum State<B> {
    /// The first attempt reads, and what it reads is recorded.
    Recording(Take<B>),
    /// The first attempt was refused: it waits until there is a second one, or none.
    Paused(Take<B>),
    /// There will be no second attempt, or none is possible: what is left is the first one's
    /// alone. `None` once it has it.
    Returned(Option<Rest<B>>),
    /// The second attempt has taken over while the first was reading a frame, and waits until the
    /// first hands in what is left.
    Wanted(Option<Waker>),
    /// What is left, for the second attempt to pick up.
    HandedIn(Rest<B>),
    /// The second attempt has all.
    GivenUp,
}

/// A body with what was read of it.
struct Take<B> {
    recorded: Buffer,
    /// What was not read yet; `None` while the first attempt is reading a frame.
    rest: Option<Rest<B>>,
    /// Whom to wake when the tape changes hands.
    reader: Option<Waker>,
}

/// Where the first attempt goes on after a poll.
pub(super) enum Then<B> {
    /// At the tape.
    Stays,
    /// There is no second reader: what is left is its own.
    Alone(Rest<B>),
    /// Nowhere: it has read all there is.
    Ended,
}

/// Where the second attempt finds what the first has not read.
pub(super) enum Left<B> {
    /// Here.
    Here(Rest<B>),
    /// It is handed in to the tape.
    Awaited,
}

impl<B> Tape<B> {
    pub(super) fn recording(rest: Rest<B>, limit: usize, size: SizeHint) -> Self {
        let state = Mutex::new(State::Recording(Take {
            recorded: Buffer::with_limit(limit),
            rest: Some(rest),
            reader: None,
        }));
        Self { size, state }
    }

    pub(super) fn size(&self) -> SizeHint {
        self.size
    }

    /// Holds the first attempt where it is; false if no second one is possible.
    pub(super) fn pause(&self) -> bool {
        let mut state = self.lock();
        match mem::replace(&mut *state, State::GivenUp) {
            State::Recording(take) | State::Paused(take) => {
                *state = State::Paused(take);
                true
            }
            other => {
                *state = other;
                false
            }
        }
    }

    /// Relieves the first attempt: what was recorded, and what is left. `None` if no second attempt
    /// is possible; then the first reads on.
    pub(super) fn take_over(&self) -> Option<(Buffer, Left<B>)> {
        let mut state = self.lock();
        match mem::replace(&mut *state, State::GivenUp) {
            State::Recording(take) | State::Paused(take) => {
                let left = match take.rest {
                    Some(rest) => Left::Here(rest),
                    None => {
                        *state = State::Wanted(None);
                        Left::Awaited
                    }
                };
                drop(state);
                // It must learn that it was relieved, or its connection waits for it forever.
                if let Some(reader) = take.reader {
                    reader.wake();
                }
                Some((take.recorded, left))
            }
            other => {
                *state = other;
                None
            }
        }
    }

    /// There will be no second attempt: what was recorded is freed, and the first reads on.
    pub(super) fn stop(&self) {
        let mut state = self.lock();
        match mem::replace(&mut *state, State::GivenUp) {
            State::Recording(mut take) => {
                *state = State::Returned(take.rest.take());
                drop(state);
                drop(take);
            }
            State::Paused(mut take) => {
                *state = State::Returned(take.rest.take());
                drop(state);
                if let Some(reader) = take.reader.take() {
                    reader.wake();
                }
                drop(take);
            }
            other => *state = other,
        }
    }

    /// What the first attempt has handed in, for the second. `None` if that is at its end without.
    pub(super) fn poll_left(&self, cx: &Context<'_>) -> Poll<Option<Rest<B>>> {
        let mut state = self.lock();
        match &mut *state {
            State::Wanted(second) => {
                let displaced = remember(second, cx);
                drop(state);
                drop(displaced);
                Poll::Pending
            }
            State::HandedIn(_) => match mem::replace(&mut *state, State::GivenUp) {
                State::HandedIn(rest) => Poll::Ready(Some(rest)),
                _ => Poll::Ready(None),
            },
            _ => Poll::Ready(None),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<B>> {
        // Nothing that is done under the lock can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: Body<Error: Into<BoxError>>> Tape<B> {
    /// The first attempt reads; nothing was read before if it `is_first`.
    pub(super) fn poll_frame(&self, cx: &mut Context<'_>, is_first: bool) -> (Polled, Then<B>) {
        match self.lend(cx) {
            Lent::ToRecord(rest) => {
                let mut lending = Lending {
                    tape: self,
                    rest: Some(rest),
                };
                let Some(rest) = &mut lending.rest else {
                    return (Poll::Pending, Then::Stays);
                };
                let (polled, ended) = match is_first {
                    true => rest.poll_first_frame(cx),
                    false => rest.poll_frame(cx),
                };
                match lending.rest.take() {
                    Some(rest) => self.put_back(rest, polled, ended, cx),
                    None => (polled, Then::Stays),
                }
            }
            Lent::ForGood(mut rest) => {
                let (polled, ended) = rest.poll_frame(cx);
                (polled, Then::alone(rest, ended))
            }
            Lent::Not(polled) => (polled, Then::Stays),
        }
    }

    fn lend(&self, cx: &Context<'_>) -> Lent<B> {
        let mut state = self.lock();
        let lent = match &mut *state {
            State::Recording(take) => take.rest.take().map(Lent::ToRecord),
            State::Returned(rest) => rest.take().map(Lent::ForGood),
            State::Paused(take) => {
                let displaced = remember(&mut take.reader, cx);
                drop(state);
                drop(displaced);
                return Lent::Not(Poll::Pending);
            }
            State::Wanted(_) | State::HandedIn(_) | State::GivenUp => None,
        };
        lent.unwrap_or_else(|| Lent::Not(Poll::Ready(Some(Err(GivenUp.into())))))
    }

    /// The first attempt has polled its body once.
    fn put_back(
        &self,
        mut rest: Rest<B>,
        polled: Polled,
        ended: bool,
        cx: &Context<'_>,
    ) -> (Polled, Then<B>) {
        let mut state = self.lock();
        match &mut *state {
            State::Recording(take) => {
                let kept = match &polled {
                    Poll::Ready(Some(Ok(frame))) => take.recorded.push(frame),
                    // A body that broke can't be sent again.
                    Poll::Ready(Some(Err(_))) => false,
                    Poll::Ready(None) | Poll::Pending => true,
                };
                if !kept {
                    return keep(state, Then::alone(rest, ended), polled);
                }
                let then = if ended { Then::Ended } else { Then::Stays };
                take.rest = Some(rest);
                let displaced = match &polled {
                    Poll::Pending => remember(&mut take.reader, cx),
                    Poll::Ready(_) => None,
                };
                drop(state);
                drop(displaced);
                (polled, then)
            }
            // It was paused meanwhile.
            State::Paused(take) => {
                match polled {
                    Poll::Ready(Some(Err(_))) => return keep(state, Then::Alone(rest), polled),
                    // This is for whoever goes on.
                    Poll::Ready(Some(frame)) => rest.put_back(frame),
                    Poll::Ready(None) | Poll::Pending => {}
                }
                take.rest = Some(rest);
                let displaced = remember(&mut take.reader, cx);
                drop(state);
                drop(displaced);
                (Poll::Pending, Then::Stays)
            }
            State::Wanted(_) => {
                if let Poll::Ready(Some(frame)) = polled {
                    rest.put_back(frame);
                }
                let wanted = mem::replace(&mut *state, State::HandedIn(rest));
                drop(state);
                wanted.wake();
                (Poll::Ready(Some(Err(GivenUp.into()))), Then::Stays)
            }
            State::Returned(_) | State::HandedIn(_) | State::GivenUp => (polled, Then::Alone(rest)),
        }
    }
}

impl<B> Then<B> {
    fn alone(rest: Rest<B>, ended: bool) -> Self {
        match ended {
            true => Self::Ended,
            false => Self::Alone(rest),
        }
    }
}

impl<B> State<B> {
    fn wake(self) {
        if let Self::Wanted(Some(second)) = self {
            second.wake();
        }
    }
}

/// What the first attempt's reader gets of the tape.
enum Lent<B> {
    /// The rest, for one frame.
    ToRecord(Rest<B>),
    /// The rest.
    ForGood(Rest<B>),
    /// Nothing, but this.
    Not(Polled),
}

/// The rest is with the first attempt's reader.
struct Lending<'a, B> {
    tape: &'a Tape<B>,
    /// `None` once it is back.
    rest: Option<Rest<B>>,
}

impl<B> Drop for Lending<'_, B> {
    /// The body has panicked. It may have lost a frame: whoever reads on gets an error.
    fn drop(&mut self) {
        let Some(mut rest) = self.rest.take() else {
            return;
        };
        rest.put_back(Err(Panicked.into()));
        let mut state = self.tape.lock();
        let next = match &*state {
            State::Wanted(_) => State::HandedIn(rest),
            _ => State::Returned(Some(rest)),
        };
        let last = mem::replace(&mut *state, next);
        drop(state);
        last.wake();
    }
}

/// No second attempt is possible: the first keeps what is left.
fn keep<B>(
    mut state: MutexGuard<'_, State<B>>,
    then: Then<B>,
    polled: Polled,
) -> (Polled, Then<B>) {
    let freed = mem::replace(&mut *state, State::Returned(None));
    drop(state);
    drop(freed);
    (polled, then)
}

/// Gives the waker that it takes the place of: dropping one may run foreign code.
fn remember(waker: &mut Option<Waker>, cx: &Context<'_>) -> Option<Waker> {
    match waker {
        Some(waker) if waker.will_wake(cx.waker()) => None,
        _ => waker.replace(cx.waker().clone()),
    }
}

/// What the first attempt's reader gets when the second has taken over.
#[derive(Debug)]
pub(super) struct GivenUp;

impl fmt::Display for GivenUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request was answered with a refusal of its token and is being sent again")
    }
}

impl Error for GivenUp {}

#[derive(Debug)]
struct Panicked;

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request's body panicked while it was read")
    }
}

impl Error for Panicked {}
