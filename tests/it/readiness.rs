//! *Replaying*: Tower's contract, for both sends: what is called has been ready, itself.

use std::{
    future::{poll_fn, ready},
    pin::pin,
    sync::{Arc, Mutex},
    task::Poll,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::time::{Instant, timeout};
use tower::{
    Layer, Service, ServiceExt,
    buffer::Buffer,
    limit::{ConcurrencyLimit, RateLimit, rate::Rate},
    load_shed::{LoadShed, error::Overloaded},
    service_fn,
};
use tower_oauth::{
    BoxError, CacheState, DestinationError, OAuth, OAuthLayer, ReplayBody, TokenCache, TokenError,
};
use tower_test::mock;

use crate::support::{
    api::ORIGIN,
    body::{Drops, Script},
    paused,
    probe::{Probe, Readiness, Step, UntilBodyEnds},
    secs,
    server::{Server, answer, token_of},
    settle,
    source::{failing, numbered, slow},
};

type Plain = Full<Bytes>;

/// Refuses the first send of its one request.
fn refusing_once() -> Server<Plain> {
    Server::new(|send, request: Request<ReplayBody<Plain>>| async move {
        assert_eq!(token_of(request.headers()), format!("token-{send}"));
        Ok(answer(if send == 1 { 401 } else { 200 }))
    })
}

fn accepting() -> Server<Plain> {
    Server::new(|_, _| async { Ok(answer(200)) })
}

fn layer() -> OAuthLayer {
    OAuthLayer::for_origin(ORIGIN, numbered(secs(3600)).1).unwrap()
}

fn request(uri: &str) -> Request<Plain> {
    Request::put(uri).body(Full::from("body")).unwrap()
}

/// Sends one request, and panics where that takes forever.
async fn put<S, R>(client: S) -> Result<u16, BoxError>
where
    S: Service<Request<Plain>, Response = Response<R>, Error = BoxError>,
{
    let answer = timeout(secs(3600), client.oneshot(request(ORIGIN)));
    Ok(answer.await.expect("a deadlock")?.status().as_u16())
}

#[test]
fn each_instance_that_is_called_has_been_ready() {
    paused(async {
        let (ledger, source) = numbered(secs(3600));
        let layer = OAuthLayer::for_origin(ORIGIN, source).unwrap();
        let probe = Probe::new(refusing_once());
        let mut client = layer.layer(probe.clone());
        assert_eq!(put(&mut client).await.unwrap(), 200, "cold, then refused");
        assert_eq!((probe.calls(), ledger.calls()), (2, 2));
        // The same client once more, with a token at hand; then where the request isn't ours.
        let client = layer.layer(Probe::new(accepting()));
        assert_eq!(put(client).await.unwrap(), 200);
        let mut client = layer.layer(Probe::new(accepting()));
        for _ in 0..2 {
            let foreign = request("https://elsewhere.example/");
            let answer = client.ready().await.unwrap().call(foreign).await.unwrap();
            assert_eq!(answer.status(), 200);
        }
    });
}

#[test]
fn a_clone_of_a_ready_client_is_not_ready_and_takes_nothing_from_it() {
    paused(async {
        let probe = Probe::new(accepting());
        let mut client = layer().layer(probe.clone());
        ServiceExt::<Request<Plain>>::ready(&mut client)
            .await
            .unwrap();
        let clone = client.clone();
        assert_eq!(put(clone).await.unwrap(), 200);
        let answer = client.call(request(ORIGIN)).await.unwrap();
        assert_eq!((answer.status().as_u16(), probe.calls()), (200, 2));
    });
}

#[test]
fn a_mock_sees_the_second_send_only_once_it_is_ready_again() {
    paused(async {
        let (inner, mut handle) = mock::pair::<Request<ReplayBody<Plain>>, Response<Plain>>();
        handle.allow(1);
        let mut put = pin!(put(layer().layer(inner)));
        let first = tokio::select! {
            request = handle.next_request() => request.unwrap(),
            _ = &mut put => panic!("no answer yet"),
        };
        assert_eq!(token_of(first.0.headers()), "token-1");
        first.1.send_response(answer(401));
        for _ in 0..50 {
            let poll = poll_fn(|cx| Poll::Ready(put.as_mut().poll(cx))).await;
            assert!(poll.is_pending(), "the second send needs readiness");
            assert!(handle.poll_request().is_pending());
            tokio::task::yield_now().await;
        }
        handle.allow(1);
        let second = tokio::select! {
            request = handle.next_request() => request.unwrap(),
            _ = &mut put => panic!("no answer yet"),
        };
        assert_eq!(token_of(second.0.headers()), "token-2");
        second.1.send_response(answer(200));
        assert_eq!(put.await.unwrap(), 200);
    });
}

#[test]
fn a_concurrency_limit_of_one_below_has_a_place_for_both_sends() {
    paused(async {
        let inner = ConcurrencyLimit::new(Probe::new(refusing_once()), 1);
        assert_eq!(put(layer().layer(inner)).await.unwrap(), 200);
    });
}

/// Many requests, all refused, through one place.
#[test]
fn a_hundred_refused_requests_go_through_one_place() {
    paused(async {
        let (_, source) = numbered(secs(3600));
        let layer = OAuthLayer::for_origin(ORIGIN, source).unwrap();
        let limit = ConcurrencyLimit::new(Probe::new(FirstTokenRefused), 1);
        let client = layer.layer(limit);
        let puts: tokio::task::JoinSet<_> = (0..100).map(|_| put(client.clone())).collect();
        let answers = timeout(secs(3600), puts.join_all()).await.unwrap();
        assert!(
            answers
                .iter()
                .all(|answer| *answer.as_ref().unwrap() == 200)
        );
    });
}

/// For any number of requests, of which those with the first token are refused.
#[derive(Clone)]
struct FirstTokenRefused;

impl Service<Request<ReplayBody<Plain>>> for FirstTokenRefused {
    type Response = Response<Plain>;
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<Response<Plain>, Self::Error>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReplayBody<Plain>>) -> Self::Future {
        let refused = token_of(request.headers()) == "token-1";
        std::future::ready(Ok(answer(if refused { 401 } else { 200 })))
    }
}

