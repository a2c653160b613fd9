//! What is known of the authorization server besides its token endpoint.

use std::fmt;

use super::url::EndpointUrl;

/// Members of the server's metadata (RFC 8414 §2), given by hand or discovered.
#[derive(Default)]
pub(super) struct Server {
    /// The issuer identifier, byte for byte.
    pub(super) issuer: Option<String>,
    /// `authorization_response_iss_parameter_supported` (RFC 9207 §3): each authorization response
    /// names the issuer.
    pub(super) iss_in_response: bool,
    /// `authorization_endpoint` (RFC 6749 §3.1).
    pub(super) authorization: Option<EndpointUrl>,
    /// `device_authorization_endpoint` (RFC 8628 §3.1).
    pub(super) device_authorization: Option<EndpointUrl>,
    /// `revocation_endpoint` (RFC 7009 §2).
    pub(super) revocation: Option<EndpointUrl>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |url: &Option<EndpointUrl>| url.as_ref().map(|url| url.shown.clone());
        f.debug_struct("Server")
            .field("issuer", &self.issuer)
            .field("iss_in_response", &self.iss_in_response)
            .field("authorization", &shown(&self.authorization))
            .field("device_authorization", &shown(&self.device_authorization))
            .field("revocation", &shown(&self.revocation))
            .finish()
    }
}
