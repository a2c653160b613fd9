use std::{
    collections::{BTreeMap, HashSet},
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};

use super::*;
use crate::{
    endpoint::{ClientAuth, EndpointConfigError, TokenEndpoint, TokenEndpointBuilder},
    source::TokenError,
};

const ISSUER: &str = "https://as.example";
const GRANT: &[(&str, &str)] = &[("grant_type", "client_credentials")];

type Bodies = Arc<Mutex<Vec<String>>>;

/// A server that repeats what it gets, whole and in parts, as its error.
fn builder(auth: ClientAuth) -> (TokenEndpointBuilder, Bodies) {
    let bodies = Bodies::default();
    let transport = tower::service_fn({
        let bodies = Arc::clone(&bodies);
        move |request: Request<Full<Bytes>>| {
            let bodies = Arc::clone(&bodies);
            async move {
                let body = request.into_body().collect().await?.to_bytes();
                let body = String::from_utf8(body.to_vec()).unwrap();
                let assertion = params(&body)["client_assertion"].clone();
                let parts = assertion.replace('.', " . ");
                bodies.lock().unwrap().push(body);
                let error = serde_json::json!({
                    "error": "invalid_client", "error_description": parts, "error_uri": assertion,
                });
                Ok::<_, Infallible>(Response::new(error.to_string()))
            }
        }
    });
    let builder = TokenEndpoint::builder("https://as.example/token")
        .client_auth(auth)
        .transport(transport);
    (builder, bodies)
}

fn params(body: &str) -> BTreeMap<String, String> {
    form_urlencoded::parse(body.as_bytes())
        .into_owned()
        .collect()
}

async fn refusal(builder: TokenEndpointBuilder) -> TokenError {
    let endpoint = builder.build().unwrap();
    endpoint.exchange(GRANT).await.unwrap_err()
}

/// The JWT of one request.
async fn assertion(auth: ClientAuth) -> String {
    let (builder, bodies) = builder(auth);
    refusal(builder.issuer(ISSUER)).await;
    let bodies = bodies.lock().unwrap();
    params(&bodies[0])["client_assertion"].clone()
}

fn key() -> SigningKey {
    SigningKey::es256(ec_pem()).key_id("k1")
}

// rules 1, 69, 70, 71
#[tokio::test]
async fn a_client_proves_itself_by_a_jwt_for_the_issuer() {
    let (builder, bodies) = builder(ClientAuth::private_key_jwt("client 1", key()));
    let before = crate::clock::Clock::default().now().wall;
    refusal(builder.issuer(ISSUER)).await;
    let body = bodies.lock().unwrap()[0].clone();
    let (form, jwt) = body.rsplit_once('=').unwrap();
    assert_eq!(
        form,
        "grant_type=client_credentials&client_id=client+1&client_assertion_type=urn%3Aietf%3Aparams\
         %3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion"
    );
    let (header, mut claims) = read(jwt, true);
    assert_eq!(
        header,
        serde_json::json!({"typ": "JWT", "alg": "ES256", "kid": "k1"})
    );
    let claims = claims.as_object_mut().unwrap();
    let issued = claims.remove("iat").unwrap().as_u64().unwrap();
    let before = before.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    assert!(issued.abs_diff(before.as_secs()) < 60, "{issued}");
    assert_eq!(claims.remove("exp"), Some(Value::from(issued + 60)));
    let id = claims.remove("jti").unwrap();
    assert_eq!(b64(id.as_str().unwrap()).len(), 32);
    assert_eq!(
        Value::Object(claims.clone()),
        serde_json::json!({"iss": "client 1", "sub": "client 1", "aud": ISSUER})
    );
}

#[tokio::test]
async fn a_secret_signs_as_well() {
    let secret = "hunter2-hunter2";
    let jwt = assertion(ClientAuth::client_secret_jwt("id", secret)).await;
    let (header, claims) = read(&jwt, false);
    assert_eq!(header, serde_json::json!({"typ": "JWT", "alg": "HS256"}));
    assert_eq!(claims["iss"], "id");
    let (input, signature) = jwt.rsplit_once('.').unwrap();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    ring::hmac::verify(&key, input.as_bytes(), &b64(signature)).unwrap();
}

// rules 48, 72
#[tokio::test]
async fn each_attempt_has_a_jwt_of_its_own() {
    let (builder, bodies) = builder(ClientAuth::private_key_jwt("id", key()));
    let endpoint = builder.issuer(ISSUER).build().unwrap();
    for _ in 0..1000 {
        endpoint.exchange(GRANT).await.unwrap_err();
    }
    let bodies = bodies.lock().unwrap();
    let ids: HashSet<String> = bodies
        .iter()
        .map(|body| read(&params(body)["client_assertion"], false).1["jti"].to_string())
        .collect();
    assert_eq!(ids.len(), 1000);
}

