//! Keys are those that the RFCs print: they are nobody's, and their signatures are known.

mod client_assertion;
mod key;
mod signed;

use base64::prelude::BASE64_STANDARD;
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

use super::*;
use crate::secret::Secret;

/// RFC 7515 A.2: n, e, d, p, q, dp, dq, qi.
const RSA: [&str; 8] = [
    "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4\
     d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5re\
     xMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxX\
     FvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
    "AQAB",
    "Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXO\
     oAJe46sui395IW_GO-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51\
     gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3c\
     cPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ",
    "4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5P\
     JdTJNPY8cQn7ouZ2KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc",
    "uQPEfgmVtjL0Uyyx88GZFF1fOunH3-7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZ\
     D_YwD66t62wDmpe_HlB-TnBA-njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc",
    "BwKfV3Akq5_MFZDFZCnW-wzl-CCo83WoZvnLQwCTeDv8uzluRSnm71I3QCLdhrqE2e9YkxvuxdBfpT_PI7Yz-FOKnu1R\
     6HsJeDCjn12Sk3vmAktV2zb34MCdy7cpdTh_YVr7tss2u6vneTwrA86rZtu5Mbr1C1XsmvkxHQAdYo0",
    "h_96-mK1R_7glhsum81dZxjTnYynPbZpHziZjeeHcXYsXaaMwkOlODsWa7I9xXDoRwbKgB719rrmI2oKr6N3Do9U0aja\
     HF-NKJnwgjMd2w9cjz3_-kyNlxAr2v4IKhGNpmM5iIgOS1VZnOZ68m6_pbLBSp3nssTdlqvd0tIiTHU",
    "IYd7DHOhrWvxkwPQsRM2tOgrjbcrfvtQJipd-DlcxyVuuM9sQLdgjVk2oy26F0EmpScGLq2MowX7fhd_QJQ3ydy5cY7Y\
     IBi87w93IKLEdfnbJtoOPLUW0ITrJReOgo1cq9SbsxYawBgfp_gh6A5603k2-ZQwVK0JKSHuLFkuQ3U",
];

/// RFC 7515 A.3: d, x, y.
const EC: [&str; 3] = [
    "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI",
    "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
];

/// RFC 8037 A.1: d.
const ED25519: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";

const RSA_OID: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
const EC_OID: &[u8] = &[6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
const P256_OID: &[u8] = &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
const ED25519_OID: &[u8] = &[6, 3, 0x2b, 0x65, 0x70];

fn b64(text: &str) -> Vec<u8> {
    BASE64_URL_SAFE_NO_PAD.decode(text).unwrap()
}

/// One element of DER.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = match content.len() {
        short @ 0..128 => vec![u8::try_from(short).unwrap()],
        long => {
            let bytes = u16::try_from(long).unwrap().to_be_bytes();
            let bytes: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
            [&[0x80 | u8::try_from(bytes.len()).unwrap()][..], &bytes].concat()
        }
    };
    [&[tag][..], &length, &content].concat()
}

fn integer(bytes: &[u8]) -> Vec<u8> {
    let sign: &[u8] = if bytes[0] < 0x80 { &[] } else { &[0] };
    der(2, &[sign, bytes])
}

fn rsa_pkcs1() -> Vec<u8> {
    let numbers = RSA.map(|number| integer(&b64(number)));
    der(0x30, &[&integer(&[0]), &numbers.concat()])
}

fn ec_sec1(with_public_key: bool) -> Vec<u8> {
    let curve = der(0xa0, &[P256_OID]);
    let public = der(0xa1, &[&der(3, &[&[0], &ec_public_key()])]);
    let public: &[u8] = if with_public_key { &public } else { &[] };
    let private = der(4, &[&b64(EC[0])]);
    der(0x30, &[&integer(&[1]), &private, &curve, public])
}

fn ec_public_key() -> Vec<u8> {
    [&[4][..], &b64(EC[1]), &b64(EC[2])].concat()
}

fn pkcs8(oids: &[&[u8]], key: &[u8]) -> Vec<u8> {
    der(0x30, &[&integer(&[0]), &der(0x30, oids), &der(4, &[key])])
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = BASE64_STANDARD.encode(der);
    let lines: Vec<&str> = body
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    let lines = lines.join("\n");
    format!("-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n")
}

fn rsa_pem() -> String {
    pem("PRIVATE KEY", &pkcs8(&[RSA_OID], &rsa_pkcs1()))
}

fn ec_pem() -> String {
    pem("PRIVATE KEY", &pkcs8(&[EC_OID, P256_OID], &ec_sec1(true)))
}

fn ed25519_pem() -> String {
    let key = der(4, &[&b64(ED25519)]);
    pem("PRIVATE KEY", &pkcs8(&[ED25519_OID], &key))
}

/// Header and claims of a JWT that [`EC`] has signed, or of any if it isn't `verified`.
fn read(jwt: &str, verified: bool) -> (Value, Value) {
    let (input, signature) = jwt.rsplit_once('.').unwrap();
    if verified {
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, ec_public_key());
        key.verify(input.as_bytes(), &b64(signature)).unwrap();
    }
    let (header, claims) = input.split_once('.').unwrap();
    let json = |part| serde_json::from_slice(&b64(part)).unwrap();
    (json(header), json(claims))
}
