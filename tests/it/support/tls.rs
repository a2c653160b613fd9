//! A server that speaks TLS, and the authorities that certificates come from.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair,
    PKCS_ECDSA_P256_SHA256, SignatureAlgorithm,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer},
        server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    },
};

use super::{
    raw::read_request,
    sockets::{Running, listen},
};

/// Whoever signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
#[derive(Clone)]
pub struct Pair {
    pub certificate: Vec<u8>,
    /// PKCS#8.
    pub key: Vec<u8>,
}

impl Authority {
    pub fn new() -> Self {
        Self::named("authority")
    }

    pub fn named(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub fn pem(&self) -> String {
        pem("CERTIFICATE", self.0.der())
    }

    pub fn sign(&self, name: &str) -> Pair {
        self.sign_for(name, &PKCS_ECDSA_P256_SHA256)
    }

    pub fn sign_for(&self, name: &str, algorithm: &'static SignatureAlgorithm) -> Pair {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Pair {
            certificate: certificate.der().to_vec(),
            key: key.serialize_der(),
        }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }
}

impl Pair {
    pub fn certificate_pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    pub fn key_pem(&self) -> String {
        pem("PRIVATE KEY", &self.key)
    }
}

pub fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<_> = text
        .as_bytes()
        .chunks(64)
        .map(String::from_utf8_lossy)
        .collect();
    let lines = lines.join("\n");
    format!("-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n")
}

/// A connection, as the server saw it.
#[derive(Debug, Clone)]
pub enum Seen {
    Request {
        /// What the client showed of itself, in DER.
        certificate: Option<Vec<u8>>,
        bytes: String,
    },
    /// The handshake failed.
    Nothing,
}

/// Named `localhost`. Answers each request with the same bytes, and hangs up.
pub struct TlsServer {
    address: SocketAddr,
    seen: watch::Sender<Vec<Seen>>,
    _running: Running,
}

impl TlsServer {
    /// Asks nobody for a certificate.
    pub fn start(authority: &Authority, answer: Vec<u8>) -> Self {
        Self::saying(authority, |_| answer)
    }

    /// With an answer that knows the server's origin.
    pub fn saying(authority: &Authority, answer: impl FnOnce(&str) -> Vec<u8>) -> Self {
        Self::verifying(authority, answer, WebPkiClientVerifier::no_client_auth())
    }

    /// Serves only clients with a certificate of the authority.
    pub fn for_clients_of(authority: &Authority, answer: Vec<u8>) -> Self {
        let provider = Arc::new(ring::default_provider());
        let roots = Arc::new(authority.roots());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
        Self::verifying(authority, |_| answer, verifier.build().unwrap())
    }

    fn verifying(
        authority: &Authority,
        answer: impl FnOnce(&str) -> Vec<u8>,
        verifier: Arc<dyn ClientCertVerifier>,
    ) -> Self {
        let own = authority.sign("localhost");
        let key = PrivateKeyDer::Pkcs8(own.key.into());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![CertificateDer::from(own.certificate)], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let seen = watch::Sender::new(Vec::new());
        let kept = seen.clone();
        let said = Arc::new(OnceLock::new());
        let says = Arc::clone(&said);
        let (address, running) =
            listen(move |stream| serve(acceptor.clone(), stream, Arc::clone(&says), kept.clone()));
        let server = Self {
            address,
            seen,
            _running: running,
        };
        said.set(answer(&server.url(""))).unwrap();
        server
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    /// So many connections, once there are as many: of a handshake that fails, the client may hear
    /// first.
    pub async fn saw(&self, connections: usize) -> Vec<Seen> {
        let mut seen = self.seen.subscribe();
        let seen = seen.wait_for(|seen| seen.len() >= connections).await;
        seen.unwrap().clone()
    }

    /// All connections so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }
}

async fn serve(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    answer: Arc<OnceLock<Vec<u8>>>,
    seen: watch::Sender<Vec<Seen>>,
) {
    let mut stream = match acceptor.accept(stream).into_fallible().await {
        Ok(stream) => stream,
        Err((_, mut stream)) => {
            seen.send_modify(|seen| seen.push(Seen::Nothing));
            // Closing with unread bytes would be a reset, and the alert be lost.
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
            return;
        }
    };
    let certificates = stream.get_ref().1.peer_certificates();
    let certificate = certificates.map(|chain| chain[0].to_vec());
    let bytes = read_request(&mut stream).await;
    let request = Seen::Request { certificate, bytes };
    seen.send_modify(|seen| seen.push(request));
    // The client may hang up at any time: that is for its test to judge.
    let _ = stream.write_all(answer.wait()).await;
    let _ = stream.shutdown().await;
    let _ = stream.read_to_end(&mut Vec::new()).await;
}
