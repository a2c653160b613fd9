//! What is known of the authorization server besides its token endpoint.

use std::fmt;

use super::{
    ClientAuth, EndpointConfigError,
    checks::check_query,
    offered::Offered,
    url::{EndpointUrl, Kind},
};
use crate::{secret::SecretString, source::TokenError};

/// Members of the server's metadata (RFC 8414 §2), given by hand or discovered.
pub(super) struct Server {
    /// The issuer identifier, byte for byte.
    pub(super) issuer: Option<String>,
    /// `authorization_response_iss_parameter_supported` (RFC 9207 §3): each authorization response
    /// names the issuer.
    pub(super) iss_in_response: bool,
    /// `authorization_endpoint` (RFC 6749 §3.1).
    pub(super) authorization: Known,
    /// `device_authorization_endpoint` (RFC 8628 §3.1).
    pub(super) device_authorization: Known,
    /// `revocation_endpoint` (RFC 7009 §2).
    pub(super) revocation: Known,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("issuer", &self.issuer)
            .field("iss_in_response", &self.iss_in_response)
            .field("authorization", &self.authorization)
            .field("device_authorization", &self.device_authorization)
            .field("revocation", &self.revocation)
            .finish()
    }
}

/// An endpoint that not every client uses. One of the metadata that can't be used is the error of
/// who asks there, and of nobody else.
pub(super) struct Known(Result<Option<EndpointUrl>, TokenError>);

impl Known {
    pub(super) fn url(&self) -> Result<Option<&EndpointUrl>, TokenError> {
        match &self.0 {
            Ok(url) => Ok(url.as_ref()),
            Err(error) => Err(error.clone()),
        }
    }

    pub(super) fn usable(&self) -> Option<&EndpointUrl> {
        self.0.as_ref().ok()?.as_ref()
    }
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Ok(url) => url.as_ref().map(|url| &url.shown).fmt(f),
            Err(error) => error.fmt(f),
        }
    }
}

/// What a builder was told of the server, by hand or by its metadata, not yet checked.
#[derive(Default)]
pub(super) struct Told {
    pub(super) issuer: Option<String>,
    /// Counts more than the metadata.
    pub(super) by_hand: Vec<(Kind, String)>,
    pub(super) listed: Vec<(Kind, String)>,
    /// `mtls_endpoint_aliases` (RFC 8705 §5).
    pub(super) mtls_aliases: Vec<(Kind, String)>,
    /// Unknown for a server that was described by hand.
    pub(super) offered: Option<Offered>,
    pub(super) iss_in_response: bool,
}

impl Told {
    /// By hand.
    pub(super) fn endpoint(&mut self, kind: Kind, url: String) {
        self.by_hand.retain(|(other, _)| *other != kind);
        self.by_hand.push((kind, url));
    }

    /// The client authentication that both sides support, the token endpoint for it, and the rest
    /// of the server.
    pub(super) fn checked(
        self,
        client_auth: ClientAuth,
        allow_plaintext: bool,
        params: &[(String, SecretString)],
    ) -> Result<(ClientAuth, EndpointUrl, Server), EndpointConfigError> {
        let client_auth = match &self.offered {
            Some(offered) => offered.agree(client_auth)?,
            None => client_auth,
        };
        let terms = Terms {
            client_auth: &client_auth,
            allow_plaintext,
            params,
        };
        let by_hand = url_in(&self.by_hand, Kind::Token);
        let token = by_hand.or(self.metadata_of(Kind::Token, &client_auth));
        let token = terms.parse(Kind::Token, token.unwrap_or_default())?;
        let server = Server {
            authorization: self.known(Kind::Authorization, &terms)?,
            device_authorization: self.known(Kind::DeviceAuthorization, &terms)?,
            revocation: self.known(Kind::Revocation, &terms)?,
            issuer: self.issuer,
            iss_in_response: self.iss_in_response,
        };
        Ok((client_auth, token, server))
    }

    fn known(&self, kind: Kind, terms: &Terms<'_>) -> Result<Known, EndpointConfigError> {
        if let Some(text) = url_in(&self.by_hand, kind) {
            return Ok(Known(Ok(Some(terms.parse(kind, text)?))));
        }
        let listed = self.metadata_of(kind, terms.client_auth);
        let listed = listed.map(|text| terms.parse(kind, text)).transpose();
        Ok(Known(listed.map_err(TokenError::from)))
    }

    fn metadata_of(&self, kind: Kind, client_auth: &ClientAuth) -> Option<&str> {
        // RFC 8705 §5: "an OAuth client intending to do mutual TLS [...] MUST use the alias URL
        // of the endpoint within the "mtls_endpoint_aliases", when present, in preference to
        // the endpoint URL of the same name at the top level of metadata."
        let alias = url_in(&self.mtls_aliases, kind).filter(|_| client_auth.is_tls());
        alias.or(url_in(&self.listed, kind))
    }
}

fn url_in(endpoints: &[(Kind, String)], wanted: Kind) -> Option<&str> {
    let found = endpoints.iter().find(|(kind, _)| *kind == wanted);
    found.map(|(_, url)| &**url)
}

/// What an endpoint's URL must go with.
struct Terms<'a> {
    client_auth: &'a ClientAuth,
    allow_plaintext: bool,
    params: &'a [(String, SecretString)],
}

impl Terms<'_> {
    fn parse(&self, kind: Kind, text: &str) -> Result<EndpointUrl, EndpointConfigError> {
        let url = EndpointUrl::parse(kind, text, self.allow_plaintext)?;
        let shows_certificate = self.client_auth.has_certificate() && kind != Kind::Authorization;
        if shows_certificate && !url.is_https() {
            return Err(url.refuse(
                kind,
                "it is plain http, in which ClientAuth::tls can't show a certificate; use https",
            ));
        }
        check_query(kind, &url, self.params)?;
        Ok(url)
    }
}
