//! A suite of answers of resource servers, each judged by what a request behind the layer then
//! does: how often it is sent, what the caller gets, and what becomes of the token.
//!
//! The suite isn't part of this repository: `CASES_DIR` names the directory in which
//! `www_authenticate.json` lies.

use std::{convert::Infallible, env, fs, path::Path};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, header::AUTHORIZATION};
use http_body_util::{BodyExt, Full, channel::Channel};
use serde_json::Value;
use tower::{Layer, ServiceExt, service_fn};
use tower_oauth::{BoxError, OAuthLayer, ReplayBody, TokenCache};

use crate::support::{
    api::{Api, ORIGIN, get, start},
    paused, secs,
    source::{Ledger, numbered},
};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// What a request does after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// One send; the caller gets the server's answer, and the token is kept.
    PassThrough,
    /// Two sends; the second has a new token.
    RefreshAndRetry,
    /// Two sends; the second has the token that was there already.
    RetryWithCurrentToken,
    /// One send; the caller gets the server's answer, and the next request a new token.
    InvalidateAndPassThrough,
}

/// Cases that are decided otherwise here: what is done in place of what the suite expects. One
/// that agrees after all is a failure of this list.
const DIFFERENCES: &[(&str, Action, &str)] = &[
    (
        "decision: CAE insufficient_claims",
        Action::PassThrough,
        CLAIMS,
    ),
    (
        "decision: DPoP: use_dpop_nonce with nonce",
        Action::PassThrough,
        DPOP,
    ),
    (
        "decision: DPoP: nonce then invalid_token",
        Action::PassThrough,
        DPOP,
    ),
    (
        "decision: DPoP: header name case",
        Action::PassThrough,
        DPOP,
    ),
    ("decision: DPoP: nonce on 200", Action::PassThrough, DPOP),
    (
        "decision: DPoP token, server only offers Bearer",
        Action::RefreshAndRetry,
        "every token is a bearer token, and its server refuses it",
    ),
];
const CLAIMS: &str = "a new token lacks the same claims, as long as nobody asks for more";
const DPOP: &str = "a DPoP challenge offers another scheme";

