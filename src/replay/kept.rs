//! What is kept of a request while its first attempt is under way, in memory that is used again.

use std::cell::RefCell;

use bytes::Bytes;

use super::{deadline::Deadline, head::Head};

/// What the second attempt is made of, less a body that wasn't at hand as a whole.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) head: Head,
    pub(super) deadline: Option<Deadline>,
    /// The body, if all of it was at hand.
    pub(super) whole: Bytes,
}

thread_local! {
    /// Shelves that are free, each empty. Boxed, so that they go from hand to hand without a copy.
    #[expect(clippy::vec_box, reason = "what is boxed is large, and moves")]
    static FREE: RefCell<Vec<Box<Kept>>> = const { RefCell::new(Vec::new()) };
}

/// A shelf for what is kept of one request; the next request on the thread that drops it gets it.
#[derive(Debug)]
pub(super) struct Shelf(Option<Box<Kept>>);

impl Shelf {
    /// One that is free, or a new one.
    #[inline]
    pub(super) fn free() -> Self {
        Self(with_free(Vec::pop).flatten())
    }

    #[inline]
    pub(super) fn get(&mut self) -> &mut Kept {
        self.0.get_or_insert_default()
    }

    pub(super) fn deadline(&self) -> Option<Deadline> {
        self.0.as_ref()?.deadline
    }
}

impl Drop for Shelf {
    #[inline]
    fn drop(&mut self) {
        let Some(mut kept) = self.0.take() else {
            return;
        };
        // First, for it drops what the caller put on the request, which may send another one.
        kept.clear();
        with_free(|free| {
            if free.len() < MOST_FREE {
                free.push(kept);
            }
        });
    }
}

impl Kept {
    #[inline]
    fn clear(&mut self) {
        self.head.clear();
        self.whole = Bytes::new();
    }
}

/// `None` where the thread ends and its shelves are gone.
#[inline]
fn with_free<T>(action: impl FnOnce(&mut Vec<Box<Kept>>) -> T) -> Option<T> {
    FREE.try_with(|free| Some(action(&mut *free.try_borrow_mut().ok()?)))
        .ok()
        .flatten()
}

/// So many requests of a thread can be under way without an allocation for the next.
const MOST_FREE: usize = 64;
