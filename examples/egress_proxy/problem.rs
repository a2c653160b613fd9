//! What the proxy says itself, where there is no answer of the upstream.

use std::{error::Error, io, time::Duration};

use http::{HeaderMap, HeaderValue, Response, StatusCode, header::RETRY_AFTER};
use http_body_util::{Either, Full};
use hyper_util::client::legacy;
use tower_oauth::{BoxError, TokenError};

use super::server::Answer;

/// Why a request has no answer of its upstream.
pub struct Problem {
    status: StatusCode,
    /// By which programs tell it from an answer of the upstream (RFC 9209 §2.3).
    kind: &'static str,
    text: String,
    retry_after: Option<Duration>,
}

impl Problem {
    pub fn new(status: StatusCode, kind: &'static str, text: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            text: text.into(),
            retry_after: None,
        }
    }

    /// The request was not sent. The error says who must act, and shows no secret.
    pub fn no_token(error: &TokenError, origin: &str) -> Self {
        let (status, kind) = match error.is_transient() {
            true => (StatusCode::SERVICE_UNAVAILABLE, "proxy_internal_error"),
            false => (StatusCode::BAD_GATEWAY, "proxy_configuration_error"),
        };
        let text = format!("no access token for {origin}: {error}");
        let mut problem = Self::new(status, kind, text);
        problem.retry_after = error.retry_after();
        problem
    }

    /// What went wrong between here and `origin`.
    pub fn unanswered(error: &BoxError, origin: &str) -> Self {
        let mut cause: &dyn Error = &**error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        let timed_out = cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::TimedOut);
        let connecting = error.downcast_ref::<legacy::Error>();
        let connecting = connecting.is_some_and(legacy::Error::is_connect);
        let (status, kind) = match (connecting, timed_out) {
            (_, true) => (StatusCode::GATEWAY_TIMEOUT, "connection_timeout"),
            (true, false) => (StatusCode::BAD_GATEWAY, "destination_unavailable"),
            (false, false) => (StatusCode::BAD_GATEWAY, "connection_terminated"),
        };
        let what = match connecting {
            true => "can't be connected to",
            false => "gave no answer",
        };
        let advice = "if it lasts, ask its operator, and check the way from here to it";
        Self::new(status, kind, format!("{origin} {what}: {cause}; {advice}"))
    }
}

impl From<Problem> for Answer {
    fn from(problem: Problem) -> Self {
        let mut answer = plain(problem.status, format!("egress_proxy: {}\n", problem.text));
        let headers = answer.headers_mut();
        if let Ok(kind) = HeaderValue::try_from(format!("egress_proxy; error={}", problem.kind)) {
            headers.insert(PROXY_STATUS, kind);
        }
        if let Some(delay) = problem.retry_after {
            // Whole seconds (RFC 9110 §10.2.3), and none too early.
            let seconds = delay.as_millis().div_ceil(1000);
            let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
            headers.insert(RETRY_AFTER, seconds.into());
        }
        answer
    }
}

/// Drops what an upstream says in the name of this proxy.
pub fn only_ours(headers: &mut HeaderMap) {
    let forged = |value: &HeaderValue| {
        let members = value.as_bytes().split(|byte| *byte == b',');
        let mut names = members.filter_map(|member| member.split(|byte| *byte == b';').next());
        names.any(|name| name.trim_ascii() == b"egress_proxy")
    };
    let values = headers.get_all(PROXY_STATUS).iter();
    let others: Vec<_> = values.filter(|value| !forged(value)).cloned().collect();
    headers.remove(PROXY_STATUS);
    for value in others {
        headers.append(PROXY_STATUS, value);
    }
}

const PROXY_STATUS: &str = "proxy-status";

pub fn plain(status: StatusCode, text: String) -> Answer {
    let mut answer = Response::new(Either::Right(Full::from(text)));
    *answer.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert("content-type", plain);
    answer
}