/// The 401 itself holds the only place, until its body is dropped.
#[test]
fn the_first_answer_is_gone_before_the_second_send_waits() {
    paused(async {
        let inner = UntilBodyEnds::new(Probe::new(refusing_once()));
        let places = inner.places();
        assert_eq!(put(layer().layer(inner)).await.unwrap(), 200);
        assert_eq!(places.available_permits(), 1);
    });
}

#[test]
fn a_buffer_with_one_place_below_takes_both_sends() {
    paused(async {
        let inner = Buffer::new(Probe::new(refusing_once()), 1);
        assert_eq!(put(layer().layer(inner)).await.unwrap(), 200);
        let limited = ConcurrencyLimit::new(Probe::new(refusing_once()), 1);
        let inner = Buffer::new(limited, 1);
        assert_eq!(put(layer().layer(inner)).await.unwrap(), 200);
    });
}

#[test]
fn a_buffer_above_takes_the_layer() {
    paused(async {
        let client = Buffer::new(layer().layer(Probe::new(refusing_once())), 1);
        assert_eq!(put(client).await.unwrap(), 200);
    });
}

#[test]
fn a_rate_limit_below_counts_both_sends_and_one_above_counts_requests() {
    paused(async {
        let once_a_minute = Rate::new(1, secs(60));
        let start = Instant::now();
        let inner = Buffer::new(
            RateLimit::new(Probe::new(refusing_once()), once_a_minute),
            1,
        );
        assert_eq!(put(layer().layer(inner)).await.unwrap(), 200);
        assert!(start.elapsed() >= secs(60));

        let start = Instant::now();
        let client = layer().layer(Probe::new(refusing_once()));
        assert_eq!(
            put(RateLimit::new(client, once_a_minute)).await.unwrap(),
            200
        );
        assert_eq!(start.elapsed(), secs(0));
    });
}

#[test]
fn load_shed_below_sheds_neither_send_of_a_lone_request() {
    paused(async {
        let inner = LoadShed::new(UntilBodyEnds::new(Probe::new(refusing_once())));
        assert_eq!(put(layer().layer(inner)).await.unwrap(), 200);
        let inner = LoadShed::new(ConcurrencyLimit::new(Probe::new(refusing_once()), 1));
        assert_eq!(put(layer().layer(inner)).await.unwrap(), 200);
    });
}

#[test]
fn what_is_shed_is_an_error_whichever_side_the_layer_is_on() {
    paused(async {
        let limit = UntilBodyEnds::new(Probe::new(accepting()));
        let _taken = limit.places().acquire_owned().await.unwrap();
        let below = layer().layer(LoadShed::new(limit.clone()));
        assert!(put(below).await.unwrap_err().is::<Overloaded>());
        let above = LoadShed::new(layer().layer(limit));
        assert!(put(above).await.unwrap_err().is::<Overloaded>());
    });
}

