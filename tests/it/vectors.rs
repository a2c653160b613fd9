//! Vectors that the RFCs and other clients' suites print.
//!
//! They aren't part of this repository: `CASES_DIR` names the directory in which
//! `rfc_vectors.json` lies.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    env, fs,
    path::Path,
    sync::{Arc, Mutex},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{Request, Response, header::AUTHORIZATION};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use tower_oauth::{ClientAuth, ClientCredentials, Demand, TokenEndpoint, TokenSource};

/// Rows that aren't run here, by the beginning of their names. One that no row begins with is a
/// failure of this list.
const ELSEWHERE: &[(&str, &str)] = &[
    (
        "rfc7636 ",
        "the verifier and the challenge are made beside the code, where their test is",
    ),
    ("rfc9449 ", "DPoP proofs: not offered yet"),
    (
        "rfc7638 ",
        "JWK thumbprints, which only DPoP needs: not offered yet",
    ),
    (
        "rfc8037 ",
        "JWK thumbprints, which only DPoP needs: not offered yet",
    ),
    ("htu ", "the URI in DPoP proofs: not offered yet"),
];

#[tokio::test]
#[expect(clippy::print_stdout, reason = "says that it didn't run")]
async fn the_vectors_of_the_standards() {
    let Some(dir) = env::var_os("CASES_DIR") else {
        println!("skipped: CASES_DIR is not set");
        return;
    };
    let text = fs::read_to_string(Path::new(&dir).join("rfc_vectors.json")).unwrap();
    let rows: Vec<Value> = serde_json::from_str(&text).unwrap();
    let mut unused: BTreeSet<&str> = ELSEWHERE.iter().map(|(prefix, _)| *prefix).collect();
    let mut ran = 0;
    for row in &rows {
        let name = row["name"].as_str().unwrap();
        match ELSEWHERE.iter().find(|(start, _)| name.starts_with(start)) {
            Some((prefix, _)) => {
                unused.remove(prefix);
            }
            None => {
                check(name, &row["input"], &row["expected"]).await;
                ran += 1;
            }
        }
    }
    assert!(unused.is_empty(), "no rows any more: {unused:?}");
    println!("{ran} of {} rows", rows.len());
    assert!(ran >= 6, "the suite has shrunk");
}

// rules 2, 7
async fn check(name: &str, input: &Value, expected: &Value) {
    let text = |key: &str| input[key].as_str().unwrap();
    if let Some(value) = input["value"].as_str() {
        // Appendix B, by the parameter that may be any text.
        let auth = ClientAuth::post("id", value);
        let (_, body) = request(auth, "", None).await;
        let encoded = expected["encoded"].as_str().unwrap();
        assert_eq!(body.rsplit('=').next(), Some(encoded), "{name}");
    } else if let Some(scopes) = input["scopes"].as_array() {
        assert_eq!(input["grant"], "client_credentials", "{name}");
        let scopes: Vec<&str> = scopes.iter().map(|s| s.as_str().unwrap()).collect();
        let auth = ClientAuth::basic("id", "s3cr3t");
        let (_, body) = request(auth, &scopes.join(" "), input["audience"].as_str()).await;
        let pairs = |body: &str| body.split('&').map(ToOwned::to_owned).collect();
        let (got, wanted): (BTreeSet<String>, BTreeSet<String>) = (
            pairs(&body),
            pairs(expected["body_set_equal"].as_str().unwrap()),
        );
        assert_eq!(got, wanted, "{name}");
    } else {
        let auth = ClientAuth::basic(text("client_id"), text("client_secret"));
        let (authorization, _) = request(auth, "", None).await;
        match expected["each_half_decodes_to"].as_str() {
            Some(half) => each_half_is(&authorization, half),
            None => assert_eq!(expected["authorization"], authorization, "{name}"),
        }
    }
}

fn each_half_is(authorization: &str, expected: &str) {
    let credentials = authorization.strip_prefix("Basic ").unwrap();
    let pair = BASE64_STANDARD.decode(credentials).unwrap();
    let pair = String::from_utf8(pair).unwrap();
    let (id, secret) = pair.split_once(':').unwrap();
    for half in [id, secret] {
        let query = format!("={half}");
        let (_, decoded) = form_urlencoded::parse(query.as_bytes()).next().unwrap();
        assert_eq!(decoded, expected);
        // WHATWG's encoding leaves `*-._` as they are, which the row says.
        let legal = |c: char| c.is_ascii_alphanumeric() || "%+*-._".contains(c);
        assert!(half.chars().all(legal), "{half}");
    }
}

/// The `Authorization` header and the body of one token request.
async fn request(auth: ClientAuth, scope: &str, audience: Option<&str>) -> (String, String) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let transport = tower::service_fn({
        let seen = Arc::clone(&seen);
        move |request: Request<Full<Bytes>>| {
            let seen = Arc::clone(&seen);
            async move {
                let (head, body) = request.into_parts();
                let header = head.headers.get(AUTHORIZATION);
                let header = header
                    .map_or("", |value| value.to_str().unwrap())
                    .to_owned();
                let body = body.collect().await?.to_bytes();
                let body = String::from_utf8(body.to_vec()).unwrap();
                seen.lock().unwrap().push((header, body));
                let token = r#"{"access_token":"a","token_type":"Bearer"}"#;
                Ok::<_, Infallible>(Response::new(token.to_owned()))
            }
        }
    });
    let mut builder = TokenEndpoint::builder("https://as.example/token")
        .client_auth(auth)
        .transport(transport);
    if let Some(audience) = audience {
        builder = builder.param("audience", audience);
    }
    let source = ClientCredentials::new(builder.build().unwrap()).scope(scope);
    source.token(Demand::default()).await.unwrap();
    let mut seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 1);
    seen.remove(0)
}
