//! The challenges that other clients test with, and those that real servers send.
//!
//! The collection is no part of the package; `CASES_DIR` names the folder that holds it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that meets the unexpected must fail, and says when it is skipped"
)]

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};
use serde_json::Value as Json;

use super::challenge::Complaint;
use super::reading::{self, Challenge};
use super::{ResponseHead, Verdict, standard};

/// Where the scanner reads otherwise, on purpose.
const OTHER_READINGS: &[(&str, &str)] = &[(
    "greenbytes: simplebasic2realms",
    "a parameter that occurs twice is passed on twice: to notice it takes memory, and no verdict depends on it",
)];

/// Where the verdict differs, on purpose.
const OTHER_VERDICTS: &[(&str, &str)] = &[
    ("decision: CAE insufficient_claims", CLAIMS),
    ("decision: CAE claims not base64", CLAIMS),
    ("decision: two claims challenges", CLAIMS),
];
const CLAIMS: &str =
    "a token of the same kind lacks the same claims, as long as nobody asks for more";

#[test]
fn challenges_are_read_as_the_cases_say() {
    let Some(rows) = rows("parse") else { return };
    assert!(!rows.is_empty());
    for row in rows {
        let (name, expected) = (row["name"].as_str().unwrap(), &row["expected"]);
        let lines = challenge_lines(&row);
        let unrepresentable = lines
            .iter()
            .any(|line| HeaderValue::from_bytes(line).is_err());
        let kind = expected["result"].as_str().unwrap();
        assert_eq!(unrepresentable, kind == "unrepresentable", "{name}");

        let strict = reading::strict(&lines).map(comparable);
        let agrees = match kind {
            "challenges" => strict == Some(comparable(challenges(expected))),
            "invalid" => strict.is_none(),
            "unrepresentable" => true,
            "either" => {
                must(expected["must"].as_str().unwrap_or_default(), &lines, name);
                strict.is_none()
                    || expected["challenges"].is_null()
                    || strict == Some(comparable(challenges(expected)))
            }
            other => panic!("{name}: result {other}"),
        };
        let on_purpose = OTHER_READINGS.iter().any(|(other, _)| *other == name);
        assert_eq!(agrees, !on_purpose, "{name}: {strict:?}");
    }
}

#[test]
fn verdicts_are_as_the_cases_say() {
    let Some(rows) = rows("decision") else { return };
    // Whether it was our token is for the service to know, and other schemes are not there yet.
    let rows: Vec<_> = rows
        .into_iter()
        .filter(|row| row["input"]["attached"] == "Bearer")
        .collect();
    assert!(!rows.is_empty());
    for row in rows {
        let name = row["name"].as_str().unwrap();
        let status = row["input"]["status"].as_u64().unwrap();
        let mut response = http::Response::new(());
        *response.status_mut() = u16::try_from(status).unwrap().try_into().unwrap();
        for (field, value) in fields(&row) {
            let field = HeaderName::from_bytes(field.as_bytes()).unwrap();
            let value = HeaderValue::from_bytes(&value).unwrap();
            response.headers_mut().append(field, value);
        }
        let refused = standard(ResponseHead::of(&response)) == Verdict::Refused;
        let agrees = row["expected"]["token_rejected"] == refused;
        let on_purpose = OTHER_VERDICTS.iter().any(|(other, _)| *other == name);
        assert_eq!(agrees, !on_purpose, "{name}: refused {refused}");
    }
}

/// What a case demands although clients disagree about it.
fn must(demands: &str, lines: &[Vec<u8>], name: &str) {
    let (challenges, _) = reading::tolerant(lines);
    let bearer = challenges
        .iter()
        .filter(|challenge| challenge.scheme.eq_ignore_ascii_case(b"bearer"));
    if demands.contains("scheme bearer recognised") {
        assert_ne!(bearer.clone().count(), 0, "{name}");
    }
    if let Some((_, code)) = demands.split_once("error=") {
        let code = code.split(' ').next().unwrap();
        let error = (b"error".to_vec(), code.as_bytes().to_vec());
        assert!(
            bearer.clone().any(|bearer| bearer.params.contains(&error)),
            "{name}"
        );
    }
    if demands.contains("decision = refresh_and_retry") {
        let complaint = reading::complaint(lines);
        assert!(
            matches!(complaint, Complaint::Unnamed | Complaint::InvalidToken),
            "{name}: {complaint:?}"
        );
    }
}

fn rows(kind: &str) -> Option<Vec<Json>> {
    let Some(folder) = std::env::var_os("CASES_DIR") else {
        eprintln!("skipped: CASES_DIR is not set");
        return None;
    };
    let path = std::path::Path::new(&folder).join("www_authenticate.json");
    let text = std::fs::read_to_string(&path).expect("the cases");
    let mut rows: Vec<Json> = serde_json::from_str(&text).expect("a list of cases");
    // A name in the tables above that no case has is stale, too.
    for (name, _) in OTHER_READINGS.iter().chain(OTHER_VERDICTS) {
        assert!(rows.iter().any(|row| row["name"] == *name), "{name}");
    }
    rows.retain(|row| row["kind"] == kind);
    Some(rows)
}

fn fields(row: &Json) -> Vec<(String, Vec<u8>)> {
    let pairs = row["input"]["headers"].as_array().unwrap();
    let field = |pair: &Json| (pair[0].as_str().unwrap().to_owned(), value(&pair[1]));
    pairs.iter().map(field).collect()
}

fn challenge_lines(row: &Json) -> Vec<Vec<u8>> {
    let is_challenge = |name: &str| name.eq_ignore_ascii_case("www-authenticate");
    fields(row)
        .into_iter()
        .filter_map(|(name, value)| is_challenge(&name).then_some(value))
        .collect()
}

/// A string, each character of which stands for a byte, or the recipe for a long one.
fn value(json: &Json) -> Vec<u8> {
    let text = match json {
        Json::String(text) => text.clone(),
        recipe => {
            let times = usize::try_from(recipe["times"].as_u64().unwrap()).unwrap();
            let part = |name: &str| recipe[name].as_str().unwrap();
            [
                part("prefix"),
                &part("repeat").repeat(times),
                part("suffix"),
            ]
            .concat()
        }
    };
    let bytes = text.chars().map(|char| u8::try_from(u32::from(char)));
    bytes.collect::<Result<_, _>>().expect("latin-1")
}

fn challenges(expected: &Json) -> Vec<Challenge> {
    let bytes = |json: &Json| json.as_str().map(|text| text.as_bytes().to_vec());
    let challenge = |json: &Json| Challenge {
        scheme: bytes(&json["scheme"]).unwrap(),
        params: json["params"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, text)| (name.as_bytes().to_vec(), value(text)))
            .collect(),
        token68: bytes(&json["token68"]),
    };
    expected["challenges"]
        .as_array()
        .unwrap()
        .iter()
        .map(challenge)
        .collect()
}

/// Names in lower case, parameters in order of their names, the last one of those with the same name.
fn comparable(challenges: Vec<Challenge>) -> Vec<Challenge> {
    let lower = |challenge: Challenge| {
        let params = challenge.params.into_iter();
        let params = params.map(|(name, value)| (name.to_ascii_lowercase(), value));
        Challenge {
            scheme: challenge.scheme.to_ascii_lowercase(),
            params: params.collect::<BTreeMap<_, _>>().into_iter().collect(),
            ..challenge
        }
    };
    challenges.into_iter().map(lower).collect()
}
