//! A place in memory where a body is pinned, reused by the next body of its type on the thread.
//!
//! A body must not be moved once it was polled, so it can't be read on the stack and kept where
//! that wasn't all of it. In a place it can be either: one that was read to its end leaves the
//! place to the next, and one that wasn't stays where it is, and the place is its own.

use std::{any::Any, cell::RefCell, pin::Pin};

/// Empty, or a body that stays where it is.
pub(super) type Place<B> = Pin<Box<Option<B>>>;

thread_local! {
    /// One for each of the types of bodies that were read last.
    static SLOTS: RefCell<Vec<Box<dyn Any>>> = const { RefCell::new(Vec::new()) };
}

/// Where a thread keeps an empty place, unless it is in use.
struct Slot<B>(Option<Place<B>>);

/// Pins a body: in a place that is free, or in a new one.
///
/// The slot is left at once, so that whatever the body does while it is read (panic, send another
/// request) finds the slots as they always are.
pub(super) fn pinned<B: 'static>(body: B) -> Place<B> {
    match with_slots(|slots| slot(slots)?.0.take()) {
        Some(mut place) => {
            place.set(Some(body));
            place
        }
        None => Box::pin(Some(body)),
    }
}

/// Drops the body that is pinned there, and keeps the place for the next.
pub(super) fn leave<B: 'static>(mut place: Place<B>) {
    place.set(None);
    with_slots(|slots| {
        if let Some(slot) = slot(slots) {
            slot.0 = Some(place);
        } else {
            if slots.len() == SLOTS_PER_THREAD {
                slots.remove(0);
            }
            slots.push(Box::new(Slot(Some(place))));
        }
        None::<()>
    });
}

fn slot<B: 'static>(slots: &mut [Box<dyn Any>]) -> Option<&mut Slot<B>> {
    slots.iter_mut().find_map(|slot| slot.downcast_mut())
}

/// `None` also where the thread ends and its slots are gone.
fn with_slots<T>(action: impl FnOnce(&mut Vec<Box<dyn Any>>) -> Option<T>) -> Option<T> {
    SLOTS
        .try_with(|slots| action(&mut *slots.try_borrow_mut().ok()?))
        .ok()?
}

/// A thread sends few types of bodies, most often one.
const SLOTS_PER_THREAD: usize = 4;

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests may stop at the first surprise"
)]
mod tests {
    use super::*;

    fn address<B>(place: &Place<B>) -> usize {
        std::ptr::from_ref(&**place).addr()
    }

    #[test]
    fn the_next_body_of_a_type_gets_the_same_place() {
        let place = pinned("one".to_owned());
        let first = address(&place);
        leave(place);
        let place = pinned("two".to_owned());
        assert_eq!(address(&place), first);
        assert_eq!(place.as_deref(), Some("two"));
    }

    #[test]
    fn a_place_in_use_is_nobody_elses() {
        let one = pinned("one".to_owned());
        let two = pinned("two".to_owned());
        assert_ne!(address(&one), address(&two));
        leave(one);
        leave(two);
        with_slots(|slots| {
            assert_eq!(slots.len(), 1, "one slot for a type");
            None::<()>
        });
    }

    #[test]
    fn a_thread_keeps_few_places() {
        fn read_one_of<const N: usize>() {
            leave(pinned([0_u8; N]));
        }
        read_one_of::<1>();
        read_one_of::<2>();
        read_one_of::<3>();
        read_one_of::<4>();
        read_one_of::<5>();
        read_one_of::<6>();
        with_slots(|slots| {
            assert_eq!(slots.len(), SLOTS_PER_THREAD);
            assert!(slot::<[u8; 6]>(slots).is_some(), "the newest stays");
            assert!(slot::<[u8; 1]>(slots).is_none(), "the oldest goes");
            None::<()>
        });
    }

    /// Its drop comes when its place is neither in use nor free.
    #[test]
    fn a_body_whose_drop_reads_another_of_its_type() {
        struct Matryoshka(u8);
        impl Drop for Matryoshka {
            fn drop(&mut self) {
                if let Some(inner) = self.0.checked_sub(1) {
                    leave(pinned(Self(inner)));
                }
            }
        }
        leave(pinned(Matryoshka(3)));
        with_slots(|slots| {
            let slot = slot::<Matryoshka>(slots).expect("its slot");
            assert!(slot.0.as_ref().is_some_and(|place| place.is_none()));
            None::<()>
        });
    }
}
