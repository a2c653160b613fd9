//! What a token endpoint can be told, and what is refused before anything is sent.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use tower_service::Service;

use super::{
    ClientAuth, Encoding, EndpointConfigError, Inner, TokenEndpoint,
    checks::{checked_headers, checked_params, unshown},
    pointer::JsonPointer,
    server::Server,
    transport::Transport,
    url::{EndpointUrl, Kind},
};
use crate::{clock::Clock, secret::SecretString, source::BoxError};

/// Describes a [`TokenEndpoint`]; made by [`TokenEndpoint::builder`].
#[must_use]
pub struct TokenEndpointBuilder {
    url: String,
    client_auth: Option<ClientAuth>,
    params: Vec<(String, SecretString)>,
    headers: Vec<(String, SecretString)>,
    encoding: Encoding,
    answer_at: String,
    assume_lifetime: Option<Duration>,
    timeout: Duration,
    transport: Option<Transport>,
    allow_plaintext: bool,
    issuer: Option<String>,
    other_endpoints: Vec<(Kind, String)>,
}

impl TokenEndpointBuilder {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            client_auth: None,
            params: Vec::new(),
            headers: Vec::new(),
            encoding: Encoding::Form,
            answer_at: String::new(),
            assume_lifetime: None,
            timeout: DEFAULT_TIMEOUT,
            transport: None,
            allow_plaintext: false,
            issuer: None,
            other_endpoints: Vec::new(),
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

    /// Sets how token requests are written; by default as a form (RFC 6749 §3.2).
    pub fn encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// Sets where in a JSON answer the object with the token is, as a JSON pointer (RFC 6901) such
    /// as `/data/token`; by default the answer is that object.
    ///
    /// Where the pointer leads to nothing, as in most errors, the answer itself counts.
    pub fn answer_at(mut self, pointer: impl Into<String>) -> Self {
        self.answer_at = pointer.into();
        self
    }

    /// Sets the authorization server's issuer identifier (RFC 8414 §2), which is compared byte for
    /// byte; by default it is unknown.
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// Sets where users are sent to log in (RFC 6749 §3.1); by default it is unknown.
    pub fn authorization_endpoint(self, url: impl Into<String>) -> Self {
        self.other_endpoint(Kind::Authorization, url.into())
    }

    /// Sets where device codes come from (RFC 8628 §3.1); by default it is unknown.
    pub fn device_authorization_endpoint(self, url: impl Into<String>) -> Self {
        self.other_endpoint(Kind::DeviceAuthorization, url.into())
    }

    /// Sets where tokens are revoked (RFC 7009 §2); by default it is unknown, and nothing is
    /// revoked.
    pub fn revocation_endpoint(self, url: impl Into<String>) -> Self {
        self.other_endpoint(Kind::Revocation, url.into())
    }

    fn other_endpoint(mut self, kind: Kind, url: String) -> Self {
        self.other_endpoints.retain(|(other, _)| *other != kind);
        self.other_endpoints.push((kind, url));
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
        let url = EndpointUrl::parse(Kind::Token, &self.url, self.allow_plaintext)?;
        let server = server(self.issuer, self.other_endpoints, self.allow_plaintext)?;
        let wrapped = JsonPointer::parse(&self.answer_at)
            .map_err(|problem| EndpointConfigError::AnswerAt { problem })?;
        let client_auth = self.client_auth.ok_or(EndpointConfigError::NoClientAuth)?;
        client_auth.check(server.issuer.as_deref())?;
        let params = checked_params(self.params)?;
        let unshown = unshown(&params, &self.headers);
        let headers = checked_headers(self.headers)?;
        let transport = match self.transport {
            Some(transport) => transport,
            None => default_transport(&url)?,
        };
        Ok(TokenEndpoint(Arc::new(Inner {
            url,
            server,
            client_auth,
            params,
            headers,
            unshown,
            encoding: self.encoding,
            wrapped,
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
            .field("encoding", &self.encoding)
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

fn server(
    issuer: Option<String>,
    endpoints: Vec<(Kind, String)>,
    allow_plaintext: bool,
) -> Result<Server, EndpointConfigError> {
    let mut server = Server {
        issuer,
        ..Server::default()
    };
    for (kind, text) in endpoints {
        let url = EndpointUrl::parse(kind, &text, allow_plaintext)?;
        let slot = match kind {
            Kind::Token => continue,
            Kind::Authorization => &mut server.authorization,
            Kind::DeviceAuthorization => &mut server.device_authorization,
            Kind::Revocation => &mut server.revocation,
        };
        *slot = Some(url);
    }
    Ok(server)
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
