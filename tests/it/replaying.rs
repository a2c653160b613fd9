//! *Replaying*: the second send is the first, byte for byte, but for the token.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, buf::Chain};
use futures_core::Stream;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version, header::AUTHORIZATION};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use pin_project_lite::pin_project;
use tokio::{sync::Barrier, task::JoinSet};
use tower::{Layer, ServiceExt, service_fn};
use tower_oauth::{BoxError, OAuthLayer, ReplayBody, TokenCache};

use crate::support::{
    api::ORIGIN,
    body::{Read, Script, Step, data, read, trailers},
    paused, secs,
    server::{Server, answer, token_of},
    source::numbered,
};

/// The two sends of a body, both read to their ends.
fn both<B>(body: B) -> [Read; 2]
where
    B: Body + Send + 'static,
    B::Error: Into<BoxError>,
{
    paused(async {
        let reads: Arc<Mutex<Vec<Read>>> = Arc::default();
        let server = {
            let reads = Arc::clone(&reads);
            Server::new(move |send, request: Request<ReplayBody<B>>| {
                let reads = Arc::clone(&reads);
                async move {
                    let token = token_of(request.headers());
                    assert_eq!(token, format!("token-{send}"));
                    let read = read(request.into_body()).await?;
                    reads.lock().unwrap().push(read);
                    Ok(answer(if send == 1 { 401 } else { 200 }))
                }
            })
        };
        let layer = OAuthLayer::for_origin(ORIGIN, numbered(secs(3600)).1).unwrap();
        assert_eq!(server.put(&layer, body).await.unwrap().status(), 200);
        reads.lock().unwrap().clone().try_into().unwrap()
    })
}

fn text(text: &str) -> [Read; 2] {
    [Read::text(text), Read::text(text)]
}

#[test]
fn one_chunk() {
    assert_eq!(
        both(Full::<Bytes>::from("hello world")),
        text("hello world")
    );
    assert_eq!(both("hello world".to_owned()), text("hello world"));
}

#[test]
fn data_and_trailers() {
    let sent = trailers(&["x-hello", "x-foo"]);
    let steps = [data("hello "), data("world"), Step::Trailers(sent.clone())];
    let expected = Read {
        trailers: Some(sent),
        ..Read::text("hello world")
    };
    assert_eq!(both(Script::new(steps)), [expected.clone(), expected]);
}

#[test]
fn trailers_only() {
    let sent = trailers(&["x-hello", "x-foo"]);
    let expected = Read {
        trailers: Some(sent.clone()),
        ..Read::default()
    };
    let body = Script::new([Step::Trailers(sent)]);
    assert_eq!(both(body), [expected.clone(), expected]);
}

#[test]
fn a_body_that_is_pending_first_and_between() {
    use Step::Pause;
    let steps = [
        Pause,
        Pause,
        data("a"),
        Pause,
        data("b"),
        data("c"),
        Pause,
        Pause,
    ];
    assert_eq!(both(Script::new(steps)), text("abc"));
}

#[test]
fn empty_frames_change_nothing() {
    assert_eq!(
        both(Script::chunks(&["", "a", "", "", "b", ""])),
        text("ab")
    );
    assert_eq!(both(Script::chunks(&["", ""])), text(""));
}

/// An async block can't be moved once it was polled.
#[test]
fn the_body_of_an_async_block() {
    pin_project! {
        struct Once<F> {
            #[pin]
            item: F,
            done: bool,
        }
    }
    impl<F: Future> Stream for Once<F> {
        type Item = F::Output;
        fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
            let this = self.project();
            if *this.done {
                return Poll::Ready(None);
            }
            let item = ready!(this.item.poll(cx));
            *this.done = true;
            Poll::Ready(Some(item))
        }
    }
    let block = async {
        let text = "hello world".to_owned();
        let borrowed = &text;
        tokio::task::yield_now().await;
        Ok::<_, BoxError>(Frame::data(Bytes::from(borrowed.clone())))
    };
    let item = block;
    let body = StreamBody::new(Once { item, done: false });
    assert_eq!(both(body), text("hello world"));
}

/// Data in several pieces, none of which is `Bytes`.
struct Pieces(Option<Three>);

type Three = Chain<&'static [u8], Chain<&'static [u8], &'static [u8]>>;

