//! The access token: checked when it is made, ready to be sent, never printed.

use std::{
    error::Error,
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{Arc, LazyLock},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderValue;
use zeroize::Zeroizing;

use crate::clock::{Mark, Moment};

/// An OAuth 2.0 access token, with what is known of its lifetime and scope.
///
/// The text is checked when the token is made, so that a token that exists can always be sent. It
/// never prints, and its memory is overwritten when the last clone is gone; clones are cheap. Two
/// tokens are equal when their texts are.
///
/// ```
/// use std::time::Duration;
/// use tower_oauth::AccessToken;
///
/// let token = AccessToken::bearer("mF_9.B5f-4.1JqM")?.expires_in(Duration::from_secs(3600));
/// assert_eq!(token.lifetime(), Some(Duration::from_secs(3600)));
/// assert_eq!(token.expose_secret(), "mF_9.B5f-4.1JqM");
/// assert!(!format!("{token:?}").contains("mF_9"));
/// # Ok::<(), tower_oauth::InvalidToken>(())
/// ```
#[derive(Clone)]
pub struct AccessToken {
    /// `Bearer <token>`, marked as sensitive; the one copy of the secret.
    header: HeaderValue,
    lifetime: Option<Duration>,
    /// When it began to be counted, where that isn't when it was asked for.
    counted_from: Option<Arc<Mark>>,
    scope: Option<Arc<str>>,
}

const BEARER: &str = "Bearer ";

impl AccessToken {
    /// A bearer token (RFC 6750) whose lifetime is unknown: it is used until it is refused.
    ///
    /// # Errors
    ///
    /// [`InvalidToken`] if the text is empty or has a character that can't travel in an
    /// `Authorization` header: anything but visible ASCII (RFC 6749 A.12, less the space).
    pub fn bearer(token: impl Into<String>) -> Result<Self, InvalidToken> {
        let token = Zeroizing::new(token.into());
        if token.is_empty() {
            return Err(InvalidToken::Empty);
        }
        if let Some(at) = token.bytes().position(|byte| !byte.is_ascii_graphic()) {
            return Err(InvalidToken::Character { at });
        }
        let mut text = Zeroizing::new(Vec::with_capacity(BEARER.len().saturating_add(token.len())));
        text.extend_from_slice(BEARER.as_bytes());
        text.extend_from_slice(token.as_bytes());
        // The bytes are visible ASCII, so this can't fail; if it did, no token would be made.
        let mut header = HeaderValue::from_maybe_shared(Bytes::from_owner(text))
            .map_err(|_| InvalidToken::Character { at: 0 })?;
        header.set_sensitive(true);
        Ok(Self {
            header,
            lifetime: None,
            counted_from: None,
            scope: None,
        })
    }

    /// Sets how long the token lives, counted from the moment it was asked for; by default it
    /// lives until it is refused. Zero means the default, as many servers mean it (`expires_in`,
    /// RFC 6749 §5.1).
    #[must_use]
    pub fn expires_in(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime).filter(|lifetime| !lifetime.is_zero());
        self.counted_from = None;
        self
    }

    /// The token with what is `left` of its lifetime, be it nothing: zero would be "unknown".
    pub(crate) fn with_left(self, left: Duration) -> Self {
        self.expires_in(left.max(Duration::from_nanos(1)))
    }

    /// From when on the lifetime counts, whenever the token was asked for: it comes from where it was
    /// kept, and whoever asked may have waited.
    pub(crate) fn counted_from(mut self, mark: Mark) -> Self {
        self.counted_from = Some(Arc::new(mark));
        self
    }

    /// Since when the lifetime counts, for who has `asked` for the token then and has it `now`.
    pub(crate) fn since(&self, asked: Moment, now: Moment) -> Moment {
        let mark = self.counted_from.as_deref();
        mark.map_or(asked, |mark| mark.seen_at(now))
    }

    /// Sets the scope that was granted, if it is known; by default it isn't (RFC 6749 §3.3).
    #[must_use]
    pub fn granted_scope(mut self, scope: impl AsRef<str>) -> Self {
        self.scope = Some(Arc::from(scope.as_ref()));
        self
    }

    /// How long the token lives from the moment it was asked for; `None` is "until refused".
    pub fn lifetime(&self) -> Option<Duration> {
        self.lifetime
    }

    /// The scope that the authorization server granted, if it said so.
    pub fn scope(&self) -> Option<&str> {
        self.scope.as_deref()
    }

    /// The token itself. Takes it out of all protection against being printed.
    pub fn expose_secret(&self) -> &str {
        self.header
            .to_str()
            .ok()
            .and_then(|text| text.strip_prefix(BEARER))
            .unwrap_or_default()
    }

    /// The ready-made `Authorization` value, whose clones are counted apart from all others: they share
    /// the bytes, and nothing that is written.
    pub(crate) fn header_apart(&self) -> HeaderValue {
        let apart = Bytes::from_owner(Apart(self.header.clone()));
        match HeaderValue::from_maybe_shared(apart) {
            Ok(mut header) => {
                header.set_sensitive(true);
                header
            }
            // It was good before, so it is now.
            Err(_) => self.header.clone(),
        }
    }

    /// Tells texts apart without holding one.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Fingerprint(KEY.hash_one(&self.header))
    }
}

