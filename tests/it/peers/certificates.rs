//! Certificates for one server and its clients, made anew each time.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CertifiedKey, DnType, IsCa, KeyPair,
};
use serde_json::{Value, json};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::PrivateKeyDer};

use super::server::{AuthorizationServer, Product};

pub type Transport = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

pub struct Certificates {
    authority: CertifiedIssuer<'static, KeyPair>,
    server: CertifiedKey<KeyPair>,
    signed: CertifiedKey<KeyPair>,
    self_signed: CertifiedKey<KeyPair>,
}

/// What a client shows of itself.
#[derive(Debug, Clone, Copy)]
pub enum Shows {
    Nothing,
    /// The certificate that the authority signed, for `client.test`.
    Signed,
    SelfSigned,
}

impl Certificates {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        // Another name than the certificates have, which would look self-signed.
        let name = &mut params.distinguished_name;
        name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let signed = |name: &str| {
            let signing_key = KeyPair::generate().unwrap();
            let params = CertificateParams::new([name.to_owned()]).unwrap();
            let cert = params.signed_by(&signing_key, &authority).unwrap();
            CertifiedKey { cert, signing_key }
        };
        Self {
            server: signed("127.0.0.1"),
            signed: signed("client.test"),
            self_signed: rcgen::generate_simple_self_signed(["client.test".to_owned()]).unwrap(),
            authority,
        }
    }

    /// What the server must have of them.
    pub fn for_server(&self) -> Value {
        json!({
            "ca": self.authority.pem(),
            "certificate": self.server.cert.pem(),
            "key": self.server.signing_key.serialize_pem(),
            "self_signed": self.self_signed.cert.pem(),
        })
    }

    /// A client that trusts the authority.
    pub fn transport(&self, shows: Shows) -> Transport {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let shown = match shows {
            Shows::Nothing => None,
            Shows::Signed => Some(&self.signed),
            Shows::SelfSigned => Some(&self.self_signed),
        };
        let config = match shown {
            None => config.with_no_client_auth(),
            Some(CertifiedKey { cert, signing_key }) => {
                let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
                let chain = vec![cert.der().clone()];
                config.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_only()
            .enable_http1()
            .build();
        Client::builder(TokioExecutor::new()).build(connector)
    }
}

#[tokio::test]
async fn a_certificate_says_who_the_client_is() {
    let Some(server) = AuthorizationServer::start(Product::OidcProvider).await else {
        return;
    };
    for (client, shows, error) in [
        ("tls_client_auth", Shows::Signed, None),
        ("tls_client_auth", Shows::SelfSigned, Some("invalid_client")),
        ("tls_client_auth", Shows::Nothing, Some("invalid_client")),
        ("self_signed_tls_client_auth", Shows::SelfSigned, None),
        (
            "self_signed_tls_client_auth",
            Shows::Signed,
            Some("invalid_client"),
        ),
    ] {
        let transport = server.certificates.transport(shows);
        let form = [("grant_type", "client_credentials"), ("client_id", client)];
        let answer = server.post_over_tls(&transport, &form).await;
        assert_eq!(answer["error"].as_str(), error, "{client}, {shows:?}");
    }
}
