//! *Replaying*: there is one reader of a body at any time, whatever the body does while it is read:
//! nothing is interleaved, lost, or waited for forever.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Poll, Wake, Waker},
    thread,
};

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tokio::{runtime::Handle, sync::oneshot};
use tower_oauth::{BoxError, OAuthLayer, ReplayBody, TokenError};

use crate::support::{
    api::ORIGIN,
    body::{Read, poll_once, read},
    paused, secs,
    server::{Answer, Server, answer},
    settle,
    source::{numbered, scripted, token},
};

type Hook = Box<dyn FnMut(usize) + Send>;

/// Four words, and something that is done before each.
struct Hooked {
    words: usize,
    hook: Hook,
}

const WORDS: [&str; 4] = ["one ", "two ", "three ", "four"];

impl Hooked {
    /// `hook` gets the number of the word, from 1; after the last comes 5.
    fn new(hook: impl FnMut(usize) + Send + 'static) -> Self {
        let hook = Box::new(hook);
        Self { words: 0, hook }
    }
}

impl Body for Hooked {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let next = self.words + 1;
        (self.hook)(next);
        self.words = next;
        let word = WORDS.get(next - 1);
        Poll::Ready(word.map(|word| Ok(Frame::data(Bytes::from_static(word.as_bytes())))))
    }
}

/// A server whose first send is in the hands of the test: its body, and its answer.
struct Hands {
    server: Server<Hooked>,
    first: oneshot::Receiver<Pin<Box<ReplayBody<Hooked>>>>,
    status: oneshot::Sender<u16>,
    second: Arc<Mutex<Option<Result<Read, BoxError>>>>,
}

fn hands() -> Hands {
    let (give, first) = oneshot::channel();
    let (status, answered) = oneshot::channel();
    let once = Arc::new(Mutex::new(Some((give, answered))));
    let second = Arc::new(Mutex::new(None));
    let reads = Arc::clone(&second);
    let server = Server::new(move |_, request: Request<ReplayBody<Hooked>>| {
        let first = once.lock().unwrap().take();
        let reads = Arc::clone(&reads);
        let body = Box::pin(request.into_body());
        async move {
            if let Some((give, answered)) = first {
                assert!(give.send(body).is_ok());
                return Ok(answer(answered.await?));
            }
            let read = read(body).await;
            let whole = read.is_ok();
            *reads.lock().unwrap() = Some(read);
            match whole {
                true => Ok(answer(200)),
                false => Err("cut off".into()),
            }
        }
    });
    Hands {
        server,
        first,
        status,
        second,
    }
}

fn layer() -> OAuthLayer {
    OAuthLayer::for_origin(ORIGIN, numbered(secs(3600)).1).unwrap()
}

async fn next(body: &mut Pin<Box<ReplayBody<Hooked>>>) -> String {
    let frame = body.frame().await.unwrap().unwrap();
    String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
}

/// A deadlock is a failure, and not a test that never ends.
fn in_time(test: impl FnOnce() + Send + 'static) {
    let (done, outcome) = mpsc::channel();
    let running = thread::spawn(move || {
        test();
        let _ = done.send(());
    });
    if let Err(mpsc::RecvTimeoutError::Timeout) = outcome.recv_timeout(secs(60)) {
        panic!("a deadlock");
    }
    running.join().unwrap();
}

type Sending = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// The future that waits for the answer, where the body can reach it.
type Shared = Arc<Mutex<Option<Sending>>>;

/// Sends a body whose third frame is read with `hook` and the future that waits for the answer.
fn shared(hands: &Hands, hook: impl Fn(&Shared) + Send + 'static) -> Shared {
    let shared = Shared::default();
    let body = {
        let shared = Arc::clone(&shared);
        Hooked::new(move |word| {
            if word == 3 {
                hook(&shared);
            }
        })
    };
    let server = hands.server.clone();
    let sending = async move { server.put(&layer(), body).await };
    *shared.lock().unwrap() = Some(Box::pin(sending));
    shared
}

async fn poll_shared(shared: &Shared) -> Poll<Answer> {
    std::future::poll_fn(|cx| Poll::Ready(poll(shared, cx))).await
}

