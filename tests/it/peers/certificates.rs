//! Certificates for one server and its clients, made anew each time.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CertifiedKey, DnType, IsCa, KeyPair,
};
use serde_json::{Value, json};
use tower_oauth::{ClientAuth, ClientCertificate, ClientCredentials, Demand, TokenSource};

use super::server::{AuthorizationServer, Product};

pub struct Certificates {
    authority: CertifiedIssuer<'static, KeyPair>,
    server: CertifiedKey<KeyPair>,
    signed: CertifiedKey<KeyPair>,
    self_signed: CertifiedKey<KeyPair>,
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

    /// The one whom the server's certificate comes from.
    pub fn authority(&self) -> String {
        self.authority.pem()
    }

    /// What the authority signed, for `client.test`.
    pub fn signed(&self) -> ClientCertificate {
        pem(&self.signed)
    }

    pub fn self_signed(&self) -> ClientCertificate {
        pem(&self.self_signed)
    }
}

fn pem(pair: &CertifiedKey<KeyPair>) -> ClientCertificate {
    ClientCertificate::from_pem(pair.cert.pem(), pair.signing_key.serialize_pem())
}

#[tokio::test]
async fn another_certificate_or_none_is_refused() {
    let Some(server) = AuthorizationServer::start(Product::OidcProvider).await else {
        return;
    };
    let certificates = &server.certificates;
    for (client, refused) in [
        ("tls_client_auth", certificates.self_signed()),
        ("self_signed_tls_client_auth", certificates.signed()),
    ] {
        let another = server.tls_endpoint(ClientAuth::tls(client, refused));
        let none = server.endpoint(ClientAuth::tls_by_transport(client));
        for endpoint in [another, none.transport(server.http.clone())] {
            let source = ClientCredentials::new(endpoint.build().unwrap());
            let error = source.token(Demand::default()).await.unwrap_err();
            assert_eq!(error.oauth_code(), Some("invalid_client"), "{error}");
            let heard = server.log().await.pop().unwrap();
            assert_eq!(heard["error"], "invalid_client", "{client}");
        }
    }
}
