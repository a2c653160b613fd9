//! What was read of a body, frame by frame, shared and never copied.

use std::collections::VecDeque;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

/// The frames of a body, in order, up to a limit.
///
/// What counts against the limit is the data. Beside it a frame costs the 32 bytes of a `Bytes`,
/// and half as much again in room to grow: so that a body of tiny frames doesn't cost a multiple of
/// the limit, their number is limited too, to one for every 32 bytes of the limit (and 32 in any
/// case). Not counted are trailers, nor what a `Bytes` keeps alive if it is a part of something
/// larger.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    data: Pieces,
    /// The last frame, if any. Boxed, for few bodies have any.
    trailers: Option<Box<HeaderMap>>,
    bytes: usize,
    limit: usize,
}

/// Most bodies have one frame, which needs no allocation.
#[derive(Debug)]
enum Pieces {
    One(Option<Bytes>),
    Many(VecDeque<Bytes>),
}

impl Default for Pieces {
    fn default() -> Self {
        Self::One(None)
    }
}

impl Pieces {
    fn len(&self) -> usize {
        match self {
            Self::One(one) => usize::from(one.is_some()),
            Self::Many(many) => many.len(),
        }
    }

    fn push(&mut self, data: Bytes) {
        match self {
            Self::One(one) => match one.take() {
                None => *one = Some(data),
                Some(first) => {
                    let mut many = VecDeque::with_capacity(4);
                    many.extend([first, data]);
                    *self = Self::Many(many);
                }
            },
            Self::Many(many) => {
                if many.len() == many.capacity() {
                    many.reserve_exact((many.len() / 2).max(4));
                }
                many.push_back(data);
            }
        }
    }

    fn pop(&mut self) -> Option<Bytes> {
        match self {
            Self::One(one) => one.take(),
            Self::Many(many) => many.pop_front(),
        }
    }
}

impl Buffer {
    pub(super) fn with_limit(limit: usize) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }

    /// Keeps a frame; false if it can't be kept: it is beyond the limit, or it comes after trailers,
    /// or it is of a kind that can't be sent twice.
    #[must_use]
    pub(super) fn push(&mut self, frame: &Frame<Bytes>) -> bool {
        if let Some(data) = frame.data_ref() {
            data.is_empty() || self.push_data(data)
        } else if let Some(trailers) = frame.trailers_ref() {
            let is_first = self.trailers.is_none();
            self.trailers = Some(Box::new(trailers.clone()));
            is_first
        } else {
            false
        }
    }

    fn push_data(&mut self, data: &Bytes) -> bool {
        let bytes = self.bytes.saturating_add(data.len());
        let most = (self.limit / 32).max(32);
        if bytes > self.limit || self.data.len() >= most || self.trailers.is_some() {
            return false;
        }
        self.bytes = bytes;
        self.data.push(data.clone());
        true
    }

    /// The first of the frames that are left.
    pub(super) fn pop(&mut self) -> Option<Frame<Bytes>> {
        let data = self.data.pop().map(Frame::data);
        data.or_else(|| Some(Frame::trailers(*self.trailers.take()?)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.data.len() == 0 && self.trailers.is_none()
    }
}

#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    reason = "tests may stop at the first surprise"
)]
mod tests {
    use super::*;

    fn data(bytes: usize) -> Frame<Bytes> {
        Frame::data(Bytes::from(vec![b'x'; bytes]))
    }

    /// How many frames of a length it takes.
    fn takes(limit: usize, length: usize) -> usize {
        let mut buffer = Buffer::with_limit(limit);
        (0..)
            .take_while(|_| buffer.push(&data(length)))
            .take(100_000)
            .count()
    }

    #[test]
    fn data_up_to_the_limit() {
        assert_eq!(takes(65_536, 65_536), 1);
        assert_eq!(takes(65_536, 65_537), 0);
        assert_eq!(takes(65_536, 1024), 64);
        assert_eq!(takes(65_536, 32), 2048);
        assert_eq!(takes(8, 4), 2);
        assert_eq!(takes(8, 1), 8);
        assert_eq!(takes(0, 0), 100_000, "an empty frame is not kept");
    }

    #[test]
    fn the_bookkeeping_of_tiny_frames_is_limited_too() {
        assert_eq!(takes(65_536, 1), 2048);
        assert_eq!(takes(64, 1), 32);
        let mut buffer = Buffer::with_limit(65_536);
        while buffer.push(&data(1)) {}
        let Pieces::Many(data) = &buffer.data else {
            panic!("one");
        };
        assert!(data.capacity() <= 2048 + 2048 / 2);
    }

    #[test]
    fn what_comes_after_trailers_is_not_kept() {
        let trailers = || Frame::trailers(HeaderMap::new());
        let mut buffer = Buffer::with_limit(8);
        assert!(buffer.push(&trailers()));
        assert!(buffer.push(&data(0)), "nothing");
        assert!(!buffer.push(&data(1)));
        assert!(!buffer.push(&trailers()));
    }
}
