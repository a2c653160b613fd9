//! What carries requests to the authorization server: a service that was given, or the built-in
//! one.

use std::sync::Arc;

use super::{ClientAuth, EndpointConfigError, transport::Transport, url::EndpointUrl};

/// The choice, not yet made.
#[derive(Clone, Default)]
pub(super) struct Carrier {
    pub(super) own: Option<Arc<Transport>>,
    /// What the built-in one trusts in place of the system's root certificates, in PEM.
    pub(super) roots: Option<Vec<u8>>,
}

impl Carrier {
    /// For requests to `url` without a client certificate.
    pub(super) fn open(self, url: &EndpointUrl) -> Result<Arc<Transport>, EndpointConfigError> {
        match self.own {
            Some(_) if self.roots.is_some() => Err(EndpointConfigError::Transport {
                problem: "one was given (.transport), and it brings its own trust: leave out \
                          .root_certificates(…), or .transport(…)",
            }),
            Some(own) => Ok(own),
            None => built_in(url, self.roots.as_deref()),
        }
    }

    /// For requests to `url` of a client that authenticates so.
    pub(super) fn open_for(
        self,
        client_auth: &ClientAuth,
        url: &EndpointUrl,
    ) -> Result<Arc<Transport>, EndpointConfigError> {
        let problem = if self.own.is_some() && client_auth.has_certificate() {
            "one was given (.transport), and it would never show the certificate of \
             ClientAuth::tls: let it show its own and use ClientAuth::tls_by_transport, or leave \
             out .transport(…)"
        } else if self.own.is_none() && client_auth.is_tls_by_transport() && url.is_https() {
            "none was given that could show the certificate of ClientAuth::tls_by_transport: pass \
             .transport(…), or use ClientAuth::tls"
        } else {
            return self.open(url);
        };
        Err(EndpointConfigError::Transport { problem })
    }
}

#[cfg(feature = "https-client")]
fn built_in(
    url: &EndpointUrl,
    roots: Option<&[u8]>,
) -> Result<Arc<Transport>, EndpointConfigError> {
    super::https::client(url.is_https(), roots).map(Arc::new)
}

#[cfg(not(feature = "https-client"))]
fn built_in(_: &EndpointUrl, _: Option<&[u8]>) -> Result<Arc<Transport>, EndpointConfigError> {
    Err(EndpointConfigError::NoTransport)
}
