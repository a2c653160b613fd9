//! What a token endpoint can be told, and what is refused before anything is sent.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response,
    header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING},
};
use http_body::Body;
use http_body_util::Full;
use tower_service::Service;

use super::{
    ClientAuth, EndpointConfigError, Inner, TokenEndpoint, client_auth::form_encoded,
    transport::Transport, url::EndpointUrl,
};
use crate::{clock::Clock, secret::SecretString, source::BoxError};

/// Describes a [`TokenEndpoint`]; made by [`TokenEndpoint::builder`].
#[must_use]
pub struct TokenEndpointBuilder {
    url: String,
    client_auth: Option<ClientAuth>,
    params: Vec<(String, SecretString)>,
    headers: Vec<(String, SecretString)>,
    assume_lifetime: Option<Duration>,
    timeout: Duration,
    transport: Option<Transport>,
    allow_plaintext: bool,
}

impl TokenEndpointBuilder {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            client_auth: None,
            params: Vec::new(),
            headers: Vec::new(),
            assume_lifetime: None,
            timeout: DEFAULT_TIMEOUT,
            transport: None,
            allow_plaintext: false,
        }
    }

    /// Sets how the client authenticates; there is no default, and without it nothing is built.
    pub fn client_auth(mut self, client_auth: ClientAuth) -> Self {
        self.client_auth = Some(client_auth);
        self
    }

    /// Adds a form parameter to each token request; by default there are only those of the grant.
    ///
    /// An empty value is left out. `resource` and `audience` may be given several times
    /// (RFC 8707 §2); any other parameter twice, or one that this crate sends itself, is refused
    /// by [`build`](Self::build).
    pub fn param(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.params
            .push((key.into(), SecretString::from(value.into())));
        self
    }

    /// Adds a header to each token request; by default there are only those that the request
    /// needs.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers
            .push((name.into(), SecretString::from(value.into())));
        self
    }

    /// Sets the lifetime of tokens that come without one; by default such a token is used until it
    /// is refused.
    ///
    /// It takes the place of an `expires_in` that is missing, zero or negative.
    pub fn assume_lifetime(mut self, lifetime: Duration) -> Self {
        self.assume_lifetime = Some(lifetime);
        self
    }

    /// Sets how long a token request may take in all, from connecting to the last byte of the
    /// answer; 10 seconds by default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets what carries token requests; by default it is hyper over rustls with the system's root
    /// certificates (feature `https-client`).
    ///
    /// Any Tower HTTP service will do: one that goes through a proxy, trusts another root
    /// certificate, or shows one of its own. It must not follow redirects, which would hand the
    /// client's secret on. Its body is read up to 1 MiB, and the timeout bounds it.
    pub fn transport<S, RB>(mut self, service: S) -> Self
    where
        S: Service<Request<Full<Bytes>>, Response = Response<RB>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        RB: Body + Send + 'static,
        RB::Error: Into<BoxError>,
    {
        self.transport = Some(Transport::new(service));
        self
    }

    /// Lets token requests travel over plain `http` to other machines; by default only to
    /// loopback.
    ///
    /// Whoever can listen reads the client's secret and the token. Meant for a network that
    /// encrypts by itself, such as a service mesh.
    pub fn allow_plaintext(mut self) -> Self {
        self.allow_plaintext = true;
        self
    }

    /// Checks everything and makes the endpoint; sends nothing.
    ///
    /// # Errors
    ///
    /// [`EndpointConfigError`] for a URL that can't be one, parameters or headers that can't be
    /// sent, no client authentication, or no transport. All are the caller's to mend, except
    /// [`NoRootCertificates`](EndpointConfigError::NoRootCertificates), which is about the machine.
    pub fn build(self) -> Result<TokenEndpoint, EndpointConfigError> {
        let url = EndpointUrl::parse(&self.url, self.allow_plaintext)?;
        let client_auth = self.client_auth.ok_or(EndpointConfigError::NoClientAuth)?;
        client_auth.check()?;
        let params = checked_params(self.params)?;
        let unshown = unshown(&params, &self.headers);
        let headers = checked_headers(self.headers)?;
        let transport = match self.transport {
            Some(transport) => transport,
            None => default_transport(&url)?,
        };
        Ok(TokenEndpoint(Arc::new(Inner {
            url,
            client_auth,
            params,
            headers,
            unshown,
            assume_lifetime: self.assume_lifetime,
            timeout: self.timeout,
            transport,
            clock: Clock::default(),
        })))
    }
}

impl fmt::Debug for TokenEndpointBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not even the URL: it wasn't checked yet and may hold a password.
        f.debug_struct("TokenEndpointBuilder")
            .field("client_auth", &self.client_auth)
            .field("assume_lifetime", &self.assume_lifetime)
            .field("timeout", &self.timeout)
            .field("allow_plaintext", &self.allow_plaintext)
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "https-client")]
fn default_transport(url: &EndpointUrl) -> Result<Transport, EndpointConfigError> {
    super::https::client(url.is_https())
}

#[cfg(not(feature = "https-client"))]
fn default_transport(_: &EndpointUrl) -> Result<Transport, EndpointConfigError> {
    Err(EndpointConfigError::NoTransport)
}

/// RFC 6749 §3.2: "Request and response parameters MUST NOT be included more than once."
fn checked_params(
    params: Vec<(String, SecretString)>,
) -> Result<Vec<(String, SecretString)>, EndpointConfigError> {
    let mut kept: Vec<(String, SecretString)> = Vec::new();
    for (key, value) in params {
        let problem = if key.is_empty() {
            "its name is empty"
        } else if OWN_PARAMS.contains(&&*key) {
            "this crate sends it itself; set it by the client authentication or the grant"
        } else if value.is_empty() {
            continue;
        } else if !REPEATABLE_PARAMS.contains(&&*key) && kept.iter().any(|(other, _)| *other == key)
        {
            "it is given twice, which RFC 6749 §3.2 forbids; give it once"
        } else {
            kept.push((key, value));
            continue;
        };
        return Err(EndpointConfigError::Param { key, problem });
    }
    Ok(kept)
}

