//! *Where*: the token goes to the origins given, on every hop, and nowhere else.

use std::{
    collections::VecDeque,
    future::{Ready, ready},
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header::AUTHORIZATION};
use http_body::Body;
use http_body_util::Full;
use tower::{Layer, Service, ServiceExt};
use tower_http::follow_redirect::FollowRedirectLayer;
use tower_oauth::{BoxError, DestinationError, OAuthLayer, TokenCache};

use crate::support::{
    paused, secs,
    source::{Ledger, numbered},
};

const A: &str = "https://a.example";
const B: &str = "https://b.example";

/// A URI, and the `Authorization` values that came with it.
type Seen = (String, Vec<String>);

/// All servers there are: answers each request with the next answer, and notes where it went with
/// which `Authorization` values.
#[derive(Clone)]
struct World {
    answers: Arc<Mutex<VecDeque<Response<Full<Bytes>>>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl World {
    fn new(answers: impl IntoIterator<Item = Response<Full<Bytes>>>) -> Self {
        Self {
            answers: Arc::new(Mutex::new(answers.into_iter().collect())),
            seen: Arc::default(),
        }
    }

    /// A chain of redirects that ends well.
    fn redirecting(hops: &[&str]) -> Self {
        let redirects = hops.iter().map(|to| redirect(307, to));
        Self::new(redirects.chain([status(200)]))
    }

    /// One answer.
    fn answering(code: u16) -> Self {
        Self::new([status(code)])
    }

    /// Where requests went and with what, as `<URI> <value>, <value>`.
    fn seen(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.iter()
            .map(|(uri, values)| format!("{uri} {}", values.join(", ")))
            .collect()
    }
}

impl<T> Service<Request<T>> for World {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = Ready<Result<Response<Full<Bytes>>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<T>) -> Self::Future {
        let values = request.headers().get_all(AUTHORIZATION).iter();
        let values = values.map(|value| value.to_str().unwrap().to_owned());
        let seen = (request.uri().to_string(), values.collect());
        self.seen.lock().unwrap().push(seen);
        let answer = self.answers.lock().unwrap().pop_front();
        ready(Ok(answer.expect("one request more than expected")))
    }
}

fn status(code: u16) -> Response<Full<Bytes>> {
    Response::builder()
        .status(code)
        .body(Full::default())
        .unwrap()
}

fn redirect(code: u16, to: &str) -> Response<Full<Bytes>> {
    let mut answer = status(code);
    let to = HeaderValue::from_str(to).unwrap();
    answer.headers_mut().insert("location", to);
    answer
}

fn get(uri: &str) -> Request<Full<Bytes>> {
    Request::get(uri).body(Full::default()).unwrap()
}

fn cache() -> (Ledger, TokenCache) {
    let (ledger, source) = numbered(secs(3600));
    (ledger, TokenCache::from(source))
}

fn to_a() -> OAuthLayer {
    OAuthLayer::for_origin(A, cache().1).unwrap()
}

/// Sends one request through a follower of redirects around the layer.
fn followed(layer: &OAuthLayer, world: &World, request: Request<Full<Bytes>>) -> u16 {
    paused(async {
        let client = FollowRedirectLayer::new().layer(layer.layer(world.clone()));
        client.oneshot(request).await.unwrap().status().as_u16()
    })
}

/// Sends one request, without a follower.
fn sent<T>(layer: &OAuthLayer, world: &World, request: Request<T>) -> Result<u16, BoxError>
where
    T: Body<Error: Into<BoxError>> + 'static,
{
    paused(async {
        let answer = layer.layer(world.clone()).oneshot(request).await?;
        Ok(answer.status().as_u16())
    })
}

#[test]
fn a_hop_within_the_origin_keeps_the_token() {
    for to in ["/b", "https://a.example/b", "https://A.example:443/b"] {
        let world = World::redirecting(&[to]);
        assert_eq!(followed(&to_a(), &world, get("https://a.example/a")), 200);
        let seen = world.seen();
        assert_eq!(seen[0], "https://a.example/a Bearer token-1");
        assert!(seen[1].ends_with("/b Bearer token-1"), "{to}: {seen:?}");
    }
}

#[test]
fn another_origin_gets_none_and_the_way_back_has_it_again() {
    let world = World::redirecting(&["https://b.example/1", "https://a.example/2", "/3"]);
    assert_eq!(followed(&to_a(), &world, get("https://a.example/0")), 200);
    let expected = [
        "https://a.example/0 Bearer token-1",
        "https://b.example/1 ",
        "https://a.example/2 Bearer token-1",
        "https://a.example/3 Bearer token-1",
    ];
    assert_eq!(world.seen(), expected);
}