// rule 71
#[tokio::test]
async fn the_audience_is_the_issuer_or_what_was_said_and_never_the_token_endpoint() {
    let auth = ClientAuth::private_key_jwt("id", key());
    let error = builder(auth.clone()).0.build().unwrap_err().to_string();
    assert!(
        error.contains(".issuer(") && error.contains(".assertion_audience("),
        "{error}"
    );
    assert!(builder(auth.clone()).0.issuer("").build().is_err());

    let told = auth.assertion_audience("https://as.example/token");
    assert!(builder(told.clone()).0.build().is_ok());
    let (_, claims) = read(&assertion(told).await, true);
    assert_eq!(claims["aud"], "https://as.example/token");
}

// rule 70
#[tokio::test]
async fn a_jwt_lives_for_five_minutes_at_most() {
    let living = |seconds| {
        let auth = ClientAuth::client_secret_jwt("id", "s3cr3t");
        auth.assertion_lifetime(Duration::from_millis(seconds * 1000))
    };
    for seconds in [1, 300] {
        let (_, claims) = read(&assertion(living(seconds)).await, false);
        let lived = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
        assert_eq!(lived, seconds);
    }
    for auth in [
        living(0),
        living(301),
        living(1).assertion_lifetime(Duration::from_millis(999)),
        living(1).assertion_lifetime(Duration::MAX),
    ] {
        let error = builder(auth).0.issuer(ISSUER).build().unwrap_err();
        assert!(
            matches!(error, EndpointConfigError::ClientAssertion { .. }),
            "{error}"
        );
    }
}

#[test]
fn settings_of_the_jwt_leave_other_methods_as_they_are() {
    let auth = ClientAuth::post("id", "s3cr3t");
    let auth = auth
        .assertion_audience("x")
        .assertion_lifetime(Duration::MAX);
    assert!(builder(auth).0.build().is_ok());
}

#[test]
fn a_key_that_cannot_sign_and_a_client_without_an_id_are_refused_when_built() {
    for auth in [
        ClientAuth::private_key_jwt("id", SigningKey::rs256("hunter2")),
        ClientAuth::client_secret_jwt("id", ""),
        ClientAuth::client_secret_jwt("id", "hunter2\n"),
    ] {
        let error = builder(auth).0.issuer(ISSUER).build().unwrap_err();
        assert!(matches!(error, EndpointConfigError::ClientKey { .. }));
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    let nobody = builder(ClientAuth::private_key_jwt("", key())).0;
    let error = nobody.issuer(ISSUER).build().unwrap_err();
    assert!(matches!(error, EndpointConfigError::ClientId { .. }));
}

#[tokio::test]
async fn a_provider_is_asked_once_for_each_request_and_may_fail() {
    let asked = Arc::new(Mutex::new(0));
    let secret = Secret::provided_by({
        let asked = Arc::clone(&asked);
        move || {
            let mut asked = asked.lock().unwrap();
            *asked += 1;
            match *asked {
                1 => Ok(String::from("hunter2-1")),
                2 => Ok(String::from("hunter2-2")),
                3 => Ok(String::from("hunter2\n")),
                _ => Err("vault is sealed".into()),
            }
        }
    });
    let (builder, bodies) = builder(ClientAuth::client_secret_jwt("id", secret));
    let endpoint = builder.issuer(ISSUER).build().unwrap();
    assert_eq!(*asked.lock().unwrap(), 0);
    for secret in ["hunter2-1", "hunter2-2"] {
        endpoint.exchange(GRANT).await.unwrap_err();
        let body = bodies.lock().unwrap().last().unwrap().clone();
        let jwt = params(&body)["client_assertion"].clone();
        let (input, signature) = jwt.rsplit_once('.').unwrap();
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
        ring::hmac::verify(&key, input.as_bytes(), &b64(signature)).unwrap();
    }
    let error = endpoint.exchange(GRANT).await.unwrap_err();
    assert!(!error.is_transient() && !error.to_string().contains("hunter2"));
    let error = endpoint.exchange(GRANT).await.unwrap_err();
    assert!(error.is_transient());
    assert!(error.to_string().contains("vault is sealed"), "{error}");
    assert_eq!(
        (*asked.lock().unwrap(), bodies.lock().unwrap().len()),
        (4, 2)
    );
}

// rule F29
#[tokio::test]
async fn a_server_that_repeats_the_jwt_shows_no_part_of_it() {
    for auth in [
        ClientAuth::private_key_jwt("id", key()),
        ClientAuth::client_secret_jwt("id", "hunter2-hunter2"),
    ] {
        let (builder, bodies) = builder(auth);
        let error = refusal(builder.issuer(ISSUER)).await;
        let body = bodies.lock().unwrap()[0].clone();
        let shown = format!("{error} {error:?}");
        for part in params(&body)["client_assertion"].split('.') {
            assert!(!shown.contains(&part[..16]), "{shown}");
        }
        assert!(shown.contains("[redacted] . [redacted] . [redacted]"));
    }
}
