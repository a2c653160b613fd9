//! The device authorization grant (RFC 8628): a user logs in by another machine's browser.

use std::{fmt, time::Duration};

use super::{LoginError, RefreshToken, login_error::client_id, wanted::Wanted};
use crate::{
    clock::Clock,
    endpoint::{DeviceAuthorization, EndpointError, TokenEndpoint},
    secret::SecretString,
    source::TokenError,
};

/// A user's login where there is no browser (RFC 8628): the program shows a code, and the user
/// types it in elsewhere.
///
/// It ends in a [`RefreshToken`], the source of tokens from then on. With a browser on the same
/// machine, [`AuthorizationCode`](crate::AuthorizationCode) is the better way: a code that is typed
/// in can be one that an attacker has sent (RFC 8628 §5.4).
///
/// ```no_run
/// # #[cfg(feature = "https-client")] {
/// use tower_oauth::{ClientAuth, DeviceCode, TokenCache, TokenEndpoint};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let endpoint = TokenEndpoint::builder("https://auth.example.com/oauth/token")
///     .device_authorization_endpoint("https://auth.example.com/device")
///     .client_auth(ClientAuth::none("client-id"))
///     .build()?;
/// let source = DeviceCode::new(endpoint)
///     .scope("read:accounts")
///     .login(|prompt| println!("{}: {}", prompt.verification_uri(), prompt.user_code()))
///     .await?;
/// let cache = TokenCache::from(source);
/// # drop(cache);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct DeviceCode {
    endpoint: TokenEndpoint,
    wanted: Wanted,
}

impl DeviceCode {
    /// Begins to describe a login at `endpoint`, which must know its
    /// [`device_authorization_endpoint`](crate::TokenEndpointBuilder::device_authorization_endpoint).
    pub fn new(endpoint: TokenEndpoint) -> Self {
        Self {
            endpoint,
            wanted: Wanted::default(),
        }
    }

    /// Sets the scope to ask for, words separated by spaces; by default none is asked for, and the
    /// server chooses (RFC 6749 §3.3).
    ///
    /// With a scope that RFC 6749 doesn't allow, [`login`](Self::login) fails with
    /// [`LoginError::NoToken`], made from [`InvalidScope`](crate::InvalidScope), and nothing is sent.
    #[must_use]
    pub fn scope(mut self, scope: impl AsRef<str>) -> Self {
        self.wanted.scope(scope.as_ref());
        self
    }

    /// Adds a resource server that the tokens are for, an absolute URI without a fragment
    /// (RFC 8707 §2); by default none is named, and the server chooses.
    ///
    /// With one that isn't, [`login`](Self::login) fails with [`LoginError::NoToken`], made from
    /// [`InvalidResource`](crate::InvalidResource), and nothing is sent.
    #[must_use]
    pub fn resource(mut self, uri: impl Into<String>) -> Self {
        self.wanted.resource(uri.into());
        self
    }

    /// Asks for a code, shows it by `show`, and polls until the user has typed it in elsewhere.
    ///
    /// Polls come as far apart as the server says, 5 seconds by default, and further apart when
    /// it asks for that or can't be reached (RFC 8628 §3.5). Dropping the future ends the login.
    ///
    /// # Errors
    ///
    /// [`LoginError`] if the user said no, nobody finished in time, or the server gives no token.
    /// While it can't be reached, or is overloaded, polling goes on until the code has expired.
    pub async fn login(self, show: impl FnOnce(&DevicePrompt)) -> Result<RefreshToken, LoginError> {
        let Self { endpoint, wanted } = self;
        let clock = Clock::default();
        let asked = clock.now();
        client_id(&endpoint)?;
        // RFC 8628 §3.1.
        let codes = endpoint.authorize_device(&wanted.with(&[])?).await?;
        let DeviceAuthorization {
            device_code,
            user_code,
            verification_uri,
            verification_uri_complete,
            expires_in: lifetime,
            interval,
        } = codes.ok_or(LoginError::NoEndpoint {
            endpoint: "device authorization endpoint",
            advice: "give it to the endpoint by .device_authorization_endpoint(…)",
        })?;
        show(&DevicePrompt {
            verification_uri,
            verification_uri_complete,
            user_code,
            expires_in: lifetime,
        });

        // RFC 8628 §3.4.
        let grant = [("grant_type", GRANT_TYPE), ("device_code", &device_code)];
        let grant = wanted.targets_with(&grant)?;
        let expiry = asked.after(lifetime);
        let mut pace = Pace::every(interval);
        loop {
            let remaining = expiry.remaining(clock.now());
            tokio::time::sleep(pace.wait().min(remaining)).await;
            let now = clock.now();
            if expiry.passed(now) {
                return Err(LoginError::Expired { lifetime });
            }
            match endpoint.exchange(&grant).await {
                Ok(response) => return Ok(RefreshToken::logged_in(endpoint, response, now)),
                Err(error) => match error.oauth_code() {
                    Some("authorization_pending") => pace.go_on(&error),
                    Some("slow_down") => pace.slow_down(&error),
                    Some("expired_token") => return Err(LoginError::Expired { lifetime }),
                    // The second is what Microsoft Entra says.
                    Some("access_denied" | "authorization_declined") => return Err(refused(error)),
                    _ if error.is_transient() => pace.back_off(&error),
                    _ => return Err(error.into()),
                },
            }
        }
    }
}

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// The user's word, not the token endpoint's.
fn refused(error: TokenError) -> LoginError {
    match error.get_ref().downcast_ref() {
        Some(EndpointError::Refused {
            code: Some(code),
            description,
            uri,
            ..
        }) => LoginError::Refused {
            code: code.clone(),
            description: description.clone(),
            uri: uri.clone(),
        },
        _ => error.into(),
    }
}

