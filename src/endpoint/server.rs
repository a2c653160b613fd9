//! What is known of the authorization server besides its token endpoint.

use std::fmt;

use super::{
    ClientAuth, EndpointConfigError,
    offered::Offered,
    url::{EndpointUrl, Kind},
};

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

/// What a builder was told of the server, by hand or by its metadata, not yet checked.
#[derive(Default)]
pub(super) struct Told {
    pub(super) issuer: Option<String>,
    pub(super) endpoints: Vec<(Kind, String)>,
    /// `mtls_endpoint_aliases` (RFC 8705 §5).
    pub(super) mtls_aliases: Vec<(Kind, String)>,
    /// Unknown for a server that was described by hand.
    pub(super) offered: Option<Offered>,
    pub(super) iss_in_response: bool,
}

impl Told {
    /// By hand, which counts more than the metadata.
    pub(super) fn endpoint(&mut self, kind: Kind, url: String) {
        for known in [&mut self.endpoints, &mut self.mtls_aliases] {
            known.retain(|(other, _)| *other != kind);
        }
        self.endpoints.push((kind, url));
    }

    /// The client authentication that both sides support, the token endpoint for it, and the rest
    /// of the server.
    pub(super) fn checked(
        self,
        client_auth: ClientAuth,
        allow_plaintext: bool,
    ) -> Result<(ClientAuth, EndpointUrl, Server), EndpointConfigError> {
        let client_auth = match &self.offered {
            Some(offered) => offered.agree(client_auth)?,
            None => client_auth,
        };
        let parse = |kind, text: &str| {
            let url = EndpointUrl::parse(kind, text, allow_plaintext)?;
            if client_auth.has_certificate() && kind != Kind::Authorization && !url.is_https() {
                return Err(url.refuse(
                    kind,
                    "it is plain http, in which ClientAuth::tls can't show a certificate; use \
                     https",
                ));
            }
            Ok(url)
        };
        let url_of = |wanted| {
            // RFC 8705 §5: "an OAuth client intending to do mutual TLS [...] MUST use the alias URL
            // of the endpoint within the "mtls_endpoint_aliases", when present, in preference to
            // the endpoint URL of the same name at the top level of metadata."
            let aliases: &[_] = if client_auth.is_tls() {
                &self.mtls_aliases
            } else {
                &[]
            };
            let mut urls = aliases.iter().chain(&self.endpoints);
            let text = urls.find_map(|(kind, text)| (*kind == wanted).then_some(text));
            text.map(|text| parse(wanted, text)).transpose()
        };
        let token = match url_of(Kind::Token)? {
            Some(url) => url,
            None => parse(Kind::Token, "")?,
        };
        let server = Server {
            authorization: url_of(Kind::Authorization)?,
            device_authorization: url_of(Kind::DeviceAuthorization)?,
            revocation: url_of(Kind::Revocation)?,
            issuer: self.issuer,
            iss_in_response: self.iss_in_response,
        };
        Ok((client_auth, token, server))
    }
}
