//! A body type of each client's own. The compiler makes another copy of hyper for each type of body, so
//! a client that shares its copy with others finds it warm: the layer, whose bodies are of another type,
//! would pay for that and not for what it does.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use http_body::{Body, Frame, SizeHint};

pub struct Own<const CLIENT: u8, B> {
    body: B,
}

impl<const CLIENT: u8, B> Own<CLIENT, B> {
    pub fn of(body: B) -> Self {
        Self { body }
    }
}

impl<const CLIENT: u8, B: Body + Unpin> Body for Own<CLIENT, B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