/// Equal for equal texts, and for different ones as good as never; means nothing in another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint(u64);

/// Aligned so that the count which `Bytes` keeps in front of it has a cache line to itself: 128 bytes,
/// as processors fetch lines in pairs.
#[repr(align(128))]
struct Apart(HeaderValue);

impl AsRef<[u8]> for Apart {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl PartialEq for AccessToken {
    fn eq(&self, other: &Self) -> bool {
        self.header == other.header
    }
}

impl Eq for AccessToken {}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken")
            .field("lifetime", &self.lifetime)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

/// A text that can't be an access token. It doesn't say which text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidToken {
    /// The text is empty.
    Empty,
    /// The byte at this offset isn't visible ASCII.
    #[non_exhaustive]
    Character {
        /// The offset in bytes.
        at: usize,
    },
}

impl fmt::Display for InvalidToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the access token is empty"),
            Self::Character { at } => write!(
                f,
                "the access token has a character at byte {at} that can't travel in a header: only \
                 visible ASCII can, without spaces and line breaks"
            ),
        }
    }
}

impl Error for InvalidToken {}

#[cfg(test)]
mod tests {
    use super::*;

    // rule 17
    #[test]
    fn every_token_that_exists_can_be_sent() {
        for good in ["a", "12345|abcDEF", "***", "eyJ.e30.c2ln==", "~!\"\\"] {
            assert_eq!(AccessToken::bearer(good).unwrap().expose_secret(), good);
        }
        let long = "A".repeat(65_536);
        assert_eq!(AccessToken::bearer(&*long).unwrap().expose_secret(), long);
    }

    #[test]
    fn what_could_not_travel_in_a_header_is_no_token() {
        assert_eq!(AccessToken::bearer(""), Err(InvalidToken::Empty));
        for (bad, at) in [
            ("a b", 1),
            ("abc\n", 3),
            ("a\r\nX-Injected: 1", 1),
            ("caf\u{e9}", 3),
            ("a\0b", 1),
            ("\u{7f}", 0),
        ] {
            assert_eq!(
                AccessToken::bearer(bad),
                Err(InvalidToken::Character { at }),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn the_header_is_sensitive_and_nothing_prints_the_secret() {
        let token = AccessToken::bearer("hunter2-hunter2").unwrap();
        assert!(token.header.is_sensitive());
        let shown = format!(
            "{token:?} {:?} {:?}",
            token.header,
            AccessToken::bearer("hunter2 ")
        );
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_lifetime_of_zero_is_unknown() {
        let token = AccessToken::bearer("a").unwrap();
        assert_eq!(token.clone().expires_in(Duration::ZERO).lifetime(), None);
        assert_eq!(
            token.expires_in(Duration::MAX).lifetime(),
            Some(Duration::MAX)
        );
    }
}
