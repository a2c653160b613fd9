//! What was read of a body, frame by frame, shared and never copied.

use std::collections::VecDeque;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

/// The frames of a body, in order, up to a limit.
#[derive(Debug)]
pub(super) struct Buffer {
    data: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
    bytes: usize,
    limit: usize,
}

impl Buffer {
    pub(super) fn with_limit(limit: usize) -> Self {
        Self {
            data: VecDeque::new(),
            trailers: None,
            bytes: 0,
            limit,
        }
    }

    /// Keeps a frame; false if that would be more bytes of data than the limit.
    #[must_use]
    pub(super) fn push(&mut self, frame: &Frame<Bytes>) -> bool {
        if let Some(data) = frame.data_ref() {
            match self.bytes.checked_add(data.len()) {
                Some(bytes) if bytes <= self.limit => self.bytes = bytes,
                _ => return false,
            }
            if !data.is_empty() {
                self.data.push_back(data.clone());
            }
        } else if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(trailers.clone());
        }
        true
    }

    pub(super) fn pop_data(&mut self) -> Option<Bytes> {
        let data = self.data.pop_front()?;
        self.bytes = self.bytes.saturating_sub(data.len());
        Some(data)
    }

    pub(super) fn pop_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }

    /// How many bytes of data are left.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.data.is_empty() && self.trailers.is_none()
    }
}
