//! The key that signs, as a PEM file has it (RFC 7468).

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, crypto::JwtSigner};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject};
use zeroize::{Zeroize, Zeroizing};

use super::{SigningError, ring_signer::RingSigner};
use crate::secret::{Secret, SecretString};

/// A private key that signs JWTs, for
/// [`ClientAuth::private_key_jwt`](crate::ClientAuth::private_key_jwt) and
/// [`SignedJwt`](crate::SignedJwt).
///
/// It is a PEM text, as OpenSSL writes it, or a [`Secret`] whose provider is asked at each token
/// request, so that the key can be rotated while the program runs. It is parsed once for as long
/// as the text stays the same. It never prints.
///
/// ```
/// use tower_oauth::{ClientAuth, Secret, SigningKey};
///
/// let key = SigningKey::es256(Secret::from_file("/run/secrets/client.pem")).key_id("2024-05");
/// let client_auth = ClientAuth::private_key_jwt("client-id", key);
/// # drop(client_auth);
/// ```
///
/// PKCS#8, PKCS#1 and SEC 1 are read; a key that is encrypted by a password is not. The text's
/// memory is overwritten when it is dropped; that of the parsed key isn't, as `ring` doesn't.
#[derive(Clone)]
pub struct SigningKey {
    algorithm: Algorithm,
    text: Secret,
    key_id: Option<String>,
    parsed: Arc<Mutex<Option<Parsed>>>,
}

/// What signs one JWT.
pub(super) struct ReadyKey {
    pub(super) header: Header,
    pub(super) signer: Arc<dyn JwtSigner + Send + Sync>,
    /// The key, if it is one that both sides have.
    pub(super) shared_secret: Option<SecretString>,
}

struct Parsed {
    text: SecretString,
    signer: Arc<dyn JwtSigner + Send + Sync>,
}

impl SigningKey {
    /// ECDSA on the curve P-256 (RFC 7518 §3.4): short signatures, taken by most servers.
    ///
    /// `openssl ecparam -name prime256v1 -genkey -noout` makes such a key.
    pub fn es256(pem: impl Into<Secret>) -> Self {
        Self::new(Algorithm::ES256, pem.into())
    }

    /// RSA with PKCS#1 v1.5 padding (RFC 7518 §3.3), 2048 to 4096 bits: taken by most
    /// servers, but for those of banks (FAPI), which want [`ps256`](Self::ps256) or
    /// [`es256`](Self::es256).
    ///
    /// `openssl genrsa 2048` makes such a key.
    pub fn rs256(pem: impl Into<Secret>) -> Self {
        Self::new(Algorithm::RS256, pem.into())
    }

    /// RSA with PSS padding (RFC 7518 §3.5), 2048 to 4096 bits: what banks' profiles (FAPI) ask
    /// for.
    ///
    /// `openssl genrsa 2048` makes such a key.
    pub fn ps256(pem: impl Into<Secret>) -> Self {
        Self::new(Algorithm::PS256, pem.into())
    }

    /// EdDSA on the curve Ed25519 (RFC 8037 §3.1): not yet taken by many servers.
    ///
    /// `openssl genpkey -algorithm ed25519` makes such a key.
    pub fn eddsa(pem: impl Into<Secret>) -> Self {
        Self::new(Algorithm::EdDSA, pem.into())
    }

    /// A client secret that is used as a key (RFC 7518 §3.2).
    pub(in crate::endpoint) fn hs256(secret: Secret) -> Self {
        Self::new(Algorithm::HS256, secret)
    }

    fn new(algorithm: Algorithm, text: Secret) -> Self {
        Self {
            algorithm,
            text,
            key_id: None,
            parsed: Arc::default(),
        }
    }

    /// Sets the key's id (`kid`, RFC 7515 §4.1.4), by which a server that knows several keys of a
    /// client finds the right one; by default there is none.
    #[must_use]
    pub fn key_id(mut self, key_id: impl Into<String>) -> Self {
        self.key_id = Some(key_id.into());
        self
    }

