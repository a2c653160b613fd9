//! The authorization code grant (RFC 6749 §4.1) with PKCE: a user logs in by a browser.
//!
//! ```text
//! start ──▶ PendingLogin::url ──▶ browser, authorization server, user
//!                                                 │ redirect
//! RefreshToken ◀── exchange ◀── callback ◀── finish, or the listener on loopback
//! ```

mod callback;
#[cfg(feature = "loopback")]
mod loopback;

use std::fmt;

use http::Uri;

use self::callback::{Expected, Judged};
use super::{LoginError, RefreshToken, login_error::client_id, pkce::Verifier, wanted::Wanted};
use crate::{
    clock::Clock,
    endpoint::{TokenEndpoint, is_absolute_uri},
    secret::SecretString,
};

#[cfg(feature = "loopback")]
pub use self::loopback::LoopbackLogin;

/// A user's login by a browser (RFC 6749 §4.1), with PKCE (RFC 7636).
///
/// It ends in a [`RefreshToken`], the source of tokens from then on. A program on the user's own
/// machine has it easier with `listen_on_loopback` (feature `loopback`); where there is no browser,
/// see [`DeviceCode`](crate::DeviceCode).
///
/// ```
/// # use std::convert::Infallible;
/// # let answer = tower::service_fn(|_| async {
/// #     let token = r#"{"access_token":"a","token_type":"Bearer","refresh_token":"r"}"#;
/// #     Ok::<_, Infallible>(http::Response::new(String::from(token)))
/// # });
/// use tower_oauth::{AuthorizationCode, ClientAuth, TokenCache, TokenEndpoint};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let endpoint = TokenEndpoint::builder("https://auth.example.com/oauth/token")
///     .authorization_endpoint("https://auth.example.com/authorize")
///     .client_auth(ClientAuth::basic("client-id", "client-secret"))
/// #   .transport(answer)
///     .build()?;
/// let login = AuthorizationCode::new(endpoint, "https://app.example.com/callback")
///     .scope("read:accounts")
///     .start()?;
/// // Let the browser go to `login.url()`, and find this login again by `login.state()` when it
/// // comes back with a query:
/// # let query = format!("code=SplxlOBeZQQYbYS6WxSbIA&state={}", login.state());
/// let source = login.finish(&query).await?;
/// let cache = TokenCache::from(source);
/// # drop(cache);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct AuthorizationCode {
    endpoint: TokenEndpoint,
    redirect_uri: String,
    wanted: Wanted,
    params: Vec<(String, String)>,
    pkce: bool,
}

impl AuthorizationCode {
    /// Begins to describe logins at `endpoint`, from which the browser comes back to
    /// `redirect_uri`, as it is registered at the authorization server.
    ///
    /// The endpoint must know its
    /// [`authorization_endpoint`](crate::TokenEndpointBuilder::authorization_endpoint). Where it
    /// knows its [`issuer`](crate::TokenEndpointBuilder::issuer), responses of another are refused
    /// (RFC 9207).
    pub fn new(endpoint: TokenEndpoint, redirect_uri: impl Into<String>) -> Self {
        Self {
            endpoint,
            redirect_uri: redirect_uri.into(),
            wanted: Wanted::default(),
            params: Vec::new(),
            pkce: true,
        }
    }

    /// Begins to describe a login in one call, for a program on the user's own machine: it listens
    /// on loopback for the browser to come back (RFC 8252 §7.3).
    #[cfg(feature = "loopback")]
    #[cfg_attr(docsrs, doc(cfg(feature = "loopback")))]
    pub fn listen_on_loopback(endpoint: TokenEndpoint) -> LoopbackLogin {
        LoopbackLogin::new(endpoint)
    }

    /// Sets the scope to ask for, words separated by spaces; by default none is asked for, and the
    /// server chooses (RFC 6749 §3.3).
    ///
    /// With a scope that RFC 6749 doesn't allow, [`start`](Self::start) fails with
    /// [`LoginError::NoToken`], made from [`InvalidScope`](crate::InvalidScope), and nothing is sent.
    #[must_use]
    pub fn scope(mut self, scope: impl AsRef<str>) -> Self {
        self.wanted.scope(scope.as_ref());
        self
    }

