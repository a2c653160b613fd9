//! *Replaying*: a small body of known length that is at hand as a whole is read at once, and being ready to
//! send it again costs no allocation. No other body of known length is read further than it takes to see
//! that, before the connection asks for it, and one of unknown length isn't read at all.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    marker::PhantomPinned,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use pin_project_lite::pin_project;
use tower::{Layer, Service};
use tower_oauth::{BoxError, OAuth, OAuthLayer, ReplayBody, TokenCache};

use crate::support::{
    api::ORIGIN,
    body::{Drops, Read, Script, Step, data, read, trailers},
    paused, secs,
    server::{Server, answer, answering_after, refusing_after},
    source::numbered,
};

/// Reads bodies in the call, and answers with how much it was.
#[derive(Clone)]
struct Reader;

impl<B> Service<Request<ReplayBody<B>>> for Reader
where
    B: Body<Error: Into<BoxError>>,
{
    type Response = Response<usize>;
    type Error = Infallible;
    type Future = Ready<Result<Response<usize>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReplayBody<B>>) -> Self::Future {
        let mut body = pin!(request.into_body());
        let mut bytes = 0;
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(frame)) = body.as_mut().poll_frame(&mut cx) {
            bytes += frame.unwrap().into_data().unwrap().len();
        }
        ready(Ok(Response::new(bytes)))
    }
}

fn send<B>(client: &mut OAuth<Reader>, body: B) -> usize
where
    B: Body<Error: Into<BoxError>> + 'static,
{
    let request = Request::put(ORIGIN).body(body).unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    match pin!(client.call(request)).poll(&mut cx) {
        Poll::Ready(answer) => answer.unwrap().into_body(),
        Poll::Pending => panic!("a token is at hand"),
    }
}

/// What sending a body allocates, with a token at hand, once others of its type were sent.
fn allocations<B>(layer: &OAuthLayer, length: usize, body: impl Fn() -> B) -> u64
where
    B: Body<Error: Into<BoxError>> + 'static,
{
    let mut client = layer.layer(Reader);
    let counts: Vec<u64> = (0..10)
        .map(|_| {
            let body = body();
            let mut sent = 0;
            let counted = allocation_counter::measure(|| sent = send(&mut client, body));
            assert_eq!(sent, length);
            counted.count_total
        })
        .collect();
    assert_eq!(counts[1], counts[9], "{counts:?}: not steady");
    counts[9]
}

async fn ready_layer() -> OAuthLayer {
    let cache = TokenCache::from(numbered(secs(3600)).1);
    cache.ready().await.unwrap();
    OAuthLayer::for_origin(ORIGIN, cache).unwrap()
}

/// One frame, of a length that is known. It can be neither cloned nor moved once it is pinned.
struct Once {
    data: Mutex<Option<Bytes>>,
    _pinned: PhantomPinned,
}

impl Once {
    fn of(data: Bytes) -> Self {
        Self {
            data: Mutex::new(Some(data)),
            _pinned: PhantomPinned,
        }
    }
}

impl Body for Once {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.data.lock().unwrap().take().map(Frame::data).map(Ok))
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.data.lock().unwrap().as_ref().map_or(0, Bytes::len);
        SizeHint::with_exact(left as u64)
    }
}

/// As many as a request without a body; and not one more than where nothing is to be sent again,
/// but for what the head costs, which a request without a body has too.
#[test]
fn a_small_body_at_hand_costs_no_allocation() {
    paused(async {
        let layer = ready_layer().await;
        let kib = || Bytes::from_static(&[b'x'; 1024]);
        let shared = Bytes::from(vec![b'x'; 1024]);
        let _other = shared.clone();
        let without = layer.clone().without_retry();
        let empty = allocations(&layer, 0, Full::<Bytes>::default);
        let of_the_head = empty - allocations(&without, 0, Full::<Bytes>::default);

        assert_eq!(allocations(&layer, 1024, || Full::new(kib())), empty);
        let full = || Full::new(shared.clone());
        assert_eq!(allocations(&layer, 1024, full), empty);
        assert_eq!(allocations(&layer, 1024, || Once::of(kib())), empty);
        let boxed = || BoxBody::<Bytes, Infallible>::new(Once::of(kib()));
        assert_eq!(allocations(&layer, 1024, boxed), empty);
        let of_unknown_length = || Script::new([Step::Data(kib())]);
        assert_eq!(allocations(&layer, 1024, of_unknown_length), empty + 2);

        // `Bytes` converts a vector when it is shared for the first time: one allocation, its own.
        let vector = || Full::new(Bytes::from(vec![b'x'; 1024]));
        assert_eq!(allocations(&layer, 1024, vector), empty + 1);
        let base = allocations(&without, 1024, vector);
        assert_eq!(allocations(&layer, 1024, vector), base + of_the_head + 1);
    });
}

