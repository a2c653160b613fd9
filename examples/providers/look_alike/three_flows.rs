//! A login by authorization code, refresh tokens that rotate, client credentials; the secret
//! always in the form. Each pair of tokens ends the one before, and a refresh token that is used
//! twice ends the grant.

use std::collections::HashMap;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use hmac_sha256::Hash;
use http_body_util::Empty;
use hyper::{Request, Response};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};

use super::{CLIENT_ID, CLIENT_SECRET, Provider, Seen, answer, challenge, error};

/// What the provider remembers.
#[derive(Default)]
struct State {
    /// The parameters of each authorization request whose code wasn't redeemed yet.
    codes: HashMap<String, HashMap<String, String>>,
    /// Counts pairs of tokens; the newest pair is the one that is good.
    pairs: usize,
    /// Pairs up to this one are over.
    ended: usize,
    codes_issued: usize,
}

pub(super) fn provider(origin: String) -> Provider {
    let mut state = State::default();
    Box::new(move |request| match &*request.path {
        "/authorize" => authorize(request, &mut state, &origin),
        "/token" => token(request, &mut state),
        "/me" | "/jobs" if state.is_good(request.bearer()) => answer(200, "{}"),
        "/me" | "/jobs" => challenge(401, r#"Bearer error="invalid_token""#),
        // The access token's time is over; the refresh token's isn't.
        "/end" => {
            state.ended = state.pairs;
            answer(200, "{}")
        }
        _ => answer(404, "{}"),
    })
}

/// RFC 6749 §4.1.1 and §4.1.2; the user is there, and agrees.
fn authorize(request: &Seen, state: &mut State, origin: &str) -> Response<String> {
    let asked: HashMap<String, String> = form_urlencoded::parse(request.query.as_bytes())
        .into_owned()
        .collect();
    let says = |key: &str| asked.get(key).cloned().unwrap_or_default();
    if says("response_type") != "code" || says("client_id") != CLIENT_ID {
        return error(400, "invalid_request");
    }
    state.codes_issued += 1;
    let code = format!("code-{}", state.codes_issued);
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("code", &code)
        .append_pair("state", &says("state"))
        .append_pair("iss", origin)
        .finish();
    let location = format!("{}?{query}", says("redirect_uri"));
    state.codes.insert(code, asked);
    let mut response = answer(302, "");
    let location = location.parse().expect("it is made of URL characters");
    response.headers_mut().insert("location", location);
    response
}

fn token(request: &Seen, state: &mut State) -> Response<String> {
    let form = request.form();
    let says = |key: &str| form.get(key).map(String::as_str).unwrap_or_default();
    if says("client_id") != CLIENT_ID || says("client_secret") != CLIENT_SECRET {
        return error(401, "invalid_client");
    }
    match says("grant_type") {
        "authorization_code" => {
            let asked = state.codes.remove(says("code")).unwrap_or_default();
            let challenge =
                BASE64_URL_SAFE_NO_PAD.encode(Hash::hash(says("code_verifier").as_bytes()));
            let same = |key: &str, value: &str| asked.get(key).map(String::as_str) == Some(value);
            if !same("redirect_uri", says("redirect_uri")) || !same("code_challenge", &challenge) {
                return error(400, "invalid_grant");
            }
            state.next_pair()
        }
        "refresh_token" if says("refresh_token") == format!("refresh-{}", state.pairs) => {
            state.next_pair()
        }
        "refresh_token" => {
            *state = State::default();
            error(400, "invalid_grant")
        }
        "client_credentials" => answer(
            200,
            r#"{"access_token":"machine","token_type":"bearer","expires_in":1800}"#,
        ),
        _ => error(400, "unsupported_grant_type"),
    }
}

impl State {
    fn next_pair(&mut self) -> Response<String> {
        self.pairs += 1;
        let pair = self.pairs;
        let rest = r#""token_type":"bearer","expires_in":1800"#;
        answer(
            200,
            format!(
                r#"{{"access_token":"access-{pair}","refresh_token":"refresh-{pair}",{rest}}}"#
            ),
        )
    }

    fn is_good(&self, token: &str) -> bool {
        let newest = self.ended < self.pairs && token == format!("access-{}", self.pairs);
        newest || token == "machine"
    }
}

/// A user's browser: opens `url`, agrees, and comes back with the query of the redirect.
pub async fn visit(url: &str) -> Option<String> {
    let browser = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::get(url).body(Empty::<Bytes>::new()).ok()?;
    let response = browser.request(request).await.ok()?;
    let location = response.headers().get("location")?.to_str().ok()?;
    location.split_once('?').map(|(_, query)| query.to_owned())
}
