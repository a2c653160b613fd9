//! An authorization server that replaces each refresh token when it is redeemed, and ends a login
//! whose refresh token comes twice (RFC 9700 §4.14.2), without any grace.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::sleep};
use tower_oauth::BoxError;

use crate::{LEASE, watched::Handed};

pub const CLIENT_ID: &str = "fleet";
/// Which worker sent a request: its process id.
pub const WORKER: &str = "x-worker";

/// A cache lets go of a token a tenth of its lifetime before its end. Who looks at it may be late by
/// this.
const MARGIN: Duration = Duration::from_millis(100);
/// How many answers of a hundred come late.
const LATE: u32 = 3;

pub struct AuthorizationServer {
    pub address: SocketAddr,
    /// Whether some answers come late.
    chaos: bool,
    /// How long an access token lives.
    lifetime: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By their text.
    refresh_tokens: HashMap<String, RefreshToken>,
    /// By their numbers.
    access_tokens: Vec<AccessToken>,
    /// Whether each login, old and new, has been ended.
    families: Vec<bool>,
    random: fastrand::Rng,
    counts: Counts,
    incidents: Vec<String>,
}

struct RefreshToken {
    login: usize,
    family: usize,
    redeemed: u64,
}

struct AccessToken {
    text: String,
    family: usize,
    end: SystemTime,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub token_requests: u64,
    pub rotations: u64,
    /// Answers that came late.
    pub late: u64,
    /// Refresh tokens that came twice.
    pub reuses: u64,
    /// Refresh tokens that were never issued, or of a login that was ended.
    pub refused: u64,
    pub families_revoked: u64,
    /// How often the refresh token was redeemed that was redeemed most often.
    pub most_redeemed: u64,
}

/// What the API learns of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    Good,
    Expired,
    Revoked,
    Unknown,
}

