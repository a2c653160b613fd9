//! What was spent, and whether one more may be.

use std::{
    str::FromStr,
    time::{Duration, SystemTime},
};

use super::period::{Per, Period};

/// How a [budget](crate::TokenSource::budget) is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Pace {
    /// As tokens are needed, until it is spent.
    #[default]
    Greedy,
    /// Evenly: as long as more is spent than the time that has passed allows, a token isn't renewed
    /// ahead of its end. A token that somebody waits for is fetched all the same.
    Even,
}

/// What a budget allows.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    pub(super) requests: u32,
    pub(super) per: Per,
    pub(super) pace: Pace,
    pub(super) reserve: u32,
}

/// What a token request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// A server refused the token at hand.
    Refused,
    /// There is none, or a caller waits for a newer one.
    Missing,
    /// The one at hand serves on meanwhile.
    Ahead,
}

/// The count of one period.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Account {
    /// When the period began; `None` before the first request.
    pub(super) start: Option<SystemTime>,
    pub(super) spent: u32,
    /// That of machines whose clocks say another date.
    aside: Option<Aside>,
}

/// The count of a period of another date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Aside {
    start: SystemTime,
    spent: u32,
}

/// Not now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Denied {
    pub(super) spent: u32,
    pub(super) next: SystemTime,
}

impl Account {
    /// The same count as of `now`, and the period. A clock that was set back a little begins none anew.
    pub(super) fn at(self, now: SystemTime, terms: &Terms) -> (Self, Period) {
        let believed = self.believed(now, terms.per);
        let begun = believed.start.filter(|start| now < *start);
        let period = terms.per.period(begun.unwrap_or(now), believed.start);
        let spent = if believed.start == Some(period.start) {
            believed.spent
        } else {
            0
        };
        let account = Self {
            start: Some(period.start),
            spent,
            ..believed
        };
        (account, period)
    }

    /// The latest count that a clock of about this date began. Another date's is kept beside it: if each
    /// began anew after the other, neither would ever be spent.
    fn believed(self, now: SystemTime, per: Per) -> Self {
        let Some(start) = self.start else {
            return self;
        };
        let this = Aside {
            start,
            spent: self.spent,
        };
        let is_ours = per.is_about(start, now);
        match self.aside.filter(|aside| per.is_about(aside.start, now)) {
            Some(aside) if aside.start > start || !is_ours => Self {
                start: Some(aside.start),
                spent: aside.spent,
                aside: Some(this),
            },
            None if !is_ours => Self {
                aside: Some(this),
                ..Self::default()
            },
            _ => self,
        }
    }

    /// One more token request.
    pub(super) fn spend(self, terms: &Terms, need: Need, now: SystemTime) -> Result<Self, Denied> {
        let (mut account, period) = self.at(now, terms);
        let ordinary = terms.requests.saturating_sub(terms.reserve);
        let most = match need {
            Need::Refused => terms.requests,
            Need::Missing | Need::Ahead => ordinary,
        };
        let denied = |next| {
            Err(Denied {
                spent: account.spent,
                next,
            })
        };
        if account.spent >= most {
            return denied(period.end);
        }
        // A period may begin between milliseconds, a little after now.
        if need == Need::Ahead && terms.pace == Pace::Even && account.spent > 0 {
            let schedule = account.on_schedule(period, ordinary);
            if now < schedule {
                return denied(schedule);
            }
        }
        account.spent = account.spent.saturating_add(1);
        Ok(account)
    }

    /// One that was counted in the period that began at `start`, and wasn't sent.
    pub(super) fn refund(mut self, start: SystemTime) -> Self {
        if self.start == Some(start) {
            self.spent = self.spent.saturating_sub(1);
        } else if let Some(aside) = self.aside.as_mut().filter(|aside| aside.start == start) {
            aside.spent = aside.spent.saturating_sub(1);
        }
        self
    }

    /// When the latest period began that is counted here.
    pub(super) fn latest(self) -> Option<SystemTime> {
        self.start.max(self.aside.map(|aside| aside.start))
    }

    /// The larger count of the later period.
    pub(super) fn max(self, other: Self) -> Self {
        let order = |account: &Self| (account.start, account.spent);
        if order(&self) < order(&other) {
            other
        } else {
            self
        }
    }

    /// When the requests so far would have been made, evenly.
    fn on_schedule(self, period: Period, ordinary: u32) -> SystemTime {
        let length = period.end.duration_since(period.start).unwrap_or_default();
        let each = length.checked_div(ordinary).unwrap_or(length);
        let used = each.saturating_mul(self.spent);
        period.start.checked_add(used).unwrap_or(period.end)
    }

    pub(super) fn written(self) -> Vec<u8> {
        let (start, spent) = (millis(self.start), self.spent);
        let mut text = format!("budget=1&start={start}&spent={spent}");
        if let Some(Aside { start, spent }) = self.aside {
            text.push_str(&format!("&start={}&spent={spent}", millis(Some(start))));
        }
        text.into_bytes()
    }

    /// `None` if this wasn't written by [`written`](Self::written).
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut counts = text.strip_prefix("budget=1&start=")?.split("&start=");
        let this = read(counts.next()?)?;
        let aside = match counts.next() {
            Some(aside) => Some(read(aside)?),
            None => None,
        };
        counts.next().is_none().then_some(Self {
            start: Some(this.start),
            spent: this.spent,
            aside,
        })
    }
}

/// Since 1970.
fn millis(start: Option<SystemTime>) -> u128 {
    let since = start.and_then(|start| start.duration_since(SystemTime::UNIX_EPOCH).ok());
    since.unwrap_or_default().as_millis()
}

