//! *Refused*: an answer says which attempt it is to, for people's logs.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::ServiceExt;
use tower_oauth::{Attempt, NoToken, OAuthLayer, TokenCache};

use crate::support::{
    api::{Api, ORIGIN},
    body::Script,
    paused, secs,
    server::refusing_after,
    source::numbered,
};

fn attempt<R>(answer: &Response<R>) -> Option<(u8, u64)> {
    let attempt = answer.extensions().get::<Attempt>().copied()?;
    Some((attempt.sends, attempt.generation))
}

fn layer(cache: &TokenCache) -> OAuthLayer {
    OAuthLayer::for_origin(ORIGIN, cache.clone()).unwrap()
}

fn request() -> Request<Full<Bytes>> {
    Request::get(ORIGIN).body(Full::default()).unwrap()
}

/// What answers say of their attempts, by a server that takes the tokens which `accepts` likes.
async fn said(
    layer: &OAuthLayer,
    accepts: impl Fn(&str) -> bool + Send + Sync + 'static,
    requests: usize,
) -> Vec<Option<(u8, u64)>> {
    let client = Api::accepting(accepts).behind_layer(layer);
    let mut said = Vec::new();
    for _ in 0..requests {
        said.push(attempt(&client.clone().oneshot(request()).await.unwrap()));
    }
    said
}

#[test]
fn an_answer_to_a_second_send_says_so_and_with_which_token() {
    paused(async {
        let cache = TokenCache::from(numbered(secs(3600)).1);
        let likes = |token: &str| token == "token-2";
        assert_eq!(said(&layer(&cache), likes, 2).await, [Some((2, 2)), None]);
    });
}

#[test]
fn a_refusal_that_is_handed_back_says_how_often_it_was_sent() {
    paused(async {
        let cache = TokenCache::from(numbered(secs(3600)).1);
        let refused = said(&layer(&cache), |_| false, 1).await;
        assert_eq!(refused, [Some((2, 2))]);

        let cache = TokenCache::from(numbered(secs(3600)).1);
        let once = layer(&cache).without_retry();
        assert_eq!(said(&once, |_| false, 1).await, [Some((1, 1))]);

        // A body that is too long to be sent again.
        let cache = TokenCache::from(numbered(secs(3600)).1);
        let (server, _) = refusing_after(usize::MAX);
        let short = layer(&cache).replay_limit(1);
        let answer = server.put(&short, Script::chunks(&["ab"])).await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), attempt(&answer)),
            (401, Some((1, 1)))
        );
    });
}

#[test]
fn every_answer_says_so_where_that_is_wished() {
    paused(async {
        let cache = TokenCache::from(numbered(secs(3600)).1);
        let layer = layer(&cache).report_attempts();
        let likes = |token: &str| token != "token-1";
        let expected = [Some((2, 2)), Some((1, 2)), Some((1, 2))];
        assert_eq!(said(&layer, likes, 3).await, expected);
        cache.invalidate();
        assert_eq!(said(&layer, likes, 1).await, [Some((1, 3))]);

        let client = Api::accepting(|_| true).behind_layer(&layer);
        let mut own = request();
        own.extensions_mut().insert(NoToken);
        let answer = client.oneshot(own).await.unwrap();
        assert_eq!(attempt(&answer), None, "a request without the token");
    });
}