fn checked_headers(headers: Vec<(String, SecretString)>) -> Result<HeaderMap, EndpointConfigError> {
    let mut checked = HeaderMap::new();
    for (name, value) in headers {
        let problem = match (name.parse::<HeaderName>(), HeaderValue::from_str(&value)) {
            (Err(_), _) => "its name is no header name",
            (Ok(name), _) if OWN_HEADERS.contains(&name) => "this crate sends it itself",
            (_, Err(_)) => "its value has a character that a header can't carry; trim it",
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(true); // it may be a key
                checked.append(name, value);
                continue;
            }
        };
        return Err(EndpointConfigError::Header { name, problem });
    }
    Ok(checked)
}

/// The values that may be keys, as they are and as the form has them. What is too short to be one
/// would only blot out the server's words, and a resource is no secret (RFC 8707 §2).
fn unshown(
    params: &[(String, SecretString)],
    headers: &[(String, SecretString)],
) -> Vec<SecretString> {
    let params = params
        .iter()
        .filter(|(key, _)| !REPEATABLE_PARAMS.contains(&&**key));
    params
        .chain(headers)
        .flat_map(|(_, value)| [value.clone(), form_encoded(value)])
        .filter(|value| value.len() >= SHORTEST_KEY)
        .collect()
}

const SHORTEST_KEY: usize = 8;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// What the client authentications and the grants send.
const OWN_PARAMS: &[&str] = &[
    "grant_type",
    "scope",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "refresh_token",
    "code",
    "code_verifier",
    "redirect_uri",
    "assertion",
    "device_code",
    "subject_token",
    "subject_token_type",
    "actor_token",
    "actor_token_type",
    "requested_token_type",
];

/// RFC 8707 §2: "Multiple resource parameters MAY be used"; RFC 8693 §2.1 says so of `audience`.
const REPEATABLE_PARAMS: &[&str] = &["resource", "audience"];

const OWN_HEADERS: &[HeaderName] = &[
    ACCEPT,
    AUTHORIZATION,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    TRANSFER_ENCODING,
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn builder() -> TokenEndpointBuilder {
        TokenEndpoint::builder("http://127.0.0.1:1/token").client_auth(ClientAuth::basic("i", "s"))
    }

    /// A transport of its own, so that these tests hold in every feature set.
    fn refusal(builder: TokenEndpointBuilder) -> String {
        let unused = tower::service_fn(|_| async {
            Ok::<_, std::convert::Infallible>(Response::new(String::new()))
        });
        match builder.transport(unused).build() {
            Ok(endpoint) => panic!("{endpoint:?} was built"),
            Err(error) => error.to_string(),
        }
    }

    // rule 7
    #[test]
    fn parameters_stand_once_but_for_those_that_may_repeat() {
        let message = refusal(builder().param("tenant", "a").param("tenant", "hunter2"));
        assert!(
            message.contains("tenant") && message.contains("twice"),
            "{message}"
        );
        assert!(!message.contains("hunter2"), "{message}");

        let params = [
            ("resource", "a"),
            ("resource", "b"),
            ("audience", "a"),
            ("x", ""),
            ("x", "1"),
        ];
        let params = params.map(|(k, v)| (k.to_owned(), SecretString::from(v.to_owned())));
        assert_eq!(checked_params(params.to_vec()).unwrap().len(), 4);
    }

    #[test]
    fn what_may_be_a_key_is_not_shown_and_a_resource_is() {
        let pair = |key: &str, value: &str| (key.to_owned(), SecretString::from(value.to_owned()));
        let params = [
            pair("api_key", "hunter2/hunter2"),
            pair("version", "2"),
            pair("audience", "https://api.example"),
        ];
        let unshown = unshown(&params, &[pair("x-api-key", "hunter2-hunter2")]);
        let unshown: HashSet<&str> = unshown.iter().map(|value| &**value).collect();
        let expected = ["hunter2/hunter2", "hunter2%2Fhunter2", "hunter2-hunter2"];
        assert_eq!(unshown, HashSet::from(expected));
    }

    #[test]
    fn parameters_of_the_crate_are_its_own() {
        for key in OWN_PARAMS {
            let message = refusal(builder().param(*key, "hunter2"));
            assert!(
                message.contains(key) && !message.contains("hunter2"),
                "{message}"
            );
        }
        assert!(refusal(builder().param("", "x")).contains("empty"));
    }

    #[test]
    fn headers_that_cannot_be_sent_are_named() {
        for (name, value) in [
            ("x y", "hunter2"),
            ("X-Key", "hunter2\r\nX-Injected: 1"),
            ("authorization", "hunter2"),
            ("Content-Type", "hunter2"),
        ] {
            let message = refusal(builder().header(name, value));
            assert!(
                message.contains(name) && !message.contains("hunter2"),
                "{message}"
            );
        }
    }

    #[test]
    fn a_client_says_how_it_authenticates() {
        let message = refusal(TokenEndpoint::builder("http://127.0.0.1:1/token"));
        assert!(message.contains(".client_auth("), "{message}");
        assert!(refusal(builder().client_auth(ClientAuth::none(""))).contains("client id"));
    }

    #[cfg(not(feature = "https-client"))]
    #[test]
    fn without_the_feature_a_transport_must_be_given() {
        let error = builder().build().unwrap_err().to_string();
        assert!(error.contains("https-client"), "{error}");
    }
}
