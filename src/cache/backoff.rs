//! How long to leave the authorization server alone: after a failure, and after a refusal.

use std::time::Duration;

use tokio::time::Instant;

use crate::source::TokenError;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A permanent error starts on this rung of the ladder: 6.4 s. It has no terminal state.
const PERMANENT_RUNG: u32 = 6;

/// The failures since the last token.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    rung: u32,
    failing: Option<Failing>,
}

#[derive(Debug, Clone)]
pub(super) struct Failing {
    pub(super) since: Instant,
    pub(super) retry_at: Instant,
    pub(super) error: TokenError,
}

impl Backoff {
    /// One more failure. The pause doubles; jitter takes up to half of it and not more, so that
    /// the number of attempts in an outage has a bound (11 in the first minute).
    pub(super) fn failed(&mut self, error: TokenError, now: Instant) {
        if !error.is_transient() {
            self.rung = self.rung.max(PERMANENT_RUNG);
        }
        let longest = doubled(FIRST_PAUSE, self.rung, LONGEST_PAUSE);
        let pause = longest
            .mul_f64(1.0 - fastrand::f64() / 2.0)
            .max(error.retry_after().unwrap_or_default());
        self.rung = self.rung.saturating_add(1);
        let since = self.failing.as_ref().map_or(now, |failing| failing.since);
        self.failing = Some(Failing {
            since,
            retry_at: later(now, pause),
            error,
        });
    }

    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// The failures since the last token, if there were any.
    pub(super) fn failing(&self) -> Option<&Failing> {
        self.failing.as_ref()
    }

    /// The last error, as long as the server is to be left alone.
    pub(super) fn pausing(&self, now: Instant) -> Option<&Failing> {
        self.failing
            .as_ref()
            .filter(|failing| now < failing.retry_at)
    }
}

const FIRST_DOUBT: Duration = Duration::from_secs(1);
const LONGEST_DOUBT: Duration = Duration::from_secs(5 * 60);

/// What refusals taught about fresh tokens: when a server refuses each of them, fetching more
/// doesn't help.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    /// Forced refreshes since the last that helped: whose token was accepted on the second send.
    fruitless: u32,
    not_before: Option<Instant>,
    /// The pause was lifted once because a first send was accepted. Once only: where one endpoint
    /// accepts the token that another refuses, each acceptance would start the next refresh.
    pardoned: bool,
}

impl Doubt {
    pub(super) fn may_force(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|at| at <= now)
    }

    /// A refresh was forced by a refusal; the next must wait unless a token is accepted.
    pub(super) fn forced(&mut self, now: Instant) {
        let pause = doubled(FIRST_DOUBT, self.fruitless, LONGEST_DOUBT);
        self.not_before = Some(later(now, pause));
        self.fruitless = self.fruitless.saturating_add(1);
    }

    /// The newest token was accepted, on a first send or on the second of one request.
    pub(super) fn accepted(&mut self, second_send: bool) {
        if second_send {
            *self = Self::default();
        } else if !self.pardoned {
            self.not_before = None;
            self.pardoned = true;
        }
    }

    /// Whether the acceptance of a first send would change anything.
    pub(super) fn awaits_acceptance(&self) -> bool {
        self.fruitless > 0 && !self.pardoned
    }
}

fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    let factor = 2u32.checked_pow(times).unwrap_or(u32::MAX);
    first.saturating_mul(factor).min(longest)
}

fn later(now: Instant, pause: Duration) -> Instant {
    now.checked_add(pause).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "test times are small")]

    use super::*;
    use crate::clock::Clock;

    fn at(start: Instant, seconds: f64) -> Instant {
        start + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn an_outage_of_a_minute_costs_at_most_eleven_attempts() {
        for _ in 0..1000 {
            let start = Clock::default().now().mono;
            let mut backoff = Backoff::default();
            let (mut now, mut attempts) = (start, 0);
            while now <= at(start, 60.0) {
                attempts += 1;
                backoff.failed(TokenError::transient("down"), now);
                let retry_at = backoff.failing().unwrap().retry_at;
                assert!(retry_at - now >= FIRST_PAUSE / 2, "no busy loop");
                assert!(retry_at - now <= LONGEST_PAUSE);
                now = retry_at;
            }
            assert!((9..=11).contains(&attempts), "{attempts}");
        }
    }

    #[test]
    fn a_permanent_error_only_lengthens_the_pause() {
        let now = Clock::default().now().mono;
        let mut backoff = Backoff::default();
        backoff.failed(TokenError::permanent("wrong secret"), now);
        let first = backoff.failing().unwrap().retry_at - now;
        assert!(first >= Duration::from_millis(3200) && first <= Duration::from_millis(6400));
        for _ in 0..100 {
            backoff.failed(TokenError::permanent("wrong secret"), now);
        }
        let last = backoff.failing().unwrap().retry_at - now;
        assert!(last <= LONGEST_PAUSE);
        backoff.succeeded();
        assert!(backoff.failing().is_none());
    }

    #[test]
    fn retry_after_is_honoured_and_the_outage_keeps_its_beginning() {
        let start = Clock::default().now().mono;
        let mut backoff = Backoff::default();
        backoff.failed(TokenError::transient("down"), start);
        let busy = TokenError::transient("busy").with_retry_after(Duration::from_secs(120));
        backoff.failed(busy, at(start, 1.0));
        assert!(backoff.pausing(at(start, 120.0)).is_some());
        assert!(backoff.pausing(at(start, 121.0)).is_none());
        assert_eq!(backoff.failing().unwrap().since, start);
    }

    #[test]
    fn fruitless_refreshes_wait_one_second_doubling_to_five_minutes() {
        let start = Clock::default().now().mono;
        let mut doubt = Doubt::default();
        let mut now = start;
        for seconds in [
            1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 300.0, 300.0,
        ] {
            assert!(doubt.may_force(now));
            doubt.forced(now);
            assert!(!doubt.may_force(at(now, seconds - 0.001)), "{seconds}");
            now = at(now, seconds);
        }
    }

    #[test]
    fn an_acceptance_lifts_the_pause_once_and_a_helpful_refresh_ends_the_doubt() {
        let now = Clock::default().now().mono;
        let mut doubt = Doubt::default();
        doubt.forced(now);
        doubt.accepted(false);
        assert!(doubt.may_force(now), "accepted: the next refusal is news");
        doubt.forced(now);
        doubt.accepted(false);
        assert!(
            !doubt.may_force(now),
            "one endpoint accepts, another refuses"
        );
        assert!(!doubt.awaits_acceptance());
        doubt.accepted(true);
        assert!(doubt.may_force(now));
        assert!(!doubt.awaits_acceptance());
    }
}
