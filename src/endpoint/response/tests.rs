use std::time::UNIX_EPOCH;

use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{CONTENT_ENCODING, RETRY_AFTER},
};
use zeroize::Zeroizing;

use super::*;
use crate::{secret::SecretString, source::TokenError};

fn answer(status: u16, headers: &[(HeaderName, &str)], body: &[u8]) -> Answer {
    let value = |text: &&str| HeaderValue::from_str(text).unwrap();
    Answer {
        status: StatusCode::from_u16(status).unwrap(),
        headers: headers.iter().map(|(k, v)| (k.clone(), value(v))).collect(),
        body: Zeroizing::new(body.to_vec()),
    }
}

fn judge(answer: &Answer, assume_lifetime: Option<Duration>) -> Result<AccessToken, TokenError> {
    judge_knowing("s3cr3t", answer, assume_lifetime)
}

fn judge_knowing(
    secret: &str,
    answer: &Answer,
    assume_lifetime: Option<Duration>,
) -> Result<AccessToken, TokenError> {
    let expectation = Expectation {
        url: &Arc::from("https://as.example/token"),
        secrets: &Redactor::new([SecretString::from(secret.to_owned())]),
        assume_lifetime,
        wrapped: &JsonPointer::parse("/data/0").unwrap(),
        token_types: &[String::from("bot"), String::from("BearerToken")],
        now: UNIX_EPOCH,
    };
    let response = expectation.judge(answer).map_err(TokenError::from)?;
    Ok(response.token)
}

fn token(body: &str) -> AccessToken {
    judge(&answer(200, &[], body.as_bytes()), None)
        .unwrap_or_else(|error| panic!("{body}: {error}"))
}

fn error(answer: &Answer) -> TokenError {
    judge(answer, None).expect_err("there should be no token")
}

fn malformed(body: &str) -> String {
    let error = error(&answer(200, &[], body.as_bytes()));
    assert!(!error.is_transient(), "{body}: {error}");
    assert_eq!(error.oauth_code(), None, "{body}");
    error.to_string()
}

#[test]
fn rfc_6749_section_5_1() {
    let token = token(
        r#"{"access_token":"2YotnFZFEjr1zCsicMWpAA","token_type":"Bearer","expires_in":3600,
            "refresh_token":"tGzv3JOkF0XG5Qx2TlKWIA","example_parameter":"example_value"}"#,
    );
    assert_eq!(token.expose_secret(), "2YotnFZFEjr1zCsicMWpAA");
    assert_eq!(token.lifetime(), Some(Duration::from_secs(3600)));
    assert_eq!(token.scope(), None);
}

