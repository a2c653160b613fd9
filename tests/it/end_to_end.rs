//! A real client, a real authorization server and a real resource server, over HTTP/1.1 and
//! HTTP/2.

use std::{io, pin::pin, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use http_body_util::{BodyExt, channel::Channel};
use tokio::{sync::Barrier, task::JoinSet};
use tower_oauth::{ClientAuth, EndpointError, OAuthLayer, TokenError};

use crate::support::{
    raw::{End, Peer, Script},
    servers::{ApiServer, AuthServer},
    wire::{BOTH, Fault, Protocol, basic, cache, client, full, layered, post, request, send},
};

const X_SUM: HeaderName = HeaderName::from_static("x-sum");
const SECRET: &str = "hunter2:+/%-hunter2";

fn servers() -> (AuthServer, ApiServer) {
    let auth = AuthServer::start(SECRET, "token-");
    let api = ApiServer::start(&auth);
    (auth, api)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cold_start_of_a_hundred_callers_makes_one_token_request() {
    for protocol in BOTH {
        let (auth, api) = servers();
        let client = client(protocol, &api, &cache(&auth, basic(SECRET)));
        auth.hold();
        let waiting = Arc::new(Barrier::new(101));
        let mut callers = JoinSet::new();
        for id in 0..100 {
            let (client, waiting) = (client.clone(), Arc::clone(&waiting));
            let request = request(&api, id).body(full("x")).unwrap();
            callers.spawn(async move {
                let mut answer = pin!(send(&client, request));
                tokio::select! {
                    biased;
                    _ = &mut answer => panic!("answered before there was a token"),
                    _ = waiting.wait() => {}
                }
                answer.await.unwrap().status()
            });
        }
        waiting.wait().await;
        auth.asked(1).await;
        assert!(api.sends().is_empty(), "nothing leaves without a token");
        auth.release();
        let statuses = callers.join_all().await;
        assert!(statuses.iter().all(|status| *status == 200), "{protocol:?}");
        assert_eq!((auth.requests().len(), api.sends().len()), (1, 100));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_with_two_hundred_requests_in_flight_loses_none() {
    for protocol in BOTH {
        let (auth, api) = servers();
        let client = client(protocol, &api, &cache(&auth, basic(SECRET)));
        assert_eq!(post(&client, &api, "warm").await.unwrap().status(), 200);
        api.hold();
        let mut callers = JoinSet::new();
        for id in 0..200 {
            let client = client.clone();
            let request = request(&api, id).body(full(format!("body {id}"))).unwrap();
            callers.spawn(async move { (id, send(&client, request).await.unwrap()) });
        }
        api.arrived(1 + 200).await;
        auth.revoke();
        api.release();
        for (id, answer) in callers.join_all().await {
            assert_eq!(answer.status(), 200, "{protocol:?} {id}");
            assert_eq!(answer.body(), &*format!("answer to {id}"));
            let sends = api.sends_of(&id.to_string());
            let tokens: Vec<_> = sends.iter().map(|sent| sent.token.as_deref()).collect();
            assert_eq!(tokens, [Some("token-1"), Some("token-2")]);
            assert!(sends.iter().all(|sent| sent.body == format!("body {id}")));
        }
        assert_eq!(api.sends().len(), 1 + 200 + 200, "200 retries");
        assert_eq!(auth.requests().len(), 2, "one token request");
    }
}

#[tokio::test]
async fn a_refused_post_is_sent_again_byte_for_byte() {
    for protocol in BOTH {
        let (auth, api) = servers();
        let cache = cache(&auth, basic(SECRET));
        cache.ready().await.unwrap();
        auth.revoke();
        let body: Bytes = (0..1234).map(|n: u16| n.to_le_bytes()[0]).collect();
        let request = request(&api, "post")
            .header("x-a", "1")
            .header("x-a", "2")
            .body(full(body.clone()))
            .unwrap();
        let answer = send(&client(protocol, &api, &cache), request)
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        let [first, second] = &api.sends_of("post")[..] else {
            panic!("{protocol:?}: {:?}", api.sends_of("post"));
        };
        assert_eq!(first.body, body);
        assert_eq!(first.token.as_deref(), Some("token-1"));
        assert_eq!(second.token.as_deref(), Some("token-2"));
        let length = ("content-length".to_owned(), "1234".to_owned());
        assert!(first.headers.contains(&length), "{:?}", first.headers);
        let mut but_for_the_token = second.clone();
        but_for_the_token.token.clone_from(&first.token);
        assert_eq!(*first, but_for_the_token);
    }
}

#[tokio::test]
async fn a_refused_upload_of_unknown_length_is_sent_again_as_it_was() {
    for protocol in BOTH {
        for trailers in [HeaderMap::new(), [(X_SUM, 42.into())].into_iter().collect()] {
            let (auth, api) = servers();
            let cache = cache(&auth, basic(SECRET));
            cache.ready().await.unwrap();
            auth.revoke();
            let (mut chunks, body) = Channel::<Bytes, io::Error>::new(1);
            let request = request(&api, "upload")
                .header("te", "trailers")
                .header("trailer", "x-sum")
                .body(body.boxed_unsync())
                .unwrap();
            let client = client(protocol, &api, &cache);
            let answer = tokio::spawn(async move { send(&client, request).await });
            for chunk in ["one ", "two ", "three"] {
                chunks.send_data(Bytes::from(chunk)).await.unwrap();
            }
            if !trailers.is_empty() {
                chunks.send_trailers(trailers.clone()).await.unwrap();
            }
            drop(chunks);
            assert_eq!(answer.await.unwrap().unwrap().status(), 200);
            let sends = api.sends_of("upload");
            assert_eq!(sends.len(), 2, "{protocol:?}");
            for sent in sends {
                assert_eq!(sent.body, "one two three");
                assert_eq!(sent.trailers, trailers);
                let framed = |name: &str| sent.headers.iter().any(|(other, _)| other == name);
                assert!(!framed("content-length"), "{protocol:?}");
                assert_eq!(framed("transfer-encoding"), protocol == Protocol::Http1);
            }
        }
    }
}

/// The first send is still reading the body when its refusal comes.
#[tokio::test]
async fn an_upload_that_is_refused_midway_is_sent_again_whole() {
    for protocol in BOTH {
        let (auth, api) = servers();
        let cache = cache(&auth, basic(SECRET));
        cache.ready().await.unwrap();
        auth.revoke();
        let (mut chunks, body) = Channel::<Bytes, io::Error>::new(1);
        let request = request(&api, "upload")
            .header("x-hasty", "yes")
            .body(body.boxed_unsync())
            .unwrap();
        let client = client(protocol, &api, &cache);
        let answer = tokio::spawn(async move { send(&client, request).await });
        chunks.send_data(Bytes::from("one ")).await.unwrap();
        api.arrived(2).await;
        for chunk in ["two ", "three"] {
            chunks.send_data(Bytes::from(chunk)).await.unwrap();
        }
        drop(chunks);
        assert_eq!(answer.await.unwrap().unwrap().status(), 200);
        let bodies: Vec<_> = api
            .sends_of("upload")
            .into_iter()
            .map(|sent| sent.body)
            .collect();
        assert_eq!(bodies, ["one ", "one two three"], "{protocol:?}");
    }
}

#[tokio::test]
async fn while_the_token_lives_the_authorization_server_may_be_down() {
    for protocol in BOTH {
        let (auth, api) = servers();
        let client = client(protocol, &api, &cache(&auth, basic(SECRET)));
        assert_eq!(post(&client, &api, "warm").await.unwrap().status(), 200);
        auth.be_down(true);
        for id in 0..100 {
            assert_eq!(post(&client, &api, id).await.unwrap().status(), 200);
        }
        // Even a revocation is no error of ours: the caller gets the server's own answer.
        auth.revoke();
        let answer = post(&client, &api, "revoked").await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["x-server"]),
            (401, &"intact".parse().unwrap())
        );
        assert_eq!(answer.body(), "refusal of revoked");
        assert_eq!(api.sends_of("revoked").len(), 1);
    }
}

// F41
#[tokio::test]
async fn without_a_token_an_outage_is_an_error_that_names_the_url_and_sends_nothing() {
    for protocol in BOTH {
        let (auth, api) = servers();
        auth.be_down(true);
        let client = client(protocol, &api, &cache(&auth, basic(SECRET)));
        let error = post(&client, &api, "cold").await.unwrap_err();
        let error = error.downcast_ref::<TokenError>().unwrap();
        assert!(error.is_transient());
        assert!(error.to_string().contains(&auth.url()), "{error}");
        let cause = error.get_ref().downcast_ref::<EndpointError>();
        assert!(
            matches!(cause, Some(EndpointError::Interrupted { .. })),
            "{cause:?}"
        );
        assert!(api.sends().is_empty());
    }
}

// rules 1, 3, 5, 7, 23
#[tokio::test]
async fn each_server_sees_what_is_meant_for_it_and_nothing_else() {
    for (protocol, client_auth) in [
        (Protocol::Http1, basic(SECRET)),
        (Protocol::Http2, ClientAuth::post("client-1", SECRET)),
    ] {
        let (auth, api) = servers();
        let client = client(protocol, &api, &cache(&auth, client_auth));
        for revocation in 0..3 {
            assert_eq!(post(&client, &api, revocation).await.unwrap().status(), 200);
            auth.revoke();
        }
        assert_eq!(auth.requests().len(), 3);
        for request in auth.requests() {
            check_token_request(&String::from_utf8(request).unwrap());
        }
        let heard = String::from_utf8_lossy(&api.heard()).into_owned();
        assert!(
            heard.contains("green widgets"),
            "the search can find something"
        );
        for secret in [SECRET, "hunter2", "aHVudGVyM", "client_secret", "Basic"] {
            assert!(!heard.contains(secret), "{protocol:?}: {secret}");
        }
        let heard = String::from_utf8(auth.requests().concat()).unwrap();
        for api_only in ["widgets", "/orders", "x-request-id", "Bearer", "token-"] {
            assert!(!heard.contains(api_only), "{api_only}");
        }
    }
}

fn check_token_request(request: &str) {
    let (head, form) = request.split_once("\r\n\r\n").unwrap();
    let (line, headers) = head.split_once("\r\n").unwrap();
    assert_eq!(line, "POST /token HTTP/1.1");
    let by_header = headers
        .to_lowercase()
        .matches("authorization: basic ")
        .count();
    let mut names: Vec<_> = form_urlencoded::parse(form.as_bytes())
        .map(|(name, value)| {
            assert!(!value.is_empty(), "{name}");
            name
        })
        .collect();
    let by_form = names.iter().filter(|name| *name == "client_secret").count();
    assert_eq!(
        by_header + by_form,
        1,
        "one client authentication: {request}"
    );
    let total = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), total, "each parameter once: {form}");
}

