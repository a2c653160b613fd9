//! How a date is said to people.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

/// Says a date as HTTP does (RFC 9110 §5.6.7), which has none before 1970 and after 9999.
pub(super) struct Date(pub(super) SystemTime);

/// 1 January 10000, in seconds since 1970.
pub(super) const YEAR_10000: Duration = Duration::from_secs(253_402_300_800);

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) if since < YEAR_10000 => httpdate::HttpDate::from(self.0).fmt(f),
            Ok(_) => f.write_str("a date after the year 9999"),
            Err(_) => f.write_str("a date before 1970"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "test times are small")]
mod tests {
    use super::*;

    #[test]
    fn any_date_can_be_said() {
        let second = Duration::from_secs(1);
        let (first, end) = (SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + YEAR_10000);
        for (at, said) in [
            (first - second, "a date before 1970"),
            (first, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (end - second, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (end, "a date after the year 9999"),
        ] {
            assert_eq!(Date(at).to_string(), said);
        }
    }
}
