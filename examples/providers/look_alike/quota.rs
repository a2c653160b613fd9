//! 1,000 tokens a month, each for one audience and for a day.

use std::collections::HashSet;

use hyper::Response;

use super::{CLIENT_ID, CLIENT_SECRET, Provider, Seen, answer, challenge, error};

const A_MONTH: usize = 1_000;

pub(super) fn provider() -> Provider {
    let mut issued = HashSet::new();
    Box::new(move |request| match &*request.path {
        "/oauth/token" => token(request, &mut issued),
        "/prices" if issued.contains(request.bearer()) => answer(200, "[]"),
        "/prices" => challenge(401, "Bearer"),
        _ => answer(404, "{}"),
    })
}

fn token(request: &Seen, issued: &mut HashSet<String>) -> Response<String> {
    let form = request.form();
    let says = |key: &str| form.get(key).map(String::as_str).unwrap_or_default();
    if says("client_id") != CLIENT_ID || says("client_secret") != CLIENT_SECRET {
        return error(401, "access_denied");
    }
    if says("audience") != "https://prices.example/" {
        return error(403, "access_denied");
    }
    if issued.len() == A_MONTH {
        return error(429, "too_many_requests");
    }
    let token = format!("token-{}", issued.len() + 1);
    issued.insert(token.clone());
    let rest = r#""token_type":"Bearer","expires_in":86400"#;
    answer(200, format!(r#"{{"access_token":"{token}",{rest}}}"#))
}
