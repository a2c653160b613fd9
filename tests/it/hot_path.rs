//! *Reading*, in figures: what the layer adds to a request with a valid token, with and without a second
//! send in reserve.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    mem,
    pin::pin,
    task::{Context, Poll, Waker},
};

use allocation_counter::measure;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use http_body::Body;
use http_body_util::Full;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use tower::{Layer, Service};
use tower_oauth::{OAuth, OAuthLayer, ReplayBody, TokenCache};

use crate::support::{api::ORIGIN, paused, secs, source::numbered};

/// Reads a request's body, as a connection would, and answers.
#[derive(Debug, Clone)]
struct NoOp;

impl<B: Body> Service<Request<B>> for NoOp {
    type Response = Response<Request<()>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (head, body) = request.into_parts();
        let mut body = pin!(body);
        let mut cx = Context::from_waker(Waker::noop());
        while !body.is_end_stream() {
            assert!(matches!(
                body.as_mut().poll_frame(&mut cx),
                Poll::Ready(Some(Ok(_)))
            ));
        }
        ready(Ok(Response::new(Request::from_parts(head, ()))))
    }
}

/// Six headers, their values as a program makes them while it runs. There is room for the token: a
/// constant header would need that, too.
fn request<B>(method: Method, body: B) -> Request<B> {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = format!("{ORIGIN}/v1/accounts?page=7").parse().unwrap();
    let headers = request.headers_mut();
    headers.reserve(12);
    for (name, value) in [
        (header::ACCEPT, "application/json"),
        (header::USER_AGENT, "accounts-sync/4.2 (linux; x86_64)"),
        (header::ACCEPT_ENCODING, "gzip, br"),
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-cache"),
    ] {
        headers.insert(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers.insert(
        "x-request-id",
        HeaderValue::from_bytes(b"7d444840-9dc0").unwrap(),
    );
    request
}

/// How often the layer's service allocates for a request whose token is at hand.
fn allocations<B>(client: &mut OAuth<NoOp>, request: Request<B>) -> u64
where
    B: Body<Data = Bytes, Error = Infallible> + 'static,
{
    let mut cx = Context::from_waker(Waker::noop());
    let mut answer = None;
    let counted = measure(|| {
        let mut future = pin!(client.call(request));
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(got) => answer = Some(got.unwrap()),
            Poll::Pending => panic!("a token is at hand"),
        }
    });
    assert!(
        answer
            .unwrap()
            .body()
            .headers()
            .contains_key("authorization")
    );
    counted.count_total
}

fn layer(cache: &TokenCache) -> OAuthLayer {
    OAuthLayer::for_origin(ORIGIN, cache.clone()).unwrap()
}

/// Both ways to send; the thread and its memory are warm.
fn clients(cache: &TokenCache) -> [OAuth<NoOp>; 2] {
    let mut clients = [
        layer(cache).without_retry().layer(NoOp),
        layer(cache).layer(NoOp),
    ];
    for client in &mut clients {
        let body = Full::new(Bytes::from_static(b"{}"));
        allocations(client, request(Method::POST, body));
    }
    clients
}

fn with_a_token(test: impl AsyncFnOnce(TokenCache)) {
    paused(async {
        let cache = TokenCache::from(numbered(secs(3600)).1);
        cache.ready().await.unwrap();
        test(cache).await;
    });
}

#[test]
fn a_get_adds_no_allocation() {
    with_a_token(async |cache| {
        for client in &mut clients(&cache) {
            for _ in 0..100 {
                let get = request(Method::GET, Full::<Bytes>::default());
                assert_eq!(allocations(client, get), 0, "{client:?}");
            }
        }
    });
}

#[test]
fn a_body_of_one_frame_adds_no_allocation() {
    with_a_token(async |cache| {
        for client in &mut clients(&cache) {
            let data = Bytes::from(vec![b'x'; 1024]);
            // The first clone of a `Vec` that became `Bytes` makes its count of references.
            drop(data.clone());
            for _ in 0..100 {
                let post = request(Method::POST, Full::new(data.clone()));
                assert_eq!(allocations(client, post), 0, "{client:?}");
            }
        }
    });
}

#[test]
fn a_fresh_body_adds_one_allocation_at_most() {
    with_a_token(async |cache| {
        let [without, with] = &mut clients(&cache);
        for _ in 0..100 {
            let fresh = || request(Method::POST, Full::new(Bytes::from(vec![b'x'; 1024])));
            assert_eq!(allocations(without, fresh()), 0);
            assert_eq!(allocations(with, fresh()), 1);
        }
    });
}

#[test]
fn a_service_that_is_cloned_for_each_request_adds_no_allocation() {
    with_a_token(async |cache| {
        for client in &clients(&cache) {
            for _ in 0..100 {
                let get = request(Method::GET, Full::<Bytes>::default());
                let mut clone = None;
                let counted = measure(|| clone = Some(client.clone()));
                assert_eq!(counted.count_total, 0);
                assert_eq!(allocations(&mut clone.unwrap(), get), 0, "{client:?}");
            }
        }
    });
}

/// Requests under way at the same time need memory each; what they leave serves the next ones.
#[test]
fn what_is_kept_of_a_request_is_used_again() {
    with_a_token(async |cache| {
        let [_, client] = &mut clients(&cache);
        let under_way = |client: &mut OAuth<NoOp>| {
            let get = |_| client.call(request(Method::GET, Full::<Bytes>::default()));
            let mut requests = 0;
            let counted = measure(|| {
                let all: Vec<_> = (0..32).map(get).collect();
                requests = all.len();
            });
            assert_eq!(requests, 32);
            counted.count_total
        };
        let raw = measure(|| {
            let requests = (0..32).map(|_| request(Method::GET, Full::<Bytes>::default()));
            drop(requests.collect::<Vec<_>>());
        });
        assert!(under_way(client) > raw.count_total, "the counter counts");
        assert_eq!(under_way(client), raw.count_total);
    });
}

/// Both are moved many times on a request's way.
#[test]
fn what_is_moved_is_small() {
    type Over<S> = <OAuth<S> as Service<Request<Full<Bytes>>>>::Future;
    let future = mem::size_of::<Over<Client<HttpConnector, ReplayBody<Full<Bytes>>>>>();
    assert!(future <= 112, "{future} bytes");
    let body = mem::size_of::<ReplayBody<[u64; 100]>>();
    assert!(body <= mem::size_of::<Full<Bytes>>(), "{body} bytes");
}
