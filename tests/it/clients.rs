//! reqwest below the layer, as `examples/reqwest_client.rs` does it, and what its own redirects
//! would do there.

use std::{future::Future, io, sync::Arc};

use http::{Request, Response, header::CONTENT_TYPE};
use http_body_util::BodyExt;
use reqwest::{Body, Client, redirect::Policy};
use tokio::sync::Notify;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_http::follow_redirect::FollowRedirectLayer;
use tower_oauth::{OAuthLayer, ReplayBody, TokenCache};

use crate::support::{
    http1, secs,
    servers::{ApiServer, AuthServer},
    sites::Site,
    sockets::listen,
    source::{Ledger, numbered},
    wire::{basic, cache},
};

/// reqwest's client as a service of `http::Request`.
fn reqwest(
    policy: Policy,
) -> impl Service<
    Request<ReplayBody<Body>>,
    Response = Response<Body>,
    Error = reqwest::Error,
    Future: Future<Output = Result<Response<Body>, reqwest::Error>> + Send,
> + Clone {
    let reqwest = Client::builder().redirect(policy).build().unwrap();
    service_fn(move |request: Request<ReplayBody<Body>>| {
        let reqwest = reqwest.clone();
        async move {
            let request = reqwest::Request::try_from(request.map(Body::wrap))?;
            reqwest.execute(request).await.map(Response::<Body>::from)
        }
    })
}

async fn text(answer: Response<Body>) -> String {
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn servers() -> (AuthServer, ApiServer) {
    let auth = AuthServer::start("hunter2", "token-");
    let api = ApiServer::start(&auth);
    (auth, api)
}

fn post(api: &ApiServer, id: &str, body: impl Into<Body>) -> Request<Body> {
    let request = Request::post(format!("{}/orders", api.origin()));
    let request = request.header("x-request-id", id);
    let request = request.header(CONTENT_TYPE, "application/json");
    request.body(body.into()).unwrap()
}

#[tokio::test]
async fn a_refused_post_is_sent_again_by_reqwest() {
    let (auth, api) = servers();
    let cache = cache(&auth, basic("hunter2"));
    cache.ready().await.unwrap();
    auth.revoke();
    let layer = OAuthLayer::for_origin(api.origin(), cache).unwrap();
    let client = layer.layer(reqwest(Policy::none()));
    let json = r#"{"colour":"green"}"#;
    let answer = client.oneshot(post(&api, "json", json)).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(text(answer).await, "answer to json");
    let [first, second] = &api.sends_of("json")[..] else {
        panic!("{:?}", api.sends_of("json"));
    };
    assert_eq!(first.body, json);
    let length = ("content-length".to_owned(), json.len().to_string());
    assert!(first.headers.contains(&length), "{:?}", first.headers);
    let tokens = [&first.token, &second.token].map(|token| token.as_deref());
    assert_eq!(tokens, [Some("token-1"), Some("token-2")]);
    let mut but_for_the_token = second.clone();
    but_for_the_token.token.clone_from(&first.token);
    assert_eq!(*first, but_for_the_token);
}

#[tokio::test]
async fn a_refused_upload_of_unknown_length_is_sent_again_by_reqwest() {
    let (auth, api) = servers();
    let cache = cache(&auth, basic("hunter2"));
    cache.ready().await.unwrap();
    auth.revoke();
    let layer = OAuthLayer::for_origin(api.origin(), cache).unwrap();
    let client = layer.layer(reqwest(Policy::none()));
    let chunks = ["one ", "two ", "three"].map(Ok::<_, io::Error>);
    let body = Body::wrap_stream(tokio_stream::iter(chunks));
    let answer = client.oneshot(post(&api, "upload", body)).await.unwrap();
    assert_eq!(answer.status(), 200);
    let sends = api.sends_of("upload");
    assert_eq!(sends.len(), 2);
    for sent in sends {
        assert_eq!(sent.body, "one two three");
        let chunked = ("transfer-encoding".to_owned(), "chunked".to_owned());
        assert!(sent.headers.contains(&chunked), "{:?}", sent.headers);
    }
}

#[tokio::test]
async fn a_download_comes_as_it_is_sent() {
    let go_on = Arc::new(Notify::new());
    let read = Arc::clone(&go_on);
    let (address, _running) = listen(move |stream| {
        let read = Arc::clone(&read);
        async move {
            let (mut requests, mut answers) = http1::split(stream);
            while let Some(head) = requests.head().await {
                let head = match head.token() {
                    "token-1" => "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n",
                    _ => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\none \r\n",
                };
                answers.write(head).await.unwrap();
                if head.contains("200") {
                    read.notified().await;
                    answers.write("3\r\ntwo\r\n0\r\n\r\n").await.unwrap();
                }
            }
        }
    });
    let url = format!("http://{address}");
    let layer = OAuthLayer::for_origin(&url, numbered(secs(3600)).1).unwrap();
    let client = layer.layer(reqwest(Policy::none()));
    let request = Request::get(url).body(Body::default()).unwrap();
    let mut answer = client.oneshot(request).await.unwrap();
    let first = answer.frame().await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "one ");
    go_on.notify_one();
    assert_eq!(text(answer).await, "two");
}

