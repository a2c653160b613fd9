//! What a token costs, in instructions: of a hundred requests, counted by callgrind.
//!
//! Unlike times, counts are the same on a busy machine, so a limit can hold them: `.ci/instructions`
//! compares them with `instructions.txt`. They don't say what an instruction costs (an atomic counts
//! as one), so designs are chosen by times.
//!
//! The innermost service hands a request's head back, and the head is used again: no allocation of
//! the program's own is counted, only the layer's.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a benchmark may stop at the first surprise"
)]

use std::{
    convert::Infallible,
    fmt::Debug,
    future::{Future, Ready, ready},
    hint::black_box,
    pin::pin,
    sync::LazyLock,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use gungraun::prelude::*;
use http::{HeaderValue, Method, Request, Response, Uri, header, request::Parts};
use http_body::Body;
use http_body_util::Full;
use tokio::runtime::{Builder, Runtime};
use tower::{Layer, Service};
use tower_oauth::{AccessToken, OAuthLayer, TokenCache};

library_benchmark_group!(name = requests, benchmarks = [get, cloned, relative, post]);
main!(library_benchmark_groups = requests);

#[library_benchmark]
#[bench::raw(Client::kept(GET, Echo))]
#[bench::constant(Client::kept(GET, Constant::token()))]
#[bench::without_retry(Client::kept(GET, layer().without_retry().layer(Echo)))]
#[bench::with_retry(Client::kept(GET, layer().layer(Echo)))]
#[bench::several_origins(Client::kept(GET, layer_of(ORIGINS).layer(Echo)))]
fn get(client: Client) -> Client {
    client.sends()
}

#[library_benchmark]
#[bench::raw(Client::cloned(GET, Echo))]
#[bench::constant(Client::cloned(GET, Constant::token()))]
#[bench::without_retry(Client::cloned(GET, layer().without_retry().layer(Echo)))]
#[bench::with_retry(Client::cloned(GET, layer().layer(Echo)))]
fn cloned(client: Client) -> Client {
    client.sends()
}

#[library_benchmark]
#[bench::without_retry(Client::kept(RELATIVE, layer().without_retry().layer(Echo)))]
#[bench::with_retry(Client::kept(RELATIVE, layer().layer(Echo)))]
fn relative(client: Client) -> Client {
    client.sends()
}

#[library_benchmark]
#[bench::raw(Client::kept(POST, Echo))]
#[bench::constant(Client::kept(POST, Constant::token()))]
#[bench::without_retry(Client::kept(POST, layer().without_retry().layer(Echo)))]
#[bench::with_retry(Client::kept(POST, layer().layer(Echo)))]
fn post(client: Client) -> Client {
    client.sends()
}

/// Sends a hundred requests, each answered before the next is sent.
struct Client(Box<dyn FnMut()>);

impl Client {
    /// One service for all requests.
    fn kept<S: Http>(shape: Shape, mut service: S) -> Self {
        Self::new(shape, move |request| send(&mut service, request))
    }

    /// A clone of the service for each.
    fn cloned<S: Http>(shape: Shape, service: S) -> Self {
        Self::new(shape, move |request| send(&mut service.clone(), request))
    }

    fn new(shape: Shape, mut send: impl FnMut(Request<Full<Bytes>>) -> Parts + 'static) -> Self {
        let (head, body) = shape.request().into_parts();
        let mut head = Some(head);
        let mut client = Self(Box::new(move || {
            for _ in 0..100 {
                let request = Request::from_parts(head.take().unwrap(), body.clone());
                let mut again = send(request);
                again.headers.remove(header::AUTHORIZATION);
                head = Some(again);
            }
        }));
        // What is made once, for a thread or in a map that grows, is no request's cost.
        client.0();
        client
    }

    /// Gives itself back, so that its end isn't counted.
    fn sends(mut self) -> Self {
        self.0();
        self
    }
}

/// A layer that has its token.
/// Requests go to the last of them.
const ORIGINS: [&str; 3] = [
    "https://login.example.com",
    "https://files.example.com",
    "https://api.example.com",
];

fn layer() -> OAuthLayer {
    layer_of(["https://api.example.com"])
}

fn layer_of<const N: usize>(origins: [&str; N]) -> OAuthLayer {
    // The token's keeper lives on it.
    static RUNTIME: LazyLock<Runtime> =
        LazyLock::new(|| Builder::new_current_thread().enable_time().build().unwrap());
    let cache = TokenCache::from(async || {
        Ok(AccessToken::bearer(token())?.expires_in(Duration::from_secs(3600)))
    });
    RUNTIME.block_on(cache.ready()).unwrap();
    OAuthLayer::for_origins(origins, cache).unwrap()
}

/// As long as a signed token is.
fn token() -> String {
    "eyJhbGciOiJSUzI1NiIs".repeat(47)
}

struct Shape {
    method: Method,
    uri: &'static str,
    body: &'static [u8],
}

const GET: Shape = Shape {
    method: Method::GET,
    uri: "https://api.example.com/v1/accounts/0f8fad5b/moves?page=7&size=50",
    body: b"",
};

/// Names no server, as a tonic client's request.
const RELATIVE: Shape = Shape {
    uri: "/v1/accounts/0f8fad5b/moves?page=7&size=50",
    ..GET
};

const POST: Shape = Shape {
    method: Method::POST,
    body: &[b'x'; 1024],
    ..GET
};

impl Shape {
    /// A request with six headers; the token is the seventh.
    fn request(self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(Bytes::from_static(self.body)));
        *request.method_mut() = self.method;
        *request.uri_mut() = Uri::from_static(self.uri);
        for (name, text) in [
            ("accept", "application/json"),
            ("user-agent", "accounts-sync/4.2 (linux; x86_64)"),
            ("accept-encoding", "gzip, br"),
            ("content-type", "application/json"),
            ("cache-control", "no-cache"),
            ("x-request-id", "7d444840-9dc0-11d1-b245-5ffdce74fad2"),
        ] {
            // As a program makes them while it runs: values that are compiled in are cloned for less.
            let value = HeaderValue::from_bytes(text.as_bytes()).unwrap();
            request.headers_mut().insert(name, value);
        }
        request
    }
}

