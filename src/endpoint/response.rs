//! Parse: what an answer of the token endpoint means (RFC 6749 §5.1 and §5.2).
//!
//! Lenient where servers differ and nothing can go wrong; strict about the token itself.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{
    HeaderMap, Uri,
    header::{CONTENT_TYPE, LOCATION},
};
use serde_json::Value;

use super::{
    EndpointError,
    fields::Fields,
    pointer::JsonPointer,
    redact::Redactor,
    transport::Answer,
    values::{Unreadable, lifetime, owned_text, retry_after, scope, text},
};
use crate::{secret::SecretString, token::AccessToken};

/// A successful answer of a token endpoint (RFC 6749 §5.1).
#[derive(Debug)]
pub(crate) struct TokenResponse {
    pub(crate) token: AccessToken,
    /// The next refresh token, if the server sent one: not `null`, not empty.
    pub(crate) refresh_token: Option<SecretString>,
    /// What a token exchange yielded (RFC 8693 §2.2.1).
    pub(crate) issued_token_type: Option<String>,
}

/// What an answer is judged by.
pub(super) struct Expectation<'a> {
    pub(super) url: &'a Arc<str>,
    pub(super) secrets: &'a Redactor,
    pub(super) assume_lifetime: Option<Duration>,
    /// Where in a JSON answer the token is.
    pub(super) wrapped: &'a JsonPointer,
    /// For a `Retry-After` that is a date.
    pub(super) now: SystemTime,
}

impl Expectation<'_> {
    pub(super) fn judge(&self, answer: &Answer) -> Result<TokenResponse, EndpointError> {
        if answer.status.is_redirection() {
            return Err(self.redirected(answer));
        }
        let fields = fields(answer, self.wrapped);
        // An error is one in a 200, too: some servers send it so.
        let code = fields.as_ref().and_then(|fields| text(&fields.error));
        if code.is_some() || !answer.status.is_success() {
            return Err(self.refused(answer, code, fields.as_ref()));
        }
        match fields {
            Some(fields) => self.granted(fields),
            None => Err(EndpointError::NotATokenResponse {
                url: self.url.clone(),
                status: answer.status,
                content_type: essence(&answer.headers).map(|text| self.secrets.clean(text)),
            }),
        }
    }

    /// RFC 6749 §5.1.
    fn granted(&self, fields: Fields) -> Result<TokenResponse, EndpointError> {
        if fields.repeated {
            return Err(self.malformed("a parameter stands twice"));
        }
        // RFC 6749 §7.1: "The client MUST NOT use an access token if it does not understand the
        // token type." A missing one is understood: the servers that leave it out mean Bearer.
        match fields.token_type {
            None | Some(Value::Null) => {}
            Some(Value::String(kind)) if kind.eq_ignore_ascii_case("bearer") => {}
            Some(Value::String(kind)) => {
                return Err(EndpointError::TokenType {
                    url: self.url.clone(),
                    token_type: self.secrets.clean(&kind),
                });
            }
            Some(_) => return Err(self.malformed("token_type is no text")),
        }
        let token = match fields.access_token {
            None | Some(Value::Null) => return Err(self.malformed("it has no access_token")),
            Some(Value::String(token)) => AccessToken::bearer(token),
            Some(_) => return Err(self.malformed("access_token is no text")),
        };
        let mut token = token.map_err(|cause| EndpointError::Token {
            url: self.url.clone(),
            cause,
        })?;
        let lifetime = lifetime(fields.expires_in)
            .map_err(|Unreadable| self.malformed("expires_in is no number of seconds"))?;
        if let Some(lifetime) = lifetime.or(self.assume_lifetime) {
            token = token.expires_in(lifetime);
        }
        let scope = scope(fields.scope)
            .map_err(|Unreadable| self.malformed("scope is neither a text nor a list of texts"))?;
        if let Some(scope) = scope {
            token = token.granted_scope(scope);
        }
        Ok(TokenResponse {
            token,
            refresh_token: owned_text(fields.refresh_token).map(SecretString::from),
            issued_token_type: owned_text(fields.issued_token_type),
        })
    }

    /// RFC 6749 §5.2.
    pub(super) fn refused(
        &self,
        answer: &Answer,
        code: Option<&str>,
        fields: Option<&Fields>,
    ) -> EndpointError {
        let shown = |value: Option<&str>| value.map(|text| self.secrets.clean(text));
        EndpointError::Refused {
            url: self.url.clone(),
            status: answer.status,
            code: shown(code),
            description: shown(fields.and_then(|fields| text(&fields.error_description))),
            uri: shown(fields.and_then(|fields| text(&fields.error_uri))),
            retry_after: retry_after(&answer.headers, self.now),
        }
    }

    pub(super) fn redirected(&self, answer: &Answer) -> EndpointError {
        EndpointError::Redirected {
            url: self.url.clone(),
            status: answer.status,
            origin: pointed_to(self.url, answer, self.secrets),
        }
    }

    fn malformed(&self, problem: &'static str) -> EndpointError {
        EndpointError::Malformed {
            url: self.url.clone(),
            problem,
        }
    }
}

