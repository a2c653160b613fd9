//! An authorization server that rotates refresh tokens and detects their reuse, without grace.

use std::{
    collections::{HashSet, VecDeque},
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::sync::Semaphore;
use tower_oauth::{
    BoxError, ClientAuth, RefreshToken, Secret, TokenEndpoint, TokenEndpointBuilder,
};

/// What the server does with the next token request, in place of rotating.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Rotate,
    /// Leaves `refresh_token` as this text says, and takes the same one again.
    Keep(&'static str),
    /// Rotates with the access token of the answer before.
    RotateWithOldAccess,
    /// Rotates with an access token that nobody can send.
    RotateWithBadAccess,
    /// The connection breaks before the server has done anything.
    Unheard,
    /// The server rotates, and the answer breaks off.
    Lost,
    InvalidGrant,
    /// An error by this code in an answer of this status; nothing is done.
    Refuse(u16, &'static str),
    /// A bare 503, as proxies say it.
    Unavailable,
    /// 429: the server says that it has done nothing.
    Busy,
    /// There is no connection to the server.
    Away,
    Panic,
}

/// Refresh tokens are `r1`, `r2`, …, access tokens `a1`, `a2`, ….
#[derive(Clone, Default)]
pub struct Rotating(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Answers wait for a permit, if there is a gate.
    gate: Mutex<Option<Arc<Semaphore>>>,
}

#[derive(Default)]
struct State {
    live: HashSet<String>,
    spent: HashSet<String>,
    reused: Vec<String>,
    revoked: Vec<String>,
    forms: Vec<String>,
    script: VecDeque<Answer>,
    revocations: VecDeque<u16>,
    issued: usize,
    refreshed: usize,
}

impl Rotating {
    /// One whose first refresh token is `r1`.
    pub fn start() -> Self {
        let server = Self::default();
        let mut state = server.lock();
        state.live.insert("r1".into());
        state.issued = 1;
        drop(state);
        server
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    /// What comes next; after that it rotates.
    pub fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        self.lock().script.extend(answers);
    }

    /// The statuses of the next revocations; after that 200. A 400 is `unsupported_token_type`.
    pub fn script_revocations(&self, statuses: impl IntoIterator<Item = u16>) {
        self.lock().revocations.extend(statuses);
    }

    /// A person logs in: there is one more refresh token.
    pub fn log_in(&self, refresh_token: &str) {
        self.lock().live.insert(refresh_token.into());
    }

    /// From now on each answer waits for a permit.
    pub fn gate(&self) -> Arc<Semaphore> {
        let gate = Arc::new(Semaphore::new(0));
        *self.0.gate.lock().unwrap() = Some(Arc::clone(&gate));
        gate
    }

    /// The bodies of the token requests.
    pub fn forms(&self) -> Vec<String> {
        self.lock().forms.clone()
    }

    /// The refresh tokens that came, in order.
    pub fn redeemed(&self) -> Vec<String> {
        let forms = self.forms();
        forms
            .iter()
            .map(|form| param(form, "refresh_token"))
            .collect()
    }

    pub fn requests(&self) -> usize {
        self.lock().forms.len()
    }

    pub fn revoked(&self) -> Vec<String> {
        self.lock().revoked.clone()
    }

    /// The refresh tokens that were redeemed and came again.
    pub fn reused(&self) -> Vec<String> {
        self.lock().reused.clone()
    }

    pub fn endpoint(&self) -> TokenEndpointBuilder {
        let server = self.clone();
        TokenEndpoint::builder("https://as.example/token")
            .client_auth(ClientAuth::basic("id", "pw"))
            .revocation_endpoint("https://as.example/revoke")
            .transport(tower::service_fn(move |request| {
                server.clone().serve(request)
            }))
    }

    pub fn source(&self, first: impl Into<Secret>) -> RefreshToken {
        RefreshToken::new(self.endpoint().build().unwrap(), first)
    }

    async fn serve(self, request: Request<Full<Bytes>>) -> Result<Response<String>, BoxError> {
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await?.to_bytes();
        let form = String::from_utf8(body.to_vec())?;
        let revocation = path == "/revoke";
        let answer = if revocation {
            Ok(self.revoke(&form))
        } else {
            self.grant(form)
        };
        let gate = self.0.gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.acquire().await?.forget();
        }
        answer
    }

    fn revoke(&self, form: &str) -> Response<String> {
        let mut state = self.lock();
        let token = param(form, "token");
        let status = state.revocations.pop_front().unwrap_or(200);
        if status == 200 {
            state.live.remove(&token);
        }
        state.revoked.push(token);
        let answer = Response::builder()
            .status(status)
            .header("retry-after", "5");
        let body = if status == 400 {
            r#"{"error":"unsupported_token_type"}"#
        } else {
            ""
        };
        answer.body(body.into()).unwrap()
    }

    fn grant(&self, form: String) -> Result<Response<String>, BoxError> {
        let mut state = self.lock();
        let sent = param(&form, "refresh_token");
        let next = state.script.pop_front().unwrap_or(Answer::Rotate);
        if next == Answer::Away {
            return Err(io::Error::from(io::ErrorKind::ConnectionRefused).into());
        }
        state.forms.push(form);
        if next == Answer::Unheard {
            return Err(io::Error::from(io::ErrorKind::ConnectionReset).into());
        }
        if next == Answer::Panic {
            drop(state);
            panic!("scripted");
        }
        if next == Answer::Unavailable {
            return Ok(answer(503, String::new()));
        }
        if next == Answer::Busy {
            return Ok(answer(429, String::new()));
        }
        if let Answer::Refuse(status, code) = next {
            return Ok(answer(status, format!(r#"{{"error":"{code}"}}"#)));
        }
        if state.spent.contains(&sent) {
            state.reused.push(sent);
            state.live.clear(); // the whole family
            return Ok(answer(400, r#"{"error":"invalid_grant"}"#.into()));
        }
        if next == Answer::InvalidGrant || !state.live.contains(&sent) {
            return Ok(answer(400, r#"{"error":"invalid_grant"}"#.into()));
        }
        let token = |n: usize| {
            format!(r#"{{"access_token":"a{n}","token_type":"Bearer","expires_in":3600"#)
        };
        if let Answer::Keep(member) = next {
            state.refreshed += 1;
            return Ok(answer(200, format!("{}{member}}}", token(state.refreshed))));
        }
        state.live.remove(&sent);
        state.spent.insert(sent);
        state.issued += 1;
        if next != Answer::RotateWithOldAccess {
            state.refreshed += 1;
        }
        let new = format!("r{}", state.issued);
        let access = match next {
            Answer::RotateWithBadAccess => r#"{"access_token":"a b""#.into(),
            _ => token(state.refreshed),
        };
        let body = format!(r#"{access},"refresh_token":"{new}"}}"#);
        state.live.insert(new);
        if next == Answer::Lost {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(answer(200, body))
    }
}

fn answer(status: u16, body: String) -> Response<String> {
    Response::builder().status(status).body(body).unwrap()
}

fn param(form: &str, name: &str) -> String {
    let mut pairs = form_urlencoded::parse(form.as_bytes());
    let (_, value) = pairs.find(|(key, _)| key == name).unwrap();
    value.into_owned()
}
