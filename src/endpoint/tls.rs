//! The certificate by which a client proves in the TLS handshake who it is (RFC 8705 §2).

use std::{fmt, sync::Arc};

use rustls::{
    Error,
    crypto::ring::sign::any_supported_type,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{PemObject, SectionKind},
    },
    sign::CertifiedKey,
};
use zeroize::{Zeroize, Zeroizing};

use super::{EndpointConfigError, client_auth::problem::AuthProblem};
use crate::secret::{Secret, SecretString};

/// A client's certificate and its private key, for [`ClientAuth::tls`](crate::ClientAuth::tls).
///
/// Both are texts in PEM, or providers that are asked at each token request, so that a certificate
/// can be rotated while the program runs: no connection is kept, and each token request is a
/// handshake of its own.
///
/// ```
/// use tower_oauth::{ClientAuth, ClientCertificate, Secret};
///
/// let certificate = ClientCertificate::from_pem(
///     Secret::from_file("/tls/tls.crt"),
///     Secret::from_file("/tls/tls.key"),
/// );
/// let auth = ClientAuth::tls("client-id", certificate);
/// # let _ = auth;
/// ```
#[derive(Clone)]
pub struct ClientCertificate {
    certificate: Secret,
    key: Secret,
}

impl ClientCertificate {
    /// A certificate, followed by those that lead to its root, and its private key (PKCS#8,
    /// PKCS#1 or SEC1; RSA, P-256, P-384 or Ed25519; not encrypted).
    ///
    /// What else the texts hold is passed over, so one file with both can be given for each. Texts
    /// are checked when the endpoint is built; what a provider says, when it is asked. Its error,
    /// or a key that doesn't belong to the certificate, ends that one token request as a transient
    /// failure: the next may find the rotation complete.
    pub fn from_pem(certificate: impl Into<Secret>, key: impl Into<Secret>) -> Self {
        Self {
            certificate: certificate.into(),
            key: key.into(),
        }
    }

    /// What can be known before a provider is asked.
    pub(super) fn check(&self) -> Result<(), EndpointConfigError> {
        let outcome = match (self.certificate.fixed(), self.key.fixed()) {
            (Some(certificate), Some(key)) => certified(certificate, key).map(drop),
            (Some(certificate), None) => chain(certificate).map(drop),
            (None, Some(key)) => private_key(key).map(drop),
            (None, None) => Ok(()),
        };
        outcome.map_err(|problem| EndpointConfigError::ClientCertificate { problem })
    }

    /// As it is now.
    pub(super) fn current(&self) -> Result<Identity, AuthProblem> {
        let certificate = self.certificate.reveal();
        let certificate = certificate.map_err(AuthProblem::NoCertificate)?;
        let key = self.key.reveal().map_err(AuthProblem::NoCertificate)?;
        certified(&certificate, &key).map_err(AuthProblem::UnusableCertificate)
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").finish_non_exhaustive()
    }
}

/// What the built-in transport shows; it travels among the request's extensions.
#[derive(Clone)]
pub(super) struct Identity(pub(super) Arc<CertifiedKey>);

fn certified(certificate: &SecretString, key: &SecretString) -> Result<Identity, &'static str> {
    let chain = chain(certificate)?;
    let key = any_supported_type(&*private_key(key)?)
        .map_err(|_| "its key is of a kind that can't be used: RSA, P-256, P-384 or Ed25519 can")?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
            Ok(Identity(Arc::new(certified)))
        }
        Err(Error::InconsistentKeys(_)) => {
            Err("its key belongs to another certificate; give the two that were made together")
        }
        Err(_) => Err("its first certificate is none (X.509 version 3)"),
    }
}

fn chain(pem: &SecretString) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    const BROKEN: &str = "its certificate isn't PEM from beginning to end";
    let mut chain = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem.as_bytes()) {
        match section.map_err(|_| BROKEN)? {
            (SectionKind::Certificate, der) => chain.push(CertificateDer::from(der)),
            (_, mut other) => other.zeroize(), // a key may stand in the same file
        }
    }
    if chain.is_empty() {
        return Err(
            "it has no certificate; expected is -----BEGIN CERTIFICATE----- (Secret::from_file \
             reads a file)",
        );
    }
    Ok(chain)
}

fn private_key(pem: &SecretString) -> Result<Zeroizing<PrivateKeyDer<'static>>, &'static str> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map(Zeroizing::new)
        .map_err(|_| {
            "it has no private key; expected is -----BEGIN PRIVATE KEY----- (or RSA or EC), which \
             isn't encrypted (`openssl pkey` takes the password off)"
        })
}
