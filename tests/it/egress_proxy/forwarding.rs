//! What reaches the upstream, and what doesn't.

use super::{
    curl::{Curl, Transfer},
    stand::{SECRET_A, SECRET_B, Stand},
    upstream::{End, Send},
};
use crate::support::wire::{BOTH, Protocol};

#[tokio::test]
async fn requests_reach_the_upstream_that_they_name_with_its_token() {
    if !Curl::is_there() {
        return;
    }
    for protocol in BOTH {
        let stand = Stand::start(protocol).await;
        for caller in BOTH {
            let curl = stand.curl(caller);
            let case = format!("{caller:?} to {protocol:?}");

            let got = curl.get("a.internal", "/x?y=z").await.expect(200);
            assert_eq!(got.body, "hello", "{case}");
            let sent = stand.a.only();
            let via = if case.starts_with("Http1") {
                "1.1"
            } else {
                "2"
            };
            assert_eq!(
                header(&sent, "via"),
                [format!("{via} egress_proxy")],
                "{case}"
            );
            assert_eq!(
                header(&sent, "authorization"),
                ["Bearer token-a-1"],
                "{case}"
            );
            assert!(
                sent.line.starts_with("GET ") && sent.line.contains("/x?y=z"),
                "{sent:?}"
            );
            // Named as its own origin is, not as the caller calls it.
            let address = stand.a.address.to_string();
            let host = header(&sent, "host");
            let named = host == [&*address] || sent.line.contains(&address) && host.is_empty();
            assert!(named, "{case}: {sent:?}");
            stand.a.forget();

            let posted = [
                "--data",
                "two green widgets",
                "--header",
                "Authorization: Basic eDp5",
            ];
            let got = curl.call("B.Internal:8080", "/echo", &posted).end().await;
            assert_eq!(got.expect(200).body, "two green widgets", "{case}");
            let sent = stand.b.only();
            assert_eq!(
                header(&sent, "authorization"),
                ["Bearer token-b-1"],
                "{case}"
            );
            assert_eq!(header(&sent, "content-length"), ["17"], "{case}");
            assert_eq!(sent.end, End::Whole);
            stand.b.forget();
        }
        assert_eq!((stand.auth_a.issued(), stand.auth_b.issued()), (1, 1));
        let (heard_a, heard_b) = (stand.a.heard(), stand.b.heard());
        for foreign in ["token-b", "eDp5", SECRET_A, SECRET_B] {
            assert!(!heard_a.contains(foreign), "{foreign}: {heard_a}");
        }
        for foreign in ["token-a", "eDp5", SECRET_A, SECRET_B] {
            assert!(!heard_b.contains(foreign), "{foreign}: {heard_b}");
        }
    }
}

#[tokio::test]
async fn it_is_a_proxy_to_programs_that_are_told_so() {
    if !Curl::is_there() {
        return;
    }
    let stand = Stand::start(BOTH[0]).await;
    let proxy = format!("http://user:pass@{}", stand.proxy.address());
    let through =
        |arguments: &[&str]| Transfer::start(&[&["--proxy", &*proxy], arguments].concat());
    // In absolute form the target counts, not Host.
    let arguments = ["http://a.internal/x", "--header", "Host: b.internal"];
    let got = through(&arguments).end().await.expect(200);
    assert_eq!(got.header("via"), Some("1.1 egress_proxy"));
    let sent = stand.a.only();
    assert!(header(&sent, "proxy-authorization").is_empty(), "{sent:?}");
    assert!(header(&sent, "proxy-connection").is_empty(), "{sent:?}");
    assert!(stand.b.sends().is_empty());

    let got = through(&["https://a.internal/x"]).end().await;
    assert_ne!(got.exit, 0, "{got:?}");
    assert_eq!(got.status, 501, "{got:?}");
    assert_eq!(stand.a.sends().len(), 1);
}

