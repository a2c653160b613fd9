//! *Replaying*: what is recorded, up to which limit, and until when.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Request;
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tower_oauth::{OAuthLayer, ReplayBody, TokenCache};

use crate::support::{
    api::{Api, ORIGIN, get},
    body::{Drops, Read, Script, Step, data, read, read_some, trailers},
    paused, secs,
    server::{Server, answer, answering_after, refusing_after},
    source::numbered,
};

const ALL: usize = usize::MAX;

fn layer(limit: usize) -> OAuthLayer {
    OAuthLayer::for_origin(ORIGIN, numbered(secs(3600)).1)
        .unwrap()
        .replay_limit(limit)
}

#[test]
fn exactly_at_the_limit_a_body_is_sent_again() {
    paused(async {
        for body in [
            Script::chunks(&["abcd", "efgh"]),
            Script::chunks(&["abcd", "efgh"]).of_known_length(),
            Script::new([data("abcdefgh"), Step::Trailers(trailers(&["x-long"]))]),
        ] {
            let (server, early) = refusing_after(ALL);
            assert_eq!(server.put(&layer(8), body).await.unwrap().status(), 200);
            assert_eq!(early.read().len(), 2);
            assert_eq!(early.read()[0], early.read()[1]);
        }
    });
}

#[test]
fn one_byte_over_the_limit_is_sent_whole_and_its_401_is_the_callers() {
    paused(async {
        let (ledger, source) = numbered(secs(3600));
        let cache = TokenCache::from(source);
        let layer = OAuthLayer::for_origin(ORIGIN, cache.clone())
            .unwrap()
            .replay_limit(8);
        let drops = Drops::default();
        let body = Script::new([drops.data("abcdefgh"), drops.data("i")]);
        let (server, early) = refusing_after(ALL);
        let answer = server.put(&layer, body).await.unwrap();
        assert_eq!((answer.status().as_u16(), server.sends()), (401, 1));
        assert_eq!(answer.headers()["x-server"], "intact");
        let words = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(words, "the server's own words");
        assert_eq!(early.read(), [Read::text("abcdefghi")]);
        assert_eq!(drops.count(), 2);
        // The next request does not carry the refused token.
        assert_eq!(ledger.calls(), 1);
        let api = Api::accepting(|token| token == "token-2");
        assert_eq!(get(&api.behind(&cache), "next").await.unwrap(), 200);
        assert_eq!((api.sends(), ledger.calls()), (1, 2));
    });
}

/// The first send is still under way: what was recorded goes with the byte that is too much.
#[test]
fn over_the_limit_the_recording_is_freed_at_once() {
    paused(async {
        let drops = Drops::default();
        let server = {
            let drops = drops.clone();
            Server::new(move |_, request: Request<ReplayBody<Script>>| {
                let drops = drops.clone();
                async move {
                    let mut body = Box::pin(request.into_body());
                    let (first, _) = read_some(body.as_mut(), 1).await;
                    assert_eq!((first, drops.count()), (Read::text("abcdefgh"), 0));
                    let (second, _) = read_some(body.as_mut(), 1).await;
                    assert_eq!((second, drops.count()), (Read::text("i"), 2));
                    assert_eq!(read(body).await?, Read::text("jkl"));
                    assert_eq!(drops.count(), 3);
                    Ok(answer(401))
                }
            })
        };
        let steps = [drops.data("abcdefgh"), drops.data("i"), drops.data("jkl")];
        let answer = server.put(&layer(8), Script::new(steps)).await.unwrap();
        assert_eq!((answer.status().as_u16(), server.sends()), (401, 1));
    });
}

#[test]
fn a_body_known_to_be_too_long_is_never_recorded() {
    paused(async {
        let drops = Drops::default();
        let server = {
            let drops = drops.clone();
            Server::new(move |_, request: Request<ReplayBody<Script>>| {
                let drops = drops.clone();
                async move {
                    assert_eq!(request.body().size_hint().exact(), Some(9));
                    let mut body = Box::pin(request.into_body());
                    let (first, _) = read_some(body.as_mut(), 1).await;
                    assert_eq!((first, drops.count()), (Read::text("a"), 1));
                    assert_eq!(read(body).await?, Read::text("bcdefghi"));
                    Ok(answer(401))
                }
            })
        };
        let body = Script::new([drops.data("a"), drops.data("bcdefghi")]).of_known_length();
        let answer = server.put(&layer(8), body).await.unwrap();
        assert_eq!((answer.status().as_u16(), server.sends()), (401, 1));
    });
}

#[test]
fn with_a_limit_of_zero_only_a_body_without_data_is_sent_again() {
    paused(async {
        let sends = async |body: Script| {
            let (server, early) = refusing_after(ALL);
            server.put(&layer(0), body).await.unwrap();
            if let [first, second] = &early.read()[..] {
                assert_eq!(first, second);
            }
            server.sends()
        };
        assert_eq!(sends(Script::chunks(&[])).await, 2);
        assert_eq!(sends(Script::chunks(&["", ""])).await, 2);
        let only_trailers = Script::new([Step::Trailers(trailers(&["x-hello"]))]);
        assert_eq!(sends(only_trailers).await, 2);
        assert_eq!(sends(Script::chunks(&["a"])).await, 1);
        assert_eq!(sends(Script::chunks(&["a"]).of_known_length()).await, 1);
    });
}

