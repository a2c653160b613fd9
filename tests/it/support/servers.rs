//! An authorization server and a resource server on loopback sockets. Both speak HTTP/1.1 and
//! HTTP/2, keep what they hear, wait where a test tells them to, and end when their handle is
//! dropped, which fails the test if the client broke a rule.

use std::{
    collections::{BTreeMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use form_urlencoded::byte_serialize;
use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use tokio::sync::watch;

use super::{
    sockets::{Heard, Running, Tee, connection, listen},
    wire::{Fault, Line},
};

pub const ID: &str = "client-1";

/// An authorization server: issues `<prefix>1`, `<prefix>2`, …, each for an hour.
pub struct AuthServer {
    pub address: SocketAddr,
    state: Arc<Auth>,
    _running: Running,
}

struct Auth {
    secret: String,
    prefix: String,
    issued: Mutex<usize>,
    live: Mutex<HashSet<String>>,
    heard: Heard,
    asked: watch::Sender<usize>,
    held: watch::Sender<bool>,
    down: watch::Sender<bool>,
}

impl AuthServer {
    pub fn start(secret: &str, prefix: &str) -> Self {
        let state = Arc::new(Auth {
            secret: secret.to_owned(),
            prefix: prefix.to_owned(),
            issued: Mutex::new(0),
            live: Mutex::default(),
            heard: Heard::default(),
            asked: watch::Sender::new(0),
            held: watch::Sender::new(false),
            down: watch::Sender::new(false),
        });
        let auth = Arc::clone(&state);
        let (address, running) = listen(move |stream| {
            let auth = Arc::clone(&auth);
            async move {
                if *auth.down.borrow() {
                    return; // which hangs up
                }
                let heard = auth.heard.connection();
                let service = service_fn(move |request| {
                    let auth = Arc::clone(&auth);
                    async move { Ok::<_, Fault>(auth.answer(request).await) }
                });
                connection(Tee { stream, heard }, service).await;
            }
        });
        Self {
            address,
            state,
            _running: running,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}/token", self.address)
    }

    /// The token requests, byte for byte: the client keeps no connection, so each has its own.
    pub fn requests(&self) -> Vec<Vec<u8>> {
        self.state.heard.connections()
    }

    /// Waits until so many token requests have come.
    pub async fn asked(&self, times: usize) {
        let mut asked = self.state.asked.subscribe();
        asked.wait_for(|count| *count >= times).await.unwrap();
    }

    /// Token requests are answered after [`release`](Self::release).
    pub fn hold(&self) {
        self.state.held.send_replace(true);
    }

    pub fn release(&self) {
        self.state.held.send_replace(false);
    }

    /// From now on connections are closed at once; or no longer.
    pub fn be_down(&self, down: bool) {
        self.state.down.send_replace(down);
    }

    /// All tokens issued so far are dead.
    pub fn revoke(&self) {
        lock(&self.state.live).clear();
    }

    pub fn issued(&self) -> usize {
        *lock(&self.state.issued)
    }
}

impl Auth {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let form = body.collect().await.unwrap().to_bytes();
        self.asked.send_modify(|count| *count += 1);
        let mut held = self.held.subscribe();
        held.wait_for(|held| !held).await.unwrap();
        if !self.knows(&head.headers, &form) {
            // A server that repeats all it was told.
            let shown = String::from_utf8_lossy(&form);
            let problem = format!("no: {:?} {shown}", raw(&head.headers));
            let problem = serde_json::json!({
                "error": "invalid_client", "error_description": problem,
            });
            return json(401, &problem);
        }
        let number = {
            let mut issued = lock(&self.issued);
            *issued += 1;
            *issued
        };
        let token = format!("{}{number}", self.prefix);
        lock(&self.live).insert(token.clone());
        let token = serde_json::json!({
            "access_token": token, "token_type": "Bearer", "expires_in": 3600,
        });
        json(200, &token)
    }

    fn knows(&self, headers: &HeaderMap, form: &[u8]) -> bool {
        let secret: String = byte_serialize(self.secret.as_bytes()).collect();
        let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("{ID}:{secret}")));
        let by_header = headers.get(AUTHORIZATION).is_some_and(|got| *got == *basic);
        let form: BTreeMap<_, _> = form_urlencoded::parse(form).collect();
        let by_form = form
            .get("client_secret")
            .is_some_and(|got| *got == self.secret);
        by_header != by_form
    }
}

fn json(status: u16, body: &serde_json::Value) -> Response<Full<Bytes>> {
    let answer = Response::builder().status(status);
    let answer = answer.header("content-type", "application/json");
    answer.body(Full::from(body.to_string())).unwrap()
}

/// A resource server that takes the tokens that are alive at the authorization server.
pub struct ApiServer {
    pub address: SocketAddr,
    state: Arc<Api>,
    _running: Running,
}

/// What the resource server got of one send of a request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sent {
    pub line: String,
    /// Without the one token.
    pub headers: Vec<(String, String)>,
    pub token: Option<String>,
    pub body: Bytes,
    pub trailers: HeaderMap,
}

struct Api {
    auth: Arc<Auth>,
    heard: Heard,
    sends: Mutex<BTreeMap<String, Vec<Sent>>>,
    arrived: watch::Sender<usize>,
    held: watch::Sender<bool>,
    fault: Mutex<Option<(usize, Fault)>>,
    violations: Mutex<Vec<String>>,
}

