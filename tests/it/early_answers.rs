//! *Replaying*: a 401 that comes before the body was read to the end. The connection may still be
//! reading the first body while the second is sent.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex},
    task::Poll,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};
use http_body::Body;
use http_body_util::{BodyExt, channel::Channel};
use proptest::{collection::vec, prelude::*};
use tokio::{sync::oneshot, time::timeout};
use tower_oauth::{OAuthLayer, ReplayBody, TokenError};

use crate::support::{
    api::ORIGIN,
    body::{Read, Script, Step, data, poll_once, read, read_some, trailers},
    paused, secs,
    server::{Server, answer, refusing_after},
    settle,
    source::{numbered, scripted, token},
};

const ALL: usize = usize::MAX;

fn layer() -> OAuthLayer {
    OAuthLayer::for_origin(ORIGIN, numbered(secs(3600)).1).unwrap()
}

#[test]
fn the_second_send_is_what_was_recorded_and_what_is_left() {
    paused(async {
        for cut in 0..=5 {
            let last = trailers(&["x-hello"]);
            let chunks = ["hello", " world", ", have lots of fun"];
            let steps = chunks.map(data).into_iter();
            let body = Script::new(steps.chain([Step::Trailers(last.clone())]));
            let (server, early) = refusing_after(cut);
            assert_eq!(server.put(&layer(), body).await.unwrap().status(), 200);
            let [first, second] = &early.read()[..] else {
                panic!("two sends");
            };
            assert_eq!(first.data, chunks[..cut.min(3)].concat().as_bytes());
            assert_eq!(second.data, chunks.concat().as_bytes(), "cut {cut}");
            assert_eq!(second.trailers.as_ref(), Some(&last), "cut {cut}");
        }
    });
}

/// A clean end would pass for a whole body.
#[test]
fn the_first_reader_gets_an_error_and_not_a_clean_end() {
    paused(async {
        for cut in 0..=2 {
            let body = Script::chunks(&["one", "two", "three"]);
            let (server, early) = refusing_after(cut);
            assert_eq!(server.put(&layer(), body).await.unwrap().status(), 200);
            let mut first = early.first();
            assert!(!first.is_end_stream(), "cut {cut}");
            assert_ne!(first.size_hint().exact(), Some(0), "cut {cut}");
            for _ in 0..3 {
                let Poll::Ready(Some(Err(error))) = poll_once(&mut first).await else {
                    panic!("cut {cut}: no error");
                };
                assert!(error.to_string().contains("sent again"), "{error}");
            }
        }
    });
}

/// It was given up too late: its request is whole, and so its connection stays as good as it was.
#[test]
fn a_first_reader_that_has_read_all_there_is_ends_cleanly() {
    paused(async {
        let body = Script::chunks(&["one", "two", "three"]);
        let (server, early) = refusing_after(3);
        assert_eq!(server.put(&layer(), body).await.unwrap().status(), 200);
        assert_eq!(early.read(), ["onetwothree"; 2].map(Read::text));
        let mut first = early.first();
        assert!(first.is_end_stream());
        for _ in 0..3 {
            assert!(matches!(poll_once(&mut first).await, Poll::Ready(None)));
        }
    });
}

#[test]
fn a_first_reader_that_waits_for_data_is_woken_and_gets_an_error() {
    paused(async {
        let (mut sender, body) = Channel::<Bytes>::new(1);
        let (outcome, first_read) = oneshot::channel();
        let outcome = Mutex::new(Some(outcome));
        let all: Arc<Mutex<Option<Read>>> = Arc::default();
        let server = {
            let all = Arc::clone(&all);
            Server::new(move |send, request: Request<ReplayBody<Channel<Bytes>>>| {
                let outcome = outcome.lock().unwrap().take();
                let all = Arc::clone(&all);
                async move {
                    if let Some(outcome) = outcome {
                        // The connection's own task reads on, whatever the answer.
                        tokio::spawn(async move {
                            let _ = outcome.send(read_some(request.into_body(), ALL).await);
                        });
                        settle().await;
                    } else {
                        *all.lock().unwrap() = Some(read(request.into_body()).await?);
                    }
                    Ok(answer(if send == 1 { 401 } else { 200 }))
                }
            })
        };
        sender.send_data("one".into()).await.unwrap();
        let layer = layer();
        let put = server.put(&layer, body);
        let rest = async {
            // By now the first reader waits for data; only its error can end that.
            let (read, end) = timeout(secs(60), first_read).await.unwrap().unwrap();
            assert_eq!(read, Read::text("one"));
            end.unwrap_err();
            sender.send_data("two".into()).await.unwrap();
            drop(sender);
        };
        let (answer, ()) = tokio::join!(put, rest);
        assert_eq!(answer.unwrap().status(), 200);
        assert_eq!(*all.lock().unwrap(), Some(Read::text("onetwo")));
    });
}

