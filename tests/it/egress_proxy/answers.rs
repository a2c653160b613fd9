//! Answers on their way down, as the upstream gave them.

use super::{
    curl::Curl,
    stand::{Folder, Stand, ports, proxy},
};
use crate::support::{
    raw::{Peer, Script},
    wire::{BOTH, Protocol},
};

#[tokio::test]
async fn an_answer_is_seen_while_it_goes_on() {
    if !Curl::is_there() {
        return;
    }
    for protocol in BOTH {
        let stand = Stand::start(protocol).await;
        for caller in BOTH {
            let mut download = stand.curl(caller).call("a.internal", "/stream", &[]);
            assert_eq!(download.read(6).await, "first ");
            stand.a.open(true);
            assert_eq!(download.end().await.expect(200).body, "last");
            stand.a.open(false);
            stand.a.forget();
        }
    }
}

#[tokio::test]
async fn answers_without_a_body_and_redirects_are_the_callers() {
    if !Curl::is_there() {
        return;
    }
    for protocol in BOTH {
        let stand = Stand::start(protocol).await;
        for caller in BOTH {
            let curl = stand.curl(caller);
            let head = curl.call("a.internal", "/head", &["--head"]).end().await;
            assert_eq!(head.expect(200).header("content-length"), Some("7"));
            stand.a.forget();

            let empty = curl.get("a.internal", "/empty").await.expect(204);
            assert_eq!((&*empty.body, empty.header("content-length")), ("", None));
            stand.a.forget();

            let unchanged = curl.get("a.internal", "/unchanged").await.expect(304);
            assert_eq!(
                (&*unchanged.body, unchanged.header("etag")),
                ("", Some("\"7\""))
            );
            stand.a.forget();

            let moved = curl.get("a.internal", "/moved").await.expect(307);
            assert_eq!(moved.header("location"), Some("http://elsewhere.example/"));
            assert_eq!(moved.body, "moved");
            assert_eq!(stand.a.sends().len(), 1);
            stand.a.forget();
        }
    }
}

#[tokio::test]
async fn trailers_come_down() {
    if !Curl::is_there() {
        return;
    }
    for protocol in BOTH {
        let stand = Stand::start(protocol).await;
        for caller in BOTH {
            // HTTP/2 has no `Connection`.
            let asking = ["--header", "TE: trailers", "--header", "Connection: TE"];
            let asking = &asking[..if caller == Protocol::Http1 { 4 } else { 2 }];
            let got = stand.curl(caller).call("a.internal", "/trailers", asking);
            let got = got.end().await.expect(200);
            assert_eq!(got.body, "sum:");
            assert_eq!(got.header("x-sum"), Some("none"), "{got:?}");
            stand.a.forget();
        }
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_breaks_off_for_the_caller() {
    if !Curl::is_there() {
        return;
    }
    for protocol in BOTH {
        let stand = Stand::start(protocol).await;
        for caller in BOTH {
            let mut download = stand.curl(caller).call("a.internal", "/dies", &[]);
            assert_eq!(download.read(8).await, "half of ");
            stand.a.open(true);
            let got = download.end().await;
            assert_eq!((got.status, &*got.body), (200, ""));
            assert_ne!(got.exit, 0, "it passed for a whole one: {got:?}");
            stand.a.open(false);
            stand.a.forget();
        }
    }
}

#[tokio::test]
async fn a_length_that_does_not_hold_is_not_passed_on() {
    if !Curl::is_there() {
        return;
    }
    let folder = Folder::new();
    let token = folder.file("token", "token-a-1");
    for head in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Transfer-Encoding: chunked\r\nContent-Length: 50",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\nb\r\nhello world\r\n0\r\n\r\n");
        let script = Script {
            bytes: answer.into_bytes(),
            ..Script::default()
        };
        let peer = Peer::start(script).await;
        let (ports, origin) = (ports(), peer.url(""));
        let file = format!(
            "{ports}[upstream.\"a.internal\"]\norigin = {origin:?}\ntoken_file = {token:?}\n"
        );
        let proxy = proxy(&file).await;
        for protocol in BOTH {
            let curl = Curl {
                proxy: proxy.address(),
                protocol,
            };
            let got = curl.get("a.internal", "/").await.expect(200);
            assert_eq!(got.body, "hello world", "{head}");
            assert_eq!(got.header("content-length"), None, "{head}");
        }
    }
}
