//! One of a thing for each thread, or for few: so that threads which count references to it don't
//! write to one cache line.
//!
//! A line that two cores write in turn costs each of them as much as the rest of a request: a constant
//! header loses its lead there, because all its clones are counted in one place.

use std::{
    cell::Cell,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Each made when it is first asked for: where one thread asks, there is one.
#[derive(Debug)]
pub(crate) struct Shards<T> {
    /// With the number of the thread that asked first.
    first: OnceLock<(usize, T)>,
    others: OnceLock<Box<[OnceLock<T>; OTHERS]>>,
}

/// More threads than this share, and by their number, for how many CPUs there are can't be told where
/// threads are pinned. A power of two.
const OTHERS: usize = 16;

impl<T> Shards<T> {
    pub(crate) fn new() -> Self {
        Self {
            first: OnceLock::new(),
            others: OnceLock::new(),
        }
    }

    /// The calling thread's.
    #[inline]
    pub(crate) fn mine(&self, make: impl Fn() -> T) -> &T {
        let me = thread_number();
        match self.first.get() {
            Some((owner, first)) if *owner == me => first,
            _ => self.found(me, make),
        }
    }

    /// Out of the way of the thread that has the first, which is often the only one.
    #[inline(never)]
    fn found(&self, me: usize, make: impl Fn() -> T) -> &T {
        let (owner, first) = self.first.get_or_init(|| (me, make()));
        if *owner == me {
            return first;
        }
        let others = self.others.get_or_init(none_yet);
        let mine = others.get(me & OTHERS.wrapping_sub(1));
        mine.map_or(first, |mine| mine.get_or_init(make))
    }
}

#[cold]
fn none_yet<T>() -> Box<[OnceLock<T>; OTHERS]> {
    Box::new([const { OnceLock::new() }; OTHERS])
}

/// Counts threads in the order in which they first ask.
#[inline]
fn thread_number() -> usize {
    match NUMBER.get() {
        NONE_YET => number_thread(),
        number => number,
    }
}

#[cold]
fn number_thread() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    let number = THREADS.fetch_add(1, Ordering::Relaxed);
    NUMBER.set(number);
    number
}

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(NONE_YET) };
}

const NONE_YET: usize = usize::MAX;

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    reason = "tests may stop at the first surprise"
)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_has_one_and_keeps_it() {
        let made = AtomicUsize::new(0);
        let shards = Shards::new();
        let mine = || *shards.mine(|| made.fetch_add(1, Ordering::Relaxed));
        assert_eq!((mine(), mine()), (0, 0));
        assert!(shards.others.get().is_none(), "one thread, one shard");
        thread::scope(|scope| {
            let theirs = scope.spawn(|| (mine(), mine()));
            assert_eq!(theirs.join().unwrap(), (1, 1));
        });
        assert_eq!(mine(), 0);
    }

    #[test]
    fn beyond_their_number_threads_share() {
        let made = AtomicUsize::new(0);
        let threads = 4 * OTHERS;
        let all = Shards::new();
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| all.mine(|| made.fetch_add(1, Ordering::Relaxed)));
            }
        });
        assert!(made.into_inner() <= OTHERS + 1);
    }
}
