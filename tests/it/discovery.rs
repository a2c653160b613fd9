//! *Discovery*: where the metadata of an authorization server is looked for, and which of it is
//! believed.

use std::convert::Infallible;

use http::{Method, Response};
use serde_json::json;
use tower_oauth::{
    ClientAuth, DiscoveryError, EndpointConfigError, EndpointError, TokenEndpoint, TokenError,
};

use crate::support::{
    secs,
    well_known::{FIRST, ISSUER, SECOND, Server, THIRD, metadata, with},
};

// rule 74
#[tokio::test]
async fn metadata_stands_where_rfc_8414_says() {
    for (issuer, place) in [
        (
            "https://as.example",
            "https://as.example/.well-known/oauth-authorization-server",
        ),
        (
            "https://as.example/",
            "https://as.example/.well-known/oauth-authorization-server",
        ),
        ("https://as.example/t", FIRST),
        ("https://as.example/t/", FIRST),
        (
            "https://as.example:8443/a/b",
            "https://as.example:8443/.well-known/oauth-authorization-server/a/b",
        ),
        (
            "http://[::1]:9000/t",
            "http://[::1]:9000/.well-known/oauth-authorization-server/t",
        ),
    ] {
        let server = Server::with([(place, 200, metadata(issuer))]);
        let basic = ClientAuth::basic("id", "s");
        let request = server.token_request(issuer, basic).await.unwrap();
        assert_eq!(request.url, "https://as.example/token");
        assert_eq!(server.urls(), [place, "https://as.example/token"]);
        let asked = &server.heard()[0];
        assert_eq!(asked.method, Method::GET);
        assert_eq!(asked.headers["accept"], "application/json");
        assert_eq!(asked.headers["accept-encoding"], "identity");
        assert_eq!(asked.headers.len(), 2, "and no secret: {:?}", asked.headers);
        assert!(asked.body.is_empty());
    }
}