/// The limit bounds what is kept, not what is sent.
#[test]
fn the_second_send_may_be_longer_than_the_limit() {
    paused(async {
        let body = Script::chunks(&["abcdefgh", "ijklmnopqrst", "uvwxyz"]);
        let (server, early) = refusing_after(1);
        assert_eq!(server.put(&layer(8), body).await.unwrap().status(), 200);
        let all = Read::text("abcdefghijklmnopqrstuvwxyz");
        assert_eq!(early.read(), [Read::text("abcdefgh"), all]);
    });
}

/// The connection reads on after the answer, as that of a server which streams both ways.
#[test]
fn recording_ends_when_the_response_head_arrives() {
    paused(async {
        for status in [200, 403, 500] {
            let drops = Drops::default();
            let steps = ["one", "two", "three", "four"].map(|text| drops.data(text));
            let (server, early) = answering_after(2, status);
            let answer = server.put(&layer(1000), Script::new(steps)).await.unwrap();
            assert_eq!(answer.status(), status);
            assert_eq!(drops.count(), 2, "{status}: what was recorded is freed");
            let mut first = early.first();
            let (read, _) = read_some(first.as_mut(), 1).await;
            assert_eq!((read, drops.count()), (Read::text("three"), 3), "{status}");
            let (read, end) = read_some(first, ALL).await;
            assert_eq!((read, end.unwrap()), (Read::text("four"), true), "{status}");
            assert_eq!(server.sends(), 1);
        }
    });
}

#[test]
fn without_retry_nothing_is_recorded() {
    paused(async {
        let drops = Drops::default();
        let server = {
            let drops = drops.clone();
            Server::new(move |_, request: Request<ReplayBody<Script>>| {
                let drops = drops.clone();
                async move {
                    let mut body = Box::pin(request.into_body());
                    read_some(body.as_mut(), 1).await.1?;
                    assert_eq!(drops.count(), 1);
                    Ok(answer(401))
                }
            })
        };
        let steps = [drops.data("one"), drops.data("two")];
        let layer = layer(1000).without_retry();
        let answer = server.put(&layer, Script::new(steps)).await.unwrap();
        assert_eq!((answer.status().as_u16(), server.sends()), (401, 1));
    });
}

#[test]
fn what_is_recorded_is_shared_and_never_copied() {
    paused(async {
        let pieces = ["hello", " ", "world"].map(|text| Bytes::from(text.to_owned()));
        let addresses: Arc<Mutex<Vec<usize>>> = Arc::default();
        let server = {
            let addresses = Arc::clone(&addresses);
            Server::new(move |send, request: Request<ReplayBody<Script>>| {
                let addresses = Arc::clone(&addresses);
                async move {
                    let mut body = Box::pin(request.into_body());
                    while let Some(frame) = body.frame().await {
                        let data = frame?.into_data().unwrap();
                        addresses.lock().unwrap().push(data.as_ptr().addr());
                    }
                    Ok(answer(if send == 1 { 401 } else { 200 }))
                }
            })
        };
        let body = Script::new(pieces.clone().map(Step::Data));
        assert_eq!(server.put(&layer(1000), body).await.unwrap().status(), 200);
        let given = pieces.each_ref().map(|piece| piece.as_ptr().addr());
        assert_eq!(*addresses.lock().unwrap(), [given, given].concat());
    });
}

#[test]
fn a_body_that_breaks_is_the_callers_error_and_leaves_the_token_alone() {
    paused(async {
        let (ledger, source) = numbered(secs(3600));
        let cache = TokenCache::from(source);
        let layer = OAuthLayer::for_origin(ORIGIN, cache.clone()).unwrap();
        for steps in [vec![data("one"), Step::Break], vec![Step::Break]] {
            let (server, early) = refusing_after(ALL);
            let error = server.put(&layer, Script::new(steps)).await.unwrap_err();
            assert_eq!(error.to_string(), "the body broke");
            assert_eq!((server.sends(), early.read().len()), (1, 0));
            assert!(cache.has_token());
        }
        assert_eq!(ledger.calls(), 1);
        assert_eq!(cache.get().await.unwrap().expose_secret(), "token-1");
    });
}

/// A server may refuse the token before it knows that no more will come.
#[test]
fn a_body_that_broke_is_not_sent_again_whatever_the_answer() {
    paused(async {
        let server = Server::new(|_, request: Request<ReplayBody<Script>>| async move {
            assert!(read(request.into_body()).await.is_err());
            Ok(answer(401))
        });
        let body = Script::new([data("one"), Step::Break, data("two")]);
        let answer = server.put(&layer(1000), body).await.unwrap();
        assert_eq!((answer.status().as_u16(), server.sends()), (401, 1));
    });
}

/// 64 KiB, as the documentation says.
#[test]
fn the_default_limit() {
    paused(async {
        for (bytes, sends) in [(64 * 1024, 2), (64 * 1024 + 1, 1)] {
            let (server, _) = refusing_after(ALL);
            let layer = OAuthLayer::for_origin(ORIGIN, numbered(secs(3600)).1).unwrap();
            let body = Full::<Bytes>::from(vec![b'x'; bytes]);
            server.put(&layer, body).await.unwrap();
            assert_eq!(server.sends(), sends, "{bytes} bytes");
        }
    });
}
