use super::*;
use crate::source::{Demand, TokenSource};

fn assertion() -> SignedJwt {
    SignedJwt::new(SigningKey::es256(ec_pem()))
        .issuer("robot")
        .audience("https://as.example/token")
}

async fn claims(source: &SignedJwt) -> Value {
    let token = source.token(Demand::default()).await.unwrap();
    let (header, claims) = read(token.expose_secret(), true);
    assert_eq!(header["alg"], "ES256");
    let issued = claims["iat"].as_u64().unwrap();
    let expires = claims["exp"].as_u64().unwrap();
    assert_eq!(
        token.lifetime(),
        Some(Duration::from_secs(expires.saturating_sub(issued)))
    );
    claims
}

// rule 70
#[tokio::test]
async fn an_assertion_says_what_it_was_told_and_is_new_each_time() {
    let source = assertion();
    let first = claims(&source).await;
    let names: Vec<&str> = first.as_object().unwrap().keys().map(|k| &**k).collect();
    assert_eq!(names, ["aud", "exp", "iat", "iss", "jti"]);
    assert_eq!(first["iss"], "robot");
    assert_eq!(first["aud"], "https://as.example/token");
    assert_ne!(claims(&source).await["jti"], first["jti"]);

    let source = source
        .subject("user@example.com")
        .lifetime(Duration::from_secs(3600))
        .claim("scope", "read write")
        .claim("roles", vec!["a", "b"])
        .claim("admin", false);
    let all = claims(&source).await;
    assert_eq!(all["sub"], "user@example.com");
    assert_eq!(all["scope"], "read write");
    assert_eq!(all["roles"], serde_json::json!(["a", "b"]));
    assert_eq!(all["admin"], false);
    let lived = all["exp"].as_u64().unwrap() - all["iat"].as_u64().unwrap();
    assert_eq!(lived, 3600);
}

#[tokio::test]
async fn what_cannot_be_claimed_is_refused_by_name() {
    let key = || SigningKey::es256(ec_pem());
    for (source, part) in [
        (SignedJwt::new(key()).audience("x"), ".issuer("),
        (SignedJwt::new(key()).issuer("x"), ".audience("),
        (assertion().lifetime(Duration::ZERO), "lifetime"),
        (assertion().lifetime(Duration::from_secs(3601)), "lifetime"),
        (assertion().claim("exp", 0), ".lifetime("),
        (assertion().claim("sub", "x"), ".subject("),
        (
            SignedJwt::new(SigningKey::rs256("hunter2"))
                .issuer("x")
                .audience("y"),
            "no PEM text",
        ),
    ] {
        let error = source.token(Demand::default()).await.unwrap_err();
        assert!(!error.is_transient() && error.get_ref().is::<SigningError>());
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(part), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    let sealed = Secret::provided_by(|| Err("vault is sealed".into()));
    let source = SignedJwt::new(SigningKey::rs256(sealed))
        .issuer("x")
        .audience("y");
    let error = source.token(Demand::default()).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
}

#[test]
fn an_assertion_prints_names_and_no_values_of_claims() {
    let shown = format!("{:?}", assertion().claim("email", "hunter2"));
    assert!(shown.contains("email") && !shown.contains("hunter2"));
}
