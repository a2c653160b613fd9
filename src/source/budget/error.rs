//! Why a token request isn't made: it would be one too many.

use std::{error::Error, fmt, time::SystemTime};

use super::{super::date::Date, period::Per};

/// The [budget](crate::TokenSource::budget) allows no token request now; nothing was sent. Found by
/// downcasting [`TokenError::get_ref`](crate::TokenError::get_ref); also where it is why neither of two
/// sources has a token ([`or_else`](crate::TokenSource::or_else)), if both have spent one.
///
/// It passes by itself, at [`next_at`](Self::next_at). Until then a token at hand is used to its last
/// second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetSpent {
    pub(super) requests: u32,
    pub(super) per: Per,
    pub(super) spent: u32,
    pub(super) next: SystemTime,
}

impl BudgetSpent {
    /// When the next token request is allowed, by the wall clock.
    pub fn next_at(&self) -> SystemTime {
        self.next
    }

    /// How many token requests were made in this period.
    pub fn spent(&self) -> u32 {
        self.spent
    }
}

impl fmt::Display for BudgetSpent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            requests, spent, ..
        } = self;
        let next = Date(self.next);
        write!(f, "{spent} of the {requests} token requests ")?;
        match self.per {
            Per::Month => f.write_str("of this month (UTC)")?,
            Per::Day => f.write_str("of this day (UTC)")?,
            Per::Hour => f.write_str("of this hour")?,
            Per::Duration(time) => write!(f, "in {time:?}")?,
        }
        write!(f, " are made")?;
        if spent < requests {
            f.write_str(
                ", and the rest is kept in reserve, for tokens that are refused, or for later",
            )?;
        }
        write!(
            f,
            "; the next is allowed at {next}. Look for what asks so often, or raise .budget(…) if the \
             authorization server allows more"
        )
    }
}

impl Error for BudgetSpent {}
