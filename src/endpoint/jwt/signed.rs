//! A JWT of the client's own, as a source (RFC 7523 §2.1).

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use serde_json::Value;

use super::{Claims, SigningError, SigningKey, claims_of_now, signed};
use crate::{
    clock::Clock,
    secret::SecretString,
    source::{Demand, Identity, TokenError, TokenSource},
    token::AccessToken,
};

/// JWTs that are signed here, a new one each time: the assertion of a service account, for
/// [`JwtBearer`](crate::JwtBearer) to exchange.
///
/// Where an API takes such a JWT itself, this is its source. Unlike
/// [`ClientAuth::private_key_jwt`](crate::ClientAuth::private_key_jwt), which proves who the client
/// is, it says for whom a token is asked.
///
/// ```
/// # #[cfg(feature = "https-client")] {
/// use tower_oauth::{ClientAuth, JwtBearer, Secret, SignedJwt, SigningKey, TokenEndpoint};
///
/// let key = SigningKey::rs256(Secret::from_file("/run/secrets/account.pem")).key_id("2c9a");
/// let assertion = SignedJwt::new(key)
///     .issuer("robot@project.example.com")
///     .audience("https://auth.example.com/token")
///     .claim("scope", "read write");
/// let endpoint = TokenEndpoint::builder("https://auth.example.com/token")
///     .client_auth(ClientAuth::anonymous())
///     .build()?;
/// let source = JwtBearer::new(endpoint, assertion);
/// # drop(source);
/// # }
/// # Ok::<(), tower_oauth::EndpointConfigError>(())
/// ```
#[derive(Clone)]
pub struct SignedJwt {
    key: SigningKey,
    issuer: String,
    subject: String,
    audience: String,
    lifetime: Duration,
    claims: Claims,
    clock: Clock,
}

impl SignedJwt {
    /// Signs with `key`. An [`issuer`](Self::issuer) and an [`audience`](Self::audience) must be
    /// set, or each request for a token fails with [`SigningError`].
    pub fn new(key: SigningKey) -> Self {
        Self {
            key,
            issuer: String::new(),
            subject: String::new(),
            audience: String::new(),
            lifetime: DEFAULT_LIFETIME,
            claims: Claims::new(),
            clock: Clock::default(),
        }
    }

    /// Sets who signs (`iss`, RFC 7519 §4.1.1); there is no default.
    #[must_use]
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = issuer.into();
        self
    }

    /// Sets for whom the token is (`sub`, RFC 7519 §4.1.2); by default nobody is named, and the
    /// server takes the issuer, or refuses the JWT (RFC 7523 §3 wants a subject).
    #[must_use]
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = subject.into();
        self
    }

    /// Sets for which server the JWT is (`aud`, RFC 7519 §4.1.3); there is no default.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = audience.into();
        self
    }

    /// Sets how long each JWT lives, in whole seconds up to an hour; 60 seconds by default.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Adds a claim: a text, a number, a list or an object; by default there are `iss`, `sub`,
    /// `aud`, `iat`, `exp` and `jti`, which can't be set so.
    #[must_use]
    pub fn claim(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.claims.insert(name.into(), value.into());
        self
    }

    fn sign(&self, now: SystemTime) -> Result<SecretString, SigningError> {
        let refuse = |problem| Err(SigningError::Claims { problem });
        if self.issuer.is_empty() {
            return refuse("they have no issuer; set it by .issuer(…)");
        }
        if self.audience.is_empty() {
            return refuse("they have no audience; set it by .audience(…)");
        }
        if self.lifetime < Duration::from_secs(1) || self.lifetime > LONGEST_LIFETIME {
            return refuse("their lifetime is less than a second or more than an hour");
        }
        if OWN_CLAIMS.iter().any(|own| self.claims.contains_key(*own)) {
            return refuse(
                "one of iss, sub, aud, iat, exp and jti is set by .claim(…); use .issuer(…), \
                 .subject(…), .audience(…) and .lifetime(…), the others are new in each JWT",
            );
        }
        let mut claims = self.claims.clone();
        claims.extend(claims_of_now(now, self.lifetime)?);
        for (name, value) in [
            ("iss", &self.issuer),
            ("sub", &self.subject),
            ("aud", &self.audience),
        ] {
            if !value.is_empty() {
                claims.insert(name.into(), value.as_str().into());
            }
        }
        signed(&self.key.ready()?, &claims)
    }
}

const OWN_CLAIMS: [&str; 6] = ["iss", "sub", "aud", "iat", "exp", "jti"];

const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);

const LONGEST_LIFETIME: Duration = Duration::from_secs(60 * 60);

impl TokenSource for SignedJwt {
    async fn token(&self, _: Demand<'_>) -> Result<AccessToken, TokenError> {
        let jwt = self.sign(self.clock.now().wall)?;
        Ok(AccessToken::bearer(&*jwt)?.expires_in(self.lifetime))
    }

    fn identify(&self, identity: &mut Identity) {
        for (name, value) in [
            ("iss", &self.issuer),
            ("sub", &self.subject),
            ("aud", &self.audience),
        ] {
            identity.part(name, value);
        }
        for (name, value) in &self.claims {
            identity.part(name, value.to_string());
        }
    }
}

impl fmt::Debug for SignedJwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let claims: Vec<&str> = self.claims.keys().map(|name| &**name).collect();
        f.debug_struct("SignedJwt")
            .field("key", &self.key)
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .field("lifetime", &self.lifetime)
            .field("claims", &claims)
            .finish_non_exhaustive()
    }
}
