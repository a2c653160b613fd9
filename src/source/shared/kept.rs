//! What a record says: access tokens, and the refresh token that brings the next one.

use std::{
    fmt::Write,
    str::FromStr,
    time::{Duration, SystemTime},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::{clock::Moment, secret::SecretString, token::AccessToken};

/// How many access tokens by one refresh token are kept, each with another scope.
const MOST_TOKENS: usize = 8;

/// How many refresh tokens of one name are remembered, so that none is taken for a new one: those that
/// somebody began with, and the latest that rotations brought, which a provider may say late.
const MOST_SEEDS: usize = 32;
const MOST_ROTATED: usize = 8;

/// How long a token is kept that is known to end, and one that isn't.
const AFTER_ITS_END: Duration = Duration::from_secs(24 * 60 * 60);
const WITHOUT_AN_END: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The content of one record.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept {
    /// The latest first.
    pub(super) tokens: Vec<KeptToken>,
    pub(super) refresh: Refresh,
    /// Hashes of refresh tokens that were seen before. No rotation pushes out a seed.
    seeds: Vec<[u8; 32]>,
    rotated: Vec<[u8; 32]>,
}

/// The refresh token.
#[derive(Debug, Clone, Default)]
pub(super) enum Refresh {
    /// None was kept yet.
    #[default]
    None,
    /// The one to redeem next.
    Ready(SecretString),
    /// It is being redeemed. Whoever finds this and isn't the one who does it can't know whether the
    /// server has got it.
    Redeeming {
        refresh_token: SecretString,
        since: SystemTime,
        /// Whose turn it is: no two intents are the same.
        by: String,
    },
}

/// An access token, and when it was asked for by the wall clock.
#[derive(Debug, Clone)]
pub(super) struct KeptToken {
    pub(super) tag: u64,
    pub(super) token: AccessToken,
    pub(super) asked: SystemTime,
    /// By this process's own clock, where it has seen the token before; never written.
    pub(super) over_at: Option<Instant>,
}

impl KeptToken {
    /// The token with what is left of its lifetime; `None` if that is no more than `least`.
    pub(super) fn left(&self, now: Moment, least: Duration) -> Option<AccessToken> {
        let Some(lifetime) = self.token.lifetime() else {
            return Some(self.token.clone());
        };
        // Clocks of two machines differ: who is behind counts from now.
        let age = now.wall.duration_since(self.asked).unwrap_or_default();
        let by_wall = lifetime.checked_sub(age)?;
        let own = self
            .over_at
            .map(|at| at.saturating_duration_since(now.mono));
        let left = own.map_or(by_wall, |own| own.min(by_wall));
        (left > least).then(|| self.token.clone().expires_in(left))
    }

    /// The token with what is left of its lifetime, be it nothing.
    pub(super) fn as_of(&self, now: Moment) -> AccessToken {
        let nothing = || self.token.clone().with_left(Duration::ZERO);
        self.left(now, Duration::ZERO).unwrap_or_else(nothing)
    }

    /// As [`left`](Self::left), unless it is so nearly over that a cache would let go of it.
    pub(super) fn worth(&self, now: Moment) -> Option<AccessToken> {
        let lifetime = self.token.lifetime().unwrap_or_default();
        let tenth = lifetime.checked_div(10).unwrap_or_default();
        self.left(now, tenth.min(Duration::from_secs(30)))
    }

    fn keep_until(&self) -> Option<SystemTime> {
        let time = match self.token.lifetime() {
            Some(lifetime) => lifetime.saturating_add(AFTER_ITS_END),
            None => WITHOUT_AN_END,
        };
        self.asked.checked_add(time)
    }
}

impl Kept {
    pub(super) fn token(&self, tag: u64) -> Option<&KeptToken> {
        self.tokens.iter().find(|kept| kept.tag == tag)
    }

    pub(super) fn add(&mut self, token: KeptToken) {
        self.tokens.retain(|kept| kept.tag != token.tag);
        self.tokens.insert(0, token);
        self.tokens.truncate(MOST_TOKENS);
    }

    /// Whether somebody has noted that he is about to redeem the refresh token, and not what came of it.
    pub(super) fn is_redeeming(&self) -> bool {
        matches!(self.refresh, Refresh::Redeeming { .. })
    }

    /// Whether this refresh token was never seen in this login.
    pub(super) fn is_news(&self, refresh_token: &SecretString) -> bool {
        let hash = hash(refresh_token);
        !self.seeds.contains(&hash) && !self.rotated.contains(&hash)
    }

    /// Somebody began with this one.
    pub(super) fn remember_seed(&mut self, refresh_token: &SecretString) {
        remember(&mut self.seeds, refresh_token, MOST_SEEDS);
    }

    /// A rotation brought this one.
    pub(super) fn remember_rotated(&mut self, refresh_token: &SecretString) {
        remember(&mut self.rotated, refresh_token, MOST_ROTATED);
    }

    /// Whether this login has heard of all that the other one began with.
    pub(super) fn knows_the_seeds_of(&self, other: &Self) -> bool {
        other.seeds.iter().all(|seed| self.seeds.contains(seed))
    }

    /// When nobody needs this any more: never, if it can bring a new token.
    pub(super) fn keep_until(&self) -> Option<SystemTime> {
        match self.refresh {
            Refresh::None => self.tokens.iter().map(KeptToken::keep_until).max()?,
            Refresh::Ready(_) | Refresh::Redeeming { .. } => None,
        }
    }

    /// As a form, which is read without copies of the secrets in between.
    pub(super) fn written(&self) -> Vec<u8> {
        let secrets = self.tokens.iter().map(|kept| kept.token.expose_secret());
        let room = secrets.map(|text| text.len().saturating_mul(3).saturating_add(200));
        let mut text = String::with_capacity(room.fold(16_384, usize::saturating_add));
        let mut form = form_urlencoded::Serializer::new(&mut text);
        form.append_pair("format", FORMAT);
        match &self.refresh {
            Refresh::None => {}
            Refresh::Ready(refresh_token) => {
                form.append_pair("refresh_token", refresh_token);
            }
            Refresh::Redeeming {
                refresh_token,
                since,
                by,
            } => {
                form.append_pair("refresh_token", refresh_token);
                form.append_pair("redeeming_by", by);
                form.append_pair("redeeming_since", &millis(*since).to_string());
            }
        }
        for KeptToken {
            tag, token, asked, ..
        } in &self.tokens
        {
            form.append_pair("access_token", token.expose_secret());
            form.append_pair("tag", &hex(*tag));
            form.append_pair("asked", &millis(*asked).to_string());
            if let Some(lifetime) = token.lifetime() {
                // Zero would be "unknown".
                let millis = lifetime.as_millis().max(1);
                form.append_pair("lifetime", &millis.to_string());
            }
            if let Some(scope) = token.scope() {
                form.append_pair("scope", scope);
            }
        }
        for (name, hashes) in [("seed", &self.seeds), ("rotated", &self.rotated)] {
            for hash in hashes {
                form.append_pair(name, &BASE64_URL_SAFE_NO_PAD.encode(hash));
            }
        }
        text.into_bytes()
    }

    /// `None` if this wasn't written by [`written`](Self::written).
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let mut pairs = form_urlencoded::parse(text);
        let (name, format) = pairs.next()?;
        if name != "format" || format != FORMAT {
            return None;
        }
        let mut kept = Self::default();
        for (name, value) in pairs {
            let value = Zeroizing::new(value.into_owned());
            match &*name {
                "refresh_token" => kept.refresh = Refresh::Ready(secret(&value)),
                "redeeming_by" => {
                    let Refresh::Ready(refresh_token) = kept.refresh else {
                        return None;
                    };
                    kept.refresh = Refresh::Redeeming {
                        refresh_token,
                        since: SystemTime::UNIX_EPOCH,
                        by: value.to_string(),
                    };
                }
                "redeeming_since" => {
                    let Refresh::Redeeming { since, .. } = &mut kept.refresh else {
                        return None;
                    };
                    *since = time(&value)?;
                }
                "access_token" => kept.tokens.push(KeptToken {
                    tag: 0,
                    token: AccessToken::bearer(value.as_str()).ok()?,
                    asked: SystemTime::UNIX_EPOCH,
                    over_at: None,
                }),
                "seed" => kept.seeds.push(hash_of(&value)?),
                "rotated" => kept.rotated.push(hash_of(&value)?),
                of_token => {
                    let mut token = kept.tokens.pop()?;
                    match of_token {
                        "tag" => token.tag = u64::from_str_radix(&value, 16).ok()?,
                        "asked" => token.asked = time(&value)?,
                        "lifetime" => token.token = token.token.expires_in(duration(&value)?),
                        "scope" => token.token = token.token.granted_scope(&*value),
                        _ => return None,
                    }
                    kept.tokens.push(token);
                }
            }
        }
        Some(kept)
    }
}