#[test]
fn an_inner_service_may_take_its_time_to_be_ready() {
    use Step::{Pause, Ready};
    paused(async {
        let inner = Readiness::new(
            Probe::new(refusing_once()),
            &[Pause, Pause, Ready, Pause, Pause, Pause, Ready],
        );
        let client = layer().layer(inner.clone());
        assert_eq!(put(client).await.unwrap(), 200);
        assert!(inner.is_through(), "each send asked for its own readiness");
    });
}

#[test]
fn an_error_of_readiness_on_the_second_send_is_the_callers_and_leaves_the_token_alone() {
    use Step::{Break, Pause, Ready};
    paused(async {
        let (ledger, source) = numbered(secs(3600));
        let cache = TokenCache::from(source);
        let layer = OAuthLayer::for_origin(ORIGIN, cache.clone()).unwrap();
        let server = refusing_once();
        let inner = Readiness::new(Probe::new(server.clone()), &[Ready, Pause, Break]);
        let error = put(layer.layer(inner)).await.unwrap_err();
        assert_eq!(error.to_string(), "never ready again");
        assert_eq!((server.sends(), ledger.calls()), (1, 2));
        assert!(matches!(cache.state(), CacheState::Valid));
        assert_eq!(cache.get().await.unwrap().expose_secret(), "token-2");
        assert_eq!(ledger.calls(), 2);
    });
}

#[test]
fn the_second_send_has_the_newest_token_there_is_once_it_may_go() {
    for is_due in [false, true] {
        paused(the_second_send_has_the_newest_token(is_due));
    }
}

async fn the_second_send_has_the_newest_token(is_due: bool) {
    let cache = TokenCache::from(numbered(secs(3600)).1);
    let layer = OAuthLayer::for_origin(ORIGIN, cache.clone()).unwrap();
    let server = Server::new(|send, request: Request<ReplayBody<Plain>>| async move {
        let expected = if send == 1 { "token-1" } else { "token-3" };
        assert_eq!(token_of(request.headers()), expected);
        Ok(answer(if send == 1 { 401 } else { 200 }))
    });
    let mut steps = vec![Step::Pause; 10_000];
    steps.insert(0, Step::Ready);
    let inner = Readiness::new(Probe::new(server), &steps);
    let waiting = tokio::spawn(put(layer.layer(inner.clone())));
    while cache.get().await.unwrap().expose_secret() != "token-2" {
        tokio::task::yield_now().await;
    }
    // While it waits to be let in again, its token is refused elsewhere.
    cache.invalidate();
    cache.ready().await.unwrap();
    if is_due {
        // And the one after that is to be renewed, by whoever asks next.
        tokio::time::advance(secs(3500)).await;
        settle().await;
    }
    assert!(!inner.is_through());
    assert_eq!(waiting.await.unwrap().unwrap(), 200);
}

#[test]
fn transport_errors_are_never_retried() {
    paused(async {
        for broken in [1, 2] {
            let (ledger, source) = numbered(secs(3600));
            let cache = TokenCache::from(source);
            let layer = OAuthLayer::for_origin(ORIGIN, cache.clone()).unwrap();
            let server = Server::new(move |send, _: Request<ReplayBody<Plain>>| async move {
                if send == broken {
                    return Err("connection reset".into());
                }
                Ok(answer(401))
            });
            let error = put(layer.layer(server.clone())).await.unwrap_err();
            assert_eq!(error.to_string(), "connection reset");
            assert_eq!((server.sends(), ledger.calls()), (broken, broken));
            assert!(cache.has_token(), "the newest token is not to blame");
        }
    });
}

#[test]
fn a_request_that_waits_for_the_first_token_keeps_the_place_it_was_given() {
    paused(async {
        let (_, source) = slow(secs(3600), secs(1));
        let layer = OAuthLayer::for_origin(ORIGIN, source).unwrap();
        let limit = UntilBodyEnds::new(Probe::new(accepting()));
        let places = limit.places();
        // Asked for readiness once, and never again: the one that was ready is the one called.
        let inner = Readiness::new(limit, &[Step::Ready, Step::Break]);
        let mut client = layer.layer(inner.clone());
        ServiceExt::<Request<Plain>>::ready(&mut client)
            .await
            .unwrap();
        let waiting = tokio::spawn(client.call(request(ORIGIN)));
        settle().await;
        assert_eq!(places.available_permits(), 0);
        let answer = waiting.await.unwrap().unwrap();
        assert_eq!(answer.status(), 200);
        assert!(!inner.is_through());
        drop(answer);
        assert_eq!(places.available_permits(), 1);
    });
}