#[test]
fn a_hop_that_only_looks_like_the_origin_gets_none() {
    for to in [
        "http://a.example/",
        "https://a.example:8443/",
        "https://a.example.evil.example/",
        "https://evila.example/",
        "https://xa.example/",
        "https://example/",
        "https://a.example@b.example/",
        "https://a.exampl%65.evil.example/",
    ] {
        let world = World::redirecting(&[to]);
        assert_eq!(followed(&to_a(), &world, get(A)), 200, "{to}");
        let seen = world.seen();
        assert_eq!(
            (&*seen[0], seen.len()),
            ("https://a.example/ Bearer token-1", 2)
        );
        assert!(!seen[1].contains("token"), "{seen:?}");
    }
}

/// A hop to plain HTTP passes without the token where the origin isn't given, and isn't sent at
/// all where it is.
#[test]
fn a_hop_to_plain_http_never_carries_the_token() {
    let origins = [A, "http://a.example"];
    let layer = OAuthLayer::for_origins(origins, cache().1).unwrap();
    let world = World::new([redirect(302, "http://a.example/plain")]);
    paused(async {
        let client = FollowRedirectLayer::new().layer(layer.layer(world.clone()));
        let error = client.oneshot(get(A)).await.unwrap_err();
        assert!(error.is::<DestinationError>(), "{error}");
    });
    assert_eq!(world.seen(), ["https://a.example/ Bearer token-1"]);
}

#[test]
fn the_401_of_another_origin_is_not_ours() {
    let (ledger, cache) = cache();
    let layer = OAuthLayer::for_origin(A, cache.clone()).unwrap();
    let world = World::new([redirect(302, "https://b.example/"), status(401)]);
    assert_eq!(followed(&layer, &world, get(A)), 401);
    assert_eq!((world.seen().len(), ledger.calls()), (2, 1));
    let world = World::answering(401);
    assert_eq!(sent(&layer, &world, get(B)).unwrap(), 401);
    assert_eq!((world.seen().len(), ledger.calls()), (1, 1));
}

#[test]
fn a_hop_that_is_refused_is_sent_again_on_that_hop() {
    let world = World::new([redirect(302, "/b"), status(401), status(200)]);
    assert_eq!(followed(&to_a(), &world, get("https://a.example/a")), 200);
    let expected = [
        "https://a.example/a Bearer token-1",
        "https://a.example/b Bearer token-1",
        "https://a.example/b Bearer token-2",
    ];
    assert_eq!(world.seen(), expected);
}

/// Here the follower sees the token and has to take it off by itself, for good.
#[test]
fn around_a_follower_the_token_leaves_the_origin_neither() {
    paused(async {
        let world = World::redirecting(&["/1", "https://b.example/2", "https://a.example/3"]);
        let inner = FollowRedirectLayer::new().layer(world.clone());
        let client = to_a().layer(inner);
        let answer = client.oneshot(get("https://a.example/0")).await.unwrap();
        assert_eq!(answer.status(), 200);
        let expected = [
            "https://a.example/0 Bearer token-1",
            "https://a.example/1 Bearer token-1",
            "https://b.example/2 ",
            "https://a.example/3 ",
        ];
        assert_eq!(world.seen(), expected);
    });
}

#[test]
fn an_origin_is_the_same_however_it_is_written() {
    for (origin, uri) in [
        (A, "https://A.EXAMPLE/x"),
        ("https://A.Example", "https://a.example/x"),
        ("HTTPS://a.example:443/", "https://a.example/x"),
        (A, "https://a.example:443/x"),
        ("https://a.example:8443", "https://a.example:8443/x"),
    ] {
        let layer = OAuthLayer::for_origin(origin, cache().1).unwrap();
        let world = World::answering(200);
        sent(&layer, &world, get(uri)).unwrap();
        assert!(
            world.seen()[0].ends_with(" Bearer token-1"),
            "{origin} {uri}"
        );
    }
}

#[test]
fn each_of_several_origins_gets_the_token_and_no_other() {
    let layer = OAuthLayer::for_origins([A, B], cache().1).unwrap();
    for (uri, ours) in [(A, true), (B, true), ("https://c.example", false)] {
        let world = World::answering(200);
        sent(&layer, &world, get(uri)).unwrap();
        assert_eq!(world.seen()[0].contains("token-1"), ours, "{uri}");
    }
}

