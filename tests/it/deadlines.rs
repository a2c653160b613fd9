//! *Replaying*: a gRPC call's deadline is the caller's, and keeps running while a token is awaited
//! and the call is sent again.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::Full;
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt};
use tower_oauth::{
    Attempt, BoxError, DeadlinePassed, OAuthLayer, ReplayBody, TokenCache, TokenError,
};

use crate::support::{
    api::ORIGIN,
    paused,
    probe::UntilBodyEnds,
    secs,
    server::{Server, answer},
    settle,
    source::{Ledger, scripted, slow, token},
};

/// A server that refuses the first send after `thinks` seconds, and what it was told of the time.
fn server(thinks: u64) -> (Server<Full<Bytes>>, Arc<Mutex<Vec<String>>>) {
    let told = Arc::<Mutex<Vec<String>>>::default();
    let server = {
        let told = Arc::clone(&told);
        Server::new(move |send, request: Request<ReplayBody<Full<Bytes>>>| {
            let left = request.headers()["grpc-timeout"].to_str().unwrap();
            told.lock().unwrap().push(left.to_owned());
            async move {
                sleep(secs(thinks)).await;
                Ok(answer(if send == 1 { 401 } else { 200 }))
            }
        })
    };
    (server, told)
}

fn call(timeout: &str) -> Request<Full<Bytes>> {
    Request::post("/grpc.Service/Method")
        .version(Version::HTTP_2)
        .header("grpc-timeout", timeout)
        .body(Full::default())
        .unwrap()
}

async fn send(
    server: &Server<Full<Bytes>>,
    cache: &TokenCache,
    request: Request<Full<Bytes>>,
) -> Result<(u16, u8), BoxError> {
    let layer = OAuthLayer::for_origin(ORIGIN, cache.clone()).unwrap();
    let answer = layer.report_attempts().layer(server.clone());
    let answer = answer.oneshot(request).await?;
    let sends = answer.extensions().get::<Attempt>().unwrap().sends;
    Ok((answer.status().as_u16(), sends))
}

/// The first token comes at once, later ones after `latency` seconds.
fn slow_renewal(latency: u64) -> (Ledger, TokenCache) {
    let (ledger, source) = scripted(move |n| async move {
        if n > 1 {
            sleep(secs(latency)).await;
        }
        Ok(token(n, secs(3600)))
    });
    (ledger, TokenCache::from(source))
}

#[test]
fn the_second_send_says_what_is_left() {
    paused(async {
        let (_, cache) = slow_renewal(2);
        let (server, told) = server(3);
        assert_eq!(send(&server, &cache, call("60S")).await.unwrap(), (200, 2));
        assert_eq!(*told.lock().unwrap(), ["60S", "55000000u"]);
    });
}

#[test]
fn a_wait_for_the_first_token_counts() {
    paused(async {
        let cache = TokenCache::from(slow(secs(3600), secs(10)).1);
        let (server, told) = server(0);
        let answered = send(&server, &cache, call("1M")).await.unwrap();
        assert_eq!(answered, (200, 2));
        assert_eq!(*told.lock().unwrap(), ["50000000u", "40000000u"]);
    });
}

#[test]
fn where_no_time_has_passed_the_text_is_the_same_byte_for_byte() {
    paused(async {
        let (_, cache) = slow_renewal(0);
        for text in ["60S", "00000001H", "never", "1000000000000S"] {
            let (server, told) = server(0);
            cache.invalidate();
            cache.ready().await.unwrap();
            assert_eq!(send(&server, &cache, call(text)).await.unwrap(), (200, 2));
            assert_eq!(*told.lock().unwrap(), [text, text]);
        }
    });
}

#[test]
fn when_the_time_is_over_before_there_is_a_better_token_the_refusal_is_the_callers() {
    paused(async {
        let (ledger, cache) = slow_renewal(20);
        let (server, _) = server(3);
        cache.ready().await.unwrap();
        let start = Instant::now();
        assert_eq!(send(&server, &cache, call("5S")).await.unwrap(), (401, 1));
        assert_eq!(start.elapsed(), secs(5));
        // The flight goes on for others.
        assert_eq!(cache.get().await.unwrap().expose_secret(), "token-2");
        assert_eq!((ledger.calls(), server.sends()), (2, 1));
    });
}

#[test]
fn when_the_time_is_over_before_the_service_is_ready_again_nothing_is_sent() {
    paused(async {
        let (_, cache) = slow_renewal(0);
        let (server, _) = server(3);
        let layer = OAuthLayer::for_origin(ORIGIN, cache).unwrap();
        let limit = UntilBodyEnds::new(server.clone());
        let places = limit.places();
        let calling = tokio::spawn(layer.layer(limit).oneshot(call("5S")));
        // The answer gives its place back, and it is taken by somebody who keeps it.
        settle().await;
        let start = Instant::now();
        let _taken = places.acquire_owned().await.unwrap();
        let error = calling.await.unwrap().err().unwrap();
        let error = error.downcast::<TokenError>().unwrap();
        assert!(error.get_ref().is::<DeadlinePassed>());
        assert_eq!((start.elapsed(), server.sends()), (secs(5), 1));
    });
}

#[test]
fn a_refusal_that_comes_after_the_deadline_is_not_sent_again() {
    paused(async {
        let (_, cache) = slow_renewal(0);
        let (server, told) = server(8);
        let calling = tokio::spawn({
            let (server, cache) = (server.clone(), cache.clone());
            async move { send(&server, &cache, call("5S")).await }
        });
        while told.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        // Not even with a better token at hand.
        cache.invalidate();
        cache.ready().await.unwrap();
        assert_eq!(calling.await.unwrap().unwrap(), (401, 1));
        assert_eq!(server.sends(), 1);
    });
}

#[test]
fn when_the_time_is_over_before_there_is_a_token_that_is_the_error() {
    paused(async {
        let cache = TokenCache::from(slow(secs(3600), secs(20)).1);
        let (server, told) = server(0);
        let start = Instant::now();
        let error = send(&server, &cache, call("5S")).await.unwrap_err();
        assert_eq!(start.elapsed(), secs(5));
        let error = error.downcast::<TokenError>().unwrap();
        assert!(error.is_transient());
        assert!(error.to_string().contains("grpc-timeout"), "{error}");
        assert!(told.lock().unwrap().is_empty());
    });
}
