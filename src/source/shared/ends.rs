//! When the tokens of a record are over by this process's own clock, which nobody sets back.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::kept::{self, KeptToken};
use crate::clock::Moment;

/// How many tokens are remembered: those of a record, and some that were there before.
const MOST: usize = 32;

/// What was left of a token when this process first saw it is all that it ever gets, however the wall
/// clocks are set by which processes tell each other its age.
#[derive(Default)]
pub(super) struct Ends(VecDeque<End>);

struct End {
    /// The same text, asked for anew, is another token.
    token: ([u8; 32], u128),
    /// `None` lies beyond what a clock can say.
    at: Option<Instant>,
}

impl Ends {
    /// Holds a token to what was left of it when it was seen first.
    pub(super) fn hold(&mut self, kept: &mut KeptToken, now: Moment) {
        let hash = kept::hash_text(kept.token.expose_secret());
        let token = (hash, kept::millis(kept.asked));
        kept.over_at = match self.0.iter().find(|end| end.token == token) {
            Some(end) => end.at,
            None => self.note(token, kept, now),
        };
    }

    fn note(&mut self, token: ([u8; 32], u128), kept: &KeptToken, now: Moment) -> Option<Instant> {
        let left = kept.left(now, Duration::ZERO)?.lifetime()?;
        let at = now.mono.checked_add(left);
        self.0.push_front(End { token, at });
        self.0.truncate(MOST);
        at
    }
}