#[test]
#[expect(clippy::print_stdout, reason = "says that it didn't run")]
fn the_suite_of_challenges() {
    let Some(dir) = env::var_os("CASES_DIR") else {
        println!("skipped: CASES_DIR is not set");
        return;
    };
    let text = fs::read_to_string(Path::new(&dir).join("www_authenticate.json")).unwrap();
    let mut cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    cases.retain(|case| case["kind"] == "decision");
    for (name, _, _) in DIFFERENCES {
        let known = cases.iter().any(|case| case["name"] == **name);
        assert!(known, "the suite has no case {name:?} any more");
    }
    println!("{} cases", cases.len());
    assert!(cases.len() >= 38, "the suite has shrunk");
    let failures: Vec<String> = cases.iter().filter_map(failure).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn failure(case: &Value) -> Option<String> {
    let name = case["name"].as_str().unwrap();
    let expected = case["expected"]["action"].as_str().unwrap();
    let done = paused(play(case));
    let decided = DIFFERENCES.iter().find(|(other, _, _)| *other == name);
    let wanted = match (decided, action(expected)) {
        (Some((_, instead, _)), expected) if expected == Some(*instead) => {
            return Some(format!("{name}: is no difference any more"));
        }
        (Some((_, instead, _)), _) => *instead,
        (None, Some(expected)) => expected,
        (None, None) => return Some(format!("{name}: {expected} is not decided")),
    };
    match done {
        Ok(done) if done == wanted => None,
        Ok(done) => Some(format!("{name}: {done:?} in place of {wanted:?}")),
        Err(problem) => Some(format!("{name}: {problem}")),
    }
}

fn action(expected: &str) -> Option<Action> {
    Some(match expected {
        "pass_through" => Action::PassThrough,
        // The case has the status in the head, which is trailers-only.
        "refresh_and_retry" | "refresh_and_retry_if_trailers_only" => Action::RefreshAndRetry,
        "retry_with_current_token" => Action::RetryWithCurrentToken,
        "invalidate_and_pass_through" => Action::InvalidateAndPassThrough,
        _ => return None,
    })
}

async fn play(case: &Value) -> Result<Action, String> {
    let (ledger, source) = numbered(secs(3600));
    let cache = TokenCache::from(source);
    cache.ready().await.unwrap();
    let answer = head(case);
    let api = Api::answering({
        let answer = answer.clone();
        move |token| match token {
            "token-1" | "the caller's own" | "" => {
                answer.clone().map(|()| Full::from("the first answer"))
            }
            _ => Response::new(Full::from("the second answer")),
        }
    });
    if case["input"]["attached"].is_null() {
        return play_without_token(&api, &cache, &ledger, &answer).await;
    }
    let layer = OAuthLayer::for_origin(ORIGIN, cache.clone()).unwrap();
    let before = ledger.calls();
    let got = if case["input"]["body"] == "stream>cap" {
        let service = layer.replay_limit(8).layer(api.clone());
        let (mut pieces, body) = Channel::<Bytes>::new(2);
        pieces.send_data(Bytes::from("12345678")).await.unwrap();
        pieces.send_data(Bytes::from("9")).await.unwrap();
        drop(pieces);
        service.oneshot(request(body)).await
    } else if case["input"]["cache_generation_newer"] == true {
        let on_its_way = start(&api.behind_layer(&layer), "late").await.unwrap();
        cache.invalidate();
        cache.ready().await.unwrap();
        assert_eq!(ledger.calls(), before + 1);
        on_its_way.await
    } else {
        let service = layer.layer(api.clone());
        service.oneshot(request(Full::<Bytes>::default())).await
    };
    let (sends, calls) = (api.sends(), ledger.calls() - before);
    let late = usize::from(case["input"]["cache_generation_newer"] == true);
    check(got, &answer, sends).await?;
    // The next request shows what became of the token.
    get(&api.behind(&cache), "next").await.unwrap();
    let next = api.tokens().last().unwrap().clone();
    match (sends, calls - late, &*next) {
        (1, 0, "token-1") => Ok(Action::PassThrough),
        (1, _, "token-2") => Ok(Action::InvalidateAndPassThrough),
        (2, 1, "token-2") => Ok(Action::RefreshAndRetry),
        (2, 0, "token-2") => Ok(Action::RetryWithCurrentToken),
        other => Err(format!("{other:?}")),
    }
}

/// Requests that the layer puts no token on, and whose answers say nothing of ours.
async fn play_without_token(
    api: &Api,
    cache: &TokenCache,
    ledger: &Ledger,
    answer: &Response<()>,
) -> Result<Action, String> {
    let mut elsewhere = request(Full::<Bytes>::default());
    *elsewhere.uri_mut() = "https://elsewhere.example/".parse().unwrap();
    let mut own = request(Full::<Bytes>::default());
    let mut value = HeaderValue::from_static("the caller's own");
    value.set_sensitive(true);
    own.headers_mut().insert(AUTHORIZATION, value);
    for (nth, request) in [elsewhere, own].into_iter().enumerate() {
        let got = api.behind(cache).oneshot(request).await;
        check(got, answer, api.sends() - nth).await?;
    }
    assert_eq!(api.tokens(), ["", "the caller's own"]);
    assert_eq!(ledger.calls(), 1);
    assert!(cache.has_token());
    Ok(Action::PassThrough)
}

/// The caller gets the first answer as it was, or the second.
async fn check(
    got: Result<Response<Full<Bytes>>, BoxError>,
    first: &Response<()>,
    sends: usize,
) -> Result<(), String> {
    let (head, body) = got.map_err(|error| error.to_string())?.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let intact = match sends {
        1 => {
            (head.status, &head.headers) == (first.status(), first.headers())
                && body == "the first answer"
        }
        _ => head.status == 200 && body == "the second answer",
    };
    let problem = || format!("{sends} sends, and the caller got {head:?} {body:?}");
    intact.then_some(()).ok_or_else(problem)
}

fn head(case: &Value) -> Response<()> {
    let input = &case["input"];
    let status = u16::try_from(input["status"].as_u64().unwrap()).unwrap();
    let mut answer = Response::builder().status(status);
    for pair in input["headers"].as_array().unwrap() {
        answer = answer.header(pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
    }
    answer.body(()).unwrap()
}

fn request<B>(body: B) -> Request<B> {
    Request::post(ORIGIN).body(body).unwrap()
}

/// A status that comes after a message is too late to be judged: the caller has begun to read.
#[test]
fn a_grpc_status_in_real_trailers_is_the_callers() {
    paused(async {
        let (ledger, source) = numbered(secs(3600));
        let layer = OAuthLayer::for_origin(ORIGIN, source).unwrap();
        let service = layer.layer(service_fn(|_: Request<ReplayBody<Full<Bytes>>>| async {
            let (mut answer, body) = Channel::<Bytes>::new(2);
            answer.send_data(Bytes::from("message")).await.unwrap();
            let status = [(GRPC_STATUS, 16.into())].into_iter().collect();
            answer.send_trailers(status).await.unwrap();
            Ok::<_, Infallible>(Response::new(body))
        }));
        let answer = service.oneshot(request(Full::default())).await.unwrap();
        let body = answer.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()[GRPC_STATUS], "16");
        assert_eq!(body.to_bytes(), "message");
        assert_eq!(ledger.calls(), 1);
    });
}
