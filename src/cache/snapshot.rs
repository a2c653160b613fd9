//! One token as it is published: ready to be put on a request, with the times that bound its use.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use http::HeaderValue;

use super::shards::Shards;
use crate::{
    clock::{Deadline, Moment},
    token::{AccessToken, Fingerprint},
};

/// Counts the tokens of one cache; a refusal of one generation says nothing of a newer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Generation(u64);

impl Generation {
    pub(super) fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    pub(crate) fn number(self) -> u64 {
        self.0
    }
}

/// What a request takes along: the ready-made header and which token it is.
#[derive(Debug, Clone)]
pub(crate) struct Credential {
    pub(crate) header: HeaderValue,
    pub(crate) sent: SentToken,
}

/// Which token a request carries, for when its answer is in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SentToken {
    pub(crate) generation: Generation,
    /// In place of the text, which would cost each request one more count of references.
    pub(crate) fingerprint: Fingerprint,
}

/// A token in the cache.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(super) token: AccessToken,
    pub(super) generation: Generation,
    /// When it is to be renewed ahead of time and when it must be gone; `None` is "until refused".
    pub(super) times: Option<Times>,
    /// The ready-made header, for each thread.
    headers: Shards<HeaderValue>,
    fingerprint: Fingerprint,
    /// Whether the next reader starts a renewal in the background. Read by every request, written a
    /// few times in a token's life. A hint, so `Relaxed`: the flight that it leads to is decided
    /// under the lock.
    due: AtomicBool,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// When it is to be renewed ahead of time.
    pub(super) due: Deadline,
    /// When it must have left the cache.
    pub(super) gone: Deadline,
    /// When it expires.
    end: Deadline,
}

impl Snapshot {
    pub(super) fn new(token: AccessToken, generation: Generation, times: Option<Times>) -> Self {
        Self {
            headers: Shards::new(),
            fingerprint: token.fingerprint(),
            token,
            generation,
            times,
            due: AtomicBool::new(false),
        }
    }

    pub(super) fn credential(&self) -> Credential {
        Credential {
            header: self.header().clone(),
            sent: self.sent(),
        }
    }

    /// The calling thread's.
    #[inline]
    pub(super) fn header(&self) -> &HeaderValue {
        self.headers.mine(|| self.token.header_apart())
    }

    #[inline]
    pub(super) fn sent(&self) -> SentToken {
        SentToken {
            generation: self.generation,
            fingerprint: self.fingerprint,
        }
    }

    /// The token, with what is left of its lifetime.
    pub(super) fn token_at(&self, now: Moment) -> AccessToken {
        let token = self.token.clone();
        match self.times {
            Some(times) => token.with_left(times.end.remaining(now)),
            None => token,
        }
    }

    #[inline]
    pub(super) fn is_due(&self) -> bool {
        self.due.load(Ordering::Relaxed)
    }

    pub(super) fn mark_due(&self) {
        self.due.store(true, Ordering::Relaxed);
    }

    /// True for the one reader that takes the renewal on itself.
    pub(super) fn take_due(&self) -> bool {
        self.due.swap(false, Ordering::Relaxed)
    }

    pub(super) fn is_gone(&self, now: Moment) -> bool {
        self.times.is_some_and(|times| times.gone.passed(now))
    }
}

/// When tokens are renewed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policy {
    /// The advisory window is at most this long, and at most a fifth of the lifetime.
    pub(super) renew_ahead: Duration,
    /// A token leaves the cache at most this long before it expires, and at most a tenth of the
    /// lifetime.
    pub(super) expiry_margin: Duration,
    /// A flight may take this long.
    pub(super) deadline: Duration,
    /// Where in the first half of the advisory window this cache renews, 0 to 65,535: drawn once, so
    /// that caches that started together don't renew together.
    pub(super) jitter: u16,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            renew_ahead: Duration::from_secs(5 * 60),
            expiry_margin: Duration::from_secs(30),
            deadline: Duration::from_secs(30),
            jitter: fastrand::u16(..),
        }
    }
}

impl Policy {
    /// The times of a token with `lifetime`, counted from when it was asked for.
    pub(super) fn times(&self, lifetime: Duration, asked: Moment) -> Times {
        let margin = self.expiry_margin.min(fraction(lifetime, 10));
        let window = self.renew_ahead.min(fraction(lifetime, 5)).max(margin);
        // Between the start of the window and the token's end; jitter takes at most half of it,
        // so that a renewal that fails at first still has time.
        let span = window.saturating_sub(margin);
        let delay = span.mul_f64(f64::from(self.jitter) / 131_072.0);
        Times {
            due: asked.after(lifetime.saturating_sub(window).saturating_add(delay)),
            gone: asked.after(lifetime.saturating_sub(margin)),
            end: asked.after(lifetime),
        }
    }
}

fn fraction(lifetime: Duration, of: u32) -> Duration {
    lifetime.checked_div(of).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn times(lifetime: u64, jitter: u16) -> (f64, f64) {
        let policy = Policy {
            jitter,
            ..Policy::default()
        };
        let now = Clock::default().now();
        let times = policy.times(Duration::from_secs(lifetime), now);
        (
            times.due.remaining(now).as_secs_f64(),
            times.gone.remaining(now).as_secs_f64(),
        )
    }

    #[test]
    fn a_token_is_due_a_fifth_and_gone_a_tenth_before_its_end() {
        assert_eq!(times(3600, 0), (3300.0, 3570.0), "an hour: 5 min and 30 s");
        assert_eq!(times(100, 0), (80.0, 90.0), "short: a fifth and a tenth");
        assert_eq!(times(5, 0), (4.0, 4.5));
    }

    #[test]
    fn jitter_stays_in_the_first_half_of_the_window() {
        for lifetime in [1, 5, 60, 3600, 86_400] {
            let (earliest, gone) = times(lifetime, 0);
            let (latest, _) = times(lifetime, u16::MAX);
            assert!(latest > earliest, "{lifetime}");
            assert!(latest < earliest + (gone - earliest) / 2.0, "{lifetime}");
        }
    }

    #[test]
    fn caches_that_start_together_renew_apart() {
        // 1,000 clients, one-hour tokens: no second sees more than 5 % of the renewals.
        let mut buckets = std::collections::HashMap::new();
        for _ in 0..1000 {
            let (due, _) = times(3600, Policy::default().jitter);
            *buckets.entry(due as u64).or_insert(0) += 1;
        }
        let fullest = buckets.values().max().copied().unwrap_or_default();
        assert!(fullest <= 50, "{fullest} renewals in one second");
    }

    #[test]
    fn the_longest_lifetime_overflows_nothing() {
        let now = Clock::default().now();
        let times = Policy::default().times(Duration::MAX, now);
        assert!(!times.gone.passed(now));
    }
}