/// The counter counts.
#[test]
fn what_a_recorded_body_allocates_would_be_seen() {
    paused(async {
        let layer = ready_layer().await;
        let empty = allocations(&layer, 0, Full::<Bytes>::default);
        let stream = || Script::chunks(&["one", "two"]);
        assert!(allocations(&layer, 6, stream) > empty + 2);
        let two = || Script::chunks(&["one", "two"]).of_known_length();
        assert!(allocations(&layer, 6, two) > empty);
    });
}

#[test]
fn the_claim_keeps_nothing_of_it_once_the_response_head_arrived() {
    paused(async {
        for status in [200, 403, 500] {
            let drops = Drops::default();
            let body = Script::new([drops.data("one")]).of_known_length();
            let (server, early) = answering_after(1, status);
            let answer = server.put(&ready_layer().await, body).await.unwrap();
            assert_eq!(answer.status(), status);
            assert_eq!(drops.count(), 1, "{status}");
            assert!(early.first().is_end_stream());
        }
    });
}

pin_project! {
    /// Says when it is polled.
    struct Watched<B> {
        #[pin]
        body: B,
        polls: Arc<AtomicUsize>,
    }
}

impl<B: Body> Body for Watched<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        this.polls.fetch_add(1, Ordering::SeqCst);
        this.body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[test]
fn no_body_is_read_further_ahead_than_needed() {
    let chunks = || Script::chunks(&["one", "two", "three"]);
    let read_ahead = |body: Script| {
        paused(async {
            let polls = Arc::new(AtomicUsize::new(0));
            let ahead = Arc::new(AtomicUsize::new(0));
            let server = {
                let (polls, ahead) = (Arc::clone(&polls), Arc::clone(&ahead));
                Server::new(move |_, request: Request<ReplayBody<Watched<Script>>>| {
                    ahead.fetch_add(polls.load(Ordering::SeqCst), Ordering::SeqCst);
                    async move {
                        read(request.into_body()).await?;
                        Ok(answer(200))
                    }
                })
            };
            let layer = ready_layer().await.replay_limit(11);
            let body = Watched { body, polls };
            assert_eq!(server.put(&layer, body).await.unwrap().status(), 200);
            ahead.load(Ordering::SeqCst)
        })
    };
    assert_eq!(read_ahead(Script::chunks(&["one"])), 0, "of unknown length");
    let too_long = Script::chunks(&["one", "two", "three", "four"]);
    assert_eq!(read_ahead(too_long.of_known_length()), 0, "too long");
    assert_eq!(
        read_ahead(chunks().of_known_length()),
        2,
        "until there is no place for what comes"
    );
    let nothing = Script::new(vec![data(""); 100]).of_known_length();
    assert!(read_ahead(nothing) < 10, "and not forever");
}

/// A stream may be ended by its caller, count the time between its frames, or need the connection's runtime.
#[test]
fn what_becomes_of_a_stream_until_it_is_sent_is_seen() {
    paused(async {
        let is_cancelled = Arc::new(AtomicBool::new(false));
        let server = {
            let is_cancelled = Arc::clone(&is_cancelled);
            Server::new(move |_, request: Request<ReplayBody<Cancellable>>| {
                is_cancelled.store(true, Ordering::SeqCst);
                async move {
                    let error = read(request.into_body()).await.unwrap_err();
                    assert_eq!(error.to_string(), "cancelled");
                    Ok(answer(200))
                }
            })
        };
        let body = Cancellable(is_cancelled);
        server.put(&ready_layer().await, body).await.unwrap();
    });
}

