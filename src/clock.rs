//! The one place that reads the time.
//!
//! Two clocks count. The monotonic one measures lifetimes, but stands still while a machine is
//! suspended; the wall clock keeps going then, but can be set. A deadline has passed as soon as
//! either says so: a suspended machine wakes up to an expired token, and setting the wall clock
//! back prolongs nothing.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

/// What both clocks said at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) mono: Instant,
    pub(crate) wall: SystemTime,
}

impl Moment {
    /// The moment `delay` from here; a delay that overflows a clock never passes by that clock.
    pub(crate) fn after(self, delay: Duration) -> Deadline {
        Deadline {
            mono: self.mono.checked_add(delay),
            wall: self.wall.checked_add(delay),
        }
    }
}

/// A moment to come, by both clocks; `None` lies beyond what a clock can say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    mono: Option<Instant>,
    wall: Option<SystemTime>,
}

impl Deadline {
    /// Whether either clock has reached it.
    pub(crate) fn passed(&self, now: Moment) -> bool {
        self.mono.is_some_and(|at| at <= now.mono) || self.wall.is_some_and(|at| at <= now.wall)
    }

    /// How long until the first of the two clocks gets there; zero when one has.
    pub(crate) fn remaining(&self, now: Moment) -> Duration {
        let mono = self.mono.map(|at| at.saturating_duration_since(now.mono));
        let wall = self
            .wall
            .map(|at| at.duration_since(now.wall).unwrap_or_default());
        match (mono, wall) {
            (Some(mono), Some(wall)) => mono.min(wall),
            (Some(only), None) | (None, Some(only)) => only,
            (None, None) => Duration::MAX,
        }
    }
}

/// A moment that others will ask about, whose wall clock may say another date.
#[derive(Debug)]
pub(crate) struct Mark {
    at: Moment,
    clock: Clock,
}

impl Mark {
    /// The moment, as a clock says it by which it is `now`.
    pub(crate) fn seen_at(&self, now: Moment) -> Moment {
        let passed = self.clock.now().wall.duration_since(self.at.wall);
        Moment {
            mono: self.at.mono,
            wall: now
                .wall
                .checked_sub(passed.unwrap_or_default())
                .unwrap_or(now.wall),
        }
    }
}

/// Reads both clocks; the wall clock can be replaced.
#[derive(Clone, Default)]
pub(crate) struct Clock {
    wall: Option<Arc<dyn Fn() -> SystemTime + Send + Sync>>,
}

impl Clock {
    pub(crate) fn with_wall(wall: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self {
            wall: Some(Arc::new(wall)),
        }
    }

    /// This moment, for whoever has another clock.
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            at: self.now(),
            clock: self.clone(),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    pub(crate) fn now(&self) -> Moment {
        Moment {
            mono: Instant::now(),
            wall: match &self.wall {
                Some(wall) => wall(),
                None => SystemTime::now(),
            },
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock")
            .field("own_wall_clock", &self.wall.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn moved(now: Moment, mono: Duration, wall: Duration) -> Moment {
        Moment {
            mono: now.mono.checked_add(mono).unwrap(),
            wall: now.wall.checked_add(wall).unwrap(),
        }
    }

    #[test]
    fn a_deadline_has_passed_as_soon_as_either_clock_says_so() {
        let now = Clock::default().now();
        let deadline = now.after(HOUR);
        assert!(!deadline.passed(now));
        assert!(
            deadline.passed(moved(now, HOUR, Duration::ZERO)),
            "monotonic"
        );
        assert!(deadline.passed(moved(now, Duration::ZERO, HOUR)), "wall");
    }

    #[test]
    fn the_earlier_clock_says_how_long_remains() {
        let now = Clock::default().now();
        let deadline = now.after(HOUR);
        let later = moved(now, HOUR / 4, HOUR / 2);
        assert_eq!(deadline.remaining(later), HOUR / 2);
    }

    #[test]
    fn setting_the_wall_clock_back_prolongs_nothing() {
        let now = Clock::default().now();
        let deadline = now.after(HOUR);
        let back = Moment {
            mono: now.mono.checked_add(HOUR).unwrap(),
            wall: now.wall.checked_sub(HOUR * 24).unwrap(),
        };
        assert!(deadline.passed(back));
    }

    #[test]
    fn a_delay_beyond_the_clocks_never_passes_and_never_panics() {
        let now = Clock::default().now();
        let deadline = now.after(Duration::MAX);
        assert!(!deadline.passed(moved(now, HOUR, HOUR)));
    }

    #[test]
    fn a_mark_is_as_old_for_a_clock_of_another_date() {
        use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

        let day = Duration::from_secs(24 * 3600);
        let time = Arc::new(AtomicU64::new(1_000_000));
        let theirs = Clock::with_wall({
            let time = Arc::clone(&time);
            move || SystemTime::UNIX_EPOCH + Duration::from_secs(time.load(Relaxed))
        });
        let mark = theirs.mark();
        for wall in [day * 2, day * 20_000] {
            let now = Moment {
                mono: mark.at.mono,
                wall: SystemTime::UNIX_EPOCH + wall,
            };
            time.store(1_000_000, Relaxed);
            assert_eq!(mark.seen_at(now).wall, now.wall);
            // The machine was suspended since.
            time.store(1_000_600, Relaxed);
            let age = Duration::from_secs(600);
            assert_eq!(mark.seen_at(now).wall + age, now.wall);
            // The clock was set back.
            time.store(0, Relaxed);
            assert_eq!(mark.seen_at(now).wall, now.wall);
        }
    }
}