/// `Expect: 100-continue`: a server that refuses never asks for the body.
#[test]
fn a_body_that_was_never_read_or_was_dropped_is_sent_once_whole() {
    paused(async {
        let body = Script::chunks(&["one", "two"]).of_known_length();
        let reads: Arc<Mutex<Vec<Read>>> = Arc::default();
        let server = {
            let reads = Arc::clone(&reads);
            Server::new(move |send, request: Request<ReplayBody<Script>>| {
                let reads = Arc::clone(&reads);
                async move {
                    assert_eq!(request.body().size_hint().exact(), Some(6));
                    if send == 1 {
                        drop(request);
                        return Ok(answer(401));
                    }
                    let read = read(request.into_body()).await?;
                    reads.lock().unwrap().push(read);
                    Ok(answer(200))
                }
            })
        };
        assert_eq!(server.put(&layer(), body).await.unwrap().status(), 200);
        assert_eq!(*reads.lock().unwrap(), [Read::text("onetwo")]);
    });
}

#[test]
fn the_second_size_hint_counts_what_was_recorded() {
    paused(async {
        for cut in 0..=3 {
            let hint = Arc::new(Mutex::new(None));
            let server = {
                let hint = Arc::clone(&hint);
                Server::new(move |send, request: Request<ReplayBody<Script>>| {
                    *hint.lock().unwrap() = request.body().size_hint().exact();
                    async move {
                        let frames = if send == 1 { cut } else { ALL };
                        let mut body = Box::pin(request.into_body());
                        read_some(body.as_mut(), frames).await.1?;
                        Ok(answer(if send == 1 { 401 } else { 200 }))
                    }
                })
            };
            let body = Script::chunks(&["one", "two", "three"]).of_known_length();
            assert_eq!(server.put(&layer(), body).await.unwrap().status(), 200);
            assert_eq!(*hint.lock().unwrap(), Some(11), "cut {cut}");
        }
    });
}

/// What comes while a token is being fetched is the second send's to read, however long it is.
#[test]
fn while_the_token_is_fetched_the_first_send_waits() {
    paused(async {
        let (fetch, layer) = held_at_the_second_token();
        let layer = layer.replay_limit(8);
        let body = Script::chunks(&["some", "too much", " and", " more"]);
        let (server, early) = refusing_after(1);
        let put = server.put(&layer, body);
        let read_on = async {
            settle().await;
            let mut first = early.first();
            let waits = poll_fn(|cx| Poll::Ready(first.as_mut().poll_frame(cx).is_pending()));
            assert!(waits.await);
            fetch.send(Ok(())).unwrap();
            read(first).await
        };
        let (answer, first) = tokio::join!(put, read_on);
        assert_eq!(
            (answer.unwrap().status().as_u16(), server.sends()),
            (200, 2)
        );
        assert_eq!(early.read()[1], Read::text("sometoo much and more"));
        first.unwrap_err();
    });
}

/// No better token can be had: the caller gets the 401, and the server the rest of the body.
#[test]
fn a_first_send_whose_refusal_stands_goes_on() {
    paused(async {
        let (fetch, layer) = held_at_the_second_token();
        let body = Script::chunks(&["some", " and", " more"]);
        let (server, early) = refusing_after(1);
        let put = server.put(&layer, body);
        let read_on = async {
            settle().await;
            let reading = read(early.first());
            let stands = async {
                settle().await;
                fetch.send(Err(TokenError::transient("down"))).unwrap();
            };
            tokio::join!(reading, stands).0
        };
        let (answer, first) = tokio::join!(put, read_on);
        let answer = answer.unwrap();
        assert_eq!((answer.status().as_u16(), server.sends()), (401, 1));
        assert_eq!(answer.headers()["x-server"], "intact");
        let words = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(words, "the server's own words");
        assert_eq!(first.unwrap(), Read::text(" and more"), "woken, and whole");
    });
}

/// The second token is fetched, or not, when the test says so.
fn held_at_the_second_token() -> (oneshot::Sender<Result<(), TokenError>>, OAuthLayer) {
    let (fetch, fetched) = oneshot::channel();
    let fetched = Mutex::new(Some(fetched));
    let (_, source) = scripted(move |n| {
        let fetched = (n == 2).then(|| fetched.lock().unwrap().take().unwrap());
        async move {
            if let Some(fetched) = fetched {
                fetched.await.unwrap()?;
            }
            Ok(token(n, secs(3600)))
        }
    });
    (fetch, OAuthLayer::for_origin(ORIGIN, source).unwrap())
}

/// What the connection does with the first body once the answer is out.
#[derive(Debug, Clone, Copy)]
enum Then {
    Drops,
    Holds,
    /// Reads on, in turns with the second send.
    ReadsOn,
}

#[derive(Debug, Clone)]
struct Scenario {
    steps: Vec<Step>,
    known: bool,
    cut: usize,
    then: Then,
    limit: usize,
    /// How often others run before the next token arrives.
    latency: usize,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => vec(any::<u8>(), 0..9).prop_map(|bytes| Step::Data(bytes.into())),
        2 => Just(Step::Pause),
    ];
    let last = proptest::option::of("[a-z]{1,8}").prop_map(|value| {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-last", HeaderValue::from_str(&value?).unwrap());
        Some(Step::Trailers(trailers))
    });
    (vec(step, 0..12), last, 0..2_usize).prop_map(|(mut steps, last, pauses)| {
        steps.extend(last);
        steps.extend(vec![Step::Pause; pauses]);
        steps
    })
}