#[tokio::test]
async fn what_is_for_one_hop_stays_there() {
    if !Curl::is_there() {
        return;
    }
    for protocol in BOTH {
        let stand = Stand::start(protocol).await;
        for caller in BOTH {
            let mut arguments = vec!["--header", "Via: 1.0 before", "--header", "X-Kept: 1"];
            arguments.extend(["--header", "Proxy-Authorization: Basic eDp5"]);
            if caller == BOTH[0] {
                for line in [
                    "Connection: X-Hop, TE",
                    "X-Hop: 1",
                    "Keep-Alive: timeout=5",
                    "Proxy-Connection: keep-alive",
                    "TE: gzip, trailers",
                    "Upgrade: websocket",
                ] {
                    arguments.extend(["--header", line]);
                }
            }
            let got = stand.curl(caller).call("a.internal", "/hops", &arguments);
            let got = got.end().await.expect(200);
            let sent = stand.a.only();
            for gone in [
                "connection",
                "x-hop",
                "keep-alive",
                "proxy-connection",
                "proxy-authorization",
                "upgrade",
            ] {
                assert!(header(&sent, gone).is_empty(), "{gone}: {sent:?}");
            }
            assert_eq!(header(&sent, "x-kept"), ["1"]);
            assert_eq!(header(&sent, "via").len(), 2, "{sent:?}");
            if caller == BOTH[0] {
                assert_eq!(header(&sent, "te"), ["trailers"]);
            }

            for gone in ["x-hop", "keep-alive", "proxy-authenticate"] {
                assert_eq!(got.header(gone), None, "{got:?}");
            }
            assert_eq!(got.header("x-end-to-end"), Some("1"));
            assert_eq!(got.head.matches("\nvia: ").count(), 2, "{got:?}");
            stand.a.forget();
        }
    }
}

#[tokio::test]
async fn a_request_that_names_no_upstream_is_told_what_to_do() {
    if !Curl::is_there() {
        return;
    }
    let stand = Stand::start(BOTH[0]).await;
    for caller in BOTH {
        let curl = stand.curl(caller);
        for name in ["c.internal", "a.internal.example", "127.0.0.1"] {
            let got = curl.get(name, "/").await;
            let got = got.expect_problem(404, "destination_not_found");
            let said = [
                name,
                "a.internal, b.internal",
                "Host",
                "http_proxy",
                "[upstream.",
            ];
            for part in said {
                assert!(got.body.contains(part), "{got:?}");
            }
        }
        let got = curl
            .call("a.internal", "/", &["--request", "TRACE"])
            .end()
            .await;
        let got = got.expect_problem(501, "http_request_denied");
        assert!(got.body.contains("TRACE"), "{got:?}");

        let options = |left| {
            let header = format!("Max-Forwards: {left}");
            curl.call(
                "b.internal",
                "/",
                &["--request", "OPTIONS", "--header", &header],
            )
        };
        options(1).end().await.expect(200);
        assert_eq!(header(&stand.b.only(), "max-forwards"), ["0"]);
        options(0)
            .end()
            .await
            .expect_problem(200, "http_request_denied");
        assert_eq!(stand.b.sends().len(), 1);
        stand.b.forget();

        // About the upstream as such, not about a resource of its.
        let whole = ["--request", "OPTIONS", "--request-target", "*"];
        curl.call("b.internal", "/", &whole).end().await.expect(200);
        assert!(
            stand.b.only().line.starts_with("OPTIONS * "),
            "{:?}",
            stand.b.only()
        );
        stand.b.forget();
    }
    assert!(stand.a.sends().is_empty() && stand.auth_a.requests().is_empty());
}

#[tokio::test]
async fn cookies_that_came_one_by_one_go_on_as_one() {
    if !Curl::is_there() {
        return;
    }
    let stand = Stand::start(BOTH[0]).await;
    for caller in BOTH {
        let cookies = ["--header", "Cookie: a=1", "--header", "Cookie: b=2"];
        let got = stand.curl(caller).call("a.internal", "/", &cookies).end();
        got.await.expect(200);
        assert_eq!(header(&stand.a.only(), "cookie"), ["a=1; b=2"]);
        stand.a.forget();
    }
}

/// A deadline is of gRPC, which is HTTP/2: the layer takes off the time that a first send took.
#[tokio::test]
async fn the_deadline_of_a_call_runs_on() {
    if !Curl::is_there() {
        return;
    }
    for caller in BOTH {
        let stand = Stand::start(Protocol::Http2).await;
        stand.a.refuse("token-a-1");
        let call = ["--data", "x", "--header", "grpc-timeout: 600S"];
        let got = stand.curl(caller).call("a.internal", "/echo", &call).end();
        assert_eq!(got.await.expect(200).body, "x");
        let sends = stand.a.sends();
        let told: Vec<_> = sends
            .iter()
            .map(|send| header(send, "grpc-timeout"))
            .collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert_ne!(told[0], told[1], "{caller:?}");
        assert!(!told[1][0].starts_with("600"), "{told:?}");
    }
}

fn header(sent: &Send, name: &str) -> Vec<String> {
    let values = sent.headers.get_all(name).iter();
    let values = values.map(|value| value.to_str().unwrap().to_owned());
    values.collect()
}