impl AuthorizationServer {
    pub async fn start(chaos: bool, seed: u64, lifetime: Duration) -> Result<Arc<Self>, BoxError> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let server = Arc::new(Self {
            address: listener.local_addr()?,
            chaos,
            lifetime,
            state: Mutex::new(State {
                random: fastrand::Rng::with_seed(seed),
                ..State::default()
            }),
        });
        tokio::spawn(Arc::clone(&server).listen(listener));
        Ok(server)
    }

    async fn listen(self: Arc<Self>, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let server = Arc::clone(&self);
            let _ = stream.set_nodelay(true);
            let service = service_fn(move |request| {
                let server = Arc::clone(&server);
                async move { server.token_endpoint(request).await }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}/token", self.address)
    }

    /// Somebody logs in: the first refresh token of a new family.
    pub fn log_in(&self, login: usize) -> String {
        let mut state = self.lock();
        let family = state.families.len();
        state.families.push(false);
        state.new_refresh_token(login, family)
    }

    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// What there is to tell of reuses and refusals, in order.
    pub fn incidents(&self) -> Vec<String> {
        self.lock().incidents.clone()
    }

    /// What the API asks for each request that it gets.
    pub fn validity(&self, token: &str) -> Validity {
        let state = self.lock();
        let token = number(token)
            .and_then(|number| state.access_tokens.get(number))
            .filter(|known| known.text == token);
        match token {
            None => Validity::Unknown,
            Some(token) if state.families[token.family] => Validity::Revoked,
            Some(token) if token.end <= SystemTime::now() => Validity::Expired,
            Some(_) => Validity::Good,
        }
    }

    /// Whether this token was good at this time, and not only just.
    pub fn was_good(&self, handed: Handed, at: SystemTime) -> bool {
        let state = self.lock();
        let token = state.access_tokens.get(handed.number);
        token.is_some_and(|token| {
            let margin = handed.lifetime / 10 + MARGIN;
            !state.families[token.family] && at + margin <= token.end
        })
    }

    async fn token_endpoint(
        &self,
        request: Request<Incoming>,
    ) -> hyper::Result<Response<Full<Bytes>>> {
        let worker = request.headers().get(WORKER).cloned();
        let form = request.into_body().collect().await?.to_bytes();
        let param = |name: &str| {
            let mut pairs = form_urlencoded::parse(&form);
            let found = pairs.find(|(key, _)| key == name);
            found.map_or_else(String::new, |(_, value)| value.into_owned())
        };
        let (grant, sent) = (param("grant_type"), param("refresh_token"));
        let (status, body, delay) = if grant == "refresh_token" {
            self.redeem(&sent, worker)
        } else {
            let error = json!({ "error": "unsupported_grant_type" });
            (StatusCode::BAD_REQUEST, error, Duration::ZERO)
        };
        // It is done by now: whoever is killed while he waits has lost what it brought.
        sleep(delay).await;
        let mut answer = Response::new(Full::from(body.to_string()));
        *answer.status_mut() = status;
        let json = HeaderValue::from_static("application/json");
        answer.headers_mut().insert(CONTENT_TYPE, json);
        let no_store = HeaderValue::from_static("no-store");
        answer.headers_mut().insert(CACHE_CONTROL, no_store);
        Ok(answer)
    }

    fn redeem(&self, sent: &str, worker: Option<HeaderValue>) -> (StatusCode, Value, Duration) {
        let mut state = self.lock();
        let state = &mut *state;
        state.counts.token_requests += 1;
        let refused = (
            StatusCode::BAD_REQUEST,
            json!({ "error": "invalid_grant" }),
            Duration::ZERO,
        );
        let worker = worker.as_ref().and_then(|worker| worker.to_str().ok());
        let worker = worker.unwrap_or("unknown");
        let Some(token) = state.refresh_tokens.get_mut(sent) else {
            state.counts.refused += 1;
            let what = format!("worker {worker} sent a refresh token that was never issued");
            state.incidents.push(what);
            return refused;
        };
        token.redeemed += 1;
        let RefreshToken {
            login,
            family,
            redeemed,
        } = *token;
        state.counts.most_redeemed = state.counts.most_redeemed.max(redeemed);
        if redeemed > 1 {
            state.counts.reuses += 1;
            let is_news = !std::mem::replace(&mut state.families[family], true);
            state.counts.families_revoked += u64::from(is_news);
            state.incidents.push(format!(
                "worker {worker} sent a refresh token of login-{login} for the {redeemed}. time"
            ));
            return refused;
        }
        if state.families[family] {
            state.counts.refused += 1;
            return refused;
        }
        state.counts.rotations += 1;
        let refresh_token = state.new_refresh_token(login, family);
        let delay = if self.chaos && state.random.u32(..100) < LATE {
            state.counts.late += 1;
            LEASE.mul_f64(0.5 + 1.5 * state.random.f64())
        } else {
            Duration::ZERO
        };
        // A token is over by itself soon, but not on its way.
        let lifetime = self.lifetime + Duration::from_secs(delay.as_secs_f64().ceil() as u64);
        let access_token = state.new_access_token(family, lifetime);
        let body = json!({
            "access_token": access_token,
            "token_type": "Bearer",
            "expires_in": lifetime.as_secs(),
            "refresh_token": refresh_token,
        });
        (StatusCode::OK, body, delay)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    // A real server takes a cryptographic random number.
    fn new_refresh_token(&mut self, login: usize, family: usize) -> String {
        let text = format!("r{}-{:032x}", self.refresh_tokens.len(), fastrand::u128(..));
        let token = RefreshToken {
            login,
            family,
            redeemed: 0,
        };
        self.refresh_tokens.insert(text.clone(), token);
        text
    }

    fn new_access_token(&mut self, family: usize, lifetime: Duration) -> String {
        let text = format!("a{}-{:032x}", self.access_tokens.len(), fastrand::u128(..));
        self.access_tokens.push(AccessToken {
            text: text.clone(),
            family,
            end: SystemTime::now() + lifetime,
        });
        text
    }
}

/// The number that an access token begins with.
pub fn number(token: &str) -> Option<usize> {
    let (number, _) = token.strip_prefix('a')?.split_once('-')?;
    number.parse().ok()
}
