//! Signatures by `ring`, as the JOSE library asks for them.

use jsonwebtoken::{
    Algorithm, EncodingKey,
    crypto::JwtSigner,
    signature::{Error, Signer},
};
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256,
        RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
    },
};

/// A key that is ready to sign.
pub(super) struct RingSigner {
    algorithm: Algorithm,
    key: Key,
}

enum Key {
    Hmac(hmac::Key),
    Rsa(RsaKeyPair, &'static dyn RsaEncoding),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl RingSigner {
    /// `None` if `key` is none for `algorithm`.
    pub(super) fn new(algorithm: Algorithm, key: &EncodingKey) -> Option<Self> {
        let bytes = key.as_bytes();
        let rsa = || {
            let pkcs1 = |_| RsaKeyPair::from_der(bytes);
            RsaKeyPair::from_pkcs8(bytes).or_else(pkcs1).ok()
        };
        let key = match algorithm {
            Algorithm::HS256 => Key::Hmac(hmac::Key::new(hmac::HMAC_SHA256, bytes)),
            Algorithm::RS256 => Key::Rsa(rsa()?, &RSA_PKCS1_SHA256),
            Algorithm::PS256 => Key::Rsa(rsa()?, &RSA_PSS_SHA256),
            Algorithm::ES256 => {
                let curve = &ECDSA_P256_SHA256_FIXED_SIGNING;
                let random = SystemRandom::new();
                Key::Ecdsa(EcdsaKeyPair::from_pkcs8(curve, bytes, &random).ok()?)
            }
            // As OpenSSL writes it: without the public key, which is optional (RFC 8410 §7).
            Algorithm::EdDSA => {
                Key::Ed25519(Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes).ok()?)
            }
            _ => return None,
        };
        Some(Self { algorithm, key })
    }
}

impl Signer<Vec<u8>> for RingSigner {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let random = SystemRandom::new();
        match &self.key {
            Key::Hmac(key) => Ok(hmac::sign(key, message).as_ref().to_vec()),
            Key::Rsa(key, encoding) => {
                let mut signature = vec![0; key.public().modulus_len()];
                let signed = key.sign(*encoding, &random, message, &mut signature);
                signed.map(|()| signature).map_err(|_| Error::new())
            }
            Key::Ecdsa(key) => {
                let signature = key.sign(&random, message).map_err(|_| Error::new())?;
                Ok(signature.as_ref().to_vec())
            }
            Key::Ed25519(key) => Ok(key.sign(message).as_ref().to_vec()),
        }
    }
}

impl JwtSigner for RingSigner {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
