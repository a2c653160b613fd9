//! All of a small body, read before it is sent.

use std::{
    any::Any,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;

use super::{
    BoxError,
    place::{self, Place},
    rest::{Rest, poll_bytes},
};

/// A body that was at hand as a whole, as one frame.
#[derive(Debug, Clone)]
pub(super) struct Whole {
    pub(super) data: Bytes,
    /// What was known of its length before it was read.
    pub(super) size: SizeHint,
}

/// An empty one.
impl Default for Whole {
    fn default() -> Self {
        Self {
            data: Bytes::new(),
            size: SizeHint::with_exact(0),
        }
    }
}

/// Reads a body that has all of itself at hand, as one frame, and not more than `limit` bytes: nothing is
/// waited for.
///
/// Otherwise it is handed back with what was read of it.
#[inline]
pub(super) fn read_ahead<B>(mut body: B, size: SizeHint, limit: usize) -> Result<Whole, Rest<B>>
where
    B: Body<Error: Into<BoxError>> + 'static,
{
    match all_of_a_full(&mut body) {
        Some(data) => Ok(Whole { data, size }),
        None => read_in_place(body, size, limit),
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

fn read_in_place<B>(body: B, size: SizeHint, limit: usize) -> Result<Whole, Rest<B>>
where
    B: Body<Error: Into<BoxError>> + 'static,
{
    let mut place = place::pinned(body);
    let mut data = Bytes::new();
    let more = match read(&mut place, &mut data) {
        Read::All if is_whole(&data, size, limit) => {
            place::leave(place);
            return Ok(Whole { data, size });
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

/// Whether it is as long as it said, and no longer than the limit, and there is any of it: otherwise it
/// is sent as it would have been.
fn is_whole(data: &Bytes, size: SizeHint, limit: usize) -> bool {
    let as_it_said = u64::try_from(data.len()).is_ok_and(|length| {
        size.lower() <= length && size.upper().is_none_or(|upper| length <= upper)
    });
    as_it_said && data.len() <= limit && !data.is_empty()
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
