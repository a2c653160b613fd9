//! How long to leave the authorization server alone: after a failure, and after a refusal.

use std::time::Duration;

use tokio::time::Instant;

use crate::source::{LONGEST_RETRY_AFTER, TokenError};

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
        let asked_for = error.retry_after().unwrap_or_default();
        let longest = doubled(FIRST_PAUSE, self.rung, LONGEST_PAUSE);
        let pause = longest
            .mul_f64(1.0 - fastrand::f64() / 2.0)
            .max(asked_for.min(LONGEST_RETRY_AFTER));
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

/// After this long a refusal is a new story, if tokens were accepted meanwhile.
const QUIET: Duration = Duration::from_secs(30);

/// What refusals taught about fresh tokens: when a server refuses each of them, fetching more
/// doesn't help.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    /// Forced refreshes in a row of which none is known to have helped.
    fruitless: u32,
    /// The last of them.
    last: Option<Forced>,
    /// A first send was accepted since the doubt began. That lifts one pause and no more: where
    /// one endpoint accepts the token that another refuses, each acceptance would start the next
    /// refresh.
    accepted: bool,
    /// A second send was refused as well: a fresh token is no help to that request.
    refused_again: bool,
}

#[derive(Debug, Clone, Copy)]
struct Forced {
    /// The next must wait until then; `None` if the pause was lifted.
    pause_ends: Option<Instant>,
    quiet_since: Instant,
}

impl Doubt {
    pub(super) fn may_force(&self, now: Instant) -> bool {
        self.last
            .and_then(|forced| forced.pause_ends)
            .is_none_or(|end| end <= now)
    }

    /// A refresh was forced by a refusal; the next must wait unless a token is accepted.
    pub(super) fn forced(&mut self, now: Instant) {
        let quiet = self.last.is_some_and(|forced| forced.quiet_since <= now);
        if quiet && self.accepted && !self.refused_again {
            *self = Self::default();
        }
        let pause = doubled(FIRST_DOUBT, self.fruitless, LONGEST_DOUBT);
        self.last = Some(Forced {
            pause_ends: Some(later(now, pause)),
            quiet_since: later(now, pause.saturating_mul(2).max(QUIET)),
        });
        self.fruitless = self.fruitless.saturating_add(1);
    }

    /// The newest token was accepted on a first send.
    pub(super) fn accepted(&mut self) {
        if self.awaits_acceptance() {
            self.accepted = true;
            if let Some(forced) = &mut self.last {
                forced.pause_ends = None;
            }
        }
    }

    /// A request that was refused was sent again with a newer token, and was accepted or not.
    pub(super) fn sent_again(&mut self, accepted: bool) {
        if accepted {
            *self = Self::default();
        } else {
            self.refused_again = self.last.is_some();
        }
    }

    /// Whether the acceptance of a first send would change anything.
    pub(super) fn awaits_acceptance(&self) -> bool {
        self.last.is_some() && !self.accepted
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
        backoff.failed(TokenError::transient("down"), now);
        let anew = backoff.failing().unwrap().retry_at - now;
        assert!(anew <= FIRST_PAUSE, "a token ends the story");
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
        doubt.accepted();
        assert!(doubt.may_force(now), "accepted: the next refusal is news");
        doubt.forced(now);
        doubt.accepted();
        assert!(
            !doubt.may_force(now),
            "one endpoint accepts, another refuses"
        );
        assert!(!doubt.awaits_acceptance());
        doubt.sent_again(true);
        assert!(doubt.may_force(now));
        assert!(!doubt.awaits_acceptance());
    }

    /// Without second sends, acceptance and time are all there is to go by.
    #[test]
    fn a_refusal_after_a_quiet_time_is_a_new_story() {
        let mut now = Clock::default().now().mono;
        let mut doubt = Doubt::default();
        for _ in 0..100 {
            assert!(doubt.may_force(now), "a revocation a minute, each at once");
            doubt.forced(now);
            doubt.accepted();
            now = at(now, 60.0);
        }
        // But not if a fresh token is known to be no help.
        doubt.sent_again(false);
        for _ in 0..3 {
            doubt.forced(now);
            now = at(now, 60.0);
        }
        doubt.forced(now);
        assert!(!doubt.may_force(at(now, 15.9)));
    }

    #[test]
    fn a_retry_after_beyond_reason_is_cut_to_an_hour() {
        let now = Clock::default().now().mono;
        let mut backoff = Backoff::default();
        let error = TokenError::permanent("no").with_retry_after(Duration::MAX);
        backoff.failed(error, now);
        assert!(backoff.pausing(at(now, 3599.0)).is_some());
        assert!(backoff.pausing(at(now, 3600.0)).is_none());
    }
}
