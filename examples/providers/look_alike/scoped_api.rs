//! Scopes decide what a token may do. Client credentials by HTTP Basic, tokens of an hour.

use std::collections::HashMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use hyper::Response;

use super::{CLIENT_ID, CLIENT_SECRET, Provider, Seen, answer, challenge, error};

const SCOPES: [&str; 2] = ["read:accounts", "read:moves"];

pub(super) fn provider() -> Provider {
    let mut issued = HashMap::new();
    Box::new(move |request| match &*request.path {
        "/oauth/token" => token(request, &mut issued),
        "/accounts" => api(request, &issued, "read:accounts"),
        "/moves" => api(request, &issued, "read:moves"),
        _ => answer(404, "{}"),
    })
}

fn token(request: &Seen, issued: &mut HashMap<String, String>) -> Response<String> {
    if request.header("authorization") != basic(CLIENT_ID, CLIENT_SECRET) {
        return error(401, "invalid_client");
    }
    let form = request.form();
    if form.get("grant_type").map(String::as_str) != Some("client_credentials") {
        return error(400, "unsupported_grant_type");
    }
    let scope = form.get("scope").cloned().unwrap_or(SCOPES.join(" "));
    if !scope.split(' ').all(|word| SCOPES.contains(&word)) {
        return error(400, "invalid_scope");
    }
    let token = format!("token-{}", issued.len() + 1);
    issued.insert(token.clone(), scope.clone());
    let rest = r#""token_type":"Bearer","expires_in":3600"#;
    answer(
        200,
        format!(r#"{{"access_token":"{token}",{rest},"scope":"{scope}"}}"#),
    )
}

fn api(request: &Seen, issued: &HashMap<String, String>, needed: &str) -> Response<String> {
    match issued.get(request.bearer()) {
        None => challenge(401, r#"Bearer error="invalid_token""#),
        Some(scope) if scope.split(' ').any(|word| word == needed) => answer(200, "[]"),
        Some(_) => challenge(
            403,
            &format!(r#"Bearer error="insufficient_scope", scope="{needed}""#),
        ),
    }
}

/// RFC 6749 §2.3.1.
pub(super) fn basic(id: &str, secret: &str) -> String {
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", encoded(id), encoded(secret));
    format!("Basic {}", BASE64_STANDARD.encode(pair))
}
