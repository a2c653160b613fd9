//! All of a small body, read before it is sent.

use std::{
    any::Any,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::Full;

use super::{
    BoxError,
    place::{self, Place},
    rest::{Rest, poll_bytes},
};

/// Reads a body of known length, if it has all of itself at hand, as one frame: nothing is waited for.
///
/// Otherwise it is handed back with what was read of it.
#[inline]
pub(super) fn read_ahead<B>(mut body: B, length: u64) -> Result<Bytes, Rest<B>>
where
    B: Body<Error: Into<BoxError>> + 'static,
{
    match all_of_a_full(&mut body) {
        Some(data) => Ok(data),
        None => read_in_place(body, length),
    }
}

/// The data of the most usual of all bodies, which may be moved at any time: to have it pinned would cost
/// as much again as a copy of the request's head.
#[inline]
fn all_of_a_full(body: &mut dyn Any) -> Option<Bytes> {
    let full: &mut Full<Bytes> = body.downcast_mut()?;
    let mut cx = Context::from_waker(Waker::noop());
    match Pin::new(full).poll_frame(&mut cx) {
        Poll::Ready(Some(Ok(frame))) => frame.into_data().ok(),
        Poll::Ready(_) | Poll::Pending => None,
    }
}

fn read_in_place<B>(body: B, length: u64) -> Result<Bytes, Rest<B>>
where
    B: Body<Error: Into<BoxError>> + 'static,
{
    let mut place = place::pinned(body);
    let mut data = Bytes::new();
    let read = read(&mut place, &mut data);
    // It may be longer than it said, and so perhaps than the limit; or shorter, or there is nothing of
    // it and it didn't say so. It is sent as it would have been.
    let is_whole = !data.is_empty() && u64::try_from(data.len()) == Ok(length);
    let more = match read {
        Read::All if is_whole => {
            place::leave(place);
            return Ok(data);
        }
        Read::All => {
            place.set(None);
            None
        }
        Read::Some(more) => more,
    };
    let data = (!data.is_empty()).then(|| Frame::data(data));
    Err(Rest::new(data.into_iter(), more, place))
}

/// How far it was read.
enum Read {
    /// To its end.
    All,
    /// Not to its end, with a frame, or an error, that there is no place for.
    Some(Option<Result<Frame<Bytes>, BoxError>>),
}

fn read<B: Body<Error: Into<BoxError>>>(place: &mut Place<B>, data: &mut Bytes) -> Read {
    // Whoever reads the rest polls it anew, and is woken.
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..POLLS {
        let Some(mut body) = place.as_mut().as_pin_mut() else {
            return Read::All;
        };
        match poll_bytes(body.as_mut(), &mut cx) {
            Poll::Ready(None) => return Read::All,
            Poll::Ready(Some(Ok(frame))) => match add(frame, data) {
                Ok(()) if body.is_end_stream() => return Read::All,
                Ok(()) => {}
                Err(frame) => return Read::Some(Some(Ok(frame))),
            },
            Poll::Ready(Some(Err(error))) => return Read::Some(Some(Err(error))),
            Poll::Pending => break,
        }
    }
    Read::Some(None)
}

/// Gives a frame back that there is no place for.
fn add(frame: Frame<Bytes>, data: &mut Bytes) -> Result<(), Frame<Bytes>> {
    match frame.data_ref() {
        Some(empty) if empty.is_empty() => Ok(()),
        Some(_) if data.is_empty() => {
            *data = frame.into_data()?;
            Ok(())
        }
        _ => Err(frame),
    }
}

/// Data, the end, and two empty frames. A body of nothing but empty frames must not be read
/// forever.
const POLLS: usize = 4;
