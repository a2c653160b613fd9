//! *Where*: over real sockets, with a follower of redirects around the layer. `destinations` has
//! the ways without a socket.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client as Hyper, connect::HttpConnector},
    rt::TokioExecutor,
};
use tower::{Layer, ServiceExt};
use tower_http::follow_redirect::{
    FollowRedirectLayer,
    policy::{PolicyExt, Standard, clone_body_fn},
};
use tower_oauth::{BoxError, OAuthLayer, ReplayBody, TokenCache};

use crate::support::{secs, sites::Site, source::numbered};

/// Sends a request whose token is for `home`, and follows wherever that leads; bodies too.
async fn follow(home: &Site, request: Request<Full<Bytes>>) -> StatusCode {
    let cache = TokenCache::from(numbered(secs(3600)).1);
    let layer = OAuthLayer::for_origin(home.url(""), cache).unwrap();
    let hyper: Hyper<HttpConnector, ReplayBody<Full<Bytes>>> =
        Hyper::builder(TokioExecutor::new()).build_http();
    let bodies = clone_body_fn(|body: &Full<Bytes>| Some(body.clone()));
    let policy = PolicyExt::and::<_, Full<Bytes>, BoxError>(bodies, Standard::default());
    let client = FollowRedirectLayer::with_policy(policy).layer(layer.layer(hyper));
    client.oneshot(request).await.unwrap().status()
}

fn get(url: String) -> Request<Full<Bytes>> {
    Request::get(url).body(Full::default()).unwrap()
}

#[tokio::test]
async fn from_a_to_b_and_back_b_learns_nothing() {
    for status in [301, 302, 303, 307, 308] {
        let (a, b) = (Site::start(), Site::start());
        a.redirects("/0", status, &b.url("/1"));
        b.redirects("/1", status, &a.url("/2"));
        a.redirects("/2", status, "/3");
        assert_eq!(follow(&a, get(a.url("/0"))).await, 200);
        let expected = ["GET /0 token-1", "GET /2 token-1", "GET /3 token-1"];
        assert_eq!(a.heard(), expected, "{status}");
        assert_eq!(b.heard(), ["GET /1"], "{status}");
        assert!(!b.all_heard().to_lowercase().contains("token"), "{status}");
        assert!(!b.all_heard().contains("authorization"), "{status}");
    }
}

#[tokio::test]
async fn a_body_goes_along_where_the_redirect_says_so_and_the_token_where_it_may() {
    let (a, b) = (Site::start(), Site::start());
    a.redirects("/0", 307, "/1");
    a.redirects("/1", 308, &b.url("/2"));
    b.redirects("/2", 307, &a.url("/3"));
    let request = Request::put(a.url("/0")).body(Full::from("widgets"));
    assert_eq!(follow(&a, request.unwrap()).await, 200);
    let expected = [
        "PUT /0 token-1 widgets",
        "PUT /1 token-1 widgets",
        "PUT /3 token-1 widgets",
    ];
    assert_eq!(a.heard(), expected);
    assert_eq!(b.heard(), ["PUT /2  widgets"]);
    assert!(!b.all_heard().contains("token"));
}

/// The refusal of a foreign server is not ours: nothing is fetched for it, and it gets nothing.
#[tokio::test]
async fn a_server_on_the_way_that_asks_for_a_token_gets_none() {
    let (a, b) = (Site::start(), Site::start());
    a.redirects("/0", 302, &b.url("/1"));
    let challenge = ("www-authenticate", "Bearer error=\"invalid_token\"");
    b.says("/1", 401, &[challenge]);
    assert_eq!(follow(&a, get(a.url("/0"))).await, 401);
    assert_eq!(a.heard(), ["GET /0 token-1"]);
    assert_eq!(b.heard(), ["GET /1"]);
}