    /// Adds a resource server that the tokens are for, an absolute URI without a fragment
    /// (RFC 8707 §2); by default none is named, and the server chooses.
    ///
    /// With one that isn't, [`start`](Self::start) fails with [`LoginError::NoToken`], made from
    /// [`InvalidResource`](crate::InvalidResource), and nothing is sent.
    #[must_use]
    pub fn resource(mut self, uri: impl Into<String>) -> Self {
        self.wanted.resource(uri.into());
        self
    }

    /// Adds a parameter to the authorization request, such as `prompt`, `audience` or
    /// `access_type`; by default there are only those of the protocol.
    ///
    /// It stands in the URL, so it must not be secret. The parameters of the endpoint
    /// ([`TokenEndpointBuilder::param`](crate::TokenEndpointBuilder::param)) may be, and don't
    /// stand there.
    #[must_use]
    pub fn param(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.params.push((key.into(), value.into()));
        self
    }

    /// Leaves out PKCE; by default it is used, with `S256` (RFC 7636 §4.2).
    ///
    /// Only for servers that refuse its parameters, which RFC 6749 §3.1 forbids them. Without it,
    /// who gets hold of a code on its way through the browser can exchange it or slip it into
    /// somebody else's login (RFC 9700 §2.1.1); a public client shouldn't log in so at all.
    #[must_use]
    pub fn without_pkce(mut self) -> Self {
        self.pkce = false;
        self
    }

    /// Starts a login: chooses its `state` and PKCE verifier, and sends nothing.
    ///
    /// # Errors
    ///
    /// [`LoginError`] if the authorization endpoint isn't known, or if what is asked for, the
    /// redirect URI or a parameter can't be sent: the caller has to mend it. And if the operating
    /// system has no random numbers.
    pub fn start(&self) -> Result<PendingLogin, LoginError> {
        let endpoint = self.endpoint.authorization_endpoint()?;
        let endpoint = endpoint.ok_or(LoginError::NoEndpoint {
            endpoint: "authorization endpoint",
            advice: "give it to the endpoint by .authorization_endpoint(…)",
        })?;
        // RFC 6749 §3.1.2: "an absolute URI [...] MUST NOT include a fragment component."
        if !is_absolute_uri(&self.redirect_uri) {
            return Err(LoginError::RedirectUri {
                problem: "it must be an absolute URI without a fragment (RFC 6749 §3.1.2), such \
                          as https://app.example.com/callback",
            });
        }
        let state = SecretString::random()?;
        let verifier = self.pkce.then(Verifier::random).transpose()?;
        let challenge = verifier.as_ref().map(Verifier::challenge);
        let mut params = self.wanted.with(&[
            ("response_type", "code"),
            ("client_id", client_id(&self.endpoint)?),
            ("redirect_uri", &self.redirect_uri),
            ("state", &state),
        ])?;
        if let Some(challenge) = &challenge {
            params.push(("code_challenge", challenge));
            params.push(("code_challenge_method", "S256"));
        }
        for (key, value) in &self.params {
            check(key, &params)?;
            params.push((key, value));
        }
        let url = url(endpoint, &params)?;
        Ok(PendingLogin {
            authorization: self.clone(),
            url,
            state,
            verifier,
        })
    }
}

/// RFC 6749 §3.1: "Request and response parameters MUST NOT be included more than once."
fn check(key: &str, params: &[(&str, &str)]) -> Result<(), LoginError> {
    let problem = if key.is_empty() {
        "its name is empty"
    } else if OWN_PARAMS.contains(&key) {
        "this crate sends it itself, where it belongs"
    } else if key != "audience" && params.iter().any(|(other, _)| *other == key) {
        "it is given twice, which RFC 6749 §3.1 forbids; give it once"
    } else {
        return Ok(());
    };
    Err(LoginError::Param {
        key: key.to_owned(),
        problem,
    })
}

const OWN_PARAMS: &[&str] = &[
    "response_type",
    "client_id",
    "redirect_uri",
    "scope",
    "resource",
    "state",
    "code_challenge",
    "code_challenge_method",
    // These would be secrets in a URL.
    "client_secret",
    "client_assertion",
    "code_verifier",
];

