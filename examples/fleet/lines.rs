//! What workers tell their parent: one line each, written at once, so that nothing is lost but what
//! wasn't said yet when one is killed.

use std::{
    fmt,
    io::{Write, stdout},
    str::{FromStr, SplitWhitespace},
    time::{Duration, SystemTime},
};

use crate::watched::Handed;

#[derive(Debug)]
pub enum Line {
    /// So far, in this process.
    Requests(u64),
    Failed(Failure),
    /// The words for the first failure of a kind.
    Words(Kind, String),
    /// What was sent at this time has no outcome: somebody must log in again.
    PossiblyRotated {
        login: usize,
        since: SystemTime,
    },
    /// A refresh token of this login is about to be sent.
    Redeeming {
        login: usize,
        at: SystemTime,
    },
    /// That is over. Where the store failed, the outcome may not be written down yet, or the lease may
    /// have ended before.
    Redeemed {
        login: usize,
        at: SystemTime,
        store_failed: bool,
    },
}

/// One request that wasn't answered with 200.
#[derive(Debug, Clone, Copy)]
pub struct Failure {
    pub kind: Kind,
    pub login: usize,
    pub at: SystemTime,
    /// The newest token that the cache was handed for this login.
    pub in_hand: Option<Handed>,
    /// This process has just been held up: it couldn't act in time on what it had.
    pub held_up: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// No token, as somebody must log in again.
    PossiblyRotated,
    /// No token, as the store failed.
    Store,
    /// No token, for another reason.
    NoToken,
    /// The API refused the token.
    Refused,
    /// The API refused the token, and would have accepted the newest in hand.
    RefusedWithAGoodOne,
    /// No answer.
    Unanswered,
}

const KINDS: [(Kind, &str); 6] = [
    (Kind::PossiblyRotated, "possibly-rotated"),
    (Kind::Store, "store"),
    (Kind::NoToken, "no-token"),
    (Kind::Refused, "refused"),
    (Kind::RefusedWithAGoodOne, "refused-with-a-good-one"),
    (Kind::Unanswered, "unanswered"),
];

impl Line {
    pub fn say(&self) {
        // Nobody listens any more: standard input says so, too.
        let _ = stdout().write_all(format!("{self}\n").as_bytes());
        let _ = stdout().flush();
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requests(count) => write!(f, "requests {count}"),
            Self::Failed(failure) => {
                let Failure {
                    kind,
                    login,
                    at,
                    in_hand,
                    held_up,
                } = failure;
                let at = micros(*at);
                write!(f, "failed {kind} {login} {at} {held_up}")?;
                match in_hand {
                    Some(handed) => write!(f, " {}", handed.written()),
                    None => Ok(()),
                }
            }
            Self::Words(kind, words) => write!(f, "words {kind} {}", words.replace('\n', " ")),
            Self::PossiblyRotated { login, since } => {
                write!(f, "possibly-rotated {login} {}", micros(*since))
            }
            Self::Redeeming { login, at } => write!(f, "redeeming {login} {}", micros(*at)),
            Self::Redeemed {
                login,
                at,
                store_failed,
            } => write!(f, "redeemed {login} {} {store_failed}", micros(*at)),
        }
    }
}

impl FromStr for Line {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        let words = &mut line.split_whitespace();
        Ok(match words.next().ok_or(())? {
            "requests" => Self::Requests(next(words)?),
            "failed" => Self::Failed(Failure {
                kind: next(words)?,
                login: next(words)?,
                at: time(words)?,
                held_up: next(words)?,
                in_hand: Handed::read(&words.collect::<Vec<_>>().join(" ")),
            }),
            "words" => Self::Words(next(words)?, words.collect::<Vec<_>>().join(" ")),
            "possibly-rotated" => Self::PossiblyRotated {
                login: next(words)?,
                since: time(words)?,
            },
            "redeeming" => Self::Redeeming {
                login: next(words)?,
                at: time(words)?,
            },
            "redeemed" => Self::Redeemed {
                login: next(words)?,
                at: time(words)?,
                store_failed: next(words)?,
            },
            _ => return Err(()),
        })
    }
}

fn next<T: FromStr>(words: &mut SplitWhitespace<'_>) -> Result<T, ()> {
    words.next().and_then(|word| word.parse().ok()).ok_or(())
}

fn time(words: &mut SplitWhitespace<'_>) -> Result<SystemTime, ()> {
    let micros = Duration::from_micros(next(words)?);
    Ok(SystemTime::UNIX_EPOCH + micros)
}

fn micros(time: SystemTime) -> u128 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_micros()
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = KINDS.iter().find(|(kind, _)| kind == self);
        f.write_str(name.map_or("", |(_, name)| name))
    }
}

impl FromStr for Kind {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        let kind = KINDS.iter().find(|(_, name)| *name == word);
        kind.map(|(kind, _)| *kind).ok_or(())
    }
}
