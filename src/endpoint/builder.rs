//! What a token endpoint can be told, and what is refused before anything is sent.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use tower_service::Service;

use super::{
    ClientAuth, Encoding, EndpointConfigError, Inner, TokenEndpoint,
    carrier::Carrier,
    checks::{check_token_types, checked_headers, checked_params, unshown},
    pointer::JsonPointer,
    server::{Known, Told},
    transport::Transport,
    url::{EndpointUrl, Kind},
};
use crate::{clock::Clock, secret::SecretString, source::BoxError};

/// Describes a [`TokenEndpoint`]; made by [`TokenEndpoint::builder`].
#[must_use]
pub struct TokenEndpointBuilder {
    pub(super) told: Told,
    client_auth: Option<ClientAuth>,
    params: Vec<(String, SecretString)>,
    pub(super) headers: Vec<(String, SecretString)>,
    encoding: Encoding,
    answer_at: String,
    token_types: Vec<String>,
    assume_lifetime: Option<Duration>,
    pub(super) timeout: Duration,
    pub(super) carrier: Carrier,
    pub(super) allow_plaintext: bool,
}

impl TokenEndpointBuilder {
    pub(super) fn new(url: String) -> Self {
        Self::of(Told {
            by_hand: vec![(Kind::Token, url)],
            ..Told::default()
        })
    }

    pub(super) fn of(told: Told) -> Self {
        Self {
            told,
            client_auth: None,
            params: Vec::new(),
            headers: Vec::new(),
            encoding: Encoding::Form,
            answer_at: String::new(),
            token_types: Vec::new(),
            assume_lifetime: None,
            timeout: DEFAULT_TIMEOUT,
            carrier: Carrier::default(),
            allow_plaintext: false,
        }
    }

    /// Sets how the client authenticates; there is no default, and without it nothing is built.
    pub fn client_auth(mut self, client_auth: ClientAuth) -> Self {
        self.client_auth = Some(client_auth);
        self
    }

    /// Adds a parameter to each token request and each device authorization request; by default
    /// there are only those of the grant.
    ///
    /// An empty value is left out. `resource` and `audience` may be given several times
    /// (RFC 8707 §2); any other parameter twice, or one that this crate sends itself, is refused
    /// by [`build`](Self::build).
    pub fn param(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.params
            .push((key.into(), SecretString::from(value.into())));
        self
    }

    /// Adds a header to each request to the authorization server; by default there are only those
    /// that the request needs.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers
            .push((name.into(), SecretString::from(value.into())));
        self
    }

    /// Sets how token requests are written; by default as a form (RFC 6749 §3.2).
    pub fn encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// Sets where in a JSON answer the object with the token, or with a device's codes, is, as a
    /// JSON pointer (RFC 6901) such as `/data/token`; by default the answer is that object.
    ///
    /// Where the pointer leads to nothing, as in most errors, the answer itself counts.
    pub fn answer_at(mut self, pointer: impl Into<String>) -> Self {
        self.answer_at = pointer.into();
        self
    }

    /// Takes tokens of this type for bearer tokens, too; by default only those of the type `Bearer`
    /// and those without a type are (RFC 6749 §7.1). Upper and lower case are the same.
    ///
    /// For a server whose documentation says that it calls its bearer tokens so, such as Apigee's
    /// `BearerToken`. May be called again for more.
    ///
    /// ```
    /// # #[cfg(feature = "https-client")] {
    /// use tower_oauth::{ClientAuth, TokenEndpoint};
    ///
    /// let endpoint = TokenEndpoint::builder("https://auth.example.com/oauth/token")
    ///     .client_auth(ClientAuth::basic("client-id", "client-secret"))
    ///     .token_type("BearerToken")
    ///     .build()?;
    /// # drop(endpoint);
    /// # }
    /// # Ok::<(), tower_oauth::EndpointConfigError>(())
    /// ```
    pub fn token_type(mut self, token_type: impl Into<String>) -> Self {
        self.token_types.push(token_type.into());
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

    /// Sets how long each request to the authorization server may take in all, from connecting to
    /// the last byte of the answer; 10 seconds by default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets what carries the requests to the authorization server; by default it is hyper over
    /// rustls with the system's root certificates (feature `https-client`).
    ///
    /// Any Tower HTTP service will do, such as one that goes through a proxy. It must not follow
    /// redirects, which would hand the client's secret on. Its body is read up to 1 MiB, and the
    /// timeout bounds it. One that shows a certificate of its own goes with
    /// [`ClientAuth::tls_by_transport`].
    pub fn transport<S, RB>(mut self, service: S) -> Self
    where
        S: Service<Request<Full<Bytes>>, Response = Response<RB>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        RB: Body + Send + 'static,
        RB::Error: Into<BoxError>,
    {
        self.carrier.own = Some(Arc::new(Transport::new(service)));
        self
    }

    /// Sets the root certificates, in PEM, that the built-in transport trusts in place of the
    /// system's; by default it trusts those.
    ///
    /// For a server whose certificate comes from a private authority, or to trust one authority
    /// only. To trust it besides the system's, add it there or to the file that `SSL_CERT_FILE`
    /// names.
    #[cfg(feature = "https-client")]
    #[cfg_attr(docsrs, doc(cfg(feature = "https-client")))]
    pub fn root_certificates(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.carrier.roots = Some(pem.as_ref().to_vec());
        self
    }

    /// Lets requests to the authorization server travel over plain `http` to other machines; by
    /// default only to loopback.
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
        if self.timeout.is_zero() {
            return Err(EndpointConfigError::NoTime);
        }
        let client_auth = self.client_auth.ok_or(EndpointConfigError::NoClientAuth)?;
        check_token_types(&self.token_types)?;
        let params = checked_params(self.params)?;
        let (client_auth, url, server) =
            self.told
                .checked(client_auth, self.allow_plaintext, &params)?;
        client_auth.check(server.issuer.as_deref())?;
        let wrapped = JsonPointer::parse(&self.answer_at)
            .map_err(|problem| EndpointConfigError::AnswerAt { problem })?;
        let mut unshown = unshown(&params, &self.headers);
        let asked = [&server.device_authorization, &server.revocation];
        let asked = asked.into_iter().filter_map(Known::usable).chain([&url]);
        unshown.extend(asked.flat_map(EndpointUrl::values_in_query));
        let headers = checked_headers(self.headers)?;
        let transport = self.carrier.open_for(&client_auth, &url)?;
        Ok(TokenEndpoint(Arc::new(Inner {
            url,
            server,
            client_auth,
            params,
            headers,
            unshown,
            encoding: self.encoding,
            wrapped,
            token_types: self.token_types,
            assume_lifetime: self.assume_lifetime,
            timeout: self.timeout,
            transport,
            clock: Clock::default(),
        })))
    }
}