/// How far apart polls are.
struct Pace {
    interval: Duration,
    /// Polls in a row that weren't answered.
    failures: u32,
    /// What the last answer asked for.
    retry_after: Duration,
}

impl Pace {
    fn every(interval: Duration) -> Self {
        Self {
            interval,
            failures: 0,
            retry_after: Duration::ZERO,
        }
    }

    /// RFC 8628 §3.5: "the client MUST wait at least the number of seconds specified by the
    /// "interval" parameter".
    fn wait(&self) -> Duration {
        let factor = 2_u32.saturating_pow(self.failures);
        let backoff = self.interval.saturating_mul(factor);
        let longest = LONGEST_BACKOFF.max(self.interval);
        backoff.min(longest).max(self.retry_after)
    }

    fn go_on(&mut self, answer: &TokenError) {
        self.failures = 0;
        self.retry_after = answer.retry_after().unwrap_or_default();
    }

    /// RFC 8628 §3.5: "the interval MUST be increased by 5 seconds for this and all subsequent
    /// requests."
    fn slow_down(&mut self, answer: &TokenError) {
        self.go_on(answer);
        self.interval = self.interval.saturating_add(Duration::from_secs(5));
    }

    /// RFC 8628 §3.5: "On encountering a connection timeout, clients MUST unilaterally reduce their
    /// polling frequency before retrying. The use of an exponential backoff algorithm to achieve
    /// this, such as doubling the polling interval on each such connection timeout, is
    /// RECOMMENDED."
    fn back_off(&mut self, failure: &TokenError) {
        self.failures = self.failures.saturating_add(1);
        self.retry_after = failure.retry_after().unwrap_or_default();
    }
}

/// A user who is done doesn't wait longer than this after an outage.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// What a user needs to finish a [`DeviceCode`] login elsewhere.
///
/// The texts come from the server. They have no control characters, so that they can be shown as
/// they are.
pub struct DevicePrompt {
    verification_uri: String,
    verification_uri_complete: Option<SecretString>,
    user_code: SecretString,
    expires_in: Duration,
}

impl DevicePrompt {
    /// Where the user types the code in: an `https` or `http` URL.
    pub fn verification_uri(&self) -> &str {
        &self.verification_uri
    }

    /// What the user types in there.
    pub fn user_code(&self) -> &str {
        &self.user_code
    }

    /// A URL that has the code in it, for a QR code or a link, if the server sent one.
    ///
    /// Show the code beside it: the user has to compare the two (RFC 8628 §3.3.1).
    pub fn verification_uri_complete(&self) -> Option<&str> {
        self.verification_uri_complete.as_deref()
    }

    /// How long the code can be typed in, counted from when it was asked for.
    pub fn expires_in(&self) -> Duration {
        self.expires_in
    }
}

impl fmt::Debug for DevicePrompt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevicePrompt")
            .field("verification_uri", &self.verification_uri)
            .field("expires_in", &self.expires_in)
            .finish_non_exhaustive()
    }
}
