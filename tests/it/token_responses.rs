//! A suite of answers of token endpoints, real and hostile, each over a socket of its own.
//!
//! The suite isn't part of this repository: `CASES_DIR` names the directory in which
//! `token_response.json` lies.

use std::{env, fs, path::Path, time::Duration};

use serde_json::Value;
use tokio::task::JoinSet;
use tower_oauth::{
    AccessToken, ClientAuth, ClientCredentials, Demand, DeviceCode, RefreshToken, Secret,
    TokenEndpoint, TokenError, TokenExchange, TokenSource,
};

use crate::support::{
    endpoint::{Endpoint, TOKEN, json},
    raw::{End, Peer, Script, answer},
};

/// Cases that are decided otherwise here. One that agrees after all is a failure of this list.
const DIFFERENCES: &[(&str, &str)] = &[];

/// Cases about time, which pass in paused time beside the code.
const ELSEWHERE: &[(&str, &str)] = &[
    (
        "slow drip 1 byte/s",
        "the_deadline_is_total_and_a_server_that_drips_does_not_prolong_it",
    ),
    (
        "exchange took 50 s of a 60 s token",
        "the_lifetime_counts_from_before_the_request_was_sent",
    ),
];

#[expect(clippy::print_stdout, reason = "says that it didn't run")]
fn cases() -> Option<Vec<Value>> {
    let Some(dir) = env::var_os("CASES_DIR") else {
        println!("skipped: CASES_DIR is not set");
        return None;
    };
    let text = fs::read_to_string(Path::new(&dir).join("token_response.json")).unwrap();
    Some(serde_json::from_str(&text).unwrap())
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "says how many ran")]
async fn the_suite_of_token_responses() {
    let Some(cases) = cases() else { return };
    for (name, _) in DIFFERENCES.iter().chain(ELSEWHERE) {
        let known = cases.iter().any(|case| case["name"] == **name);
        assert!(known, "the suite has no case {name:?} any more");
    }

    let mut running = JoinSet::new();
    for case in cases.into_iter().filter(is_ours) {
        running.spawn(async move { (name(&case), run(&case).await) });
    }
    let results = running.join_all().await;
    println!("{} cases", results.len());
    assert!(results.len() > 100, "the suite has shrunk");
    let failures: Vec<String> = results
        .into_iter()
        .filter_map(|(name, result)| {
            let decided = DIFFERENCES.iter().any(|(other, _)| *other == name);
            match result {
                Ok(()) if decided => Some(format!("{name}: is no difference any more")),
                Err(_) if decided => None,
                Ok(()) => None,
                Err(problem) => Some(format!("{name}: {problem}")),
            }
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

const DEVICE: &str = "urn:ietf:params:oauth:grant-type:device_code";

// rule 75
#[tokio::test(start_paused = true)]
async fn the_suite_of_answers_to_polls() {
    let Some(cases) = cases() else { return };
    let ours = |case: &&Value| case["input"]["context"]["grant"] == DEVICE;
    let mut count = 0;
    for case in cases.iter().filter(ours) {
        count += 1;
        check_poll(case).await;
    }
    assert!(count >= 4, "the suite has shrunk");
}

/// What a login does with the answer of its first poll; the second would bring a token.
async fn check_poll(case: &Value) {
    let name = name(case);
    let (input, expected) = (&case["input"], &case["expected"]);
    let codes = r#"{"device_code":"d","user_code":"u","verification_uri":"https://as.example/d","expires_in":60}"#;
    let status = u16::try_from(input["status"].as_u64().unwrap()).unwrap();
    let body = input["body"].as_str().unwrap();
    let server = Endpoint::replying([json(200, codes), json(status, body), json(200, TOKEN)]);
    let outcome = DeviceCode::new(server.build()).login(|_| ()).await;
    let asked = server.asked();
    let waited = |from: usize| {
        let to = asked[from + 1].at;
        to.duration_since(asked[from].at).as_secs()
    };
    assert_eq!(waited(0), 5, "{name}");
    match (expected["class"].as_str().unwrap(), outcome) {
        ("poll_again", Ok(_)) => assert_eq!(waited(1), 5, "{name}"),
        ("poll_again_interval_plus_5", Ok(_)) => assert_eq!(waited(1), 10, "{name}"),
        ("protocol_permanent", Err(error)) => {
            assert_eq!(asked.len(), 2, "{name}");
            assert_eq!(error.oauth_code(), expected["error"].as_str(), "{name}");
            assert!(!error.is_transient(), "{name}");
        }
        (class, outcome) => panic!("{name}: expected {class}, got {:?}", outcome.err()),
    }
}

/// Cases of other grants and of DPoP belong to others.
fn is_ours(case: &Value) -> bool {
    let context = &case["input"]["context"];
    let grant = context["grant"].as_str().unwrap_or("client_credentials");
    let elsewhere = ELSEWHERE.iter().any(|(other, _)| *other == name(case));
    ["client_credentials", "refresh_token", EXCHANGE].contains(&grant)
        && context["dpop"].is_null()
        && !elsewhere
}

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

fn name(case: &Value) -> String {
    case["name"].as_str().unwrap().to_owned()
}

async fn run(case: &Value) -> Result<(), String> {
    let script = script(case);
    // Only where silence is the point is the deadline short.
    let timeout = match script.end {
        End::Silence => Duration::from_secs(2),
        End::Close | End::Reset => Duration::from_secs(60),
    };
    let peer = Peer::start(script).await;
    let endpoint = TokenEndpoint::builder(peer.url("/token"))
        .client_auth(ClientAuth::basic("id", "s3cr3t"))
        .timeout(timeout)
        .build()
        .unwrap();
    let context = &case["input"]["context"];
    if let Some(first) = context["refresh_token"].as_str() {
        return run_refresh(case, &peer, RefreshToken::new(endpoint, first)).await;
    }
    let result = if context["grant"] == EXCHANGE {
        let source = TokenExchange::new(endpoint, Secret::from("subject"));
        source.token(Demand::default()).await
    } else {
        let mut source = ClientCredentials::new(endpoint);
        if let Some(scope) = context["requested_scope"].as_str() {
            source = source.scope(scope);
        }
        source.token(Demand::default()).await
    };
    if peer.requests().len() != 1 {
        return Err(format!("{} requests were sent", peer.requests().len()));
    }
    check(&case["expected"], &result).map_err(|problem| format!("{problem}; got {result:?}"))
}

// rule 21
async fn run_refresh(case: &Value, peer: &Peer, source: RefreshToken) -> Result<(), String> {
    let result = source.token(Demand::default()).await;
    check(&case["expected"], &result).map_err(|problem| format!("{problem}; got {result:?}"))?;
    // Which refresh token there is shows when the next request is sent.
    let _ = source.token(Demand::default()).await;
    let form = |refresh_token: &Value| {
        let text = refresh_token.as_str().unwrap();
        format!("grant_type=refresh_token&refresh_token={text}")
    };
    let expected = [
        form(&case["input"]["context"]["refresh_token"]),
        form(&case["expected"]["refresh_token"]),
    ];
    let sent: Vec<String> = peer
        .requests()
        .iter()
        .map(|request| request.split_once("\r\n\r\n").unwrap().1.to_owned())
        .collect();
    same("refresh token", sent == expected).map_err(|problem| format!("{problem}: {sent:?}"))
}

fn script(case: &Value) -> Script {
    let input = &case["input"];
    let status = u16::try_from(input["status"].as_u64().unwrap()).unwrap();
    let headers: Vec<(&str, &str)> = input["headers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap()))
        .collect();
    let whole = || answer(status, &headers, &body(case));
    let (bytes, end) = match input["delivery"].as_str() {
        None => (whole(), End::Close),
        Some("HTTP/1.1 100 Continue first") => (
            [b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(), whole()].concat(),
            End::Close,
        ),
        Some("103 first") => (
            [
                b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".to_vec(),
                whole(),
            ]
            .concat(),
            End::Close,
        ),
        Some("close early") => (whole(), End::Close),
        Some("stall") => (whole(), End::Silence),
        Some("accept, never answer") => (Vec::new(), End::Silence),
        Some("RST") => (Vec::new(), End::Reset),
        Some("FIN mid status line") => (b"HTTP/1.1 200 O".to_vec(), End::Close),
        Some("chunked, never ends") => {
            let headers = [&headers[..], &[("Transfer-Encoding", "chunked")]].concat();
            let chunk = [&b"10000\r\n"[..], &[b'A'; 0x10000], b"\r\n"].concat();
            return Script {
                bytes: answer(status, &headers, b"6\r\n{\"x\":\"\r\n"),
                endless: Some(chunk),
                end: End::Close,
            };
        }
        Some(other) => panic!("unknown delivery: {other}"),
    };
    Script {
        bytes,
        endless: None,
        end,
    }
}

fn body(case: &Value) -> Vec<u8> {
    let body = &case["input"]["body"];
    if case["name"] == "UTF-16 body" {
        return b"\xff\xfe{\0\"\0}\0".to_vec();
    }
    if !body["gen"].is_null() {
        // What a bomb looks like to a client that doesn't unpack it.
        return [&b"\x1f\x8b\x08\0\0\0\0\0\0\x03"[..], &[0; 300_000]].concat();
    }
    if let Some(times) = body["times"].as_u64() {
        let part = |key: &str| body[key].as_str().unwrap();
        let middle = part("repeat").repeat(usize::try_from(times).unwrap());
        return format!("{}{middle}{}", part("prefix"), part("suffix")).into_bytes();
    }
    body.as_str().unwrap().as_bytes().to_vec()
}

fn check(expected: &Value, result: &Result<AccessToken, TokenError>) -> Result<(), String> {
    match (expected["outcome"].as_str().unwrap(), result) {
        ("token", Ok(token)) => check_token(expected, token),
        ("error", Err(error)) => check_error(expected, error),
        (outcome, _) => Err(format!("expected: {outcome}")),
    }
}

fn check_token(expected: &Value, token: &AccessToken) -> Result<(), String> {
    let text = expected["access_token"].as_str().unwrap();
    let text = match text.split_once('*') {
        Some((character, times)) if !times.is_empty() && !character.is_empty() => {
            character.repeat(times.parse().unwrap())
        }
        _ => text.to_owned(),
    };
    let seconds = token.lifetime().map(|lifetime| lifetime.as_secs());
    let lifetime = match &expected["expires_in"] {
        Value::Null => seconds.is_none(),
        // Zero and less are "unknown" here.
        Value::Number(number) => seconds == number.as_u64().filter(|seconds| *seconds > 0),
        Value::String(words) => words.contains("clamped") && seconds > Some(1_000_000_000),
        other => panic!("expires_in: {other}"),
    };
    same("token", token.expose_secret() == text)?;
    same("lifetime", lifetime)?;
    same("scope", token.scope() == expected["scope"].as_str())
}

fn check_error(expected: &Value, error: &TokenError) -> Result<(), String> {
    let (transient, code) = match expected["class"].as_str().unwrap() {
        "malformed" | "refused" => (false, None),
        "protocol_permanent" => (false, expected["error"].as_str()),
        "protocol_transient" => (true, expected["error"].as_str()),
        "transport" => (true, None),
        other => panic!("unknown class: {other}"),
    };
    same("transience", error.is_transient() == transient)?;
    same("code", error.oauth_code() == code)?;
    let retry_after = match &expected["retry_after"] {
        Value::Null => None,
        Value::Number(seconds) => seconds.as_u64(),
        _ => Some(3600), // "from the date, clamped"
    };
    let got = error.retry_after().map(|delay| delay.as_secs());
    same("retry_after", got == retry_after)?;
    let shown = format!("{error} {error:?}");
    same("redaction", !shown.contains("s3cr3t"))?;
    same("length", shown.len() < 2048)?;
    same("escaping", !shown.contains(|c: char| c.is_control()))
}

fn same(what: &str, holds: bool) -> Result<(), String> {
    if holds {
        Ok(())
    } else {
        Err(format!("the {what} differs"))
    }
}
