use std::sync::Arc;

use ring::signature::{RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents};

use super::*;

fn sign(key: &SigningKey, input: &str) -> String {
    key.ready().unwrap().sign(input.as_bytes()).unwrap()
}

#[test]
fn signatures_are_those_that_the_standards_print() {
    // RFC 7515 A.2
    let input = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leG\
                 FtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let signature = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5\
         jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb\
         1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QO\
         YEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    assert_eq!(sign(&SigningKey::rs256(rsa_pem()), input), signature);

    // RFC 8037 A.4
    let input = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_M\
                     uM0KAg";
    assert_eq!(sign(&SigningKey::eddsa(ed25519_pem()), input), signature);

    // RFC 4231 §4.3
    let key = SigningKey::hs256(Secret::from("Jefe"));
    let signature = b64(&sign(&key, "what do ya want for nothing?"));
    let hex: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex,
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    );
}

#[test]
fn random_signatures_are_good() {
    let signature = b64(&sign(&SigningKey::es256(ec_pem()), "x"));
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, ec_public_key());
    key.verify(b"x", &signature).unwrap();

    let (n, e) = (b64(RSA[0]), b64(RSA[1]));
    let key = RsaPublicKeyComponents { n: &n, e: &e };
    let signature = b64(&sign(&SigningKey::ps256(rsa_pem()), "x"));
    key.verify(&RSA_PSS_2048_8192_SHA256, b"x", &signature)
        .unwrap();
    let pkcs1 = b64(&sign(&SigningKey::rs256(rsa_pem()), "x"));
    assert!(
        key.verify(&RSA_PSS_2048_8192_SHA256, b"x", &pkcs1).is_err(),
        "the padding is another"
    );
}

#[test]
fn keys_are_read_as_openssl_writes_them() {
    let sec1 = pem("EC PRIVATE KEY", &ec_sec1(true));
    let parameters = pem("EC PARAMETERS", P256_OID);
    for good in [
        ec_pem(),
        sec1.clone(),
        format!("{parameters}{sec1}"),
        format!("Bag Attributes\n{}", ec_pem()),
        ec_pem().replace('\n', "\r\n"),
        ec_pem().trim_end().to_owned(),
    ] {
        SigningKey::es256(&*good).check().expect(&good);
    }
    for good in [rsa_pem(), pem("RSA PRIVATE KEY", &rsa_pkcs1())] {
        SigningKey::rs256(&*good).check().expect(&good);
        SigningKey::ps256(&*good).check().expect(&good);
    }
}

fn refusal(key: &SigningKey) -> String {
    let error = key.check().unwrap_err();
    assert!(!error.is_transient());
    format!("{error} {error:?}")
}

#[test]
fn what_can_be_no_key_is_refused_and_not_shown() {
    let spki = pem("PUBLIC KEY", &ec_public_key());
    let encrypted = pem("ENCRYPTED PRIVATE KEY", &ec_sec1(true));
    let before_pkcs8 = pem("EC PRIVATE KEY", &ec_sec1(true))
        .replace("KEY-----\nM", "KEY-----\nProc-Type: 4,ENCRYPTED\n\nM");
    for (bad, part) in [
        ("hunter2-hunter2", "no PEM text"),
        ("", "no PEM text"),
        ("/run/secrets/key.pem", "Secret::from_file"),
        (&spki, "the public half"),
        (&encrypted, "by a password"),
        (&before_pkcs8, "by a password"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\n", "ssh-keygen"),
        ("-----BEGIN PRIVATE KEY-----\nhunter2\n", "damaged"),
        (&ec_pem().replace('\n', " "), "line breaks"),
        (&rsa_pem(), "curve P-256"),
        (&ed25519_pem(), "curve P-256"),
        (&pem("EC PRIVATE KEY", &ec_sec1(false)), "public part"),
        (&pem("EC PRIVATE KEY", &[0x30; 300]), "curve P-256"),
    ] {
        let message = refusal(&SigningKey::es256(bad));
        assert!(
            message.contains(part) && message.contains("ES256"),
            "{message}"
        );
        assert!(!message.contains("hunter2"), "{message}");
    }
    assert!(refusal(&SigningKey::rs256(ec_pem())).contains("no RSA key"));
    assert!(refusal(&SigningKey::eddsa(ec_pem())).contains("no Ed25519 key"));
    for bad in ["", "hunter2\n"] {
        let message = refusal(&SigningKey::hs256(Secret::from(bad)));
        assert!(message.contains("client secret"), "{message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
}

#[test]
fn a_key_is_parsed_again_only_if_its_text_changed() {
    let texts = std::sync::Mutex::new([ec_pem(), ec_pem(), ed25519_pem()].into_iter());
    let provider = Secret::provided_by(move || {
        let next = texts.lock().unwrap().next();
        next.ok_or_else(|| "vault is sealed".into())
    });
    let key = SigningKey::es256(provider);
    key.check().unwrap(); // which asks nobody
    let first = key.ready().unwrap().signer;
    let second = key.clone().ready().unwrap().signer;
    assert!(Arc::ptr_eq(&first, &second));
    let Err(SigningError::Key { .. }) = key.ready() else {
        panic!("the third is no key on P-256");
    };
    match key.ready() {
        Err(error @ SigningError::NoKey { .. }) => {
            assert!(error.to_string().contains("vault is sealed"));
            assert!(crate::source::TokenError::from(error).is_transient());
        }
        _ => panic!("there is no fourth"),
    }
}

// rule 63
#[test]
fn a_key_does_not_print() {
    let key = SigningKey::es256(ec_pem()).key_id("k1");
    key.ready().unwrap();
    assert_eq!(
        format!("{key:?}"),
        r#"SigningKey { algorithm: "ES256", key_id: Some("k1"), .. }"#
    );
}
