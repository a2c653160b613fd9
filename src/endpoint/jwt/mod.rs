//! JSON Web Tokens that are signed here (RFC 7519, RFC 7515): the client's own assertions.
//!
//! The library's process-wide backend is never asked: which one there is, if any, is the
//! application's choice. Signatures are made by `ring`, behind the library's trait for it.

mod client_assertion;
mod key;
mod ring_signer;
mod signed;
mod signing_error;

use std::time::{Duration, SystemTime};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::secret::{NoRandomness, SecretString};

pub(super) use self::client_assertion::ClientAssertion;
use self::key::ReadyKey;
pub use self::{key::SigningKey, signed::SignedJwt, signing_error::SigningError};

/// What a JWT says (RFC 7519 §4).
type Claims = Map<String, Value>;

/// `iat`, `exp` and `jti`, which are new in each JWT.
fn claims_of_now(now: SystemTime, lifetime: Duration) -> Result<Claims, SigningError> {
    let since = now.duration_since(SystemTime::UNIX_EPOCH);
    let now = since.unwrap_or_default().as_secs();
    let expires = now.saturating_add(lifetime.as_secs());
    let unique = SecretString::random().map_err(|NoRandomness(_)| SigningError::NoRandomness)?;
    Ok(Claims::from_iter([
        (String::from("iat"), Value::from(now)),
        (String::from("exp"), Value::from(expires)),
        // RFC 7519 §4.1.7: it "MUST be assigned in a manner that ensures that there is a negligible
        // probability that the same value will be accidentally assigned to a different data
        // object".
        (String::from("jti"), Value::from(&*unique)),
    ]))
}

/// The JWS compact serialization (RFC 7515 §7.1).
fn signed(key: &ReadyKey, claims: &Claims) -> Result<SecretString, SigningError> {
    let header = part(&key.header)?;
    let claims = part(claims)?;
    let input = [&*header, ".", &*claims].concat();
    let signature = key.sign(input.as_bytes())?;
    let jwt = [&*input, ".", &*signature].concat();
    Ok(SecretString::from(jwt))
}

fn part(value: &impl Serialize) -> Result<String, SigningError> {
    // Texts and numbers are always JSON.
    let json = serde_json::to_vec(value).map_err(|_| SigningError::Claims {
        problem: "they are no JSON",
    })?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(json))
}

#[cfg(test)]
mod tests;