impl ApiServer {
    pub fn start(auth: &AuthServer) -> Self {
        let state = Arc::new(Api {
            auth: Arc::clone(&auth.state),
            heard: Heard::default(),
            sends: Mutex::default(),
            arrived: watch::Sender::new(0),
            held: watch::Sender::new(false),
            fault: Mutex::default(),
            violations: Mutex::default(),
        });
        let api = Arc::clone(&state);
        let (address, running) = listen(move |stream| {
            let api = Arc::clone(&api);
            async move {
                let heard = api.heard.connection();
                let (stream, line) = Line::of(stream);
                let service = service_fn(move |request| {
                    let (api, line) = (Arc::clone(&api), line.clone());
                    async move { api.answer(request, &line).await }
                });
                connection(Tee { stream, heard }, service).await;
            }
        });
        Self {
            address,
            state,
            _running: running,
        }
    }

    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until so many sends have come, of all requests.
    pub async fn arrived(&self, sends: usize) {
        let mut arrived = self.state.arrived.subscribe();
        arrived.wait_for(|count| *count >= sends).await.unwrap();
    }

    /// Requests are judged after [`release`](Self::release).
    pub fn hold(&self) {
        self.state.held.send_replace(true);
    }

    pub fn release(&self) {
        self.state.held.send_replace(false);
    }

    /// The send of this number of any request, from 1, meets `fault` in place of an answer.
    pub fn fail(&self, send: usize, fault: Fault) {
        *lock(&self.state.fault) = Some((send, fault));
    }

    /// The sends of one request, in order.
    pub fn sends_of(&self, id: &str) -> Vec<Sent> {
        let sends = lock(&self.state.sends);
        sends.get(id).cloned().unwrap_or_default()
    }

    /// All sends, of all requests.
    pub fn sends(&self) -> Vec<Sent> {
        lock(&self.state.sends)
            .values()
            .flatten()
            .cloned()
            .collect()
    }

    /// All that was heard: what came over the sockets and, as HTTP/2 packs headers, what it meant.
    pub fn heard(&self) -> Vec<u8> {
        let mut heard = self.state.heard.connections().concat();
        heard.extend(format!("{:?}", lock(&self.state.sends)).bytes());
        heard
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        let violations = lock(&self.state.violations).join("\n");
        assert!(
            violations.is_empty() || std::thread::panicking(),
            "{violations}"
        );
    }
}

impl Api {
    async fn answer(
        &self,
        request: Request<Incoming>,
        line: &Line,
    ) -> Result<Response<Full<Bytes>>, Fault> {
        let (head, mut body) = request.into_parts();
        let id = head.headers.get("x-request-id");
        let id = id.map_or(String::new(), |id| id.to_str().unwrap().to_owned());
        let mut headers = raw(&head.headers);
        headers.retain(|(name, _)| name != "authorization");
        let mut sent = Sent {
            line: format!("{} {} {:?}", head.method, head.uri, head.version),
            headers,
            token: self.token(&head.headers),
            ..Sent::default()
        };
        let nth = {
            let mut sends = lock(&self.sends);
            let of_this = sends.entry(id.clone()).or_default();
            of_this.push(sent.clone());
            of_this.len()
        };
        if nth > 2 {
            self.violation(format!("a third send of {id}"));
        }
        self.arrived.send_modify(|count| *count += 1);
        let mut held = self.held.subscribe();
        held.wait_for(|held| !held).await.unwrap();
        let live = |token: &String| lock(&self.auth.live).contains(token);
        let good = sent.token.as_ref().is_some_and(live);

        // A server in haste refuses as soon as the body has begun.
        let hasty = head.headers.contains_key("x-hasty") && !good;
        let mut bytes = Vec::new();
        // A body may break off: that is for its test to judge.
        while let Some(Ok(frame)) = body.frame().await {
            match frame.into_data() {
                Ok(data) => bytes.extend(&data),
                Err(frame) => sent.trailers = frame.into_trailers().unwrap_or_default(),
            }
            if hasty {
                break;
            }
        }
        sent.body = bytes.into();
        lock(&self.sends).get_mut(&id).unwrap()[nth - 1] = sent.clone();

        let fault = *lock(&self.fault);
        match fault {
            Some((send, fault)) if send == nth => Err(fault.strike(line).await),
            _ if good => Ok(Response::new(Full::from(format!("answer to {id}")))),
            _ => Ok(Response::builder()
                .status(401)
                .header("www-authenticate", "Bearer error=\"invalid_token\"")
                .header("x-server", "intact")
                .body(Full::from(format!("refusal of {id}")))
                .unwrap()),
        }
    }

    /// The one bearer token (rules 26 and 27).
    fn token(&self, headers: &HeaderMap) -> Option<String> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let value = values.next()?.to_str().unwrap();
        if values.next().is_some() {
            self.violation("two Authorization values".to_owned());
        }
        Some(value.strip_prefix("Bearer ").unwrap_or(value).to_owned())
    }

    fn violation(&self, text: String) {
        lock(&self.violations).push(text);
    }
}

fn raw(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let pairs = headers.iter();
    pairs
        .map(|(name, value)| (name.to_string(), text(value)))
        .collect()
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}
