//! Proof Key for Code Exchange (RFC 7636): who begins a login is who ends it.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use crate::secret::{NoRandomness, SecretString};

/// A secret that is sent with the code, and before that only as its hash.
pub(super) struct Verifier(SecretString);

impl Verifier {
    /// RFC 7636 §4.1: "It is RECOMMENDED that the output of a suitable random number generator be
    /// used to create a 32-octet sequence. The octet sequence is then base64url-encoded to produce
    /// a 43-octet URL safe string".
    pub(super) fn random() -> Result<Self, NoRandomness> {
        SecretString::random().map(Self)
    }

    /// RFC 7636 §4.2, `S256`: "BASE64URL-ENCODE(SHA256(ASCII(code_verifier)))". There is no
    /// `plain` here: whoever reads the authorization request would have the verifier.
    pub(super) fn challenge(&self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(hmac_sha256::Hash::hash(self.0.as_bytes()))
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, env, fs, path::Path};

    use serde_json::Value;

    use super::*;

    const OCTETS: [u8; 32] = [
        116, 24, 223, 180, 151, 153, 224, 37, 79, 250, 96, 125, 216, 173, 187, 186, 22, 212, 37,
        77, 105, 214, 191, 240, 91, 88, 5, 88, 83, 132, 141, 121,
    ];

    // rule 73
    #[test]
    fn the_example_of_rfc_7636_appendix_b() {
        let verifier = Verifier(SecretString::of_octets(&OCTETS));
        assert_eq!(
            verifier.reveal(),
            "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
        );
        assert_eq!(
            verifier.challenge(),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
    }

    // rule 73
    #[test]
    fn a_verifier_has_256_bits_and_comes_once() {
        let verifiers = (0..1000).map(|_| Verifier::random().unwrap().reveal().to_owned());
        let verifiers: HashSet<String> = verifiers.collect();
        assert_eq!(verifiers.len(), 1000);
        for verifier in verifiers {
            // RFC 7636 §4.1: "unreserved" characters, 43 to 128 of them.
            assert_eq!(verifier.len(), 43);
            let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
            assert!(verifier.bytes().all(legal), "{verifier}");
        }
    }

    // rule 73
    #[test]
    #[expect(clippy::print_stdout, reason = "says that it didn't run")]
    fn the_suite_of_vectors() {
        let Some(dir) = env::var_os("CASES_DIR") else {
            println!("skipped: CASES_DIR is not set");
            return;
        };
        let cases = fs::read_to_string(Path::new(&dir).join("rfc_vectors.json")).unwrap();
        let cases: Vec<Value> = serde_json::from_str(&cases).unwrap();
        let ours = |case: &&Value| case["name"].as_str().unwrap().starts_with("rfc7636");
        let cases: Vec<&Value> = cases.iter().filter(ours).collect();
        assert_eq!(cases.len(), 2, "another number of vectors");
        for case in cases {
            let expected = &case["expected"];
            if let Some(verifier) = case["input"]["code_verifier"].as_str() {
                let verifier = Verifier(SecretString::from(verifier.to_owned()));
                assert_eq!(expected["code_challenge"], verifier.challenge());
            } else {
                let octets = case["input"]["octets"].as_array().unwrap().iter();
                let octets = octets.map(|octet| u8::try_from(octet.as_u64().unwrap()).unwrap());
                let octets: Vec<u8> = octets.collect();
                assert_eq!(
                    expected["code_verifier"],
                    *SecretString::of_octets(&octets.try_into().unwrap())
                );
            }
        }
    }
}