// rule 74
#[tokio::test]
async fn an_issuer_that_is_none_is_refused_before_anything_is_sent() {
    let server = Server::default();
    for issuer in [
        "https://as.example?tenant=hunter2",
        "https://as.example/#hunter2",
        "https://id:hunter2@as.example",
        "http://as.example",
        "as.example",
        "",
    ] {
        let error = server.error(issuer).await;
        assert!(matches!(error, DiscoveryError::Config(_)), "{error}");
        assert!(!error.is_transient());
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    assert!(server.heard().is_empty());
    let error = server.discover(ISSUER).header("accept", "x").await;
    assert!(matches!(
        error,
        Err(DiscoveryError::Config(EndpointConfigError::Header { .. }))
    ));

    let place = "http://as.example/.well-known/oauth-authorization-server";
    let issuer = "http://as.example";
    let server = Server::with([(place, 200, metadata(issuer))]);
    assert!(server.discover(issuer).allow_plaintext().await.is_ok());
}

#[tokio::test]
async fn what_is_not_there_is_looked_for_where_openid_has_it() {
    for (status, first) in [
        (404, ""),
        (400, ""),
        (401, ""),
        (403, ""),
        (405, ""),
        (410, ""),
        (204, ""),
        (302, ""),
        (307, ""),
        (200, ""),
        (200, "<p>not found"),
        (200, "[]"),
        (200, r#"{"error": "not found"}"#),
        (200, r#"{"issuer": 1}"#),
    ] {
        let server = Server::with([
            (FIRST, status, first.to_owned()),
            (SECOND, 200, with(json!({}))),
        ]);
        assert!(server.discover(ISSUER).await.is_ok(), "{status} {first}");
        assert_eq!(server.urls(), [FIRST, SECOND], "{status} {first}");
    }
    let server = Server::with([(THIRD, 200, with(json!({})))]);
    assert!(server.discover(ISSUER).await.is_ok());
    assert_eq!(server.urls(), [FIRST, SECOND, THIRD]);
}

#[tokio::test]
async fn where_there_is_none_each_place_says_why() {
    let server = Server::with([(SECOND, 302, ""), (THIRD, 200, "<p>")]);
    let error = server.error(ISSUER).await;
    assert!(!error.is_transient());
    assert_eq!(
        error.to_string(),
        format!(
            "there is no metadata of the issuer {ISSUER}: {FIRST} answered HTTP 404, {SECOND} \
             answered HTTP 302 and points to https://login.example, which isn't followed, {THIRD} \
             answered HTTP 200 with something that isn't a JSON object; check the issuer, or \
             describe the server by TokenEndpoint::builder(…)"
        )
    );
    assert_eq!(server.urls(), [FIRST, SECOND, THIRD]);

    let server = Server::default();
    server.error("https://as.example/").await;
    assert_eq!(server.urls().len(), 2, "without a path two places are one");
}

#[tokio::test]
async fn a_failure_that_may_pass_ends_the_search() {
    for status in [500, 503, 429, 408] {
        let server = Server::with([
            (FIRST, status, String::new()),
            (SECOND, 200, with(json!({}))),
        ]);
        let error = server.error(ISSUER).await;
        assert!(error.is_transient(), "{error}");
        assert_eq!(error.retry_after(), Some(secs(7)));
        assert!(error.to_string().contains(&status.to_string()), "{error}");
        assert_eq!(server.urls(), [FIRST]);
        let error = TokenError::from(error);
        assert!(error.is_transient());
        assert_eq!(error.retry_after(), Some(secs(7)));
    }
}

// rules 74, 84
#[tokio::test]
async fn metadata_of_another_issuer_is_never_used() {
    for found in [
        "https://as.example/t/",
        "https://as.example",
        "https://AS.example/t",
        "https://as.example:443/t",
        "http://as.example/t",
        "https://evil.example/t",
        "https://as.example/%74",
        " https://as.example/t",
        "",
    ] {
        let server = Server::with([(FIRST, 200, metadata(found))]);
        let error = server.error(ISSUER).await;
        let DiscoveryError::OtherIssuer {
            issuer,
            found: said,
            ..
        } = &error
        else {
            panic!("{found}: {error}");
        };
        assert_eq!((&**issuer, &**said), (ISSUER, found));
        assert!(!error.is_transient());
        assert!(error.to_string().contains("byte for byte"), "{error}");
        assert_eq!(server.urls(), [FIRST, SECOND, THIRD], "GETs only");
    }
    // The right one may stand at the next place.
    let server = Server::with([
        (FIRST, 200, metadata("https://as.example").to_string()),
        (
            SECOND,
            200,
            with(json!({"token_endpoint": "https://as.example/second"})),
        ),
    ]);
    let basic = ClientAuth::basic("id", "s");
    let request = server.token_request(ISSUER, basic).await.unwrap();
    assert_eq!(request.url, "https://as.example/second");

    let long = format!("https://evil.example/\n{}", "x".repeat(9999));
    let server = Server::with([(FIRST, 200, metadata(&long))]);
    let message = server.error(ISSUER).await.to_string();
    assert!(message.len() < 1000 && !message.contains('\n'), "{message}");
}

#[tokio::test]
async fn metadata_that_breaks_the_standard_is_the_operators_turn() {
    let twice = format!(r#"{{"issuer":"{ISSUER}","token_endpoint":"a","token_endpoint":"b"}}"#);
    for (document, part) in [
        (json!({"issuer": ISSUER}).to_string(), "no token_endpoint"),
        (with(json!({"token_endpoint": null})), "no token_endpoint"),
        (
            with(json!({"token_endpoint": ["a"]})),
            "endpoint is no text",
        ),
        (
            with(json!({"revocation_endpoint": 1})),
            "endpoint is no text",
        ),
        (
            with(json!({"mtls_endpoint_aliases": []})),
            "mtls_endpoint_aliases",
        ),
        (
            with(json!({"token_endpoint_auth_methods_supported": "none"})),
            "list of texts",
        ),
        (
            with(json!({"token_endpoint_auth_signing_alg_values_supported": [1]})),
            "list of texts",
        ),
        (
            with(json!({"authorization_response_iss_parameter_supported": "true"})),
            "no boolean",
        ),
        (twice, "stands twice"),
    ] {
        let server = Server::with([(FIRST, 200, document)]);
        let error = server.error(ISSUER).await;
        assert!(matches!(error, DiscoveryError::Malformed { .. }), "{error}");
        assert!(!error.is_transient());
        assert!(error.to_string().contains(part), "{error}");
        assert_eq!(server.urls(), [FIRST]);
    }
    let odd = with(json!({
        "revocation_endpoint": null,
        "mtls_endpoint_aliases": null,
        "token_endpoint_auth_methods_supported": null,
        "x": [{"y": {}}],
    }));
    let server = Server::with([(FIRST, 200, format!("\u{feff} {odd} "))]);
    assert!(server.discover(ISSUER).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_search_has_a_deadline_in_all() {
    // Two seconds for each place, of which there are three.
    let slow = tower::service_fn(|_| async {
        tokio::time::sleep(secs(2)).await;
        Ok::<_, Infallible>(Response::builder().status(404).body(String::new()).unwrap())
    });
    let start = tokio::time::Instant::now();
    let search = TokenEndpoint::discover(ISSUER)
        .transport(slow)
        .timeout(secs(5));
    let error = search.await.unwrap_err();
    assert_eq!(start.elapsed(), secs(5));
    assert!(error.is_transient());
    assert!(
        matches!(
            error,
            DiscoveryError::Failed(EndpointError::TimedOut { .. })
        ),
        "{error}"
    );
    assert!(error.to_string().contains(ISSUER), "{error}");
    assert!(error.to_string().contains("5s"), "{error}");
}

#[cfg(feature = "https-client")]
mod on_the_wire {
    use tower_oauth::{ClientCredentials, Demand, TokenSource};

    use super::*;
    use crate::support::{
        raw::{End, Peer, Script, answer},
        tls::{Authority, Seen, TlsServer},
    };

    async fn peer(bytes: Vec<u8>, endless: Option<Vec<u8>>, end: End) -> Peer {
        Peer::start(Script {
            bytes,
            endless,
            end,
        })
        .await
    }

    #[tokio::test]
    async fn a_search_has_these_bytes() {
        let peer = peer(answer(404, &[], b""), None, End::Close).await;
        let error = TokenEndpoint::discover(peer.url("/t")).await.unwrap_err();
        assert!(matches!(error, DiscoveryError::NotFound { .. }), "{error}");
        let expected = [
            "/.well-known/oauth-authorization-server/t",
            "/t/.well-known/openid-configuration",
            "/.well-known/openid-configuration/t",
        ];
        let address = peer.address;
        let expected = expected.map(|path| {
            let accept = "accept: application/json\r\naccept-encoding: identity";
            format!("GET {path} HTTP/1.1\r\n{accept}\r\nhost: {address}\r\n\r\n")
        });
        assert_eq!(peer.requests(), expected);
    }

    // rule 83
    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        let elsewhere = peer(answer(200, &[], b"{}"), None, End::Close).await;
        let location = elsewhere.url("/x");
        let redirect = answer(302, &[("Location", &location)], b"");
        let peer = peer(redirect, None, End::Close).await;
        let error = TokenEndpoint::discover(peer.url("")).await.unwrap_err();
        assert!(error.to_string().contains(&elsewhere.url("")), "{error}");
        assert_eq!(peer.requests().len(), 2);
        assert!(elsewhere.requests().is_empty());
    }

    // rule F31
    #[tokio::test]
    async fn an_answer_without_end_is_left() {
        let head = b"HTTP/1.1 200 OK\r\n\r\n{".to_vec();
        let peer = peer(head, Some(vec![b' '; 65536]), End::Close).await;
        let error = TokenEndpoint::discover(peer.url("")).await.unwrap_err();
        assert!(error.to_string().contains("more than 1 MiB"), "{error}");
        assert!(!error.is_transient());
        assert_eq!(peer.requests().len(), 2);
    }

    #[tokio::test]
    async fn a_server_that_breaks_off_may_come_back() {
        for end in [End::Close, End::Reset] {
            let peer = peer(Vec::new(), None, end).await;
            let error = TokenEndpoint::discover(peer.url("")).await.unwrap_err();
            assert!(error.is_transient(), "{error}");
            assert!(error.to_string().contains("broke before"), "{error}");
            assert_eq!(peer.requests().len(), 1);
        }
    }

    #[tokio::test]
    async fn the_given_roots_count_for_the_search_and_for_token_requests() {
        let authority = Authority::new();
        let token = answer(200, &[], br#"{"access_token":"a","token_type":"Bearer"}"#);
        let token = TlsServer::start(&authority, token);
        let issuer = TlsServer::saying(&authority, |url| {
            let document = json!({"issuer": url, "token_endpoint": token.url("/token")});
            answer(200, &[], document.to_string().as_bytes())
        });
        let discover = || TokenEndpoint::discover(issuer.url(""));
        let builder = discover().root_certificates(authority.pem()).await.unwrap();
        let endpoint = builder
            .client_auth(ClientAuth::basic("id", "s"))
            .build()
            .unwrap();
        let source = ClientCredentials::new(endpoint);
        source.token(Demand::default()).await.unwrap();
        let [Seen::Request { bytes, .. }] = &*token.seen() else {
            panic!("no token request");
        };
        assert!(bytes.starts_with("POST /token "), "{bytes}");

        let error = discover().root_certificates(Authority::new().pem()).await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains("certificate"), "{error}");
        let both = discover()
            .root_certificates(authority.pem())
            .transport(Server::default());
        let error = both.await.unwrap_err();
        assert!(error.to_string().contains(".transport("), "{error}");
    }
}

#[tokio::test]
async fn metadata_in_a_coding_that_is_not_read_is_named_so() {
    let zipped = tower::service_fn(|_| async {
        let answer = Response::builder().header("content-encoding", "gzip");
        Ok::<_, Infallible>(answer.body(String::from("\u{1f}")).unwrap())
    });
    let found = TokenEndpoint::discover(ISSUER).transport(zipped).await;
    let shown = found.unwrap_err().to_string();
    assert!(
        shown.contains("HTTP 200 in the Content-Encoding gzip"),
        "{shown}"
    );
}
