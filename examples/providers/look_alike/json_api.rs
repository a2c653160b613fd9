//! Token requests are JSON, and the answer doesn't say that tokens live for two hours. Each call
//! of the API names an organisation.

use hyper::Response;
use serde_json::Value;

use super::{CLIENT_ID, CLIENT_SECRET, Provider, Seen, answer, challenge, error};

pub(super) fn provider() -> Provider {
    let mut issued = 0_usize;
    let mut revoked = 0_usize;
    Box::new(move |request| match &*request.path {
        "/oauth2/token" => token(request, &mut issued),
        "/contacts" if request.header("x-api-org").is_empty() => error(400, "no_organisation"),
        "/contacts" if revoked < issued && request.bearer() == format!("token-{issued}") => {
            answer(200, "[]")
        }
        "/contacts" => challenge(401, r#"Bearer error="invalid_token""#),
        // An administrator of the organisation ends what was issued so far.
        "/revoke-all" => {
            revoked = issued;
            answer(200, "{}")
        }
        _ => answer(404, "{}"),
    })
}

fn token(request: &Seen, issued: &mut usize) -> Response<String> {
    if request.header("content-type") != "application/json" {
        return error(415, "invalid_request");
    }
    let says: Value = serde_json::from_str(&request.body).unwrap_or_default();
    if says["client_id"] != CLIENT_ID || says["client_secret"] != CLIENT_SECRET {
        return error(401, "invalid_client");
    }
    if says["grant_type"] != "client_credentials" {
        return error(400, "unsupported_grant_type");
    }
    *issued += 1;
    let rest = r#""token_type":"bearer","scope":"crm_read crm_manage""#;
    answer(
        200,
        format!(r#"{{"access_token":"token-{issued}",{rest}}}"#),
    )
}
