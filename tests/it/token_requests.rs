//! What the built-in client sends for a token, where, and what it never does.

use std::time::Duration;

use tokio::net::TcpSocket;
use tower_oauth::{
    AccessToken, ClientAuth, ClientCredentials, Demand, EndpointError, TokenEndpoint, TokenError,
    TokenSource,
};

use crate::support::{
    raw::{End, Peer, Script, answer},
    tls::{Authority, Seen, TlsServer},
};

const TOKEN: &[u8] = br#"{"access_token":"a","token_type":"Bearer"}"#;

async fn ask(url: String, auth: ClientAuth) -> Result<AccessToken, TokenError> {
    let endpoint = TokenEndpoint::builder(url)
        .client_auth(auth)
        .param("audience", "https://api.example")
        .timeout(Duration::from_secs(30))
        .build()
        .unwrap();
    let source = ClientCredentials::new(endpoint).scope("read write");
    source.token(Demand::default()).await
}

async fn peer(bytes: Vec<u8>) -> Peer {
    Peer::start(Script {
        bytes,
        ..Script::default()
    })
    .await
}

// rules 1, 3, 5, 6, 7, 8
#[tokio::test]
async fn a_token_request_has_these_bytes() {
    let peer = peer(answer(200, &[], TOKEN)).await;
    let basic = ClientAuth::basic("id", "s3cr3t");
    ask(peer.url("/token?tenant=x"), basic).await.unwrap();
    let post = ClientAuth::post("id", "s3cr3t");
    ask(peer.url("/token?tenant=x"), post).await.unwrap();

    let form = "grant_type=client_credentials&scope=read+write&audience=https%3A%2F%2Fapi.example";
    for (request, authorization, form) in [
        (0, Some("Basic aWQ6czNjcjN0"), form.to_owned()),
        (1, None, format!("{form}&client_id=id&client_secret=s3cr3t")),
    ] {
        let request = &peer.requests()[request];
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, form);
        let mut lines = head.split("\r\n");
        assert_eq!(lines.next(), Some("POST /token?tenant=x HTTP/1.1"));
        let mut headers: Vec<String> = lines.map(ToOwned::to_owned).collect();
        headers.sort();
        let mut expected = vec![
            "accept: application/json".to_owned(),
            "accept-encoding: identity".to_owned(),
            "content-type: application/x-www-form-urlencoded".to_owned(),
            format!("content-length: {}", form.len()),
            format!("host: {}", peer.address),
        ];
        expected.extend(authorization.map(|value| format!("authorization: {value}")));
        expected.sort();
        assert_eq!(headers, expected);
    }
}

// rules 83, F28
#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = peer(answer(200, &[], TOKEN)).await;
    for status in [301, 302, 303, 307, 308] {
        let location = elsewhere.url("/token");
        let peer = peer(answer(status, &[("Location", &location)], b"")).await;
        let asked = ask(peer.url("/token"), ClientAuth::post("id", "s3cr3t")).await;
        let error = asked.unwrap_err();
        assert!(!error.is_transient());
        let cause = error.get_ref().downcast_ref::<EndpointError>();
        assert!(matches!(cause, Some(EndpointError::Redirected { .. })));
        assert!(error.to_string().contains(&elsewhere.url("")), "{error}");
        assert_eq!(peer.requests().len(), 1, "and it isn't tried again");
    }
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn a_dead_host_is_told_from_a_broken_connection() {
    // A port that is taken, but on which nobody listens.
    let taken = TcpSocket::new_v4().unwrap();
    taken.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let dead = format!("http://{}/token", taken.local_addr().unwrap());
    let basic = || ClientAuth::basic("id", "s3cr3t");
    let error = ask(dead, basic()).await.unwrap_err();
    assert!(error.is_transient());
    assert!(error.to_string().contains("nothing was sent"), "{error}");

    let broken = Peer::start(Script {
        end: End::Reset,
        ..Script::default()
    })
    .await;
    let error = ask(broken.url("/token"), basic()).await.unwrap_err();
    assert!(error.is_transient());
    assert!(error.to_string().contains("broke before"), "{error}");
    assert_eq!(broken.requests().len(), 1, "and it isn't tried again");
}

#[tokio::test]
async fn no_connection_is_kept() {
    // The peer would keep the first connection, and answer nothing more on it.
    let bytes = [
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", TOKEN.len()).as_bytes(),
        TOKEN,
    ]
    .concat();
    let end = End::Silence;
    let peer = Peer::start(Script {
        bytes,
        end,
        ..Script::default()
    })
    .await;
    let endpoint = TokenEndpoint::builder(peer.url("/token"))
        .client_auth(ClientAuth::basic("id", "s3cr3t"))
        .build()
        .unwrap();
    let source = ClientCredentials::new(endpoint);
    for _ in 0..2 {
        source.token(Demand::default()).await.unwrap();
    }
    assert_eq!(peer.requests().len(), 2);
}

// rules 24, 29
#[tokio::test]
async fn an_unknown_root_ends_it_before_the_form_is_sent() {
    let server = TlsServer::start(&Authority::new(), Vec::new());
    let url = server.url("/token");
    let asked = ask(url, ClientAuth::post("id", "s3cr3t")).await;
    let error = asked.unwrap_err();
    assert!(error.is_transient());
    assert!(error.to_string().contains("certificate"), "{error}");
    assert!(error.to_string().contains("nothing was sent"), "{error}");
    let seen = server.saw(1).await;
    assert!(matches!(*seen, [Seen::Nothing]), "no application data");
}
