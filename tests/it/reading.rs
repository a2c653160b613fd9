//! *Reading*: a request with a valid token takes no lock, reads no clock and allocates nothing for
//! the token; and what it reads can be sent.

use std::{
    convert::Infallible,
    error::Error,
    fmt,
    future::{Ready, ready},
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::Full;
use tokio::{runtime::Handle, task::JoinSet, time::advance};
use tower::{Layer, Service, ServiceExt};
use tower_oauth::{OAuth, OAuthLayer, TokenCache, TokenError};

use crate::support::{
    api::ORIGIN,
    paused, secs,
    server::token_of,
    settle,
    source::{failing, numbered, scripted, token},
};

const HOUR: Duration = secs(3600);

/// Answers with the number of the token that it saw, and does nothing else.
#[derive(Clone)]
struct NoOp;

impl<B> Service<Request<B>> for NoOp {
    type Response = Response<HeaderMap>;
    type Error = Infallible;
    type Future = Ready<Result<Response<HeaderMap>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let headers = std::mem::take(request.headers_mut());
        ready(Ok(Response::new(headers)))
    }
}

fn request() -> Request<Full<Bytes>> {
    let mut request = Request::get(ORIGIN).body(Full::default()).unwrap();
    request.headers_mut().reserve(8);
    let value = HeaderValue::from_static("*/*");
    request.headers_mut().insert("accept", value);
    request
}

/// A request with a token at hand has its answer at the first poll.
fn get(client: &mut OAuth<NoOp>, request: Request<Full<Bytes>>) -> HeaderMap {
    let mut cx = Context::from_waker(Waker::noop());
    let ready = Service::<Request<Full<Bytes>>>::poll_ready(client, &mut cx);
    assert!(ready.is_ready());
    let answer = pin!(client.call(request));
    match answer.poll(&mut cx) {
        Poll::Ready(answer) => answer.unwrap().into_body(),
        Poll::Pending => panic!("a token is at hand"),
    }
}

#[test]
fn a_request_allocates_nothing_for_its_token() {
    paused(async {
        let cache = TokenCache::from(numbered(HOUR).1);
        cache.ready().await.unwrap();
        let layer = OAuthLayer::for_origin(ORIGIN, cache).unwrap();
        let mut client = layer.without_retry().layer(NoOp);
        // The first load of a thread registers it.
        get(&mut client, request());
        for _ in 0..1000 {
            let request = request();
            let mut headers = HeaderMap::new();
            let counted = allocation_counter::measure(|| headers = get(&mut client, request));
            assert_eq!(counted.count_total, 0, "{counted:?}");
            assert_eq!(token_of(&headers), "token-1");
        }
    });
}

/// The counter counts.
#[test]
fn what_a_request_allocates_would_be_seen() {
    let counted = allocation_counter::measure(|| drop(request()));
    assert!(counted.count_total > 0);
}

/// The wall clock; the monotonic one is read in the same place.
#[test]
fn a_request_reads_no_clock() {
    paused(async {
        let looks = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&looks);
        let cache = TokenCache::builder(numbered(HOUR).1)
            .wall_clock(move || {
                counted.fetch_add(1, Ordering::SeqCst);
                SystemTime::UNIX_EPOCH
            })
            .build();
        cache.ready().await.unwrap();
        settle().await;
        let before = looks.load(Ordering::SeqCst);
        assert!(before > 0, "the clock is in use");
        let mut client = OAuthLayer::for_origin(ORIGIN, cache).unwrap().layer(NoOp);
        for _ in 0..10_000 {
            assert_eq!(token_of(&get(&mut client, request())), "token-1");
        }
        assert_eq!(looks.load(Ordering::SeqCst), before);
    });
}

/// A failed renewal is tried again later, and until then readers have nothing to do.
#[test]
fn a_request_reads_no_clock_while_the_server_is_left_alone() {
    paused(async {
        let looks = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&looks);
        let (ledger, source) = failing(HOUR, |n| (n > 1).then(|| TokenError::permanent("down")));
        let cache = TokenCache::builder(source)
            .wall_clock(move || {
                counted.fetch_add(1, Ordering::SeqCst);
                SystemTime::UNIX_EPOCH
            })
            .build();
        cache.ready().await.unwrap();
        settle().await;
        advance(secs(3500)).await;
        settle().await;
        let mut client = OAuthLayer::for_origin(ORIGIN, cache).unwrap().layer(NoOp);
        assert_eq!(token_of(&get(&mut client, request())), "token-1");
        settle().await;
        assert_eq!(ledger.calls(), 2, "the renewal that fails");
        let before = looks.load(Ordering::SeqCst);
        for _ in 0..1000 {
            assert_eq!(token_of(&get(&mut client, request())), "token-1");
        }
        assert_eq!(looks.load(Ordering::SeqCst), before);
    });
}

/// A failure that doesn't go before it may.
struct Reluctant {
    going: mpsc::SyncSender<()>,
    may_go: Mutex<mpsc::Receiver<()>>,
}

impl Drop for Reluctant {
    fn drop(&mut self) {
        let _ = self.going.send(());
        let _ = self.may_go.lock().unwrap().recv();
    }
}

impl fmt::Display for Reluctant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("reluctant")
    }
}

impl fmt::Debug for Reluctant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reluctant")
    }
}

