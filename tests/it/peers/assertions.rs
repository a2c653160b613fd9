//! What is signed here is checked by a server.

use rcgen::{KeyPair, PKCS_ED25519};
use tower_oauth::{
    ClientAuth, ClientCredentials, Demand, JwtBearer, SigningKey, TokenError, TokenSource,
};

use super::{
    combinations::{METHODS, assertion},
    server::{AuthorizationServer, Product, SECRET},
};

#[tokio::test]
async fn a_server_checks_what_is_signed() {
    let Some(server) = AuthorizationServer::start(Product::OidcProvider).await else {
        return;
    };
    let mut methods = 0;
    for (client, authenticate) in METHODS.iter().filter(|(name, _)| name.contains("jwt")) {
        let auth = authenticate(&server, (*client).to_owned());
        let endpoint = server.endpoint(auth.clone());
        let source = ClientCredentials::new(endpoint.build().unwrap());
        // rule 30: the server lets a jti pass once.
        for _ in 0..3 {
            source.token(Demand::default()).await.unwrap();
        }
        let endpoint = server.endpoint(auth.clone()).transport(server.twice());
        let source = ClientCredentials::new(endpoint.build().unwrap());
        refused(
            &server,
            source.token(Demand::default()).await,
            "invalid_client",
        )
        .await;

        for wrong in [
            auth.assertion_audience(format!("{}/", server.issuer())),
            with_another_key(&server, client),
        ] {
            let endpoint = server.endpoint(wrong).build().unwrap();
            let source = ClientCredentials::new(endpoint);
            refused(
                &server,
                source.token(Demand::default()).await,
                "invalid_client",
            )
            .await;
        }
        methods += 1;
    }
    assert_eq!(methods, 5);

    let ours = || assertion(&server, &server.key("issuer"));
    for (assertion, is_refused) in [
        (ours(), false),
        (ours().audience(format!("{}/", server.issuer())), true),
        (ours().issuer("https://other.test"), true),
        (assertion(&server, &server.key("ES256")), true),
    ] {
        let auth = ClientAuth::basic("basic", SECRET);
        let source = JwtBearer::new(server.endpoint(auth).build().unwrap(), assertion);
        let outcome = source.token(Demand::default()).await;
        if is_refused {
            refused(&server, outcome, "invalid_grant").await;
        } else {
            outcome.unwrap();
        }
    }
}

/// One that the server doesn't know of this client, or not for this algorithm.
fn with_another_key(server: &AuthorizationServer, client: &str) -> ClientAuth {
    let key = match client {
        "client_secret_jwt" => {
            return ClientAuth::client_secret_jwt(client, format!("{SECRET}-"));
        }
        "private_key_jwt-ES256" => SigningKey::es256(server.key("issuer")),
        "private_key_jwt-RS256" => SigningKey::ps256(server.key("PS256")),
        "private_key_jwt-PS256" => SigningKey::rs256(server.key("RS256")),
        "private_key_jwt-EdDSA" => {
            let other = KeyPair::generate_for(&PKCS_ED25519).unwrap();
            SigningKey::eddsa(other.serialize_pem())
        }
        _ => panic!("which key has {client}?"),
    };
    ClientAuth::private_key_jwt(client, key)
}

async fn refused<T>(server: &AuthorizationServer, outcome: Result<T, TokenError>, code: &str) {
    let error = outcome.err().expect("it was granted");
    assert!(!error.is_transient(), "{error}");
    assert_eq!(error.oauth_code(), Some(code), "{error}");
    assert_eq!(server.log().await.pop().unwrap()["error"], code, "{error}");
}