impl Body for Pieces {
    type Data = Three;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Poll::Ready(self.0.take().map(|data| Ok(Frame::data(data))))
    }
}

#[test]
fn data_that_is_not_bytes() {
    let pieces = (&b"hello"[..]).chain((&b""[..]).chain(&b" world"[..]));
    assert_eq!(both(Pieces(Some(pieces))), text("hello world"));
}

/// At its end from the start; must not even be polled.
struct Unread;

impl Body for Unread {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        panic!("an empty body was read");
    }

    fn is_end_stream(&self) -> bool {
        true
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(0)
    }
}

#[test]
fn an_empty_body_is_empty_again_and_never_read() {
    paused(async {
        let server = || {
            Server::new(|send, request: Request<ReplayBody<Unread>>| async move {
                assert!(request.body().is_end_stream());
                assert_eq!(request.body().size_hint().exact(), Some(0));
                Ok(answer(if send == 1 { 401 } else { 200 }))
            })
        };
        for limit in [0, 1, 64 * 1024] {
            let layer = OAuthLayer::for_origin(ORIGIN, numbered(secs(3600)).1)
                .unwrap()
                .replay_limit(limit);
            let server = server();
            assert_eq!(server.put(&layer, Unread).await.unwrap().status(), 200);
            assert_eq!(server.sends(), 2);
        }
    });
    assert_eq!(both(Empty::<Bytes>::new()), text(""));
}

#[test]
fn the_end_comes_only_after_the_trailers() {
    paused(async {
        let server = Server::new(|send, request: Request<ReplayBody<Script>>| async move {
            let mut body = Box::pin(request.into_body());
            let data = body.frame().await.unwrap()?.into_data().unwrap();
            assert_eq!(data, "hello");
            assert!(!body.is_end_stream(), "send {send}: before the trailers");
            assert!(body.frame().await.unwrap()?.is_trailers());
            assert!(body.is_end_stream(), "send {send}: after the trailers");
            assert!(body.frame().await.is_none());
            Ok(answer(if send == 1 { 401 } else { 200 }))
        });
        let layer = OAuthLayer::for_origin(ORIGIN, numbered(secs(3600)).1).unwrap();
        let body = Script::new([data("hello"), Step::Trailers(trailers(&["x-hello"]))]);
        assert_eq!(server.put(&layer, body).await.unwrap().status(), 200);
    });
}

/// The size hint is what decides between `content-length` and chunks.
#[test]
fn both_sends_have_the_same_size_hint() {
    let seen = |body: Script| {
        paused(async {
            let hints: Arc<Mutex<Vec<Option<u64>>>> = Arc::default();
            let server = {
                let hints = Arc::clone(&hints);
                Server::new(move |send, request: Request<ReplayBody<Script>>| {
                    hints
                        .lock()
                        .unwrap()
                        .push(request.body().size_hint().exact());
                    async move {
                        read(request.into_body()).await?;
                        Ok(answer(if send == 1 { 401 } else { 200 }))
                    }
                })
            };
            let layer = OAuthLayer::for_origin(ORIGIN, numbered(secs(3600)).1).unwrap();
            assert_eq!(server.put(&layer, body).await.unwrap().status(), 200);
            let hints = hints.lock().unwrap();
            [hints[0], hints[1]]
        })
    };
    let exact = seen(Script::chunks(&["cont", "ents"]).of_known_length());
    assert_eq!(exact, [Some(8), Some(8)]);
    let unknown = seen(Script::chunks(&["contents"]));
    assert_eq!(unknown[0], None);
}

/// All of a head that can be seen, in order.
type Head = (
    Method,
    Uri,
    Version,
    Vec<(String, HeaderValue, bool)>,
    Option<Marker>,
    usize,
);

fn seen<B>(request: &Request<B>) -> Head {
    let headers: Vec<(String, HeaderValue, bool)> = request
        .headers()
        .iter()
        .filter(|(name, _)| *name != AUTHORIZATION)
        .map(|(name, value)| (name.to_string(), value.clone(), value.is_sensitive()))
        .collect();
    (
        request.method().clone(),
        request.uri().clone(),
        request.version(),
        headers,
        request.extensions().get::<Marker>().cloned(),
        request.extensions().len(),
    )
}

#[derive(Debug, Clone, PartialEq)]
struct Marker(Arc<str>);

