//! *Refused*, for gRPC servers that say so in trailers: what is judged below a
//! `GrpcTrailersLayer`, and that the caller gets what it gets without.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Channel, Empty};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_oauth::{
    BoxError, OAuthLayer, ReplayBody, TokenCache, Verdict,
    rejection::{self, GrpcTrailersLayer},
};

use crate::support::{
    body::{Script, Step, data, read, read_some},
    secs,
    source::{Ledger, numbered},
};

const ORIGIN: &str = "https://api.example.com";
const GRPC: &str = "application/grpc";

type Answer = Response<Pin<Box<Script>>>;

fn answer(content_type: &'static str, steps: Vec<Step>) -> Answer {
    let mut response = Response::new(Box::pin(Script::new(steps)));
    let value = HeaderValue::from_static(content_type);
    response.headers_mut().insert("content-type", value);
    response
}

fn status(code: &'static str) -> Step {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(code));
    trailers.insert("grpc-message", HeaderValue::from_static("as%20it%20is"));
    Step::Trailers(trailers)
}

/// A server that gives its answers one by one; a request for which there is none is one too many.
struct Server {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    tokens: Ledger,
    oauth: OAuthLayer,
}

impl Server {
    fn answering(answers: impl IntoIterator<Item = Answer>) -> Self {
        let (tokens, source) = numbered(secs(3600));
        Self {
            answers: Arc::new(Mutex::new(answers.into_iter().collect())),
            tokens,
            oauth: OAuthLayer::for_origin(ORIGIN, TokenCache::from(source)).unwrap(),
        }
    }

    async fn call(&self) -> Response<impl Body<Data = Bytes, Error = BoxError> + use<>> {
        let answers = Arc::clone(&self.answers);
        let server = service_fn(move |_: Request<ReplayBody<Empty<Bytes>>>| {
            let answer = answers.lock().unwrap().pop_front();
            async move { Ok::<_, Infallible>(answer.expect("one send too many")) }
        });
        let client = ServiceBuilder::new()
            .layer(self.oauth.clone())
            .layer(GrpcTrailersLayer::new())
            .service(server);
        client.oneshot(request()).await.unwrap()
    }

    /// Sends that were made, token requests.
    fn counts(&self, answers: usize) -> (usize, usize) {
        let sends = answers - self.answers.lock().unwrap().len();
        (sends, self.tokens.calls())
    }
}

fn request() -> Request<Empty<Bytes>> {
    Request::post(ORIGIN).body(Empty::new()).unwrap()
}

#[tokio::test]
async fn unauthenticated_in_trailers_that_follow_no_message_is_sent_again() {
    for before in [vec![], vec![data("")], vec![Step::Pause, data("")]] {
        let refusal = answer(
            "application/grpc+proto",
            [before, vec![status("16")]].concat(),
        );
        let good = answer(GRPC, vec![data("message"), status("0")]);
        let server = Server::answering([refusal, good]);
        let read = read(server.call().await.into_body()).await.unwrap();
        assert_eq!(read.data, b"message");
        assert_eq!(read.trailers.unwrap()["grpc-status"], "0");
        assert_eq!(server.counts(2), (2, 2));
    }
}

#[tokio::test]
async fn what_is_refused_twice_comes_to_the_caller_as_sent() {
    let refusals = [(); 3].map(|()| answer(GRPC, vec![status("16")]));
    let server = Server::answering(refusals);
    let response = server.call().await;
    assert!(!response.headers().contains_key("grpc-status"));
    assert!(!response.body().is_end_stream());
    let read = read(response.into_body()).await.unwrap();
    let trailers = read.trailers.unwrap();
    assert_eq!(trailers["grpc-status"], "16");
    assert_eq!(trailers["grpc-message"], "as%20it%20is");
    assert_eq!(server.counts(3), (2, 2));
}

#[tokio::test]
async fn a_call_that_has_got_a_message_is_never_sent_again() {
    let late = vec![data("message"), status("16")];
    let server = Server::answering([answer(GRPC, late)]);
    let read = read(server.call().await.into_body()).await.unwrap();
    assert_eq!(read.data, b"message");
    assert_eq!(read.trailers.unwrap()["grpc-status"], "16");
    assert_eq!(server.counts(1), (1, 1));
}

#[tokio::test]
async fn other_endings_are_the_callers() {
    for steps in [
        vec![],
        vec![status("0")],
        vec![status("7")],
        vec![status("14")],
        vec![Step::Trailers(HeaderMap::new())],
        vec![Step::Break],
    ] {
        let server = Server::answering([answer(GRPC, steps)]);
        let _ = read_some(server.call().await.into_body(), 9).await;
        assert_eq!(server.counts(1), (1, 1));
    }
}

