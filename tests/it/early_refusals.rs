//! *Replaying*: ten thousand uploads over both protocols, all refused when the server has read the
//! first KiB. Each is sent again whole, or its caller gets the server's own 401.

use std::{
    collections::BTreeMap,
    env,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Either, Empty};
use hyper_util::{
    client::legacy::{Client as Hyper, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{task::JoinSet, time::timeout};
use tower::{Layer, ServiceExt};
use tower_oauth::{OAuth, OAuthLayer, ReplayBody, TokenCache};

use crate::support::{
    refused_uploads::{Rest, Round, SOCKET, Server, UPLOAD, Upload, WORDS, Words},
    secs,
    source::numbered,
    wire::Protocol,
};

const AT_A_TIME: usize = 64;
/// The layer's default, and one that a whole upload fits in.
const LIMITS: [usize; 2] = [64 * 1024, 2 * UPLOAD];

type Body = Either<Upload, Empty<Bytes>>;
type Pool = Hyper<HttpConnector, ReplayBody<Body>>;

#[derive(Debug, Clone, Copy)]
struct Kind {
    length_is_known: bool,
    limit: usize,
    words: Words,
    rest: Rest,
}

fn kinds() -> Vec<Kind> {
    let mut kinds = Vec::new();
    for words in [
        Words::None,
        Words::WithTheHead,
        Words::InALaterPacket,
        Words::WithoutEnd,
    ] {
        for rest in [Rest::Close, Rest::ReadOn, Rest::Ignore] {
            for length_is_known in [true, false] {
                kinds.extend(LIMITS.map(|limit| Kind {
                    length_is_known,
                    limit,
                    words,
                    rest,
                }));
            }
        }
    }
    kinds
}

impl Kind {
    /// Whether uploads are sent again; `None` where that depends on how much the sockets take
    /// before the refusal comes.
    fn is_replayed(self) -> Option<bool> {
        match (self.length_is_known, self.limit >= UPLOAD) {
            (_, true) => Some(true),
            (true, false) => Some(false),
            (false, false) => None,
        }
    }
}

/// What became of the uploads.
#[derive(Debug, Default)]
struct Tally {
    replayed: usize,
    refused: usize,
    connections: usize,
}

/// An upload that was given up takes its connection with it, and its second send needs another.
#[test]
fn uploads_over_http1() {
    let tally = run(Protocol::Http1);
    let least = tally.replayed + tally.refused;
    // And one for the request at the end of each round.
    let most = least + tally.replayed + rounds();
    assert!((least..=most).contains(&tally.connections), "{tally:?}");
}

/// One connection for all: a stream that is given up is reset, and no more. The limits against
/// floods of resets are hyper's own, on both sides.
#[test]
fn uploads_over_http2() {
    let tally = run(Protocol::Http2);
    assert_eq!(tally.connections, 1);
}

/// Here a reset may overtake the answer: then it is the caller's error, and nothing is sent again.
#[tokio::test]
async fn a_server_that_slams_the_door_is_an_error_or_a_refusal() {
    let source: Bytes = vec![b'x'; UPLOAD].into();
    let server = Server::start(Protocol::Http1, source.clone());
    let (ledger, tokens) = numbered(secs(3600));
    let cache = TokenCache::from(tokens);
    let origin = format!("http://{}", server.address);
    let layer = OAuthLayer::for_origin(&origin, cache.clone()).unwrap();
    let client = layer.replay_limit(UPLOAD).layer(pool(Protocol::Http1));
    let (mut number, mut errors) = (1, 0);
    for upload in 0..100 {
        let round = Round::new(number, 1, Words::WithTheHead, Rest::Slam);
        let round = server.begin(round);
        let request = Request::post(&origin).header("x-upload", 0);
        let body = Upload::of(&source, upload % 2 == 0);
        let request = request.body(Either::Left(body)).unwrap();
        let answer = timeout(secs(60), client.clone().oneshot(request)).await;
        match answer.expect("it hangs") {
            Ok(answer) => {
                assert_eq!((answer.status().as_u16(), round.sends_of(0)), (200, 2));
                number += 1;
            }
            Err(error) => {
                assert!(error.is::<hyper_util::client::legacy::Error>(), "{error}");
                assert_eq!(round.sends_of(0), 1);
                errors += 1;
            }
        }
        assert_eq!((cache.has_token(), ledger.calls()), (true, number));
        server.check();
    }
    println!("{errors} of 100 were an error");
}

/// Ten thousand in all, or as many for each protocol as `UPLOADS` says.
fn uploads() -> usize {
    env::var("UPLOADS").map_or(5_000, |uploads| uploads.parse().unwrap())
}

fn rounds() -> usize {
    uploads().div_ceil(AT_A_TIME)
}

#[tokio::main(worker_threads = 2)]
async fn run(protocol: Protocol) -> Tally {
    // No period of the text is that of a chunk.
    let source: Bytes = (0..UPLOAD).map(|n| (n % 251) as u8).collect();
    let server = Server::start(protocol, source.clone());
    let (ledger, tokens) = numbered(secs(3600));
    let cache = TokenCache::from(tokens);
    cache.ready().await.unwrap();
    let shared = pool(protocol);
    let mut tally = Tally::default();
    let mut by_kind = BTreeMap::new();
    for (number, kind) in (1..=rounds()).zip(kinds().into_iter().cycle()) {
        let uploads = AT_A_TIME.min(self::uploads() - (number - 1) * AT_A_TIME);
        let round = server.begin(Round::new(number, uploads, kind.words, kind.rest));
        // Over HTTP/1.1 a pool for each round, which makes its connections its own.
        let pool = match protocol {
            Protocol::Http1 => pool(protocol),
            Protocol::Http2 => shared.clone(),
        };
        let origin = format!("http://{}", server.address);
        let layer = OAuthLayer::for_origin(&origin, cache.clone()).unwrap();
        let client = layer.replay_limit(kind.limit).layer(pool);
        let mut sending = JoinSet::new();
        for upload in 0..uploads {
            let request = Request::post(&origin).header("x-upload", upload);
            let body = Upload::of(&source, kind.length_is_known);
            let request = request.body(Either::Left(body)).unwrap();
            let client = client.clone();
            let sends = Arc::clone(&round);
            sending.spawn(async move {
                let replayed = send(client, request, kind).await;
                assert_eq!(sends.sends_of(upload), if replayed { 2 } else { 1 });
                replayed
            });
        }
        let ends = timeout(secs(60), sending.join_all()).await;
        let ends = ends.unwrap_or_else(|_| panic!("{protocol:?} {kind:?}: some hang"));
        let replayed = ends.iter().filter(|replayed| **replayed).count();
        if let Some(all) = kind.is_replayed() {
            assert_eq!(replayed, if all { uploads } else { 0 }, "{kind:?}");
        }
        let connections = round.connections.load(Ordering::SeqCst);
        if protocol == Protocol::Http1 {
            let most = uploads + replayed;
            assert!(
                (uploads..=most).contains(&connections),
                "{kind:?}: {connections}"
            );
        }
        // So that the token was accepted before it is refused: else the next would be held back.
        let probe = Request::get(&origin)
            .body(Either::Right(Empty::new()))
            .unwrap();
        let probe = timeout(secs(60), client.oneshot(probe)).await;
        let probe = probe.unwrap_or_else(|_| panic!("{kind:?}: the probe hangs"));
        assert_eq!(probe.unwrap().status(), 200);
        assert_eq!(ledger.calls(), 1 + number, "{kind:?}: one flight for all");
        round.end();
        server.check();
        tally.replayed += replayed;
        tally.refused += uploads - replayed;
        tally.connections += round.connections.load(Ordering::SeqCst);
        let name = format!("{}, limit {}", name(kind.length_is_known), kind.limit);
        let of_kind: &mut Tally = by_kind.entry(name).or_default();
        of_kind.replayed += replayed;
        of_kind.refused += uploads - replayed;
        of_kind.connections += connections;
    }
    assert_eq!(tally.replayed + tally.refused, uploads());
    println!("{protocol:?}: {tally:?}, {} token requests", ledger.calls());
    for (name, tally) in by_kind {
        println!("  {name}: {tally:?}");
    }
    tally
}

fn name(length_is_known: bool) -> &'static str {
    match length_is_known {
        true => "known length",
        false => "unknown length",
    }
}

fn pool(protocol: Protocol) -> Pool {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_send_buffer_size(Some(SOCKET as usize));
    Hyper::builder(TokioExecutor::new())
        .http2_only(protocol == Protocol::Http2)
        .build(connector)
}

/// Whether the upload was sent again; if not, the answer is the server's own refusal.
async fn send(client: OAuth<Pool>, request: Request<Body>, kind: Kind) -> bool {
    let answer = client.oneshot(request).await;
    let mut answer = answer.unwrap_or_else(|error| panic!("{kind:?}: {error:?}"));
    assert_eq!(answer.headers()["x-server"], "intact");
    if answer.status() == 200 {
        return true;
    }
    assert_eq!(answer.status(), 401);
    match kind.words {
        Words::WithoutEnd => {
            // The first frame may be a short one: all share the window of their connection.
            let mut words = Vec::new();
            while words.len() < WORDS.len() {
                let frame = answer.frame().await.unwrap().unwrap();
                words.extend(frame.into_data().unwrap());
            }
            assert!(words.starts_with(WORDS));
        }
        Words::None | Words::WithTheHead | Words::InALaterPacket => {
            let words = answer.into_body().collect().await.unwrap().to_bytes();
            let expected = if kind.words == Words::None {
                b""
            } else {
                WORDS
            };
            assert_eq!(words, expected);
        }
    }
    false
}
