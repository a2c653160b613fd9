//! When a count begins anew.

use std::time::{Duration, SystemTime};

use super::super::date::YEAR_10000;

/// The time that a [budget](crate::TokenSource::budget) is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Per {
    /// A calendar month, in UTC.
    Month,
    /// A day, in UTC.
    Day,
    /// An hour of the clock.
    Hour,
    /// So long, from the first token request on; at least a second. A time that no clock can say the
    /// end of, such as [`Duration::MAX`], never ends.
    Duration(Duration),
}

impl From<Duration> for Per {
    fn from(time: Duration) -> Self {
        Self::Duration(time)
    }
}

/// From when to when the same count goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Period {
    pub(super) start: SystemTime,
    pub(super) end: SystemTime,
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: u64 = 60 * 60;
const DAY: u64 = 24 * HOUR;

impl Per {
    /// The period that `now` lies in, where the one before began at `last`.
    pub(super) fn period(self, now: SystemTime, last: Option<SystemTime>) -> Period {
        let since = now.duration_since(SystemTime::UNIX_EPOCH);
        let secs = since.unwrap_or_default().as_secs();
        match self {
            Self::Month => month(secs / DAY),
            Self::Day => whole(secs, DAY),
            Self::Hour => whole(secs, HOUR),
            Self::Duration(time) => {
                let time = time.max(Duration::from_secs(1));
                let end_of = |start: SystemTime| start.checked_add(time);
                let goes_on = |start: &SystemTime| end_of(*start).is_none_or(|end| now < end);
                let start = last.filter(goes_on).unwrap_or_else(|| whole_millis(now));
                Period {
                    start,
                    end: end_of(start).unwrap_or_else(|| at(YEAR_10000.as_secs())),
                }
            }
        }
    }

    /// Whether the clock that began a period at `start` says about the same date as the one that says
    /// `now`: the period goes on then, or did lately, or will soon.
    pub(super) fn is_about(self, start: SystemTime, now: SystemTime) -> bool {
        let tolerance = match self {
            Self::Month | Self::Day | Self::Hour => Duration::from_secs(DAY),
            Self::Duration(time) => time.max(MINUTE),
        };
        let before = |one: SystemTime, end: SystemTime| {
            let end = end.checked_add(tolerance);
            end.is_none_or(|end| one <= end)
        };
        let period = self.period(start, Some(start));
        before(period.start, now) && before(now, period.end)
    }
}

fn at(secs: u64) -> SystemTime {
    let since = Duration::from_secs(secs);
    let at = SystemTime::UNIX_EPOCH.checked_add(since);
    at.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// The next whole millisecond: a store's count has no smaller unit, and both must say the same.
fn whole_millis(now: SystemTime) -> SystemTime {
    let since = now.duration_since(SystemTime::UNIX_EPOCH);
    let millis = since.unwrap_or_default().as_nanos().div_ceil(1_000_000);
    let since = Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX));
    SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(now)
}

fn whole(secs: u64, unit: u64) -> Period {
    let start = secs.saturating_sub(secs.checked_rem(unit).unwrap_or_default());
    Period {
        start: at(start),
        end: at(start.saturating_add(unit)),
    }
}

/// The month of this day since the epoch.
fn month(day: u64) -> Period {
    let (mut first, mut year, mut month) = (0_u64, 1970_u64, 0_usize);
    loop {
        let next = first.saturating_add(days(year, month));
        if day < next {
            return Period {
                start: at(first.saturating_mul(DAY)),
                end: at(next.saturating_mul(DAY)),
            };
        }
        first = next;
        month = month.saturating_add(1);
        if month == 12 {
            (year, month) = (year.saturating_add(1), 0);
        }
    }
}

fn days(year: u64, month: usize) -> u64 {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        1 if is_leap => 29,
        1 => 28,
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "test times are small")]
mod tests {
    use super::*;

    fn parsed(text: &str) -> SystemTime {
        httpdate::parse_http_date(text).unwrap()
    }

    #[test]
    fn months_are_those_of_the_calendar() {
        for (now, start, end) in [
            (
                "Thu, 01 Jan 1970 00:00:00 GMT",
                "Thu, 01 Jan 1970 00:00:00 GMT",
                "Sun, 01 Feb 1970 00:00:00 GMT",
            ),
            (
                "Thu, 29 Feb 2024 23:59:59 GMT",
                "Thu, 01 Feb 2024 00:00:00 GMT",
                "Fri, 01 Mar 2024 00:00:00 GMT",
            ),
            (
                "Mon, 01 Feb 2100 00:00:00 GMT",
                "Mon, 01 Feb 2100 00:00:00 GMT",
                "Mon, 01 Mar 2100 00:00:00 GMT",
            ),
            (
                "Thu, 31 Dec 2026 12:00:00 GMT",
                "Tue, 01 Dec 2026 00:00:00 GMT",
                "Fri, 01 Jan 2027 00:00:00 GMT",
            ),
        ] {
            let period = Per::Month.period(parsed(now), None);
            assert_eq!(
                (period.start, period.end),
                (parsed(start), parsed(end)),
                "{now}"
            );
        }
    }

    #[test]
    fn a_clock_is_believed_up_to_a_day_or_the_length_of_a_period_and_at_least_a_minute() {
        let now = parsed("Mon, 30 Nov 2026 12:00:00 GMT");
        let secs = Duration::from_secs;
        for (per, length, tolerance) in [
            (Per::Hour, secs(HOUR), secs(DAY)),
            (Per::from(secs(1)), secs(1), MINUTE),
            (Per::from(secs(7_200)), secs(7_200), secs(7_200)),
        ] {
            let (early, late) = (now - tolerance, now + length + tolerance);
            for (at, expected) in [
                (early, true),
                (early - secs(1), false),
                (late, true),
                (late + secs(1), false),
            ] {
                assert_eq!(per.is_about(now, at), expected, "{per:?} {at:?}");
            }
        }
    }

    #[test]
    fn days_and_hours_are_those_of_the_clock_and_other_times_begin_with_the_first_request() {
        let now = parsed("Mon, 30 Nov 2026 13:45:10 GMT");
        let day = Per::Day.period(now, None);
        assert_eq!(day.start, parsed("Mon, 30 Nov 2026 00:00:00 GMT"));
        assert_eq!(day.end, parsed("Tue, 01 Dec 2026 00:00:00 GMT"));
        let hour = Per::Hour.period(now, Some(day.start));
        assert_eq!(hour.start, parsed("Mon, 30 Nov 2026 13:00:00 GMT"));
        let minutes = Duration::from_secs(600);
        let per = Per::from(minutes);
        assert_eq!(per.period(now, None).start, now);
        assert_eq!(per.period(now + minutes / 2, Some(now)).end, now + minutes);
        assert_eq!(per.period(now + minutes, Some(now)).start, now + minutes);
        let forever = Per::from(Duration::MAX);
        for later in [minutes, minutes * 1_000_000] {
            assert_eq!(forever.period(now + later, Some(now)).start, now);
        }
        let odd = now + Duration::from_nanos(1);
        assert_eq!(per.period(odd, None).start, now + Duration::from_millis(1));
    }
}