/// Ends with an error once it is told to, as a call of tonic.
struct Cancellable(Arc<AtomicBool>);

impl Body for Cancellable {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(match self.0.load(Ordering::SeqCst) {
            true => Some(Err("cancelled".into())),
            false => None,
        })
    }
}

/// One request fewer of the connection, and over HTTP/2 one frame.
#[test]
fn the_last_frame_of_a_stream_says_that_it_is_the_last() {
    use Step::Pause;
    for (steps, is_last) in [
        (vec![data("one")], true),
        (vec![data("one"), data("")], false),
        (vec![data("one"), data("two")], false),
        (vec![data("one"), Pause], false),
        (
            vec![data("one"), Step::Trailers(trailers(&["x-last"]))],
            false,
        ),
    ] {
        paused(async {
            let server = Server::new(move |_, request: Request<ReplayBody<Script>>| async move {
                let mut body = pin!(request.into_body());
                let frame = body.frame().await.unwrap()?;
                assert_eq!(frame.into_data().unwrap(), "one");
                assert_eq!(body.is_end_stream(), is_last);
                Ok(answer(200))
            });
            let layer = ready_layer().await;
            server.put(&layer, Script::new(steps)).await.unwrap();
        });
    }
}

/// However much of it was read ahead.
#[test]
fn a_body_is_the_same_on_both_sends() {
    use Step::Pause;
    let last = trailers(&["x-last"]);
    let trailers = || Step::Trailers(last.clone());
    for (steps, text, has_trailers) in [
        (vec![data("one")], "one", false),
        (vec![data("one"), trailers()], "one", true),
        (vec![data(""), data("one"), data("")], "one", false),
        (vec![trailers()], "", true),
        (vec![data("one"), data("two")], "onetwo", false),
        (vec![data("one"), Pause, data("two")], "onetwo", false),
        (vec![Pause, data("one")], "one", false),
        (vec![data("one"), Pause, trailers()], "one", true),
        (vec![data("one"), trailers(), Pause], "one", true),
        (vec![data("one"), Pause], "one", false),
        (vec![data(""), Pause], "", false),
    ] {
        let expected = Read {
            trailers: has_trailers.then(|| last.clone()),
            ..Read::text(text)
        };
        let body = || Script::new(steps.clone());
        for body in [body(), body().of_known_length()] {
            paused(async {
                let (server, early) = refusing_after(usize::MAX);
                let layer = ready_layer().await.replay_limit(8);
                let answer = server.put(&layer, body).await.unwrap();
                assert_eq!(answer.status(), 200);
                assert_eq!(early.read(), [expected.clone(), expected.clone()]);
            });
        }
    }
}

pin_project! {
    /// Counts wrong: it says eight, always.
    struct Eight {
        #[pin]
        body: Script,
    }
}

impl Body for Eight {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.project().body.poll_frame(cx)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(8)
    }
}

/// What is too short stays as long as it said: the connection has to notice.
#[test]
fn a_body_that_counts_wrong_says_the_same_on_both_sends() {
    for chunks in [&["contents"][..], &["cont", "ents"], &["cont"], &[]] {
        paused(async {
            let hints: Arc<Mutex<Vec<(SizeHint, bool)>>> = Arc::default();
            let server = {
                let hints = Arc::clone(&hints);
                Server::new(move |send, request: Request<ReplayBody<Eight>>| {
                    let body = request.into_body();
                    let seen = (body.size_hint(), body.is_end_stream());
                    hints.lock().unwrap().push(seen);
                    async move {
                        let text: String = chunks.concat();
                        assert_eq!(read(body).await?, Read::text(&text));
                        Ok(answer(if send == 1 { 401 } else { 200 }))
                    }
                })
            };
            let body = Script::chunks(chunks);
            let answer = server.put(&ready_layer().await, Eight { body }).await;
            assert_eq!(answer.unwrap().status(), 200);
            for (hint, at_end) in &*hints.lock().unwrap() {
                assert_eq!((hint.exact(), *at_end), (Some(8), false), "{chunks:?}");
            }
        });
    }
}