/// Where the `Location` of an answer from `url` leads, without a user name, a path or a query.
pub(super) fn pointed_to(url: &str, answer: &Answer, secrets: &Redactor) -> Option<String> {
    let location = answer.headers.get(LOCATION)?.to_str().ok()?;
    let here = url.parse::<Uri>().ok()?;
    let scheme = here.scheme_str()?;
    let target: Uri = if location.starts_with("//") {
        format!("{scheme}:{location}").parse().ok()?
    } else {
        location.parse().ok()?
    };
    let authority = target.authority().or(here.authority())?.as_str();
    let host = authority.rsplit('@').next()?;
    let scheme = target.scheme_str().unwrap_or(scheme);
    Some(secrets.clean(&format!("{scheme}://{host}")))
}

/// The parameters, whatever the answer says it is: servers label JSON as text and HTML. `None` if
/// it is neither JSON nor a form.
pub(super) fn fields(answer: &Answer, wrapped: &JsonPointer) -> Option<Fields> {
    let body = answer.body.strip_prefix(b"\xef\xbb\xbf");
    let body = body.unwrap_or(&answer.body).trim_ascii();
    let labelled = |label| {
        essence(&answer.headers).is_some_and(|essence: &str| essence.eq_ignore_ascii_case(label))
    };
    let form = labelled("application/x-www-form-urlencoded")
        || (labelled("text/plain") && !body.starts_with(b"{"));
    if form {
        Some(Fields::from_form(body))
    } else {
        Fields::from_json(body, wrapped)
    }
}

/// The content type without its parameters.
fn essence(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next()?.trim())
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use http::{HeaderName, HeaderValue, StatusCode, header::RETRY_AFTER};
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

    fn judge(
        answer: &Answer,
        assume_lifetime: Option<Duration>,
    ) -> Result<AccessToken, TokenError> {
        let expectation = Expectation {
            url: &Arc::from("https://as.example/token"),
            secrets: &Redactor::new([SecretString::from(String::from("s3cr3t"))]),
            assume_lifetime,
            wrapped: &JsonPointer::parse("/data/0").unwrap(),
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
        for kind in ["\"BEARER\"", "\"bearer\"", "null"] {
            token(&format!(r#"{{"access_token":"a","token_type":{kind}}}"#));
        }
        let refused = |kind| malformed(&format!(r#"{{"access_token":"a","token_type":{kind}}}"#));
        assert!(refused(r#""DPoP""#).contains("DPoP isn't supported"));
        assert!(refused(r#""Bearer\r\nX: s3cr3t""#).contains(r#""Bearer\r\nX: [redacted]""#));
        assert!(refused(r#""""#).contains("only Bearer"));
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
        assert!(
            malformed(r#"{"access_token":"a","expires_in":1e400}"#).contains("no content type")
        );

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
             invalid_client (bad secret [redacted]\\n), HTTP 401; check the client id, the secret \
             and the method (ClientAuth::basic or ::post)"
        );
        assert_eq!(error.oauth_code(), Some("invalid_client"));
        assert!(!error.is_transient());
        assert!(!format!("{error:?}").contains("s3cr3t"));
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
}