// rule 41
#[tokio::test]
async fn a_request_whose_connection_broke_after_it_was_sent_is_not_sent_again() {
    for protocol in BOTH {
        for fault in [Fault::Reset, Fault::GoAway, Fault::HangUp] {
            if matches!((protocol, fault), (Protocol::Http1, Fault::GoAway)) {
                continue;
            }
            let (auth, api) = servers();
            let cache = cache(&auth, basic(SECRET));
            let client = client(protocol, &api, &cache);
            assert_eq!(post(&client, &api, "warm").await.unwrap().status(), 200);
            api.fail(1, fault);
            let error = post(&client, &api, "broken").await.unwrap_err();
            assert!(!error.is::<TokenError>(), "{error}");
            assert!(error.is::<hyper_util::client::legacy::Error>(), "{error}");
            assert_eq!(api.sends_of("broken").len(), 1, "{protocol:?} {fault:?}");
            assert!(cache.has_token());
            api.fail(3, fault);
            assert_eq!(post(&client, &api, "next").await.unwrap().status(), 200);
            assert_eq!(auth.requests().len(), 1, "the token is kept");
        }
    }
}

#[tokio::test]
async fn a_reset_connection_is_the_transports_error_and_keeps_the_token() {
    let (auth, _) = servers();
    let cache = cache(&auth, basic(SECRET));
    let end = End::Reset;
    let peer = Peer::start(Script {
        end,
        ..Script::default()
    })
    .await;
    let layer = OAuthLayer::for_origin(peer.url(""), cache.clone()).unwrap();
    let request = http::Request::post(peer.url("/")).body(full("x")).unwrap();
    let error = send(&layered(Protocol::Http1, &layer), request)
        .await
        .unwrap_err();
    assert!(error.is::<hyper_util::client::legacy::Error>(), "{error}");
    assert_eq!(peer.requests().len(), 1);
    assert!(cache.has_token());
    assert_eq!(auth.requests().len(), 1);
}