/// What a client is made of.
trait Http:
    Service<Request<Full<Bytes>>, Response = Response<Parts>, Error: Debug> + Clone + 'static
{
}

impl<S> Http for S where
    S: Service<Request<Full<Bytes>>, Response = Response<Parts>, Error: Debug> + Clone + 'static
{
}

/// The head of the request, as it was sent.
fn send(service: &mut impl Http, request: Request<Full<Bytes>>) -> Parts {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    match pin!(service.call(request)).poll(&mut cx) {
        Poll::Ready(response) => response.unwrap().into_body(),
        Poll::Pending => panic!("a token is at hand, so there is nothing to wait for"),
    }
}

/// Reads a request's body and answers with its head.
#[derive(Clone)]
struct Echo;

impl<B: Body> Service<Request<B>> for Echo {
    type Response = Response<Parts>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Parts>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (head, body) = request.into_parts();
        let mut body = pin!(body);
        let mut cx = Context::from_waker(Waker::noop());
        while !body.is_end_stream() {
            if black_box(body.as_mut().poll_frame(&mut cx)).is_pending() {
                panic!("the body is all there");
            }
        }
        ready(Ok(Response::new(head)))
    }
}

/// What a token that never changes costs.
#[derive(Clone)]
struct Constant {
    header: HeaderValue,
}

impl Constant {
    fn token() -> Self {
        let header = HeaderValue::try_from(format!("Bearer {}", token())).unwrap();
        Self { header }
    }
}

impl<B: Body> Service<Request<B>> for Constant {
    type Response = Response<Parts>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Parts>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<B>>::poll_ready(&mut Echo, cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        request
            .headers_mut()
            .insert(header::AUTHORIZATION, self.header.clone());
        Echo.call(request)
    }
}