const FORMAT: &str = "1";

fn secret(text: &str) -> SecretString {
    SecretString::from(text.to_owned())
}

fn remember(hashes: &mut Vec<[u8; 32]>, refresh_token: &SecretString, most: usize) {
    let hash = hash(refresh_token);
    hashes.retain(|known| *known != hash);
    hashes.insert(0, hash);
    hashes.truncate(most);
}

pub(super) fn hash(refresh_token: &SecretString) -> [u8; 32] {
    hash_text(refresh_token)
}

pub(super) fn hash_text(text: &str) -> [u8; 32] {
    hmac_sha256::Hash::hash(text.as_bytes())
}

fn hash_of(text: &str) -> Option<[u8; 32]> {
    let hash = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
    hash.try_into().ok()
}

fn hex(tag: u64) -> String {
    let mut text = String::new();
    // A `String` takes all.
    let _ = write!(text, "{tag:016x}");
    text
}

/// Since the epoch; a time before it is the epoch.
pub(super) fn millis(time: SystemTime) -> u128 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_millis()
}

fn duration(millis: &str) -> Option<Duration> {
    let millis = u128::from_str(millis).ok()?;
    Some(Duration::from_millis(
        u64::try_from(millis).unwrap_or(u64::MAX),
    ))
}

fn time(millis: &str) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(duration(millis)?)
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "test times are small")]
mod tests {
    use super::*;
    use crate::clock::Clock;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(secs: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(secs)
    }