// F40
#[tokio::test]
async fn a_second_send_whose_connection_broke_is_the_last() {
    for protocol in BOTH {
        for fault in [Fault::Reset, Fault::GoAway, Fault::HangUp] {
            if matches!((protocol, fault), (Protocol::Http1, Fault::GoAway)) {
                continue;
            }
            let (auth, api) = servers();
            let cache = cache(&auth, basic(SECRET));
            let client = client(protocol, &api, &cache);
            cache.ready().await.unwrap();
            auth.revoke();
            api.fail(2, fault);
            let error = post(&client, &api, "unlucky").await.unwrap_err();
            assert!(error.is::<hyper_util::client::legacy::Error>(), "{error}");
            assert_eq!(api.sends_of("unlucky").len(), 2, "{protocol:?} {fault:?}");
            assert_eq!(post(&client, &api, "next").await.unwrap().status(), 200);
            assert_eq!(api.sends_of("next").len(), 1);
            assert_eq!(auth.requests().len(), 2, "the fresh token is kept");
        }
    }
}

// F29
#[tokio::test]
async fn over_http2_the_token_is_never_indexed() {
    let (auth, api) = servers();
    let client = client(Protocol::Http2, &api, &cache(&auth, basic(SECRET)));
    for id in 0..10 {
        assert_eq!(post(&client, &api, id).await.unwrap().status(), 200);
        if id == 5 {
            auth.revoke();
        }
    }
    assert_eq!(api.sends().len(), 11);
    // RFC 7541 §6.2.3: never indexed, the name is number 23 of the static table.
    let never_indexed = [0x1f, 0x08];
    let heard = api.heard();
    let count = heard
        .windows(2)
        .filter(|bytes| *bytes == never_indexed)
        .count();
    assert_eq!(count, 11);
}