impl Error for Reluctant {}

/// The cache drops a failure when the next one comes, and holds its lock meanwhile: so the lock
/// can be held for as long as that takes, with a valid token in the cache.
#[test]
fn a_request_takes_no_lock() {
    let (going, held) = mpsc::sync_channel(1);
    let (release, may_go) = mpsc::channel();
    let may_go = Mutex::new(may_go);
    let reluctant = Mutex::new(Some(Reluctant { going, may_go }));
    let (ledger, source) = scripted(move |n| {
        let failure = match n {
            1 => None,
            2 => reluctant.lock().unwrap().take().map(TokenError::transient),
            _ => Some(TokenError::transient("down")),
        };
        async move { failure.map_or_else(|| Ok(token(n, HOUR)), Err) }
    });
    let cache = TokenCache::from(source);
    let layer = OAuthLayer::for_origin(ORIGIN, cache.clone()).unwrap();

    let failing = {
        let cache = cache.clone();
        thread::spawn(move || {
            paused(async {
                cache.ready().await.unwrap();
                advance(secs(3500)).await;
                for _ in 0..2 {
                    settle().await;
                    assert_eq!(cache.get().await.unwrap().expose_secret(), "token-1");
                    settle().await;
                    advance(secs(1)).await;
                }
            });
        })
    };
    held.recv().unwrap();
    assert_eq!(ledger.calls(), 3);
    let invalidated = Arc::new(AtomicBool::new(false));
    let invalidating = {
        let invalidated = Arc::clone(&invalidated);
        thread::spawn(move || {
            cache.invalidate();
            invalidated.store(true, Ordering::SeqCst);
        })
    };
    let (read, done) = mpsc::channel();
    let reading = thread::spawn(move || {
        let mut client = layer.layer(NoOp);
        for _ in 0..10_000 {
            assert_eq!(token_of(&get(&mut client, request())), "token-1");
        }
        read.send(()).unwrap();
    });
    let read = done.recv_timeout(secs(60));
    let still_held = !invalidated.load(Ordering::SeqCst);
    release.send(()).unwrap();
    for thread in [failing, invalidating, reading] {
        thread.join().unwrap();
    }
    assert!(read.is_ok(), "requests wait for the lock");
    assert!(still_held, "the lock was free: this test shows nothing");
}

/// A reader that finds its token due is held where it looks at the clock, before it takes the
/// lock; when it goes on, there is a newer token.
#[test]
fn a_reader_whose_renewal_is_overtaken_starts_none() {
    const READER: &str = "the reader that is overtaken";
    let (looking, looks) = mpsc::sync_channel(1);
    let (release, may_go) = mpsc::channel::<()>();
    let may_go = Mutex::new(may_go);
    let (ledger, source) = numbered(HOUR);
    let cache = TokenCache::builder(source)
        .wall_clock(move || {
            if thread::current().name() == Some(READER) {
                // It is held at its first look, and may go on for good once the sender is gone.
                let _ = looking.try_send(());
                let _ = may_go.lock().unwrap().recv();
            }
            SystemTime::UNIX_EPOCH
        })
        .build();
    let layer = OAuthLayer::for_origin(ORIGIN, cache.clone()).unwrap();
    paused(async {
        cache.ready().await.unwrap();
        settle().await;
        advance(secs(3500)).await;
        settle().await;
        let runtime = Handle::current();
        let reader = thread::Builder::new().name(READER.to_owned());
        let reader = reader.spawn(move || {
            let _inside = runtime.enter();
            token_of(&get(&mut layer.layer(NoOp), request()))
        });
        looks.recv().unwrap();
        cache.invalidate();
        cache.ready().await.unwrap();
        drop(release);
        assert_eq!(reader.unwrap().join().unwrap(), "token-1");
        settle().await;
        assert_eq!(ledger.calls(), 2, "the newer token is nobody's to renew");
        assert_eq!(cache.get().await.unwrap().expose_secret(), "token-2");
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn while_the_token_rotates_readers_see_issued_tokens_only_and_never_an_older_one() {
    const ROTATIONS: usize = 1000;
    let (ledger, source) = numbered(HOUR);
    let cache = TokenCache::from(source);
    cache.ready().await.unwrap();
    let layer = OAuthLayer::for_origin(ORIGIN, cache.clone()).unwrap();
    let mut readers = JoinSet::new();
    for _ in 0..16 {
        let (client, ledger) = (layer.layer(NoOp), ledger.clone());
        readers.spawn(async move {
            let (mut last, mut changes) = (0, 0);
            while last < ROTATIONS {
                let headers = client.clone().oneshot(request()).await.unwrap().into_body();
                // Panics unless it is one value, and sensitive.
                let token = token_of(&headers);
                let number: usize = token.strip_prefix("token-").unwrap().parse().unwrap();
                assert!(number >= last, "token {number} after token {last}");
                assert!(number <= ledger.calls(), "token {number} was never issued");
                changes += usize::from(number != last);
                last = number;
                tokio::task::yield_now().await;
            }
            changes
        });
    }
    while ledger.calls() < ROTATIONS {
        cache.invalidate();
        cache.ready().await.unwrap();
    }
    let changes = readers.join_all().await;
    assert!(changes.iter().any(|&changes| changes > 1), "{changes:?}");
}