#[test]
fn where_there_is_no_token_the_place_is_given_back() {
    paused(async {
        let (_, source) = failing(secs(3600), |_| Some(TokenError::transient("down")));
        let layer = OAuthLayer::for_origin(ORIGIN, source).unwrap();
        let inner = UntilBodyEnds::new(Probe::new(accepting()));
        let places = inner.places();
        let mut client = layer.layer(inner);
        for _ in 0..3 {
            assert!(put(&mut client).await.unwrap_err().is::<TokenError>());
            assert_eq!(places.available_permits(), 1);
        }
    });
}

/// The client lives on, idle; others need its place.
#[test]
fn where_a_request_must_not_go_the_place_is_given_back() {
    paused(async {
        let inner = UntilBodyEnds::new(Probe::new(accepting()));
        let places = inner.places();
        let several = ["https://a.example", "https://b.example"];
        let layer = OAuthLayer::for_origins(several, numbered(secs(3600)).1).unwrap();
        let mut client = layer.layer(inner);
        let answer = client.ready().await.unwrap().call(request("/no-authority"));
        assert!(answer.await.map(drop).unwrap_err().is::<DestinationError>());
        assert_eq!(places.available_permits(), 1, "an idle client holds none");
    });
}

/// Dropped after 0, 1, 2, … polls, until it gets to its end: cold, refused, unready and all.
#[test]
fn a_request_that_is_dropped_at_any_poll_leaves_nothing_behind() {
    use Step::{Pause, Ready};
    let steps = [Pause, Ready, Pause, Pause, Ready];
    for polls in 0.. {
        let finished = paused(async {
            let (_, source) = slow(secs(3600), secs(1));
            let cache = TokenCache::from(source);
            let layer = OAuthLayer::for_origin(ORIGIN, cache.clone()).unwrap();
            let server = Server::new(|send, request: Request<ReplayBody<Script>>| async move {
                tokio::task::yield_now().await;
                let body = request.into_body().collect().await?;
                tokio::task::yield_now().await;
                assert_eq!(body.to_bytes(), "onetwo");
                Ok(answer(if send == 1 { 401 } else { 200 }))
            });
            let probe = Probe::new(server);
            let limit = UntilBodyEnds::new(probe.clone());
            let places = limit.places();
            let client: OAuth<_> = layer.layer(Readiness::new(limit, &steps));
            let drops = Drops::default();
            let body = Script::new([
                drops.data("one"),
                crate::support::body::Step::Pause,
                drops.data("two"),
            ]);
            let mut finished = false;
            {
                let request = Request::put(ORIGIN).body(body).unwrap();
                let mut answer = pin!(client.oneshot(request));
                for _ in 0..polls {
                    let poll = poll_fn(|cx| Poll::Ready(answer.as_mut().poll(cx))).await;
                    if let Poll::Ready(answer) = poll {
                        assert_eq!(answer.unwrap().status(), 200);
                        finished = true;
                        break;
                    }
                    // A flight of its own may be what it waits for.
                    settle().await;
                    tokio::time::advance(std::time::Duration::from_millis(400)).await;
                }
            }
            assert_eq!(drops.count(), 2, "{polls} polls: the body");
            assert_eq!(places.available_permits(), 1, "{polls} polls: the place");
            assert_eq!(Arc::strong_count(&places), 1, "{polls} polls: services");
            assert_eq!(probe.instances(), 1, "{polls} polls: services");
            // The cache is as good as ever.
            assert!(cache.get().await.is_ok());
            finished
        });
        if finished {
            assert!(polls > 10, "{polls}: more can be waited for than that");
            return;
        }
    }
}

/// A clone of the inner service is kept for second sends; it is not of the service as it was before.
#[test]
fn a_second_send_goes_to_the_service_as_it_was_last_set_up() {
    paused(async {
        let sends = Arc::new(Mutex::new(Vec::new()));
        let named = |name: &'static str| {
            let sends = Arc::clone(&sends);
            service_fn(move |_: Request<ReplayBody<Plain>>| {
                let mut sends = sends.lock().unwrap();
                sends.push(name);
                // The first answer of each is a refusal.
                let nth = sends.iter().filter(|&&earlier| earlier == name).count();
                ready(Ok::<_, BoxError>(answer(if nth == 1 { 401 } else { 200 })))
            })
        };
        let layer = layer();
        let mut client = layer.layer(named("first"));
        let untouched = client.clone();
        assert_eq!(put(client.clone()).await.unwrap(), 200);
        *client.get_mut() = named("second");
        assert_eq!(put(client).await.unwrap(), 200);
        assert_eq!(
            *sends.lock().unwrap(),
            ["first", "first", "second", "second"]
        );
        assert_eq!(put(untouched).await.unwrap(), 200);
        assert_eq!(sends.lock().unwrap().last(), Some(&"first"));
    });
}
