//! *Discovery*: what the metadata of an authorization server leads to.

use serde_json::json;
use tower_oauth::{
    AuthorizationCode, ClientAuth, ClientCredentials, Demand, DeviceCode, EndpointConfigError,
    TokenCache, TokenEndpoint, TokenEndpointBuilder, TokenSource,
};

use crate::support::{
    secs,
    well_known::{FIRST, ISSUER, Server, with},
};

// rule 24
#[tokio::test]
async fn endpoints_must_be_https_as_well() {
    let document = with(json!({"token_endpoint": "http://as.example/x"}));
    let client = ClientAuth::none("id");
    let error = built(document).await.client_auth(client).build();
    let error = error.unwrap_err();
    assert!(
        matches!(error, EndpointConfigError::Plaintext { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("token endpoint"), "{error}");
}

/// A server of which an endpoint is `bad`, and a client that doesn't care.
async fn with_a_bad(member: &str, bad: &str) -> (Server, TokenEndpoint) {
    let document = with(json!({member: bad}));
    let server = Server::with([(FIRST, 200, document)]);
    let builder = server.discover(ISSUER).await.unwrap();
    let client = ClientAuth::basic("id", "s");
    let endpoint = builder.client_auth(client).build().unwrap();
    (server, endpoint)
}

/// What using the endpoint ends in; nothing may be sent to it.
async fn used(member: &str, server: &Server, endpoint: TokenEndpoint) -> String {
    match member {
        "authorization_endpoint" => {
            let login = AuthorizationCode::new(endpoint, "https://app.example/callback");
            login.start().unwrap_err().to_string()
        }
        "device_authorization_endpoint" => {
            let login = DeviceCode::new(endpoint).login(|_| ()).await;
            login.unwrap_err().to_string()
        }
        _ => {
            let cache = TokenCache::from(ClientCredentials::new(endpoint));
            cache.get().await.unwrap();
            assert_eq!(server.heard().len(), 2);
            cache.close().await.unwrap_err().to_string()
        }
    }
}

const OTHERS: [(&str, &str); 3] = [
    ("revocation_endpoint", "revocation endpoint"),
    ("authorization_endpoint", "authorization endpoint"),
    (
        "device_authorization_endpoint",
        "device authorization endpoint",
    ),
];

// rule 24
#[tokio::test]
async fn an_endpoint_that_cannot_be_one_fails_who_uses_it() {
    for (member, name) in OTHERS {
        for (bad, part) in [
            ("http://as.example/x", ".allow_plaintext()"),
            ("/relative", "it has no scheme"),
        ] {
            let (server, endpoint) = with_a_bad(member, bad).await;
            let before = server.heard().len();
            let error = used(member, &server, endpoint).await;
            assert!(error.contains(name) && error.contains(part), "{error}");
            let token_requests = usize::from(member == "revocation_endpoint");
            assert_eq!(server.heard().len(), before + token_requests);
        }
    }
}

#[tokio::test]
async fn an_endpoint_without_a_url_is_none() {
    for (member, name) in OTHERS {
        let (_, endpoint) = with_a_bad(member, "").await;
        assert!(!format!("{endpoint:?}").contains("Err"), "{name}");
    }
    // Said by hand, it may be a setting that is missing.
    let by_hand = built(with(json!({}))).await.revocation_endpoint("");
    let error = by_hand.client_auth(ClientAuth::none("id")).build();
    let error = error.unwrap_err().to_string();
    assert!(error.contains("revocation endpoint"), "{error}");
}

async fn built(document: String) -> TokenEndpointBuilder {
    let server = Server::with([(FIRST, 200, document)]);
    server.discover(ISSUER).await.unwrap()
}

#[tokio::test]
async fn the_endpoint_knows_what_the_server_says() {
    let document = || {
        with(json!({
            "authorization_endpoint": "https://as.example/login",
            "device_authorization_endpoint": "https://as.example/device",
            "revocation_endpoint": "https://as.example/revoke",
            "authorization_response_iss_parameter_supported": true,
        }))
    };
    let client = || ClientAuth::basic("id", "s");
    let endpoint = built(document())
        .await
        .client_auth(client())
        .build()
        .unwrap();
    let shown = format!("{endpoint:?}");
    for part in [
        r#"issuer: Some("https://as.example/t")"#,
        r#"authorization: Some("https://as.example/login")"#,
        r#"device_authorization: Some("https://as.example/device")"#,
        r#"revocation: Some("https://as.example/revoke")"#,
        "iss_in_response: true",
    ] {
        assert!(shown.contains(part), "{shown}");
    }
    // By hand counts more.
    let endpoint = built(document())
        .await
        .client_auth(client())
        .issuer("https://other.example")
        .revocation_endpoint("https://other.example/revoke")
        .build()
        .unwrap();
    let shown = format!("{endpoint:?}");
    for part in [
        r#"issuer: Some("https://other.example")"#,
        r#"authorization: Some("https://as.example/login")"#,
        r#"revocation: Some("https://other.example/revoke")"#,
    ] {
        assert!(shown.contains(part), "{shown}");
    }
}

// rule 1
#[tokio::test]
async fn the_secret_goes_the_way_that_the_server_takes() {
    const GRANT: &str = "grant_type=client_credentials";
    const BASIC: Option<&str> = Some("Basic aWQ6cw==");
    let posted = format!("{GRANT}&client_id=id&client_secret=s");
    for (asked, methods, header, form) in [
        (ClientAuth::basic("id", "s"), json!(null), BASIC, GRANT),
        (ClientAuth::basic("id", "s"), json!([]), BASIC, GRANT),
        (
            ClientAuth::basic("id", "s"),
            json!(["client_secret_post", "client_secret_basic"]),
            BASIC,
            GRANT,
        ),
        (
            ClientAuth::basic("id", "s"),
            json!(["client_secret_post"]),
            None,
            &posted,
        ),
        (
            ClientAuth::post("id", "s"),
            json!(["client_secret_post", "client_secret_basic"]),
            None,
            &posted,
        ),
        (
            ClientAuth::post("id", "s"),
            json!(["client_secret_basic"]),
            BASIC,
            GRANT,
        ),
        (ClientAuth::post("id", "s"), json!(null), None, &posted),
    ] {
        let shown = format!("{asked:?} of {methods}");
        let document = with(json!({"token_endpoint_auth_methods_supported": methods}));
        let server = Server::with([(FIRST, 200, document)]);
        let request = server.token_request(ISSUER, asked).await.unwrap();
        let authorization = request.headers.get("authorization");
        let authorization = authorization.map(|value| value.to_str().unwrap());
        assert_eq!(authorization, header, "{shown}");
        assert_eq!(request.body, form, "{shown}");
    }
    let only_jwt = with(json!({"token_endpoint_auth_methods_supported": ["private_key_jwt"]}));
    let builder = built(only_jwt)
        .await
        .client_auth(ClientAuth::post("id", "hunter2"));
    let error = builder.build().unwrap_err();
    assert!(matches!(error, EndpointConfigError::AuthMethod { .. }));
    let message = error.to_string();
    for part in ["client_secret_post", "private_key_jwt"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(!message.contains("hunter2"), "{message}");
}

// rule 64
#[tokio::test]
async fn a_client_with_a_certificate_goes_to_the_aliases() {
    let document = || {
        with(json!({
            "revocation_endpoint": "https://as.example/revoke",
            "authorization_endpoint": "https://as.example/authorize",
            "device_authorization_endpoint": "https://as.example/device",
            "token_endpoint_auth_methods_supported": ["tls_client_auth", "client_secret_basic"],
            "mtls_endpoint_aliases": {
                "token_endpoint": "https://mtls.example/token",
                "revocation_endpoint": "https://mtls.example/revoke",
                "authorization_endpoint": "https://mtls.example/authorize",
            },
        }))
    };
    let tls = || ClientAuth::tls_by_transport("id");
    for (client_auth, url) in [
        (tls(), "https://mtls.example/token"),
        (ClientAuth::basic("id", "s"), "https://as.example/token"),
    ] {
        let server = Server::with([(FIRST, 200, document())]);
        let request = server.token_request(ISSUER, client_auth).await.unwrap();
        assert_eq!(request.url, url);
    }
    let shown = |builder: TokenEndpointBuilder| {
        format!("{:?}", builder.client_auth(tls()).build().unwrap())
    };
    let endpoint = shown(built(document()).await);
    for part in [
        "https://mtls.example/revoke",
        "https://as.example/device",
        // It is the browser that goes there, and that has no certificate.
        "https://as.example/authorize",
    ] {
        assert!(endpoint.contains(part), "{endpoint}");
    }
    let by_hand = built(document())
        .await
        .revocation_endpoint("https://hand.example/revoke");
    let endpoint = shown(by_hand);
    assert!(
        endpoint.contains("https://hand.example/revoke"),
        "{endpoint}"
    );
    assert!(
        !endpoint.contains("https://mtls.example/revoke"),
        "{endpoint}"
    );
}

#[tokio::test]
async fn what_was_said_to_the_search_counts_for_token_requests() {
    let server = Server::with([(FIRST, 200, with(json!({})))]);
    let builder = server
        .discover(ISSUER)
        .header("x-api-key", "hunter2-hunter2")
        .timeout(secs(3))
        .await
        .unwrap()
        .client_auth(ClientAuth::none("id"));
    let endpoint = builder.build().unwrap();
    assert!(
        format!("{endpoint:?}").contains("timeout: 3s"),
        "{endpoint:?}"
    );
    let heard = server.heard();
    assert_eq!(heard[0].headers["x-api-key"], "hunter2-hunter2");
    assert!(heard[0].headers["x-api-key"].is_sensitive());
    assert_eq!(heard[0].headers["accept-encoding"], "identity");
    let confidential = server
        .discover(ISSUER)
        .header("x-api-key", "hunter2-hunter2");
    let confidential = confidential
        .await
        .unwrap()
        .client_auth(ClientAuth::basic("id", "s"));
    let source = ClientCredentials::new(confidential.build().unwrap());
    source.token(Demand::default()).await.unwrap();
    assert_eq!(server.heard()[2].headers["x-api-key"], "hunter2-hunter2");
}