#[test]
fn the_same_method_uri_version_headers_and_extensions() {
    paused(async {
        let heads: Arc<Mutex<Vec<_>>> = Arc::default();
        let server = {
            let heads = Arc::clone(&heads);
            Server::new(move |send, mut request: Request<ReplayBody<Full<Bytes>>>| {
                assert_eq!(token_of(request.headers()), format!("token-{send}"));
                heads.lock().unwrap().push(seen(&request));
                // What a service below does to its own request must not show in the next.
                request.headers_mut().clear();
                request.extensions_mut().clear();
                request.extensions_mut().insert("left behind");
                async move { Ok(answer(if send == 1 { 401 } else { 200 })) }
            })
        };
        let mut secret = HeaderValue::from_static("s3cr3t");
        secret.set_sensitive(true);
        let mut request = Request::builder()
            .method(Method::from_bytes(b"PROPPATCH").unwrap())
            .uri("https://api.example.com/a%20b//c/?q=1&q=%C3%A4#")
            .version(Version::HTTP_2)
            .header("x-many", "one")
            .header("accept", "*/*")
            .header("x-many", "two")
            .header("x-api-key", secret)
            .header("content-length", "4")
            .header("x-bytes", HeaderValue::from_bytes(b"\xff\x80").unwrap())
            .extension(Marker("mine".into()))
            .body(Full::from("body"))
            .unwrap();
        request.extensions_mut().insert(17_u8);
        let expected = seen(&request);
        let layer = OAuthLayer::for_origin(ORIGIN, numbered(secs(3600)).1).unwrap();
        let client = layer.layer(server);
        assert_eq!(client.oneshot(request).await.unwrap().status(), 200);
        let heads = heads.lock().unwrap();
        assert_eq!(heads.len(), 2);
        for (send, head) in heads.iter().enumerate() {
            assert_eq!(*head, expected, "send {send}");
        }
    });
}

/// By path: the tokens and bodies of each request, in the order of its sends.
type Received = HashMap<String, Vec<(String, Read)>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_refused_puts_each_send_their_own_body_again() {
    const PUTS: usize = 100;
    let all_sent = Arc::new(Barrier::new(PUTS));
    let received: Arc<Mutex<Received>> = Arc::default();
    let server = {
        let received = Arc::clone(&received);
        service_fn(move |request: Request<ReplayBody<Script>>| {
            let (all_sent, received) = (Arc::clone(&all_sent), Arc::clone(&received));
            async move {
                let id = request.uri().path().to_owned();
                let token = token_of(request.headers());
                let read = read(request.into_body()).await?;
                let first = token == "token-1";
                received
                    .lock()
                    .unwrap()
                    .entry(id)
                    .or_default()
                    .push((token, read));
                if first {
                    all_sent.wait().await;
                }
                Ok::<_, BoxError>(answer(if first { 401 } else { 200 }))
            }
        })
    };
    let (ledger, source) = numbered(secs(3600));
    let cache = TokenCache::from(source);
    cache.ready().await.unwrap();
    let client = OAuthLayer::for_origin(ORIGIN, cache).unwrap().layer(server);
    let mut puts = JoinSet::new();
    for n in 0..PUTS {
        let client = client.clone();
        let steps = (0..10).flat_map(move |part| {
            let data = Bytes::from(format!("body {n} part {part};"));
            [Step::Data(data), Step::Pause]
        });
        let mut last = HeaderMap::new();
        last.insert("x-n", HeaderValue::from(n));
        let body = Script::new(steps.chain([Step::Trailers(last)]));
        let request = Request::put(format!("{ORIGIN}/{n}")).body(body).unwrap();
        puts.spawn(client.oneshot(request));
    }
    for answer in puts.join_all().await {
        assert_eq!(answer.unwrap().status(), 200);
    }
    assert_eq!(ledger.calls(), 2);
    let received = received.lock().unwrap();
    for n in 0..PUTS {
        let [first, second] = &received[&format!("/{n}")][..] else {
            panic!("two sends of {n}");
        };
        let parts: Vec<_> = (0..10)
            .map(|part| format!("body {n} part {part};"))
            .collect();
        assert_eq!(first.1.data, parts.concat().into_bytes());
        assert_eq!(first.1.trailers.as_ref().unwrap()["x-n"], n.to_string());
        assert_eq!(first.1, second.1);
        assert_eq!((&*first.0, &*second.0), ("token-1", "token-2"));
    }
}
