//! What callers are told where there is no answer of the upstream: who must act, and no secret.

use super::{
    curl::{Curl, Got},
    stand::{Folder, SECRET_A, Stand, ports, proxy, section},
};
use crate::support::{
    raw::{Peer, Script, answer},
    servers::AuthServer,
    wire::{BOTH, Protocol},
};

const SECRET: &str = "hunter2-of-nobody";

#[tokio::test]
async fn an_authorization_server_that_is_down_is_said_to_be() {
    if !Curl::is_there() {
        return;
    }
    let stand = Stand::start(Protocol::Http1).await;
    stand.auth_a.be_down(true);
    for caller in BOTH {
        let curl = stand.curl(caller);
        // Over HTTP/2 curl 7.88 takes it for an empty reply if its body isn't wanted.
        let expecting = ["--header", "Expect: 100-continue", "--data", "x"];
        let expecting = &expecting[..if caller == Protocol::Http1 { 4 } else { 0 }];
        let got = curl.call("a.internal", "/", expecting);
        let got = got.end().await.expect_problem(503, "proxy_internal_error");
        assert_eq!(got.interim, 0, "the body was asked for: {got:?}");
        for part in [&*stand.a.origin(), &stand.auth_a.url(), "no access token"] {
            assert!(got.body.contains(part), "{got:?}");
        }
        assert!(!got.body.contains(SECRET_A), "{got:?}");
        // The other upstream has a server of its own.
        curl.get("b.internal", "/").await.expect(200);
        stand.b.forget();
    }
    assert!(stand.a.sends().is_empty());
}

#[tokio::test]
async fn credentials_that_are_refused_are_the_operators() {
    if !Curl::is_there() {
        return;
    }
    let (auth, folder) = (AuthServer::start(SECRET_A, "token-"), Folder::new());
    let wrong = folder.file("wrong", SECRET);
    let file = section("a.internal", "http://127.0.0.1:1", &auth, &wrong, false);
    let got = got(&format!("{}{file}", ports())).await;
    let got = got.expect_problem(502, "proxy_configuration_error");
    assert!(got.body.contains("invalid_client"), "{got:?}");
    assert_eq!(got.header("retry-after"), None);
    assert!(!got.body.contains(SECRET), "{got:?}");
}

#[tokio::test]
async fn a_server_that_wants_to_be_left_alone_is_quoted() {
    if !Curl::is_there() {
        return;
    }
    let busy = answer(503, &[("Retry-After", "7")], b"");
    let auth = Peer::start(Script {
        bytes: busy,
        ..Script::default()
    });
    let (url, folder) = (auth.await.url("/token"), Folder::new());
    let secret = folder.file("secret", SECRET);
    let file = format!(
        "{}[upstream.\"a.internal\"]\norigin = \"http://127.0.0.1:1\"\ntoken_endpoint = {url:?}\n\
         client_id = \"c\"\nclient_secret_file = {secret:?}\n",
        ports()
    );
    let got = got(&file).await.expect_problem(503, "proxy_internal_error");
    assert_eq!(got.header("retry-after"), Some("7"));
}

#[tokio::test]
async fn a_secret_that_is_not_there_yet_is_named() {
    if !Curl::is_there() {
        return;
    }
    let (auth, folder) = (AuthServer::start(SECRET, "token-"), Folder::new());
    let secret = folder.file("secret", SECRET);
    std::fs::remove_file(&secret).unwrap();
    let file = section("a.internal", "http://127.0.0.1:1", &auth, &secret, false);
    let got = got(&format!("{}{file}", ports())).await;
    let got = got.expect_problem(503, "proxy_internal_error");
    let path = secret.display().to_string();
    assert!(got.body.contains(&path), "{got:?}");
    assert!(auth.requests().is_empty());
}

#[tokio::test]
async fn an_upstream_that_gives_no_answer_is_said_to() {
    if !Curl::is_there() {
        return;
    }
    let folder = Folder::new();
    let token = folder.file("token", "mF_9.B5f-4.1JqM");
    let upstream = |origin: &str, more: &str| {
        format!(
            "{}[upstream.\"a.internal\"]\norigin = {origin:?}\ntoken_file = {token:?}\n{more}\n",
            ports()
        )
    };
    let nobody = got(&upstream("http://127.0.0.1:1", "")).await;
    let nobody = nobody.expect_problem(502, "destination_unavailable");
    assert!(nobody.body.contains("http://127.0.0.1:1"), "{nobody:?}");

    let mute = Peer::start(Script::default()).await;
    let mute = got(&upstream(&mute.url(""), "")).await;
    mute.expect_problem(502, "connection_terminated");

    // One that never answers, and a limit that is over at once.
    let waits = super::upstream::Upstream::start();
    let file = upstream(&waits.origin(), "timeout = 0").replace("a.internal", "A.internal");
    let late = got(&file).await;
    let late = late.expect_problem(504, "http_response_timeout");
    assert!(late.body.contains("timeout"), "{late:?}");
    assert!(!late.body.contains("mF_9"), "{late:?}");
}

/// What a caller of such a proxy gets.
async fn got(file: &str) -> Got {
    let proxy = proxy(file).await;
    let curl = Curl {
        proxy: proxy.address(),
        protocol: Protocol::Http1,
    };
    curl.get("a.internal", "/waits").await
}