#[tokio::test]
async fn a_classifier_sees_the_trailers() {
    let custom = |head: rejection::ResponseHead<'_>| {
        let status = head
            .trailers()
            .and_then(|trailers| trailers.get("grpc-status"));
        // This server says PERMISSION_DENIED where it means UNAUTHENTICATED.
        match status.is_some_and(|status| status == "7") {
            true => Verdict::Refused,
            false => rejection::standard(head),
        }
    };
    let good = answer(GRPC, vec![data("message"), status("0")]);
    let mut server = Server::answering([answer(GRPC, vec![status("7")]), good]);
    server.oauth = server.oauth.rejection(custom);
    let read = read(server.call().await.into_body()).await.unwrap();
    assert_eq!(read.data, b"message");
    assert_eq!(server.counts(2), (2, 2));
}

/// Every body of up to four frames: the same data, trailers, errors and size hints, with the
/// layer and without it.
#[tokio::test]
async fn bodies_are_what_they_are_without_the_layer() {
    let alphabet = [
        data("message"),
        data(""),
        Step::Pause,
        status("16"),
        Step::Break,
    ];
    let mut scripts = vec![vec![]];
    for at in 0.. {
        let Some(script): Option<&Vec<Step>> = scripts.get(at) else {
            break;
        };
        let is_over = matches!(script.last(), Some(Step::Trailers(_) | Step::Break));
        if script.len() < 4 && !is_over {
            let longer = alphabet
                .iter()
                .map(|step| [&script[..], std::slice::from_ref(step)].concat());
            let longer: Vec<_> = longer.collect();
            scripts.extend(longer);
        }
    }
    assert_eq!(scripts.len(), 1 + 5 + 3 * 5 + 9 * 5 + 27 * 5);
    for script in scripts {
        for content_type in [GRPC, "text/plain"] {
            let layered = layered(Script::new(script.clone()), content_type).await;
            let expected = read_some(Script::new(script.clone()), 9).await;
            let got = read_some(layered, 9).await;
            assert_eq!(got.0, expected.0, "{script:?}");
            assert_eq!(
                format!("{:?}", got.1),
                format!("{:?}", expected.1),
                "{script:?}"
            );

            let known = Script::new(script.clone()).of_known_length();
            let mut body = layered_of(answered(known, content_type)).await;
            while let Some(frame) = {
                let left = body.size_hint();
                let frame = body.frame().await;
                let length = |frame: &Frame<Bytes>| frame.data_ref().map_or(0, Bytes::len);
                let read = frame.iter().flatten().map(length).sum::<usize>() as u64;
                let rest = body.size_hint().exact();
                assert_eq!(left.exact(), rest.map(|rest| rest + read), "{script:?}");
                frame
            } {
                assert!(frame.is_err() || !body.is_end_stream() || body.frame().await.is_none());
            }
        }
    }
}

async fn layered(
    script: Script,
    content_type: &'static str,
) -> impl Body<Data = Bytes, Error = BoxError> {
    layered_of(answered(script, content_type)).await
}

fn answered(script: Script, content_type: &'static str) -> Answer {
    let mut response = answer(content_type, vec![]);
    *response.body_mut() = Box::pin(script);
    response
}

async fn layered_of<R: Body + Unpin>(answer: Response<R>) -> rejection::GrpcTrailersBody<R> {
    let answer = Mutex::new(Some(answer));
    let server = service_fn(|()| {
        let answer = answer.lock().unwrap().take().unwrap();
        async { Ok::<_, Infallible>(answer) }
    });
    let response = GrpcTrailersLayer::new().layer(server).oneshot(()).await;
    response.unwrap().into_body()
}

/// A body that nobody may read.
#[derive(Debug)]
struct Sealed;

impl Body for Sealed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        panic!("read ahead");
    }
}

#[tokio::test]
async fn nothing_is_read_ahead_of_what_is_not_grpc_or_has_its_status() {
    for (status, content_type, in_head) in [
        (200, "application/json", false),
        (200, "application/grpc-web+proto", false),
        (200, "application/grp", false),
        (200, "", false),
        (503, GRPC, false),
        (200, GRPC, true),
    ] {
        let mut answer = Response::builder().status(status);
        if !content_type.is_empty() {
            answer = answer.header("content-type", content_type);
        }
        if in_head {
            answer = answer.header("grpc-status", "0");
        }
        layered_of(answer.body(Sealed).unwrap()).await;
    }
    let read = tokio::spawn(layered_of(
        Response::builder()
            .header("content-type", "APPLICATION/GRPC; x=y")
            .body(Sealed)
            .unwrap(),
    ));
    assert!(read.await.unwrap_err().is_panic());
}

/// The price: a server that has answered with its head alone keeps the caller waiting.
#[tokio::test]
async fn the_head_waits_for_the_first_frame() {
    let (mut sender, body) = Channel::<Bytes, BoxError>::new(4);
    let answer = Response::builder().header("content-type", GRPC);
    let mut waiting = pin!(layered_of(answer.body(body).unwrap()));
    let early = std::future::poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx).is_ready()));
    assert!(!early.await);

    sender.send_data(Bytes::from("message")).await.unwrap();
    let mut body = waiting.await;
    let first = body.frame().await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "message");
    let Step::Trailers(trailers) = status("16") else {
        unreachable!()
    };
    sender.send_trailers(trailers.clone()).await.unwrap();
    let last = body.frame().await.unwrap().unwrap();
    assert_eq!(last.into_trailers().unwrap(), trailers);
}