fn poll(shared: &Shared, cx: &mut Context<'_>) -> Poll<Answer> {
    let mut sending = shared.lock().unwrap();
    sending.as_mut().unwrap().as_mut().poll(cx)
}

async fn begun(hands: &mut Hands, shared: &Shared) -> Pin<Box<ReplayBody<Hooked>>> {
    loop {
        assert!(poll_shared(shared).await.is_pending());
        if let Ok(first) = hands.first.try_recv() {
            return first;
        }
        settle().await;
    }
}

#[test]
fn a_body_that_drops_the_future_which_waits_for_the_answer() {
    in_time(|| {
        paused(async {
            let mut hands = hands();
            let shared = shared(&hands, |shared| drop(shared.lock().unwrap().take()));
            let first = begun(&mut hands, &shared).await;
            assert_eq!(read(first).await.unwrap(), Read::text(&WORDS.concat()));
            assert!(shared.lock().unwrap().is_none());
        });
    });
}

/// Or that wakes, and the waker polls at once. The answer is a refusal, the token is renewed, and
/// the second send has begun, all while the first is still in the middle of a frame.
#[test]
fn a_body_that_polls_the_future_which_waits_for_the_answer() {
    in_time(|| {
        paused(async {
            let mut hands = hands();
            let status = Mutex::new(None::<oneshot::Sender<u16>>);
            let status = Arc::new(status);
            let answer_now = Arc::clone(&status);
            let shared = shared(&hands, move |shared| {
                if let Some(status) = answer_now.lock().unwrap().take() {
                    status.send(401).unwrap();
                }
                let mut cx = Context::from_waker(Waker::noop());
                assert!(poll(shared, &mut cx).is_pending());
            });
            let mut first = begun(&mut hands, &shared).await;
            let (unused, _) = oneshot::channel();
            *status.lock().unwrap() = Some(std::mem::replace(&mut hands.status, unused));
            assert_eq!(next(&mut first).await, "one ");
            assert_eq!(next(&mut first).await, "two ");
            // Refused meanwhile: the frame is for whoever goes on.
            let polled = poll_once(&mut first).await;
            assert!(polled.is_pending(), "{polled:?}");
            let answer = loop {
                if let Poll::Ready(answer) = poll_shared(&shared).await {
                    break answer;
                }
                settle().await;
            };
            assert_eq!(answer.unwrap().status(), 200);
            first.frame().await.unwrap().unwrap_err();
            let second = hands.second.lock().unwrap().take().unwrap();
            assert_eq!(second.unwrap(), Read::text(&WORDS.concat()));
        });
    });
}

/// What happens while the first attempt is inside its body, on another thread.
struct Inside {
    entered: mpsc::Receiver<()>,
    leave: mpsc::Sender<Leave>,
    body: Hooked,
}

#[derive(Debug, Clone, Copy)]
enum Leave {
    WithAFrame,
    Panicking,
}

/// Stays in its third frame until it is told to leave.
fn inside() -> Inside {
    let (enter, entered) = mpsc::channel();
    let (leave, told) = mpsc::channel();
    let body = Hooked::new(move |word| {
        if word == 3 {
            enter.send(()).unwrap();
            match told.recv().unwrap() {
                Leave::WithAFrame => {}
                Leave::Panicking => panic!("scripted"),
            }
        }
    });
    Inside {
        entered,
        leave,
        body,
    }
}

/// How the first reader ends, whose third frame is read on a thread of its own.
type Ended = thread::JoinHandle<thread::Result<Result<Read, BoxError>>>;

fn read_elsewhere(first: Pin<Box<ReplayBody<Hooked>>>) -> Ended {
    let runtime = Handle::current();
    thread::spawn(move || catch_unwind(AssertUnwindSafe(|| runtime.block_on(read(first)))))
}