#[tokio::test]
async fn one_cache_serves_an_http1_and_an_http2_client() {
    let (auth, api) = servers();
    let cache = cache(&auth, basic(SECRET));
    let clients = BOTH.map(|protocol| client(protocol, &api, &cache));
    for round in 0..3 {
        for (client, protocol) in clients.iter().zip(BOTH) {
            let id = format!("{round} {protocol:?}");
            assert_eq!(post(client, &api, &id).await.unwrap().status(), 200);
            let version = match protocol {
                Protocol::Http1 => "HTTP/1.1",
                Protocol::Http2 => "HTTP/2.0",
            };
            assert!(api.sends_of(&id)[0].line.ends_with(version));
        }
        assert_eq!(auth.issued(), round + 1);
        auth.revoke();
    }
}

/// The suite's own check: a client that doesn't know when to stop fails its test.
#[tokio::test]
async fn a_third_send_fails_the_test() {
    let (auth, api) = servers();
    let client = client(Protocol::Http1, &api, &cache(&auth, basic(SECRET)));
    for _ in 0..3 {
        post(&client, &api, "same").await.unwrap();
    }
    let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(api)));
    let message = dropped.unwrap_err();
    let message = message.downcast_ref::<String>().unwrap();
    assert_eq!(message, "a third send of same");
}
