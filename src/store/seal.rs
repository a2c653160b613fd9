//! Encryption at rest: what a store keeps is sealed by a key that the store doesn't have.

use std::{error::Error, fmt, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    error::Unspecified,
};
use zeroize::Zeroizing;

use crate::source::{StoreError, StoreKey};

/// A key of 256 bits that records are encrypted with (ChaCha20-Poly1305, RFC 8439), so that whoever
/// reads the store learns no token. All processes that share a store need the same.
///
/// A record is bound to its place: one that was moved to another key can't be opened. It can be
/// replaced by an older one of the same place, as by whoever restores a backup.
///
/// ```
/// use tower_oauth::store::EncryptionKey;
///
/// // As from `openssl rand -base64 32`.
/// let key = EncryptionKey::from_base64("mBYxS6lqkPbmT1mNJnGdDhCz8b0jl0LpCXQGN3UCpFo=")?;
/// # drop(key);
/// # Ok::<(), tower_oauth::store::InvalidKey>(())
/// ```
#[derive(Clone)]
pub struct EncryptionKey(Arc<Zeroizing<[u8; 32]>>);

impl EncryptionKey {
    /// From 32 random bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Arc::new(Zeroizing::new(bytes)))
    }

    /// From the base64 of 32 random bytes (RFC 4648 §4), as `openssl rand -base64 32` makes it; spaces
    /// and line breaks around it don't count.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`] if it is something else.
    pub fn from_base64(text: &str) -> Result<Self, InvalidKey> {
        let bytes = Zeroizing::new(
            BASE64_STANDARD
                .decode(text.trim())
                .map_err(|_| InvalidKey)?,
        );
        let bytes = <[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| InvalidKey)?;
        Ok(Self::from_bytes(bytes))
    }

    fn cipher(&self) -> Result<LessSafeKey, Unspecified> {
        let key = UnboundKey::new(&CHACHA20_POLY1305, self.0.as_slice())?;
        Ok(LessSafeKey::new(key))
    }

    fn seal(&self, place: Aad<Vec<u8>>, text: &[u8]) -> Result<Vec<u8>, StoreError> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|cause| {
            StoreError::unavailable(format!("the system gave no random numbers: {cause}"))
        })?;
        let unique = Nonce::assume_unique_for_key(nonce);
        let mut sealed = Zeroizing::new(text.to_vec());
        let tag = self
            .cipher()
            .and_then(|cipher| cipher.seal_in_place_separate_tag(unique, place, &mut sealed))
            .map_err(|_| StoreError::unusable("the record can't be encrypted: it is too large"))?;
        Ok([SEALED, &nonce, &sealed, tag.as_ref()].concat())
    }

    fn open(&self, place: Aad<Vec<u8>>, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, text) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let mut text = Zeroizing::new(text.to_vec());
        let opened = self.cipher().ok()?.open_in_place(nonce, place, &mut text);
        Some(opened.ok()?.to_vec())
    }
}

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EncryptionKey(…)")
    }
}

/// A text that isn't the base64 of 32 bytes. It doesn't say which text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidKey;

impl fmt::Display for InvalidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "an encryption key is the base64 of 32 random bytes, as `openssl rand -base64 32` makes it",
        )
    }
}

impl Error for InvalidKey {}

/// How a stored text begins, encrypted or not.
const SEALED: &[u8] = b"sealed1:";
const PLAIN: &[u8] = b"plain1:";

/// What a store keeps of `text`.
pub(super) fn close(
    key: Option<&EncryptionKey>,
    at: &StoreKey,
    generation: u64,
    text: &[u8],
) -> Result<Vec<u8>, StoreError> {
    match key {
        Some(key) => key.seal(place(at, generation), text),
        None => Ok([PLAIN, text].concat()),
    }
}

/// What a store kept.
///
/// # Errors
///
/// It says what to do, but not where: the store does.
pub(super) fn open(
    key: Option<&EncryptionKey>,
    at: &StoreKey,
    generation: u64,
    kept: &[u8],
) -> Result<Vec<u8>, &'static str> {
    let plain = kept.strip_prefix(PLAIN);
    let sealed = kept.strip_prefix(SEALED);
    match (key, plain, sealed) {
        (None, Some(text), _) => Ok(text.to_vec()),
        (Some(key), _, Some(sealed)) => key.open(place(at, generation), sealed).ok_or(
            "it can't be opened with the encryption key that was given: another one wrote it, or \
             somebody changed it; give all processes the same key",
        ),
        (None, _, Some(_)) => {
            Err("it is encrypted, and no key was given: give the one that it was written with")
        }
        (Some(_), Some(_), _) => Err(
            "it isn't encrypted, and a key was given: a process without the key wrote it; give all \
             the same, and delete what is there",
        ),
        _ => Err("it isn't what this library writes (or a newer version of it does)"),
    }
}

fn place(at: &StoreKey, generation: u64) -> Aad<Vec<u8>> {
    let generation = generation.to_be_bytes();
    Aad::from([at.as_str().as_bytes(), &generation].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_opened_with_its_key_at_its_place_only() {
        let (key, other) = (
            EncryptionKey::from_bytes([1; 32]),
            EncryptionKey::from_bytes([2; 32]),
        );
        let (here, there) = (StoreKey::named("here"), StoreKey::named("there"));
        let kept = close(Some(&key), &here, 7, b"secret text").unwrap();
        assert!(!kept.windows(6).any(|six| six == b"secret"));
        assert_ne!(kept, close(Some(&key), &here, 7, b"secret text").unwrap());
        assert_eq!(open(Some(&key), &here, 7, &kept).unwrap(), b"secret text");
        for (key, at, generation) in [
            (Some(&other), &here, 7),
            (Some(&key), &there, 7),
            (Some(&key), &here, 8),
            (None, &here, 7),
        ] {
            assert!(open(key, at, generation, &kept).is_err());
        }
        for cut in 0..kept.len() {
            assert!(open(Some(&key), &here, 7, &kept[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn a_plain_record_is_none_for_who_has_a_key() {
        let key = EncryptionKey::from_bytes([1; 32]);
        let here = StoreKey::named("here");
        let kept = close(None, &here, 1, b"text").unwrap();
        assert_eq!(open(None, &here, 1, &kept).unwrap(), b"text");
        let problem = open(Some(&key), &here, 1, &kept).unwrap_err();
        assert!(problem.contains("isn't encrypted"), "{problem}");
    }

    #[test]
    fn a_key_is_the_base64_of_32_bytes_and_does_not_print() {
        assert!(
            EncryptionKey::from_base64(&format!(" {}\n", BASE64_STANDARD.encode([7; 32]))).is_ok()
        );
        for bad in ["", "c2hvcnQ=", "not base64!"] {
            assert_eq!(EncryptionKey::from_base64(bad).unwrap_err(), InvalidKey);
        }
        assert_eq!(
            format!("{:?}", EncryptionKey::from_bytes([7; 32])),
            "EncryptionKey(…)"
        );
    }
}
