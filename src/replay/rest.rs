//! What of a body was not sent yet.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame};

use super::{BoxError, place::Place};

/// What reading a body gives.
pub(super) type Polled = Poll<Option<Result<Frame<Bytes>, BoxError>>>;

/// A body, handed from reader to reader.
pub(super) struct Rest<B> {
    /// What was read and not sent; it comes before all that the body still has.
    ahead: VecDeque<Result<Frame<Bytes>, BoxError>>,
    /// Empty after the body's end.
    body: Place<B>,
}

impl<B> Rest<B> {
    pub(super) fn of(body: B) -> Self {
        Self {
            ahead: VecDeque::new(),
            body: Box::pin(Some(body)),
        }
    }

    /// A body of which `frames` were read, and then `last`.
    pub(super) fn new(
        frames: impl Iterator<Item = Frame<Bytes>>,
        last: Option<Result<Frame<Bytes>, BoxError>>,
        body: Place<B>,
    ) -> Self {
        Self {
            ahead: frames.map(Ok).chain(last).collect(),
            body,
        }
    }

    fn next_ahead(&mut self) -> Option<Result<Frame<Bytes>, BoxError>> {
        let next = self.ahead.pop_front()?;
        if self.ahead.is_empty() {
            // It isn't needed for the rest of the body, which may be long.
            self.ahead = VecDeque::new();
        }
        Some(next)
    }

    /// Takes back what was just read, and could not be sent.
    pub(super) fn put_back(&mut self, read: Result<Frame<Bytes>, BoxError>) {
        self.ahead.push_front(read);
    }
}

impl<B: Body<Error: Into<BoxError>>> Rest<B> {
    /// Also says whether it was read to its end; after that the body isn't polled again.
    pub(super) fn poll_frame(&mut self, cx: &mut Context<'_>) -> (Polled, bool) {
        let read = match (self.next_ahead(), self.body.as_mut().as_pin_mut()) {
            (Some(read), _) => Some(read),
            (None, None) => None,
            (None, Some(body)) => match poll_bytes(body, cx) {
                Poll::Ready(read) => read,
                Poll::Pending => return (Poll::Pending, false),
            },
        };
        let ended = match &read {
            Some(Ok(_)) => self.is_at_end(),
            Some(Err(_)) => false,
            None => true,
        };
        if read.is_none() {
            self.body.set(None);
        }
        (Poll::Ready(read), ended)
    }

    /// As [`poll_frame`](Self::poll_frame), and finds out whether there is any more behind the frame: where
    /// there isn't, the connection needn't ask.
    pub(super) fn poll_first_frame(&mut self, cx: &mut Context<'_>) -> (Polled, bool) {
        let (polled, ended) = self.poll_frame(cx);
        if ended || !matches!(polled, Poll::Ready(Some(Ok(_)))) || !self.ahead.is_empty() {
            return (polled, ended);
        }
        match self.poll_frame(cx).0 {
            Poll::Ready(Some(next)) => self.ahead.push_back(next),
            Poll::Ready(None) => return (polled, true),
            Poll::Pending => {}
        }
        (polled, false)
    }
}

impl<B: Body> Rest<B> {
    pub(super) fn is_at_end(&self) -> bool {
        let body = self.body.as_ref().as_pin_ref();
        self.ahead.is_empty() && body.is_none_or(|body| body.is_end_stream())
    }
}

/// A frame, its data as `Bytes`: free if it is that already.
pub(super) fn poll_bytes<B>(body: Pin<&mut B>, cx: &mut Context<'_>) -> Polled
where
    B: Body<Error: Into<BoxError>>,
{
    let frame = ready!(body.poll_frame(cx));
    Poll::Ready(frame.map(|frame| {
        let frame = frame.map_err(Into::into)?;
        Ok(frame.map_data(|mut data| data.copy_to_bytes(data.remaining())))
    }))
}