/// What is known of the server; after [`discover`](crate::TokenEndpoint::discover) what is said
/// here counts more than its metadata.
impl TokenEndpointBuilder {
    /// Sets the authorization server's issuer identifier (RFC 8414 §2), which is compared byte for
    /// byte; by default it is unknown.
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.told.issuer = Some(issuer.into());
        self
    }

    /// Sets where users are sent to log in (RFC 6749 §3.1); by default it is unknown.
    pub fn authorization_endpoint(mut self, url: impl Into<String>) -> Self {
        self.told.endpoint(Kind::Authorization, url.into());
        self
    }

    /// Sets where device codes come from (RFC 8628 §3.1); by default it is unknown.
    pub fn device_authorization_endpoint(mut self, url: impl Into<String>) -> Self {
        self.told.endpoint(Kind::DeviceAuthorization, url.into());
        self
    }

    /// Sets where tokens are revoked (RFC 7009 §2); by default it is unknown, and nothing is
    /// revoked.
    pub fn revocation_endpoint(mut self, url: impl Into<String>) -> Self {
        self.told.endpoint(Kind::Revocation, url.into());
        self
    }
}

impl fmt::Debug for TokenEndpointBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not even the URL: it wasn't checked yet and may hold a password.
        f.debug_struct("TokenEndpointBuilder")
            .field("client_auth", &self.client_auth)
            .field("encoding", &self.encoding)
            .field("token_types", &self.token_types)
            .field("assume_lifetime", &self.assume_lifetime)
            .field("timeout", &self.timeout)
            .field("allow_plaintext", &self.allow_plaintext)
            .finish_non_exhaustive()
    }
}

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
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
    fn a_parameter_twice_is_refused_by_name() {
        let message = refusal(builder().param("tenant", "a").param("tenant", "hunter2"));
        assert!(
            message.contains("tenant") && message.contains("twice"),
            "{message}"
        );
        assert!(!message.contains("hunter2"), "{message}");
    }

    // rules 3, 7
    #[test]
    fn a_parameter_in_the_urls_query_is_none_of_the_request() {
        let at = |query: &str| {
            let url = format!("https://as.example/token?{query}");
            TokenEndpoint::builder(url).client_auth(ClientAuth::basic("i", "s"))
        };
        for (builder, key) in [
            (at("x=1&grant_type=hunter2"), "grant_type"),
            (at("client%5Fsecret=hunter2"), "client_secret"),
            (at("scope="), "scope"),
            (at("tenant=hunter2").param("tenant", "hunter2"), "tenant"),
            (
                at("").device_authorization_endpoint("https://as.example/d?client_id=hunter2"),
                "client_id",
            ),
            (
                at("").revocation_endpoint("https://as.example/r?token=hunter2"),
                "token",
            ),
        ] {
            let message = refusal(builder);
            assert!(
                message.contains(&format!("{key:?}")) && message.contains("query"),
                "{message}"
            );
            assert!(!message.contains("hunter2"), "{message}");
        }
        let unused = tower::service_fn(|_| async {
            Ok::<_, std::convert::Infallible>(Response::new(String::new()))
        });
        let fine = at("p=policy&audience=a").param("audience", "b");
        assert!(fine.transport(unused).build().is_ok());
    }

    #[test]
    fn a_parameter_without_a_name_is_refused() {
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

    // rules 22, 76
    #[test]
    fn a_token_that_needs_more_than_to_be_sent_is_no_bearer_token() {
        for token_type in ["", "DPoP", "mac", "N_A"] {
            let message = refusal(builder().token_type("bot").token_type(token_type));
            assert!(
                message.contains(&format!("{token_type:?}")) && message.contains("bearer"),
                "{message}"
            );
        }
    }

    #[test]
    fn a_timeout_leaves_time() {
        assert!(refusal(builder().timeout(Duration::ZERO)).contains("timeout"));
    }

    // rule 4
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
