//! The built-in transport: hyper over rustls, trusting the system's root certificates or those it
//! was given.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, Error, ResponseFuture, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
    sign::SingleCertAndKey,
};
use rustls_native_certs::{CertificateResult, load_native_certs};
use tower_service::Service;

use super::{EndpointConfigError, tls::Identity, transport::Transport};

/// Within the total deadline: a host that drops packets shouldn't use it up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client for one endpoint, which trusts `roots` (PEM) or else the system's. It follows no
/// redirects and asks no proxy.
pub(super) fn client(https: bool, roots: Option<&[u8]>) -> Result<Transport, EndpointConfigError> {
    trusting(match roots {
        Some(pem) => given(pem)?,
        None if https => system(load_native_certs())?,
        None => RootCertStore::empty(),
    })
}

fn trusting(roots: RootCertStore) -> Result<Transport, EndpointConfigError> {
    // The provider is named here: a library must not depend on which one the process installed.
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| EndpointConfigError::Tls {
            cause: error.into(),
        })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Transport::new(HttpsClient { tls }).built_in())
}

#[derive(Clone)]
struct HttpsClient {
    tls: ClientConfig,
}

impl Service<Request<Full<Bytes>>> for HttpsClient {
    type Response = <Hyper as Service<Request<Full<Bytes>>>>::Response;
    type Error = Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Full<Bytes>>) -> ResponseFuture {
        let mut tls = self.tls.clone();
        if let Some(Identity(certified)) = request.extensions_mut().remove() {
            tls.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
            // A resumed connection would go on with the certificate that it began with.
            tls.resumption = Resumption::disabled();
        }
        connecting(tls).request(request)
    }
}

type Hyper = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

fn connecting(tls: ClientConfig) -> Hyper {
    let mut http = HttpConnector::new();
    http.enforce_http(false); // `https` URLs pass through it on their way to rustls
    http.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(http);
    // No connection is kept: servers close idle ones within seconds, and a client that asks once a
    // minute would find a dead one each time.
    Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(0)
        .build(https)
}

fn given(pem: &[u8]) -> Result<RootCertStore, EndpointConfigError> {
    let refuse = |problem| EndpointConfigError::RootCertificates { problem };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate =
            certificate.map_err(|_| refuse("they aren't PEM from beginning to end"))?;
        roots
            .add(certificate)
            .map_err(|_| refuse("one of them is no X.509 certificate of version 3"))?;
    }
    if roots.is_empty() {
        return Err(refuse(
            "there is none in the text; expected is -----BEGIN CERTIFICATE-----, not the path of a \
             file",
        ));
    }
    Ok(roots)
}

fn system(found: CertificateResult) -> Result<RootCertStore, EndpointConfigError> {
    let mut roots = RootCertStore::empty();
    // System stores hold odd certificates; one usable is enough to go on.
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        return Err(EndpointConfigError::NoRootCertificates {
            cause: found.errors.into_iter().next().map(Into::into),
        });
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::{super::redact::Redactor, *};

    /// What is said of a server that answers the handshake so.
    async fn handshake_answered_by(answer: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer)
                .await
                .unwrap();
        });
        let mut request = Request::new(Full::new(Bytes::from_static(b"x")));
        *request.uri_mut() = format!("https://127.0.0.1:{port}/token").parse().unwrap();
        let transport = trusting(RootCertStore::empty()).unwrap();
        let failure = transport.send(request).await.err().unwrap();
        server.await.unwrap();
        let url = Arc::from("https://as.example/token");
        failure.at(&url, &Redactor::new([])).to_string()
    }

    #[tokio::test]
    async fn a_port_that_does_not_speak_https_is_told_from_a_bad_certificate() {
        let error = handshake_answered_by(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        assert!(error.contains("speaks https"), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_ends_the_handshake_speaks_https() {
        // RFC 8446 §6: handshake_failure, protocol_version, unrecognized_name.
        for alert in [
            b"\x15\x03\x03\x00\x02\x02\x28",
            b"\x15\x03\x03\x00\x02\x02\x46",
            b"\x15\x03\x03\x00\x02\x02\x70",
        ] {
            let error = handshake_answered_by(alert).await;
            assert!(!error.contains("speaks https"), "{error}");
            for part in ["cipher suites", "host name", "ClientAuth::tls"] {
                assert!(error.contains(part), "{error}");
            }
        }
    }

    #[test]
    fn without_root_certificates_there_is_advice() {
        let error = system(CertificateResult::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains("ca-certificates"), "{error}");
        assert!(error.contains(".transport("), "{error}");
    }

    #[test]
    fn plain_http_needs_no_root_certificates() {
        assert!(client(false, None).is_ok());
    }
}