/// RFC 6749 §3.1: the endpoint's own query "MUST be retained when adding additional query
/// parameters".
fn url(endpoint: &Uri, params: &[(&str, &str)]) -> Result<SecretString, LoginError> {
    let sent = || params.iter().filter(|(_, value)| !value.is_empty());
    let own = endpoint.query().unwrap_or_default();
    for (key, _) in form_urlencoded::parse(own.as_bytes()) {
        if sent().any(|(other, _)| *other == key) {
            return Err(LoginError::Param {
                key: key.into_owned(),
                problem: "it stands in the authorization endpoint's own query, too; give it once",
            });
        }
    }
    let mut url = endpoint.to_string();
    match endpoint.query() {
        None => url.push('?'),
        Some("") => {}
        Some(_) => url.push('&'),
    }
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (key, value) in sent() {
        query.append_pair(key, value);
    }
    url.push_str(&query.finish());
    Ok(SecretString::from(url))
}

/// A login that waits for its user; made by [`AuthorizationCode::start`].
///
/// It doesn't print what only this program and the browser may know. Dropped, it never happened.
pub struct PendingLogin {
    authorization: AuthorizationCode,
    url: SecretString,
    state: SecretString,
    verifier: Option<Verifier>,
}

impl PendingLogin {
    /// Where the user's browser has to go (RFC 6749 §4.1.1).
    ///
    /// Only to be given to that browser: `state` in it ties the login to it (RFC 6749 §10.12).
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The `state` that the response to this login repeats (RFC 6749 §4.1.2): by it, a program with
    /// several logins under way finds the one that [`finish`](Self::finish)es.
    ///
    /// It is a secret of this program and that one browser.
    pub fn state(&self) -> &str {
        &self.state
    }

    /// Finishes the login with what the browser brought back: the query of the redirect, or the
    /// whole URL.
    ///
    /// The response is checked before anything is sent: `state` (RFC 6749 §4.1.2), `iss`
    /// (RFC 9207 §2.4), and that nothing stands twice. Then its code is exchanged, once, without a
    /// second try: a code that was sent is used up.
    ///
    /// # Errors
    ///
    /// [`LoginError`]: the response isn't one to this login, the user said no, or the code
    /// couldn't be exchanged.
    pub async fn finish(self, query_or_url: &str) -> Result<RefreshToken, LoginError> {
        let code = self.judge(query_or_url).code()?;
        self.exchange(code).await
    }

    fn judge(&self, query_or_url: &str) -> Judged {
        let endpoint = &self.authorization.endpoint;
        let expected = Expected {
            state: &self.state,
            issuer: endpoint.issuer(),
            iss_in_response: endpoint.iss_in_response(),
            clean: &|text| endpoint.clean(text, &self.state),
        };
        expected.judge(query_or_url)
    }

    /// RFC 6749 §4.1.3.
    async fn exchange(self, code: SecretString) -> Result<RefreshToken, LoginError> {
        let AuthorizationCode {
            endpoint,
            redirect_uri,
            wanted,
            ..
        } = self.authorization;
        let verifier = self.verifier.as_ref().map_or("", Verifier::reveal);
        // The code stands for a scope; RFC 8707 §2.2 has the resources here as well.
        let grant = wanted.targets_with(&[
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", &redirect_uri),
            ("code_verifier", verifier),
        ])?;
        let asked = Clock::default().now();
        let response = endpoint.exchange(&grant).await?;
        Ok(RefreshToken::logged_in(endpoint, response, asked))
    }
}

impl fmt::Debug for AuthorizationCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let params: Vec<&str> = self.params.iter().map(|(key, _)| &**key).collect();
        f.debug_struct("AuthorizationCode")
            .field("endpoint", &self.endpoint)
            .field("redirect_uri", &self.redirect_uri)
            .field("wanted", &self.wanted)
            .field("params", &params)
            .field("pkce", &self.pkce)
            .finish()
    }
}

impl fmt::Debug for PendingLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingLogin")
            .field("authorization", &self.authorization)
            .finish_non_exhaustive()
    }
}