    fn moment(secs: u64) -> Moment {
        Clock::with_wall(move || at(secs)).now()
    }

    fn token(tag: u64, text: &str) -> KeptToken {
        let token = AccessToken::bearer(text).unwrap().granted_scope("a b&c");
        KeptToken {
            tag,
            token: token.expires_in(HOUR),
            asked: at(1_000),
            over_at: None,
        }
    }

    fn whole() -> Kept {
        let mut kept = Kept {
            refresh: Refresh::Redeeming {
                refresh_token: secret("r&=% \u{e9}"),
                since: at(5_000),
                by: "me".into(),
            },
            ..Kept::default()
        };
        kept.add(token(1, "a=&+%"));
        kept.add(token(u64::MAX, "b"));
        kept.remember_seed(&secret("r0"));
        kept.remember_rotated(&secret("r1"));
        kept
    }

    #[test]
    fn the_shortest_and_the_longest_lifetime_stay_what_they_are() {
        for (lifetime, expected) in [
            (Duration::from_nanos(1), Duration::from_millis(1)),
            (Duration::MAX, Duration::from_millis(u64::MAX)),
        ] {
            let mut kept = Kept::default();
            let mut token = token(1, "a");
            token.token = token.token.expires_in(lifetime);
            kept.add(token);
            let read = Kept::read(&kept.written()).unwrap();
            let token = read.token(1).unwrap();
            assert_eq!(token.token.lifetime(), Some(expected));
            assert!(token.left(moment(1_000), Duration::ZERO).is_some());
        }
    }

    #[test]
    fn what_is_written_is_read_as_it_was() {
        let written = whole().written();
        let read = Kept::read(&written).unwrap();
        assert_eq!(read.written(), written);
        assert_eq!(read.token(1).unwrap().token.expose_secret(), "a=&+%");
        assert_eq!(read.token(1).unwrap().token.scope(), Some("a b&c"));
        assert_eq!(read.token(u64::MAX).unwrap().asked, at(1_000));
        for (text, is_news) in [("r0", false), ("r1", false), ("r2", true)] {
            assert_eq!(read.is_news(&secret(text)), is_news, "{text}");
        }
        let Refresh::Redeeming { since, .. } = read.refresh else {
            panic!("{read:?}");
        };
        assert_eq!(since, at(5_000));
    }

    #[test]
    fn what_somebody_else_wrote_is_no_record() {
        for bad in [
            "",
            "format=2",
            "format=1&what=x",
            "format=1&access_token=a%20b",
            "format=1&tag=1",
            "format=1&access_token=a&asked=x",
            "format=1&redeeming_since=1",
            "format=1&redeeming_by=me",
            "format=1&seed=short",
        ] {
            assert!(Kept::read(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_token_is_worth_what_is_left_of_it_and_nothing_near_its_end() {
        let token = token(1, "a");
        let left = |secs| token.worth(moment(secs)).and_then(|token| token.lifetime());
        assert_eq!(left(1_000), Some(HOUR));
        assert_eq!(left(900), Some(HOUR), "a clock that is behind");
        assert_eq!(left(2_000), Some(HOUR - Duration::from_secs(1_000)));
        assert_eq!(left(1_000 + 3_600 - 31), Some(Duration::from_secs(31)));
        assert_eq!(left(1_000 + 3_600 - 30), None);
        assert_eq!(left(9_999), None);
    }

    #[test]
    fn nothing_that_is_written_prints() {
        let shown = format!("{:?}", whole());
        assert!(
            !shown.contains("a=&+%") && !shown.contains("r&="),
            "{shown}"
        );
    }
}