#[test]
fn an_assumed_lifetime_stands_in_for_an_unknown_one_only() {
    let assumed = Some(Duration::from_secs(7));
    for (text, expected) in [("null", 7), ("0", 7), ("-1", 7), ("60", 60)] {
        let body = format!(r#"{{"access_token":"a","expires_in":{text}}}"#);
        let token = judge(&answer(200, &[], body.as_bytes()), assumed).unwrap();
        assert_eq!(
            token.lifetime(),
            Some(Duration::from_secs(expected)),
            "{text}"
        );
    }
}

// rules 15, 22
#[test]
fn only_bearer_tokens_are_understood() {
    let told = ["\"bearertoken\"", "\"Bot\""];
    for kind in ["\"BEARER\"", "\"bearer\"", "null"].into_iter().chain(told) {
        token(&format!(r#"{{"access_token":"a","token_type":{kind}}}"#));
    }
    let refused = |kind| malformed(&format!(r#"{{"access_token":"a","token_type":{kind}}}"#));
    assert!(refused(r#""DPoP""#).contains("DPoP isn't supported"));
    assert!(refused(r#""Bearer\r\nX: s3cr3t""#).contains(r#""Bearer\r\nX: [redacted]""#));
    assert!(refused(r#""""#).contains("only Bearer"));
    assert!(refused(r#""user""#).contains(".token_type(…)"));
    for other in [r#""DPoP""#, r#""mac""#, r#""N_A""#, r#""""#] {
        assert!(!refused(other).contains(".token_type("), "{other}");
    }
    assert!(refused("1").contains("token_type"));
}

#[test]
fn a_malformed_answer_is_never_repeated() {
    for body in [
        r#"{"access_token":"hunter2","access_token":"hunter2"}"#,
        r#"{"access_token":["hunter2"]}"#,
        r#"{"access_token":"hunter2\r\n"}"#,
        r#"{"access_token":"a","expires_in":"hunter2"}"#,
        r#"{"access_token":"a","scope":{"hunter2":1}}"#,
        r#"{"access_token":"hunter2"} trailing"#,
        r#"{"token":"hunter2"}"#,
        "hunter2",
    ] {
        let error = error(&answer(200, &[], body.as_bytes()));
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

// rule 10
#[test]
fn what_the_server_says_besides_is_handed_on_or_makes_it_malformed() {
    let scoped = token(r#"{"access_token":"a","scope":["read","write"]}"#);
    assert_eq!(scoped.scope(), Some("read write"));
    assert!(malformed(r#"{"access_token":"a","scope":1}"#).contains("scope"));
    assert!(malformed(r#"{"access_token":"a","expires_in":"soon"}"#).contains("expires_in"));
    assert!(malformed(r#"{"access_token":"a","expires_in":1e400}"#).contains("no content type"));

    let later = answer(503, &[(RETRY_AFTER, "120")], b"");
    assert_eq!(error(&later).retry_after(), Some(Duration::from_secs(120)));
}

#[test]
fn the_label_matters_for_forms_only() {
    let json = br#"{"access_token":"a"}"#;
    for label in [
        "text/html",
        "text/plain; charset=utf-8",
        "application/x+json",
    ] {
        assert!(
            judge(&answer(200, &[(CONTENT_TYPE, label)], json), None).is_ok(),
            "{label}"
        );
    }
    for label in [
        "text/plain",
        "Application/X-WWW-Form-Urlencoded;charset=utf-8",
    ] {
        let form = answer(200, &[(CONTENT_TYPE, label)], b"access_token=a&scope=x\r\n");
        let token = judge(&form, None).unwrap_or_else(|error| panic!("{label}: {error}"));
        assert_eq!(token.scope(), Some("x"));
    }
    assert_eq!(
        token("\u{feff}\r\n {\"access_token\":\"a\"} ").expose_secret(),
        "a"
    );
}

#[test]
fn html_asks_whether_the_url_is_right() {
    let html = answer(
        200,
        &[(CONTENT_TYPE, "text/html; charset=utf-8")],
        b"<html>",
    );
    assert_eq!(
        error(&html).to_string(),
        "the authorization server at https://as.example/token answered HTTP 200 with \
         text/html, not a token response: is this the token endpoint's URL?"
    );
    assert!(
        error(&answer(404, &[], b"<html>"))
            .to_string()
            .contains("endpoint's URL")
    );
}

// rule 19
#[test]
fn a_refusal_says_who_must_do_what() {
    let body = br#"{"error":"invalid_client","error_description":"bad secret s3cr3t\n"}"#;
    let error = error(&answer(401, &[], body));
    assert_eq!(
        error.to_string(),
        "the authorization server at https://as.example/token refused the client: \
         invalid_client (bad secret [redacted]\\n), HTTP 401; check the client id, its secret, \
         key or certificate, and the method (ClientAuth)"
    );
    assert_eq!(error.oauth_code(), Some("invalid_client"));
    assert!(!error.is_transient());
    assert!(!format!("{error:?}").contains("s3cr3t"));
}

#[test]
fn the_status_counts_beside_a_code_that_says_less() {
    const CLIENT: &str = "check the client id, its secret, key or certificate";
    const GRANT: &str = "this grant";
    const URL: &str = "check the endpoint's URL";
    for (status, code, parts) in [
        (401, "access_denied", &[CLIENT][..]),
        (401, "Unauthorized", &[CLIENT]),
        (401, "unauthorized_client", &[CLIENT, GRANT]),
        (400, "unauthorized_client", &[GRANT]),
        (400, "incorrect_client_credentials", &[CLIENT]),
        (200, "incorrect_client_credentials", &[CLIENT]),
        (404, "Not Found", &[URL]),
        (405, "Method Not Allowed", &[URL]),
        (410, "Gone", &[URL]),
        (415, "Unsupported Media Type", &["check .encoding(…)"]),
        (401, "invalid_grant", &["get a new one"]),
        (200, "bad_refresh_token", &["get a new one"]),
        (401, "invalid_request", &["the parameters (.param)"]),
        (404, "invalid_scope", &["check the scope"]),
        (400, "access_denied", &["the parameters (.param)"]),
    ] {
        let body = format!(r#"{{"error":"{code}"}}"#);
        let message = error(&answer(status, &[], body.as_bytes())).to_string();
        for part in parts {
            assert!(message.contains(part), "{status}: {message}");
        }
    }
}

#[test]
fn a_code_is_read_even_where_the_secret_is_a_part_of_it() {
    for (secret, sent, code) in [
        ("grant", "invalid_grant", "invalid_grant"),
        ("grant", "no_grant", "no_[redacted]"),
        // As GitHub says it, and the next call goes by.
        ("refresh", "bad_refresh_token", "bad_refresh_token"),
    ] {
        let body = format!(r#"{{"error":"{sent}"}}"#);
        let answer = answer(400, &[], body.as_bytes());
        let error = judge_knowing(secret, &answer, None).unwrap_err();
        assert_eq!(error.oauth_code(), Some(code));
    }
}

#[test]
fn an_error_wins_over_a_token_unless_it_says_nothing() {
    let with = |error: &str| {
        let body = format!(r#"{{"access_token":"a","error":{error}}}"#);
        judge(&answer(200, &[], body.as_bytes()), None)
    };
    assert_eq!(
        with("\"invalid_grant\"").unwrap_err().oauth_code(),
        Some("invalid_grant")
    );
    for nothing in ["null", "\"\"", "{\"code\":1}"] {
        assert!(with(nothing).is_ok(), "{nothing}");
    }
}

#[test]
fn what_may_pass_is_told_from_what_lasts() {
    for (status, body, transient) in [
        (429, "", true),
        (408, "", true),
        (500, r#"{"error":"invalid_grant"}"#, true),
        (503, "<html>", true),
        (400, r#"{"error":"temporarily_unavailable"}"#, true),
        (400, r#"{"error":"server_error"}"#, true),
        (400, r#"{"error":"slow_down"}"#, true),
        (400, r#"{"error":"invalid_scope"}"#, false),
        (400, "", false),
        (403, "", false),
        (404, "", false),
    ] {
        let error = error(&answer(status, &[], body.as_bytes()));
        assert_eq!(error.is_transient(), transient, "{status} {body}");
    }
}

// rules 83, F28
#[test]
fn a_redirect_names_the_origin_and_nothing_of_its_query() {
    for (location, part) in [
        (
            "https://id:pw@login.example/x?s=s3cr3t",
            "https://login.example;",
        ),
        ("/login?s=s3cr3t", "https://as.example;"),
        ("//login.example/?s=s3cr3t", "https://login.example;"),
        ("", "no place;"),
    ] {
        let error = error(&answer(
            302,
            &[(LOCATION, location)],
            br#"{"access_token":"a"}"#,
        ));
        let message = error.to_string();
        assert!(
            message.contains(part) && !message.contains("pw"),
            "{message}"
        );
        assert!(!error.is_transient() && !format!("{error:?}").contains("s3cr3t"));
    }
}

#[test]
fn a_refusal_in_words_of_the_servers_own_is_shown_too() {
    for (status, label, body, part) in [
        (
            400,
            "application/json",
            r#"{"message":"audience is required"}"#,
            "refused the request: audience is required, HTTP 400; check",
        ),
        (
            400,
            "application/json",
            r#"{"error_description":"no tenant\n"}"#,
            r"refused the request: no tenant\n, HTTP 400;",
        ),
        (
            403,
            "application/json",
            r#"{"detail":"IP not allowed for s3cr3t"}"#,
            "refused the client or its request: IP not allowed for [redacted], HTTP 403;",
        ),
        (415, "text/html", "<html>", "HTTP 415; check .encoding(…)"),
    ] {
        let message = error(&answer(status, &[(CONTENT_TYPE, label)], body.as_bytes())).to_string();
        assert!(message.contains(part), "{message}");
    }
    let marked = answer(400, &[], "\u{feff} {\"message\":\"no tenant\"}".as_bytes());
    assert!(error(&marked).to_string().contains("no tenant"));
    assert!(malformed(r#"{"data":{"token":"a"}}"#).contains(".answer_at("));
}

#[test]
fn words_in_another_character_set_are_shown_as_far_as_they_can_be_read() {
    for (body, part) in [
        (
            b"{\"error\":\"invalid_grant\",\"error_description\":\"Ung\xfcltig\"}".as_slice(),
            r"refused the grant: invalid_grant (Ung\u{fffd}ltig), HTTP 400;",
        ),
        (
            b"{\"message\":\"Ung\xfcltig\"}",
            r"refused the request: Ung\u{fffd}ltig, HTTP 400;",
        ),
    ] {
        let message = error(&answer(400, &[], body)).to_string();
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn an_answer_in_a_coding_that_is_not_read_is_named_so() {
    for (status, coding, named) in [
        (200, "gzip", true),
        (400, "br s3cr3t", true),
        (200, "Identity", false),
        (400, "", false),
    ] {
        let coded = answer(status, &[(CONTENT_ENCODING, coding)], b"\\x1f\\x8b\\x08\\0");
        let message = error(&coded).to_string();
        assert_eq!(message.contains("Content-Encoding"), named, "{message}");
        let shown = coding.replace("s3cr3t", "[redacted]");
        assert!(!named || message.contains(&shown), "{message}");
    }
    let read = answer(
        200,
        &[(CONTENT_ENCODING, "gzip")],
        br#"{"access_token":"a"}"#,
    );
    assert!(judge(&read, None).is_ok(), "a transport has decoded it");
    let read = answer(400, &[(CONTENT_ENCODING, "gzip")], br#"{"error":"a"}"#);
    assert!(!error(&read).to_string().contains("gzip"));
}

#[test]
fn a_success_without_a_token_says_why_in_the_servers_words() {
    for body in [
        r#"{"error":{"code":190,"message":"no tenant for s3cr3t"}}"#,
        r#"{"success":false,"message":"no tenant for s3cr3t"}"#,
        r#"{"errors":[{"message":"no tenant for s3cr3t"}]}"#,
        r#"{"code":10014,"msg":"no tenant for s3cr3t"}"#,
        r#"{"errcode":40013,"errmsg":"no tenant for s3cr3t"}"#,
    ] {
        let message = malformed(body);
        assert!(message.contains("no tenant for [redacted]"), "{message}");
        assert!(message.contains("no access_token"), "{message}");
    }
    // What brought something else than words isn't searched for them.
    let twice = r#"{"access_token":"a","access_token":"b","message":"welcome"}"#;
    assert!(!malformed(twice).contains("welcome"));
}