#[test]
fn any_origin_is_any_but_unencrypted() {
    let layer = OAuthLayer::for_any_origin(cache().1);
    let world = World::redirecting(&["https://b.example/", "https://c.example:1/"]);
    assert_eq!(followed(&layer, &world, get(A)), 200);
    for hop in world.seen() {
        assert!(hop.ends_with(" Bearer token-1"), "{hop}");
    }
    let world = World::new([]);
    let error = sent(&layer, &world, get("http://a.example/")).unwrap_err();
    assert!(error.is::<DestinationError>());
    for uri in [
        "http://127.0.0.1:8080/",
        "http://[::1]/",
        "http://localhost/",
    ] {
        let world = World::answering(200);
        sent(&layer, &world, get(uri)).unwrap();
        assert!(world.seen()[0].contains("token-1"), "{uri}");
    }
}

#[test]
fn plain_http_is_refused_before_anything_is_sent_or_fetched() {
    let (ledger, cache) = cache();
    let layer = OAuthLayer::for_origin("http://api.example", cache).unwrap();
    let world = World::new([]);
    for uri in ["http://api.example/", "/no/authority"] {
        let error = sent(&layer, &world, get(uri)).unwrap_err();
        let error = error.downcast::<DestinationError>().unwrap();
        let host = "api.example".to_owned();
        assert!(
            matches!(&*error, DestinationError::Plaintext { host: shown, .. } if *shown == host)
        );
    }
    assert_eq!(ledger.calls(), 0);
    let world = World::answering(200);
    sent(&layer.allow_plaintext(), &world, get("http://api.example/")).unwrap();
    assert_eq!(world.seen(), ["http://api.example/ Bearer token-1"]);
}

#[test]
fn a_uri_without_an_authority_belongs_to_the_only_origin() {
    for layer in [to_a(), OAuthLayer::for_any_origin(cache().1)] {
        let world = World::answering(200);
        sent(&layer, &world, get("/grpc.Service/Method")).unwrap();
        assert_eq!(world.seen(), ["/grpc.Service/Method Bearer token-1"]);
    }
    let (ledger, cache) = cache();
    let several = OAuthLayer::for_origins([A, B], cache).unwrap();
    let error = sent(&several, &World::new([]), get("/x")).unwrap_err();
    let error = error.downcast::<DestinationError>().unwrap();
    assert_eq!((*error, ledger.calls()), (DestinationError::NoAuthority, 0));
}

#[test]
fn a_request_with_authorization_of_its_own_passes_untouched_and_its_401_too() {
    for own in [&["Basic YTpi"][..], &["Bearer mine", "DPoP mine"], &[""]] {
        let (ledger, cache) = cache();
        let layer = OAuthLayer::for_origin(A, cache).unwrap();
        let world = World::answering(401);
        assert_eq!(sent(&layer, &world, with_own(own)).unwrap(), 401);
        let expected = format!("https://a.example/ {}", own.join(", "));
        assert_eq!(world.seen(), [expected]);
        assert_eq!(ledger.calls(), 0);
    }
}

#[test]
fn replacing_sends_exactly_one_value_on_both_sends() {
    for own in [&["Basic YTpi"][..], &["Bearer mine", "DPoP mine"], &[]] {
        let layer = to_a().replace_authorization(true);
        let world = World::new([status(401), status(200)]);
        assert_eq!(sent(&layer, &world, with_own(own)).unwrap(), 200);
        let expected = [
            "https://a.example/ Bearer token-1",
            "https://a.example/ Bearer token-2",
        ];
        assert_eq!(world.seen(), expected);
    }
}

/// Elsewhere there is nothing to replace it with.
#[test]
fn replacing_leaves_requests_to_elsewhere_alone() {
    let layer = to_a().replace_authorization(true);
    let world = World::answering(200);
    let mut request = with_own(&["Basic YTpi"]);
    *request.uri_mut() = B.parse().unwrap();
    sent(&layer, &world, request).unwrap();
    assert_eq!(world.seen(), ["https://b.example/ Basic YTpi"]);
}

fn with_own(values: &[&'static str]) -> Request<Full<Bytes>> {
    let mut request = get(A);
    for value in values {
        let value = HeaderValue::from_static(value);
        request.headers_mut().append(AUTHORIZATION, value);
    }
    request
}