    pub(super) fn algorithm(&self) -> &'static str {
        name(self.algorithm)
    }

    /// What can be known of the key before its provider, if it has one, is asked.
    pub(super) fn check(&self) -> Result<(), SigningError> {
        match self.text.fixed() {
            Some(text) => self.signer(text).map(drop),
            None => Ok(()),
        }
    }

    /// The key as it is now.
    pub(super) fn ready(&self) -> Result<ReadyKey, SigningError> {
        let text = self.text.reveal();
        let text = text.map_err(|cause| SigningError::NoKey { cause })?;
        let mut header = Header::new(self.algorithm);
        header.kid = self.key_id.clone();
        Ok(ReadyKey {
            header,
            signer: self.signer(&text)?,
            shared_secret: (self.algorithm == Algorithm::HS256).then_some(text),
        })
    }

    /// The one that signed last, if it has the same key.
    fn signer(
        &self,
        text: &SecretString,
    ) -> Result<Arc<dyn JwtSigner + Send + Sync>, SigningError> {
        let mut parsed = self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        match &*parsed {
            Some(known) if *known.text == **text => Ok(Arc::clone(&known.signer)),
            _ => {
                let key = self.parse(text)?;
                let signer = RingSigner::new(self.algorithm, &key);
                let signer = signer.ok_or_else(|| self.problem(self.expected()))?;
                let (text, signer) = (text.clone(), Arc::new(signer));
                let known = parsed.insert(Parsed { text, signer });
                Ok(Arc::clone(&known.signer))
            }
        }
    }

    fn parse(&self, text: &str) -> Result<EncodingKey, SigningError> {
        if self.algorithm == Algorithm::HS256 {
            let problem = if text.is_empty() {
                "the client secret is empty; is the setting missing?"
            } else if text.contains(char::is_control) {
                "the client secret has a control character, such as a line break at its end; trim \
                 it"
            } else {
                return Ok(EncodingKey::from_secret(text.as_bytes()));
            };
            return Err(self.problem(problem));
        }
        let mut key = match PrivateKeyDer::from_pem_slice(text.as_bytes()) {
            Ok(key) => key,
            Err(_) => return Err(self.problem(no_key(text))),
        };
        let parsed = self.encoding_key(&key);
        key.zeroize();
        parsed
    }

    fn encoding_key(&self, key: &PrivateKeyDer<'_>) -> Result<EncodingKey, SigningError> {
        let key = match (self.algorithm, key) {
            (Algorithm::ES256, PrivateKeyDer::Sec1(key)) => {
                let pkcs8 = pkcs8_of_p256(key.secret_sec1_der());
                let pkcs8 = pkcs8.ok_or_else(|| self.problem(self.expected()))?;
                EncodingKey::from_ec_der(&pkcs8)
            }
            (Algorithm::ES256, key) => EncodingKey::from_ec_der(key.secret_der()),
            (Algorithm::EdDSA, key) => EncodingKey::from_ed_der(key.secret_der()),
            (_, key) => EncodingKey::from_rsa_der(key.secret_der()),
        };
        Ok(key)
    }

    fn expected(&self) -> &'static str {
        match self.algorithm {
            Algorithm::ES256 => {
                "it is no EC key on the curve P-256 with its public part; `openssl ecparam -name \
                 prime256v1 -genkey -noout` makes one"
            }
            Algorithm::EdDSA => {
                "it is no Ed25519 key; `openssl genpkey -algorithm ed25519` makes one"
            }
            _ => "it is no RSA key of 2048 to 4096 bits; `openssl genrsa 2048` makes one",
        }
    }

    fn problem(&self, problem: &'static str) -> SigningError {
        SigningError::Key {
            algorithm: name(self.algorithm),
            problem,
        }
    }
}

impl ReadyKey {
    /// The signature as it stands in a JWS (RFC 7515 §5.1).
    pub(super) fn sign(&self, input: &[u8]) -> Result<String, SigningError> {
        let signature = self.signer.try_sign(input);
        let signature = signature.map_err(|_| SigningError::Key {
            algorithm: name(self.signer.algorithm()),
            problem: "the signature failed",
        })?;
        Ok(BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("algorithm", &name(self.algorithm))
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

/// RFC 7518 §3.1, RFC 8037 §3.1.
fn name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::HS256 => "HS256",
        Algorithm::RS256 => "RS256",
        Algorithm::PS256 => "PS256",
        Algorithm::ES256 => "ES256",
        Algorithm::EdDSA => "EdDSA",
        _ => "an unknown algorithm",
    }
}

/// In `ENCRYPTED PRIVATE KEY` (PKCS#8) and `Proc-Type: 4,ENCRYPTED` (before it).
const ENCRYPTED: &str = "ENCRYPTED";

/// Why there is no private key in the text.
fn no_key(text: &str) -> &'static str {
    if text.contains(ENCRYPTED) {
        "it is encrypted by a password; `openssl pkey -in key.pem -out plain.pem` takes it off"
    } else if text.contains("BEGIN OPENSSH PRIVATE KEY") {
        "it is in OpenSSH's own form; `ssh-keygen -p -m PKCS8 -f key` converts it"
    } else if text.contains("BEGIN PUBLIC KEY") || text.contains("BEGIN CERTIFICATE") {
        "it is the public half; the private one begins with -----BEGIN PRIVATE KEY-----"
    } else if text.contains("-----BEGIN") && !text.contains('\n') {
        "its line breaks are lost; a PEM text has them before and after the base64 part"
    } else if text.contains("-----BEGIN") {
        "its PEM text is damaged"
    } else {
        "it is no PEM text, which begins with -----BEGIN PRIVATE KEY-----; to read it from a file, \
         use Secret::from_file"
    }
}

/// A key as `openssl ecparam -genkey` writes it (RFC 5915 §3), in the frame that `ring` asks for
/// (RFC 5958 §2). `None` if it has not the length of one on P-256 with its public part.
fn pkcs8_of_p256(sec1: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    // Version 0; id-ecPublicKey on prime256v1 (RFC 5480 §2.1.1).
    const HEAD: &[u8] = &[
        0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06,
        0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07,
    ];
    const SEQUENCE: u8 = 0x30;
    const OCTET_STRING: u8 = 0x04;
    const LONG_FORM: u8 = 0x81; // for 128 bytes and more
    let key = u8::try_from(sec1.len()).ok().filter(|key| *key < 128)?;
    let whole = HEAD.len().checked_add(2)?.checked_add(sec1.len())?;
    let whole = u8::try_from(whole).ok().filter(|whole| *whole >= 128)?;
    let mut pkcs8 = Zeroizing::new(Vec::with_capacity(usize::from(whole).checked_add(3)?));
    pkcs8.extend([SEQUENCE, LONG_FORM, whole]);
    pkcs8.extend(HEAD);
    pkcs8.extend([OCTET_STRING, key]);
    pkcs8.extend(sec1);
    Some(pkcs8)
}