/// The second send waits for what the first is reading at that moment, and blocks nobody.
#[test]
fn a_second_send_begins_while_the_first_is_inside_its_body() {
    for leave in [Leave::WithAFrame, Leave::Panicking] {
        in_time(move || {
            paused(async {
                let inside = inside();
                let hands = hands();
                let server = hands.server.clone();
                let sending = tokio::spawn(async move { server.put(&layer(), inside.body).await });
                let first = read_elsewhere(hands.first.await.unwrap());
                inside.entered.recv().unwrap();
                hands.status.send(401).unwrap();
                while hands.server.sends() < 2 {
                    settle().await;
                }
                settle().await;
                assert!(!sending.is_finished(), "it has no frame of its own");
                inside.leave.send(leave).unwrap();
                let first = first.join().unwrap();
                let answer = sending.await.unwrap();
                let second = hands.second.lock().unwrap().take().unwrap();
                match leave {
                    Leave::WithAFrame => {
                        let error = first.unwrap().unwrap_err();
                        assert!(error.to_string().contains("sent again"), "{error}");
                        assert_eq!(second.unwrap(), Read::text(&WORDS.concat()));
                        assert_eq!(answer.unwrap().status(), 200);
                    }
                    Leave::Panicking => {
                        assert!(first.is_err());
                        let error = second.unwrap_err();
                        assert!(error.to_string().contains("panicked"), "{error}");
                        answer.unwrap_err();
                    }
                }
            });
        });
    }
}

/// The first attempt comes out of its body while the token is being fetched; then there is one, or
/// none.
#[test]
fn a_first_send_that_was_inside_its_body_when_it_was_refused_waits_with_what_it_read() {
    for (leave, renewed) in [
        (Leave::WithAFrame, true),
        (Leave::WithAFrame, false),
        (Leave::Panicking, true),
        (Leave::Panicking, false),
    ] {
        in_time(move || {
            paused(async {
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
                let layer = OAuthLayer::for_origin(ORIGIN, source).unwrap();
                let inside = inside();
                let hands = hands();
                let server = hands.server.clone();
                let sending = tokio::spawn(async move { server.put(&layer, inside.body).await });
                let first = read_elsewhere(hands.first.await.unwrap());
                inside.entered.recv().unwrap();
                hands.status.send(401).unwrap();
                settle().await;
                inside.leave.send(leave).unwrap();
                if let Leave::Panicking = leave {
                    while !first.is_finished() {
                        thread::yield_now();
                    }
                }
                let failure = TokenError::transient("down");
                fetch.send(renewed.then_some(()).ok_or(failure)).unwrap();
                let answer = sending.await.unwrap().unwrap();
                let first = first.join().unwrap();
                let sent_again = renewed && matches!(leave, Leave::WithAFrame);
                let status = if sent_again { 200 } else { 401 };
                assert_eq!(answer.status(), status);
                let second = hands.second.lock().unwrap().take();
                assert_eq!(second.is_some(), sent_again);
                let all = Read::text(&WORDS.concat());
                match (leave, second) {
                    (Leave::WithAFrame, Some(second)) => {
                        assert_eq!(second.unwrap(), all);
                        first.unwrap().unwrap_err();
                    }
                    // The refusal stands.
                    (Leave::WithAFrame, None) => assert_eq!(first.unwrap().unwrap(), all),
                    (Leave::Panicking, _) => assert!(first.is_err()),
                }
            });
        });
    }
}

/// Counts how often it wakes.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A connection may move a body from task to task.
#[test]
fn the_last_task_that_polled_is_woken_when_the_second_send_takes_over() {
    paused(async {
        let (fetch, fetched) = oneshot::channel::<()>();
        let fetched = Mutex::new(Some(fetched));
        let (_, source) = scripted(move |n| {
            let fetched = (n == 2).then(|| fetched.lock().unwrap().take().unwrap());
            async move {
                if let Some(fetched) = fetched {
                    fetched.await.unwrap();
                }
                Ok(token(n, secs(3600)))
            }
        });
        let layer = OAuthLayer::for_origin(ORIGIN, source).unwrap();
        let hands = hands();
        let server = hands.server.clone();
        let body = Hooked::new(|_| {});
        let sending = tokio::spawn(async move { server.put(&layer, body).await });
        let mut first = hands.first.await.unwrap();
        hands.status.send(401).unwrap();
        settle().await;
        let wakers: [Arc<Woken>; 2] = Default::default();
        for woken in &wakers {
            let waker = Waker::from(Arc::clone(woken));
            let polled = first.as_mut().poll_frame(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
        }
        fetch.send(()).unwrap();
        assert_eq!(sending.await.unwrap().unwrap().status(), 200);
        let counts = wakers.map(|woken| woken.0.load(Ordering::SeqCst));
        assert_eq!(counts, [0, 1]);
    });
}