/// The limit is for what is kept, and not for what is said.
#[test]
fn a_body_that_is_longer_than_it_said_is_not_kept_beyond_the_limit() {
    paused(async {
        let (server, early) = refusing_after(usize::MAX);
        let body = Script::chunks(&["a dozen more"]);
        let layer = ready_layer().await.replay_limit(10);
        let answer = server.put(&layer, Eight { body }).await.unwrap();
        assert_eq!((answer.status().as_u16(), server.sends()), (401, 1));
        assert_eq!(early.read(), [Read::text("a dozen more")]);
    });
}

#[test]
fn a_frame_of_unknown_length_is_not_kept_beyond_the_limit() {
    paused(async {
        for (limit, status, sends) in [(11, 401, 1), (12, 200, 2)] {
            let (server, early) = refusing_after(usize::MAX);
            let layer = ready_layer().await.replay_limit(limit);
            let body = Script::chunks(&["a dozen more"]);
            let answer = server.put(&layer, body).await.unwrap();
            assert_eq!((answer.status().as_u16(), server.sends()), (status, sends));
            assert_eq!(early.read(), vec![Read::text("a dozen more"); sends]);
        }
    });
}

/// Sends another of its kind when it is read, and one when it is dropped.
struct Matryoshka {
    client: OAuth<Reader>,
    size: usize,
    data: Option<Bytes>,
}

impl Matryoshka {
    fn new(client: &OAuth<Reader>, size: usize) -> Self {
        let client = client.clone();
        let data = Some(Bytes::from(vec![b'x'; size]));
        Self { client, size, data }
    }

    fn send_inner(&mut self) {
        if let Some(size) = self.size.checked_sub(1) {
            let inner = Self::new(&self.client, size);
            assert_eq!(send(&mut self.client, inner), size);
        }
    }
}

impl Body for Matryoshka {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.send_inner();
        Poll::Ready(self.data.take().map(Frame::data).map(Ok))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.data.as_ref().map_or(0, Bytes::len) as u64)
    }
}

impl Drop for Matryoshka {
    fn drop(&mut self) {
        self.send_inner();
    }
}

#[test]
fn a_body_that_sends_another_of_its_type() {
    paused(async {
        let mut client = ready_layer().await.layer(Reader);
        for _ in 0..3 {
            let body = Matryoshka::new(&client, 4);
            assert_eq!(send(&mut client, body), 4);
        }
    });
}

/// Where it is read ahead, that is in the call.
#[test]
fn a_body_that_panics_takes_nothing_along() {
    struct Panics {
        _data: Step,
    }
    impl Body for Panics {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            panic!("scripted");
        }
        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(1)
        }
    }
    paused(async {
        let layer = ready_layer().await;
        let mut client = layer.layer(Reader);
        let drops = Drops::default();
        for n in 1..4 {
            let body = Panics {
                _data: drops.data("one"),
            };
            let sent = catch_unwind(AssertUnwindSafe(|| send(&mut client, body)));
            assert!(sent.is_err());
            assert_eq!(drops.count(), n);
            assert_eq!(send(&mut client, Full::<Bytes>::from("four")), 4);
        }
    });
}

#[tokio::test]
async fn a_whole_body_is_read_by_a_task_of_another_thread() {
    let layer = ready_layer().await;
    let server = Server::new(|send, request: Request<ReplayBody<Once>>| async move {
        let reading = tokio::task::spawn_blocking(|| {
            let mut body = Box::pin(request.into_body());
            let mut cx = Context::from_waker(Waker::noop());
            body.as_mut().poll_frame(&mut cx)
        });
        let Poll::Ready(Some(Ok(frame))) = reading.await? else {
            panic!("a frame");
        };
        assert_eq!(frame.into_data().unwrap(), "one");
        Ok(answer(if send == 1 { 401 } else { 200 }))
    });
    let answer = server.put(&layer, Once::of("one".into())).await.unwrap();
    assert_eq!((answer.status().as_u16(), server.sends()), (200, 2));
    let words = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(words, "the server's own words");
}
