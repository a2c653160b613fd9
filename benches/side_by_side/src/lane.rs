//! A lane: one client on one thread, that sends one request after another.

use std::{
    cell::Cell,
    convert::Infallible,
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response, header::AUTHORIZATION, request::Parts};
use http_body::Body;
use http_body_util::Full;
use tower::Service;

use crate::shape::{self, Kind, Shape};

/// One client, ready to send on one thread.
pub trait Lane: Send {
    /// Sends so many requests, each answered before the next is sent.
    fn run(&mut self, requests: u32);
}

thread_local! {
    /// The head of the request that was answered last, for whoever sends it again.
    static SENT: Cell<Option<Parts>> = const { Cell::new(None) };
}

/// Answers at once, and does nothing else. A body is read to its end, as a connection would read it.
#[derive(Debug, Clone, Copy)]
pub struct NoOp;

impl<B: Body> Service<Request<B>> for NoOp {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Answering;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (head, body) = request.into_parts();
        SENT.set(Some(head));
        read(body);
        Answering
    }
}

/// Small, and made into a response when it is polled, as those of real clients are.
#[derive(Debug)]
pub struct Answering;

impl Future for Answering {
    type Output = Result<Response<()>, Infallible>;

    #[inline]
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(Response::new(())))
    }
}

/// The head of the request that was sent last on this thread, as the server got it.
#[inline]
pub fn sent() -> Parts {
    SENT.take().unwrap()
}

/// Reads a body that has all of itself at hand.
#[inline]
pub fn read<B: Body>(body: B) {
    if body.is_end_stream() {
        return;
    }
    let mut body = pin!(body);
    let mut cx = Context::from_waker(Waker::noop());
    while let Poll::Ready(Some(Ok(frame))) = body.as_mut().poll_frame(&mut cx) {
        std::hint::black_box(&frame);
        if body.is_end_stream() {
            return;
        }
    }
}

/// Polls a future that has all it needs; again and again where it waits for another thread that holds a
/// lock.
#[inline]
pub fn now<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        let polled = future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(output) = polled {
            return output;
        }
        std::hint::spin_loop();
    }
}

/// A lane through a Tower service around [`NoOp`].
pub fn over<S, R>(service: S, shape: Shape) -> Box<dyn Lane>
where
    S: Service<Request<Full<Bytes>>, Response = Response<R>> + Clone + Send + 'static,
    S::Error: std::fmt::Debug,
{
    match shape.cloned {
        true => by(shape.kind, move |request| {
            send(&mut service.clone(), request)
        }),
        false => {
            let mut service = service;
            by(shape.kind, move |request| send(&mut service, request))
        }
    }
}

#[inline]
fn send<S, R>(service: &mut S, request: Request<Full<Bytes>>)
where
    S: Service<Request<Full<Bytes>>, Response = Response<R>>,
    S::Error: std::fmt::Debug,
{
    let ready = service.poll_ready(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(ready, Poll::Ready(Ok(()))), "not ready");
    drop(now(service.call(request)).unwrap());
}

/// A lane by a function that has [`NoOp`] send a request.
pub fn by<F>(kind: Kind, mut send: F) -> Box<dyn Lane>
where
    F: FnMut(Request<Full<Bytes>>) + Send + 'static,
{
    match kind {
        Kind::Get6 => Box::new(Loop(move || {
            send(shape::get6());
            drop(sent());
        })),
        Kind::Post6 => {
            let body = Bytes::from_static(&[b'x'; 1024]);
            Box::new(Loop(move || {
                send(shape::post6(Full::new(body.clone())));
                drop(sent());
            }))
        }
        Kind::Rec6 => {
            let mut first = Some(shape::get6().into_parts().0);
            Box::new(Loop(move || {
                let mut head = first.take().unwrap_or_else(sent);
                head.headers.remove(AUTHORIZATION);
                send(Request::from_parts(head, Full::default()));
            }))
        }
    }
}

struct Loop<F>(F);

impl<F: FnMut() + Send> Lane for Loop<F> {
    fn run(&mut self, requests: u32) {
        for _ in 0..requests {
            (self.0)();
        }
    }
}
