//! What is measured: one way to put a token on a request.

use crate::{lane::Lane, shape::Shape};

/// One way to put a token on a request.
pub struct Case {
    pub name: &'static str,
    /// What it can do beside adding a token, in a word or two.
    pub does: &'static str,
    lane: Box<dyn Fn(Shape) -> Option<Box<dyn Lane>>>,
}

impl Case {
    /// `lane` makes a clone of the one client, with the one token, for one more thread; `None` where
    /// that shape can't be sent by it.
    pub fn new(
        name: &'static str,
        does: &'static str,
        lane: impl Fn(Shape) -> Option<Box<dyn Lane>> + 'static,
    ) -> Self {
        let lane = Box::new(lane);
        Self { name, does, lane }
    }

    pub fn lane(&self, shape: Shape) -> Option<Box<dyn Lane>> {
        (self.lane)(shape)
    }
}
