//! All of a small body, read before it is sent.

use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame};

use super::{
    BoxError,
    place::{self, Place},
    rest::{Rest, poll_bytes},
};

/// A body of one data frame, by value; its clones share the data.
#[derive(Debug, Clone, Default)]
pub(super) struct Whole {
    /// `None` once it is read.
    data: Option<Bytes>,
}

/// Reads a body of known length, if it has all of itself at hand: nothing is waited for.
///
/// Otherwise it is handed back with what was read of it.
pub(super) fn read_ahead<B>(body: B, length: u64) -> Result<Whole, Rest<B>>
where
    B: Body<Error: Into<BoxError>> + 'static,
{
    let mut place = place::pinned(body);
    let mut whole = Whole::default();
    match whole.read(&mut place) {
        Read::All if whole.bytes() == length && !whole.is_at_end() => {
            place::leave(place);
            Ok(whole)
        }
        // It is longer than it said, and so perhaps than the limit; or shorter, or there is nothing
        // of it and it didn't say so. It is sent as it would have been.
        Read::All => {
            place.set(None);
            Err(Rest::new(whole.next().into_iter(), None, place))
        }
        Read::Some(more) => Err(Rest::new(whole.next().into_iter(), more, place)),
    }
}

/// How far it was read.
enum Read {
    /// To its end.
    All,
    /// Not to its end, with a frame, or an error, that there is no place for.
    Some(Option<Result<Frame<Bytes>, BoxError>>),
}

impl Whole {
    fn read<B: Body<Error: Into<BoxError>>>(&mut self, place: &mut Place<B>) -> Read {
        // Whoever reads the rest polls it anew, and is woken.
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..POLLS {
            let Some(mut body) = place.as_mut().as_pin_mut() else {
                return Read::All;
            };
            match poll_bytes(body.as_mut(), &mut cx) {
                Poll::Ready(None) => return Read::All,
                Poll::Ready(Some(Ok(frame))) => match self.add(frame) {
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
    fn add(&mut self, frame: Frame<Bytes>) -> Result<(), Frame<Bytes>> {
        if frame.data_ref().is_some_and(Bytes::is_empty) {
            return Ok(());
        }
        if self.data.is_some() {
            return Err(frame);
        }
        self.data = Some(frame.into_data()?);
        Ok(())
    }

    pub(super) fn next(&mut self) -> Option<Frame<Bytes>> {
        self.data.take().map(Frame::data)
    }

    /// How many bytes of data are left.
    pub(super) fn bytes(&self) -> u64 {
        let bytes = self.data.as_ref().map_or(0, Bytes::len);
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.data.is_none()
    }
}

/// Data, the end, and two empty frames. A body of nothing but empty frames must not be read
/// forever.
const POLLS: usize = 4;
