//! Bodies on their way up: streamed, replayed within the limit, and never sent short.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    curl::Curl,
    stand::{Folder, Stand},
    upstream::End,
};
use crate::support::wire::{BOTH, Protocol};

#[tokio::test]
async fn an_upload_is_seen_while_it_goes_on() {
    if !Curl::is_there() {
        return;
    }
    for protocol in BOTH {
        let stand = Stand::start(protocol).await;
        for caller in BOTH {
            let arguments = ["--upload-file", "-", "--request", "POST"];
            let mut upload = stand.curl(caller).call("a.internal", "/echo", &arguments);
            let mut all = Vec::new();
            for part in ["first ", "second ", "third "] {
                upload.write(part.as_bytes()).await;
                all.extend(part.bytes());
                let came = |sends: &[super::upstream::Send]| {
                    sends.last().is_some_and(|send| send.body == all)
                };
                stand.a.until(came).await;
            }
            assert_eq!(stand.a.only().end, End::Open);
            upload.write(b"last").await;
            let got = upload.end().await.expect(200);
            assert_eq!(got.body, "first second third last");
            let sent = stand.a.only();
            assert_eq!(sent.end, End::Whole);
            // Its length isn't known here either.
            assert!(!sent.headers.contains_key("content-length"), "{sent:?}");
            stand.a.forget();
        }
    }
}

#[tokio::test]
async fn a_refusal_in_mid_upload_is_the_proxys_within_the_limit() {
    if !Curl::is_there() {
        return;
    }
    for protocol in BOTH {
        for caller in BOTH {
            let stand = Stand::start(protocol).await;
            stand.a.refuse("token-a-1");
            let arguments = ["--upload-file", "-", "--header", "x-read: 1024"];
            let mut upload = stand.curl(caller).call("a.internal", "/echo", &arguments);
            let all: String = (0..8000).map(|number| format!("{number:05}")).collect();
            let (early, late) = all.split_at(2000);
            upload.write(early.as_bytes()).await;
            stand.a.until(|sends| sends.len() == 2).await;
            upload.write(late.as_bytes()).await;

            let got = upload.end().await.expect(200);
            assert_eq!(got.body, all);
            stand.a.until(|sends| sends[0].end != End::Open).await;
            let sends = stand.a.sends();
            assert_eq!(sends[0].end, End::Broken, "it passed for a whole one");
            assert_eq!(sends[1].body, all.as_bytes());
            assert_eq!(sends[0].headers["authorization"], "Bearer token-a-1");
            assert_eq!(sends[1].headers["authorization"], "Bearer token-a-2");
            assert_eq!(stand.auth_a.issued(), 2);
        }
    }
}

#[tokio::test]
async fn a_refusal_is_the_callers_over_the_limit() {
    if !Curl::is_there() {
        return;
    }
    let folder = Folder::new();
    let large = folder.file("large", &"0123456789".repeat(30_000));
    let large = format!("@{}", large.display());
    for protocol in BOTH {
        for caller in BOTH {
            let stand = Stand::start(protocol).await;
            stand.a.refuse("token-a-1");
            let curl = stand.curl(caller);
            // By its length, which is known.
            let arguments = ["--data-binary", &large, "--header", "x-read: 1024"];
            let got = curl.call("a.internal", "/echo", &arguments).end().await;
            let refused = |got: super::curl::Got| {
                let got = got.expect(401);
                assert_eq!(got.body, "refused by the upstream");
                assert_eq!(got.header("x-server"), Some("intact"));
                assert!(got.header("www-authenticate").is_some(), "{got:?}");
            };
            refused(got);
            assert_eq!(stand.a.sends().len(), 1);

            // The next one has a token that wasn't refused.
            let whole = ["--data-binary", &large];
            let got = curl.call("a.internal", "/echo", &whole).end().await;
            assert_eq!(got.expect(200).body.len(), 300_000);

            // By what was recorded when it came.
            stand.a.refuse("token-a-2");
            let arguments = ["--upload-file", "-", "--header", "x-read: 70000"];
            let mut upload = curl.call("a.internal", "/echo", &arguments);
            upload.write("0123456789".repeat(7_000).as_bytes()).await;
            refused(upload.end().await);
            assert_eq!(stand.a.sends().len(), 3);
        }
    }
}

#[tokio::test]
async fn the_limit_is_the_upstreams_own() {
    if !Curl::is_there() {
        return;
    }
    let stand = Stand::with(Protocol::Http1, "replay_limit = 3").await;
    stand.a.refuse("token-a-1");
    stand.b.refuse("token-b-1");
    let curl = stand.curl(Protocol::Http1);
    let post = ["--data", "four"];
    let got = curl.call("a.internal", "/echo", &post).end().await;
    assert_eq!(got.expect(401).body, "refused by the upstream");
    let got = curl.call("b.internal", "/echo", &post).end().await;
    assert_eq!(got.expect(200).body, "four");
}

#[tokio::test]
async fn a_caller_that_expects_100_is_told_to_go_on() {
    if !Curl::is_there() {
        return;
    }
    let folder = Folder::new();
    let large = folder.file("large", &"0123456789".repeat(200_000));
    let large = format!("@{}", large.display());
    for protocol in BOTH {
        let stand = Stand::start(protocol).await;
        for caller in BOTH {
            let call = stand.curl(caller);
            let got = call.call("a.internal", "/echo", &["--data-binary", &large]);
            let got = got.end().await.expect(200);
            assert_eq!(got.body.len(), 2_000_000);
            if caller == Protocol::Http1 {
                assert_eq!(got.interim, 1, "{}", got.head);
            }
            stand.a.forget();
        }
    }
}

#[tokio::test]
async fn a_caller_that_hangs_up_leaves_no_short_body() {
    if !Curl::is_there() {
        return;
    }
    for protocol in BOTH {
        let stand = Stand::start(protocol).await;
        for caller in BOTH {
            let arguments = ["--upload-file", "-"];
            let mut upload = stand.curl(caller).call("a.internal", "/echo", &arguments);
            upload.write(b"half of ").await;
            stand
                .a
                .until(|sends| sends.last().is_some_and(|send| send.body.len() == 8))
                .await;
            upload.kill().await;
            stand.a.until(|sends| sends[0].end != End::Open).await;
            assert_eq!(stand.a.only().end, End::Broken);
            stand.a.forget();
        }
    }
}

/// curl can't send any, so this is by hand.
#[tokio::test]
async fn trailers_go_up_and_come_down() {
    for protocol in BOTH {
        let stand = Stand::start(protocol).await;
        let mut caller = TcpStream::connect(stand.proxy.address()).await.unwrap();
        let request = "POST /trailers HTTP/1.1\r\nHost: a.internal\r\nTE: trailers\r\n\
                       Connection: TE, close\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n\
                       3\r\n1+1\r\n0\r\nx-sum: 2\r\n\r\n";
        caller.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        caller.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.ends_with("sum:\r\n0\r\nx-sum: 2\r\n\r\n"),
            "{answer}"
        );
        let sent = stand.a.only();
        assert_eq!((&*sent.body, sent.end), (&b"1+1"[..], End::Whole));
    }
}