fn read(count: &str) -> Option<Aside> {
    let (start, spent) = count.split_once("&spent=")?;
    let start = Duration::from_millis(u64::from_str(start).ok()?);
    Some(Aside {
        start: SystemTime::UNIX_EPOCH.checked_add(start)?,
        spent: u32::from_str(spent).ok()?,
    })
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "test times are small")]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 60 * 60;
    const HOUR: Duration = Duration::from_secs(60 * 60);

    fn at(secs: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(secs)
    }

    fn terms(pace: Pace) -> Terms {
        Terms {
            requests: 10,
            per: Per::Hour,
            pace,
            reserve: 2,
        }
    }

    fn spent(times: u32, at: SystemTime) -> Account {
        let mut account = Account::default();
        for _ in 0..times {
            account = account
                .spend(&terms(Pace::Greedy), Need::Refused, at)
                .unwrap();
        }
        account
    }

    #[test]
    fn the_reserve_is_for_refusals() {
        let terms = terms(Pace::Greedy);
        let now = at(3_600);
        for need in [Need::Missing, Need::Ahead] {
            assert!(spent(7, now).spend(&terms, need, now).is_ok());
            let denied = spent(8, now).spend(&terms, need, now).unwrap_err();
            assert_eq!((denied.spent, denied.next), (8, at(7_200)));
        }
        assert!(spent(9, now).spend(&terms, Need::Refused, now).is_ok());
        assert!(spent(10, now).spend(&terms, Need::Refused, now).is_err());
    }

    #[test]
    fn the_next_period_begins_with_nothing_spent_and_a_clock_that_is_set_back_begins_none() {
        let terms = terms(Pace::Greedy);
        let full = spent(10, at(3_600));
        assert_eq!(
            full.spend(&terms, Need::Missing, at(7_200)).unwrap().spent,
            1
        );
        assert!(full.spend(&terms, Need::Refused, at(3_599)).is_err());
        assert!(full.spend(&terms, Need::Refused, at(7_199)).is_err());
    }

    #[test]
    fn a_clock_of_another_date_spends_its_own_budget_and_nobody_elses() {
        let terms = terms(Pace::Greedy);
        let (now, wrong) = (at(40 * DAY), at(1_000 * DAY));
        let mut account = spent(3, wrong);
        let mut granted = [0, 0];
        for _ in 0..30 {
            for (clock, granted) in [now, wrong].into_iter().zip(&mut granted) {
                if let Ok(spent) = account.spend(&terms, Need::Refused, clock) {
                    (account, *granted) = (spent, *granted + 1);
                }
            }
        }
        assert_eq!(granted, [10, 7]);
        // What was counted by the wrong clock is given back to it.
        let refunded = account.refund(wrong).refund(wrong);
        assert_eq!(refunded.at(now, &terms).0.spent, 10);
        assert_eq!(refunded.at(wrong, &terms).0.spent, 8);
        // The next hour.
        assert!(account.spend(&terms, Need::Missing, now + HOUR).is_ok());
    }

    #[test]
    fn clocks_that_differ_a_little_share_one_budget() {
        for per in [Per::Hour, Per::Day, Per::Duration(Duration::from_secs(2))] {
            let terms = Terms {
                per,
                ..terms(Pace::Greedy)
            };
            let mut account = Account::default();
            let mut granted = 0;
            for tries in 0..60 {
                // Between the clocks lies a minute, and an end of all periods.
                let clock = at(DAY - 30 + 60 * (tries % 2));
                if let Ok(spent) = account.spend(&terms, Need::Refused, clock) {
                    (account, granted) = (spent, granted + 1);
                }
            }
            // The slower one may have spent once before the faster one began the next period.
            assert!(granted <= 11, "{per:?}: {granted}");
        }
    }

    #[test]
    fn an_even_pace_puts_off_what_is_ahead_of_time_and_nothing_else() {
        let terms = terms(Pace::Even);
        let account = spent(4, at(3_600));
        // 8 in an hour: one each 450 s.
        let denied = account.spend(&terms, Need::Ahead, at(3_600)).unwrap_err();
        assert_eq!(denied.next, at(3_600 + 4 * 450));
        assert!(account.spend(&terms, Need::Ahead, denied.next).is_ok());
        assert!(account.spend(&terms, Need::Missing, at(3_600)).is_ok());
        assert!(
            Account::default()
                .spend(&terms, Need::Ahead, at(3_600))
                .is_ok()
        );
        // A period of its own length begins at the next whole millisecond.
        let terms = Terms {
            per: Per::Duration(HOUR),
            ..terms
        };
        let between = at(3_600) + Duration::from_nanos(1);
        let account = Account::default();
        assert!(account.spend(&terms, Need::Ahead, between).is_ok());
    }

    #[test]
    fn a_refund_counts_in_its_own_period_only() {
        let account = spent(2, at(3_600));
        assert_eq!(account.refund(at(3_600)).spent, 1);
        assert_eq!(account.refund(at(0)).spent, 2);
    }

    #[test]
    fn what_is_written_is_read_as_it_was() {
        let account = spent(3, at(3_600));
        assert_eq!(Account::read(&account.written()), Some(account));
        let (account, _) = spent(3, at(10 * DAY)).at(at(0), &terms(Pace::Greedy));
        assert!(account.aside.is_some());
        assert_eq!(Account::read(&account.written()), Some(account));
        let count = "start=1&spent=1";
        for bad in [
            "",
            "budget=2&start=1&spent=1",
            "budget=1&start=x&spent=1",
            "budget=1&start=1&spent=1&start=x&spent=1",
            &format!("budget=1&{count}&{count}&{count}"),
        ] {
            assert_eq!(Account::read(bad.as_bytes()), None, "{bad}");
        }
    }
}