/// A request that reqwest can't take is the caller's error, and no panic.
#[tokio::test]
async fn a_request_that_reqwest_cannot_take_is_an_error() {
    let (_, tokens) = numbered(secs(3600));
    let layer = OAuthLayer::for_any_origin(TokenCache::from(tokens));
    let client = layer.layer(reqwest(Policy::none()));
    let request = Request::get("/no/server").body(Body::default()).unwrap();
    let error = client.oneshot(request).await.unwrap_err();
    let error = error.downcast_ref::<reqwest::Error>().unwrap();
    assert!(error.is_builder(), "{error}");
}

struct Sites {
    a: Site,
    b: Site,
    ledger: Ledger,
    layer: OAuthLayer,
}

/// The token is for `a`, which redirects to `b`, which asks for a token.
fn sites(status: u16) -> Sites {
    let (a, b) = (Site::start(), Site::start());
    a.redirects("/0", status, &b.url("/1"));
    b.says("/1", 401, &[("www-authenticate", "Bearer")]);
    let (ledger, tokens) = numbered(secs(3600));
    let layer = OAuthLayer::for_origin(a.url(""), tokens).unwrap();
    Sites {
        a,
        b,
        ledger,
        layer,
    }
}

#[tokio::test]
async fn with_the_follower_around_the_layer_each_hop_is_judged_by_itself() {
    let Sites {
        a,
        b,
        ledger,
        layer,
    } = sites(302);
    let client = FollowRedirectLayer::new().layer(layer.layer(reqwest(Policy::none())));
    let request = Request::get(a.url("/0")).body(Body::default()).unwrap();
    assert_eq!(client.oneshot(request).await.unwrap().status(), 401);
    assert_eq!(a.heard(), ["GET /0 token-1"]);
    assert_eq!(b.heard(), ["GET /1"]);
    assert!(!b.all_heard().contains("token-"));
    assert_eq!(
        ledger.calls(),
        1,
        "the 401 of another server is none of ours"
    );
}

/// Not as it should be set up: reqwest takes the token off at the border, but the layer can't see
/// where an answer comes from, and renews a token that nobody refused.
#[tokio::test]
async fn reqwests_own_redirects_hide_whose_401_it_is() {
    let Sites {
        a,
        b,
        ledger,
        layer,
    } = sites(302);
    let client = layer.layer(reqwest(Policy::default()));
    let request = Request::get(a.url("/0")).body(Body::default()).unwrap();
    assert_eq!(client.oneshot(request).await.unwrap().status(), 401);
    assert_eq!(a.heard(), ["GET /0 token-1", "GET /0 token-2"]);
    assert_eq!(b.heard(), ["GET /1", "GET /1"]);
    assert!(!b.all_heard().contains("token-"));
    assert_eq!(ledger.calls(), 2);
}

/// What the layer hands to reqwest is a stream, which it can't send twice.
#[tokio::test]
async fn reqwests_own_redirects_stop_where_a_body_would_have_to_go_along() {
    for status in [307, 308] {
        let Sites { a, b, layer, .. } = sites(status);
        let client = layer.layer(reqwest(Policy::default()));
        let request = Request::put(a.url("/0")).body(Body::from("widgets"));
        let answer = client.oneshot(request.unwrap()).await.unwrap();
        assert_eq!(answer.status(), status);
        assert_eq!(a.heard(), ["PUT /0 token-1 widgets"]);
        assert!(b.heard().is_empty());
    }
}
