//! A token endpoint a tenant. The answer to client credentials carries a refresh token, and the
//! next request must bring it back: each one is good once.

use hyper::Response;

use super::{CLIENT_ID, CLIENT_SECRET, Provider, Seen, answer, challenge, error};

pub(super) fn provider() -> Provider {
    let mut issued = 0_usize;
    let mut ended = 0_usize;
    Box::new(move |request| match &*request.path {
        "/acme/oauth/v2/token" => token(request, &mut issued),
        "/acme/orders" if ended < issued && request.bearer() == format!("acme-{issued}") => {
            answer(200, "[]")
        }
        "/acme/orders" => challenge(401, r#"Bearer realm="acme", error="invalid_token""#),
        // The tenant's administrator ends the newest token.
        "/acme/end" => {
            ended = issued;
            answer(200, "{}")
        }
        _ => answer(404, "{}"),
    })
}

fn token(request: &Seen, issued: &mut usize) -> Response<String> {
    let form = request.form();
    let says = |key: &str| form.get(key).map(String::as_str).unwrap_or_default();
    if says("client_id") != CLIENT_ID || says("client_secret") != CLIENT_SECRET {
        return error(401, "invalid_client");
    }
    if says("grant_type") != "client_credentials" {
        return error(400, "unsupported_grant_type");
    }
    let latest = format!("acme-refresh-{issued}");
    if !["", &*latest].contains(&says("refresh_token")) {
        return error(400, "invalid_grant");
    }
    *issued += 1;
    let rest = r#""token_type":"Bearer","expires_in":3600"#;
    answer(
        200,
        format!(
            r#"{{"access_token":"acme-{issued}","refresh_token":"acme-refresh-{issued}",{rest}}}"#
        ),
    )
}