fn scenario() -> impl Strategy<Value = Scenario> {
    let then = prop_oneof![Just(Then::Drops), Just(Then::Holds), Just(Then::ReadsOn)];
    (
        steps(),
        any::<bool>(),
        0..14_usize,
        then,
        0..60_usize,
        0..8_usize,
    )
        .prop_map(|(steps, known, cut, then, limit, latency)| Scenario {
            steps,
            known,
            cut,
            then,
            limit,
            latency,
        })
}

fn source_of(steps: &[Step]) -> Read {
    let mut read = Read::default();
    for step in steps {
        match step {
            Step::Data(data) => read.data.extend_from_slice(data),
            Step::Trailers(trailers) => read.trailers = Some(trailers.clone()),
            Step::Pause | Step::Break => {}
        }
    }
    read
}

/// What became of a scenario: both reads, how the first one ended, and the status.
struct Outcome {
    first: Read,
    first_end: Option<bool>,
    before_answer: usize,
    second: Option<Read>,
    status: u16,
}

fn run(scenario: &Scenario) -> Outcome {
    let Scenario {
        cut, then, latency, ..
    } = *scenario;
    paused(async {
        let (_, source) = scripted(move |n| async move {
            for _ in 0..latency {
                tokio::task::yield_now().await;
            }
            Ok(token(n, secs(3600)))
        });
        let layer = OAuthLayer::for_origin(ORIGIN, source)
            .unwrap()
            .replay_limit(scenario.limit);
        let firsts: Arc<Mutex<(Read, Option<bool>, usize)>> = Arc::default();
        let second: Arc<Mutex<Option<Read>>> = Arc::default();
        let held = Arc::new(Mutex::new(Vec::new()));
        let server = {
            let (firsts, second) = (Arc::clone(&firsts), Arc::clone(&second));
            Server::new(move |send, request: Request<ReplayBody<Script>>| {
                let (firsts, second) = (Arc::clone(&firsts), Arc::clone(&second));
                let held = Arc::clone(&held);
                async move {
                    let mut body = Box::pin(request.into_body());
                    if send == 2 {
                        let read = read(body).await?;
                        *second.lock().unwrap() = Some(read);
                        return Ok(answer(200));
                    }
                    let (read, end) = read_some(body.as_mut(), cut).await;
                    let before = read.data.len();
                    *firsts.lock().unwrap() = (read, end.ok(), before);
                    match then {
                        Then::Drops => drop(body),
                        Then::Holds => held.lock().unwrap().push(body),
                        Then::ReadsOn => {
                            tokio::spawn(async move {
                                loop {
                                    let (more, end) = read_some(body.as_mut(), 1).await;
                                    let end = end.ok();
                                    {
                                        let mut firsts = firsts.lock().unwrap();
                                        firsts.0.data.extend(more.data);
                                        firsts.0.trailers =
                                            firsts.0.trailers.take().or(more.trailers);
                                        firsts.1 = end;
                                    }
                                    if end != Some(false) {
                                        break;
                                    }
                                    tokio::task::yield_now().await;
                                }
                            });
                        }
                    }
                    Ok(answer(401))
                }
            })
        };
        let mut body = Script::new(scenario.steps.clone());
        if scenario.known {
            body = body.of_known_length();
        }
        let status = server.put(&layer, body).await.unwrap().status().as_u16();
        settle().await;
        let (first, first_end, before_answer) = firsts.lock().unwrap().clone();
        let second = second.lock().unwrap().take();
        Outcome {
            first,
            first_end,
            before_answer,
            second,
            status,
        }
    })
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").map_or(4000, |cases| cases.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// A failure prints its scenario, all of it.
    #[test]
    fn the_second_send_equals_the_source_or_is_never_sent(scenario in scenario()) {
        let source = source_of(&scenario.steps);
        let outcome = run(&scenario);
        let sent = outcome.second.is_some();
        if let Some(second) = &outcome.second {
            prop_assert_eq!(second, &source);
        }
        prop_assert_eq!(outcome.status, if sent { 200 } else { 401 });

        // The first reader sees a beginning, and a clean end only of the whole.
        prop_assert!(source.data.starts_with(&outcome.first.data));
        if outcome.first_end == Some(true) {
            prop_assert_eq!(&outcome.first, &source);
        }
        if !sent && matches!(scenario.then, Then::ReadsOn) {
            prop_assert_eq!(&outcome.first, &source, "given up in vain");
        }

        // It is sent if and only if what was read fits.
        let length = source.data.len();
        let (always, never) = if scenario.known {
            (length <= scenario.limit, length > scenario.limit)
        } else {
            let reads_on = matches!(scenario.then, Then::ReadsOn);
            let read = if reads_on { length } else { outcome.before_answer };
            (read <= scenario.limit, outcome.before_answer > scenario.limit)
        };
        prop_assert!(sent || !always, "it fits, but was not sent");
        prop_assert!(!sent || !never, "it doesn't fit, but was sent");
    }
}
