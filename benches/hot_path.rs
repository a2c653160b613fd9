//! What a token costs a request, on one thread and over a service that does nothing, for people to read.
//!
//! ```sh
//! cargo bench --bench hot_path
//! ```
//!
//! For comparisons to the nanosecond see `benches/side_by_side`, whose cases take turns; here each runs
//! for a while, and whatever the machine does meanwhile is in its figure.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    unreachable_pub,
    missing_docs,
    reason = "a bench may stop at the first surprise"
)]

use std::{
    convert::Infallible,
    fmt::Debug,
    hint::black_box,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderValue, Method, Request, Response, header};
use http_body::{Body, Frame};
use http_body_util::Full;
use tokio::runtime::Runtime;
use tower::{Layer, Service};
use tower_oauth::{AccessToken, OAuthLayer, TokenCache};

const ORIGIN: &str = "https://api.example.com";

/// Reads the body, as a connection would, and answers with the request.
#[derive(Clone)]
struct NoOp;

impl<B: Body> Service<Request<B>> for NoOp {
    type Response = Response<Request<()>>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Answer {
        let (head, body) = request.into_parts();
        let mut body = pin!(body);
        let mut cx = Context::from_waker(Waker::noop());
        while !body.is_end_stream() {
            if let Poll::Ready(None) = black_box(body.as_mut().poll_frame(&mut cx)) {
                break;
            }
        }
        Answer(Some(Box::new(Request::from_parts(head, ()))))
    }
}

/// As small as those of real clients are.
struct Answer(Option<Box<Request<()>>>);

impl Future for Answer {
    type Output = Result<Response<Request<()>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(Response::new(*self.0.take().expect("polled once"))))
    }
}

/// A header that never changes.
#[derive(Clone)]
struct Constant<S> {
    inner: S,
    header: HeaderValue,
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for Constant<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        let header = self.header.clone();
        request.headers_mut().insert(header::AUTHORIZATION, header);
        self.inner.call(request)
    }
}

/// Frames of 1 KiB of which nobody knows how many come.
#[derive(Clone)]
struct Stream {
    left: u8,
    frame: Bytes,
}

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(left) = self.left.checked_sub(1) else {
            return Poll::Ready(None);
        };
        self.left = left;
        Poll::Ready(Some(Ok(Frame::data(self.frame.clone()))))
    }
}

fn token() -> String {
    "eyJhbGciOiJSUzI1NiIs".repeat(45)
}

fn request<B>(method: Method, body: B) -> Request<B> {
    let uri = "https://api.example.com/v1/accounts/0f8fad5b/moves?page=7&size=50";
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri.parse().unwrap();
    let headers = request.headers_mut();
    for (name, value) in [
        (header::ACCEPT, "application/json"),
        (header::USER_AGENT, "accounts-sync/4.2 (linux; x86_64)"),
        (header::ACCEPT_ENCODING, "gzip, br"),
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-cache"),
    ] {
        headers.insert(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    let id = b"7d444840-9dc0-11d1-b245-5ffdce74fad2";
    headers.insert("x-request-id", HeaderValue::from_bytes(id).unwrap());
    request
}

fn send<S, B>(service: &mut S, request: Request<B>) -> Request<()>
where
    S: Service<Request<B>, Response = Response<Request<()>>, Error: Debug>,
{
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    let mut answer = pin!(service.call(request));
    match answer.as_mut().poll(&mut cx) {
        Poll::Ready(answer) => answer.unwrap().into_body(),
        Poll::Pending => panic!("a token is at hand"),
    }
}

fn hot_path(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let cache = TokenCache::from(|| async {
        Ok(AccessToken::bearer(token())?.expires_in(Duration::from_secs(3600)))
    });
    runtime.block_on(cache.ready()).unwrap();
    let layer = OAuthLayer::for_origin(ORIGIN, cache).unwrap();
    let mut header = HeaderValue::try_from(format!("Bearer {}", token())).unwrap();
    header.set_sensitive(true);
    let constant = Constant {
        inner: NoOp,
        header,
    };

    shapes(criterion, "no token", &NoOp);
    shapes(criterion, "constant header", &constant);
    shapes(
        criterion,
        "without_retry",
        &layer.clone().without_retry().layer(NoOp),
    );
    shapes(criterion, "with retry", &layer.layer(NoOp));
}

/// A service that answers each of the bodies here.
trait Client: Clone + Answers<Full<Bytes>> + Answers<Stream> {}
impl<S: Clone + Answers<Full<Bytes>> + Answers<Stream>> Client for S {}

trait Answers<B>: Service<Request<B>, Response = Response<Request<()>>, Error: Debug> {}
impl<S, B> Answers<B> for S where
    S: Service<Request<B>, Response = Response<Request<()>>, Error: Debug>
{
}

fn shapes(criterion: &mut Criterion, name: &str, client: &impl Client) {
    let mut service = client.clone();
    let get = || request(Method::GET, Full::<Bytes>::default());

    // A fresh GET with six headers.
    criterion.bench_function(&format!("get6/{name}"), |bencher| {
        bencher.iter(|| send(&mut service, get()));
    });

    // The same request, handed back and used again: nothing else is allocated or freed.
    criterion.bench_function(&format!("rec6/{name}"), |bencher| {
        let mut head = Some(get().map(drop));
        bencher.iter(|| {
            let mut again = head.take().unwrap();
            again.headers_mut().remove(header::AUTHORIZATION);
            head = Some(send(&mut service, again.map(|()| Full::<Bytes>::default())));
        });
    });

    // A fresh POST with 1 KiB at hand.
    let data = Bytes::from_static(&[b'x'; 1024]);
    criterion.bench_function(&format!("post6/{name}"), |bencher| {
        bencher.iter(|| send(&mut service, request(Method::POST, Full::new(data.clone()))));
    });

    // A fresh GET by a fresh clone of the service.
    criterion.bench_function(&format!("cloned/{name}"), |bencher| {
        bencher.iter(|| send(&mut client.clone(), get()));
    });

    // 16 KiB, of which the layer doesn't know that they end.
    let stream = Stream {
        left: 16,
        frame: data.clone(),
    };
    criterion.bench_function(&format!("stream/{name}"), |bencher| {
        bencher.iter(|| send(&mut service, request(Method::POST, stream.clone())));
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = hot_path
}
criterion_main!(benches);
