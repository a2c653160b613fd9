//! An upstream on a loopback socket that does what the path of a request says, over HTTP/1.1 and
//! HTTP/2. It keeps what it heard, and a third send of a request fails the test.

use std::{
    collections::HashSet,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header::AUTHORIZATION,
    request::Parts,
};
use http_body_util::{BodyExt, Full, channel::Channel, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{sync::watch, time::timeout};

use crate::support::{
    servers::lock,
    sockets::{Heard, Running, Tee, listen},
};

type Body = UnsyncBoxBody<Bytes, io::Error>;

pub struct Upstream {
    pub address: SocketAddr,
    state: Arc<State>,
    _running: Running,
}

/// What came of one send of a request.
#[derive(Debug, Clone)]
pub struct Send {
    pub line: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: HeaderMap,
    pub end: End,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum End {
    /// It is still being sent.
    Open,
    /// All of it came.
    Whole,
    /// It broke off.
    Broken,
}

#[derive(Default)]
struct State {
    heard: Heard,
    sends: watch::Sender<Vec<Send>>,
    refused: Mutex<HashSet<String>>,
    gate: watch::Sender<bool>,
    violations: Mutex<Vec<String>>,
}

impl Upstream {
    pub fn start() -> Self {
        let state = Arc::<State>::default();
        let serving = Arc::clone(&state);
        let (address, running) = listen(move |stream| {
            let state = Arc::clone(&serving);
            async move {
                let heard = state.heard.connection();
                let service = service_fn(move |request| Arc::clone(&state).answer(request));
                let server = auto::Builder::new(TokioExecutor::new());
                // Who breaks off is for the test to judge.
                let stream = TokioIo::new(Tee { stream, heard });
                let _ = server.serve_connection(stream, service).await;
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

    pub fn sends(&self) -> Vec<Send> {
        self.state.sends.borrow().clone()
    }

    /// The only send of the only request.
    pub fn only(&self) -> Send {
        let sends = self.sends();
        assert_eq!(sends.len(), 1, "{sends:?}");
        sends[0].clone()
    }

    /// What is remembered of requests, but for the sockets, is forgotten.
    pub fn forget(&self) {
        self.state.sends.send_replace(Vec::new());
    }

    pub async fn until(&self, so: impl Fn(&[Send]) -> bool) {
        let mut sends = self.state.sends.subscribe();
        let met = timeout(NET, sends.wait_for(|sends| so(sends))).await;
        drop(met.unwrap_or_else(|_| panic!("it never came to that: {:?}", self.sends())));
    }

    /// From now on this token is answered 401.
    pub fn refuse(&self, token: &str) {
        lock(&self.state.refused).insert(format!("Bearer {token}"));
    }

    /// What waits, goes on; or waits again.
    pub fn open(&self, open: bool) {
        self.state.gate.send_replace(open);
    }

    /// All that came over the sockets, and what it meant, as HTTP/2 packs headers.
    pub fn heard(&self) -> String {
        let bytes = self.state.heard.connections().concat();
        format!("{} {:?}", String::from_utf8_lossy(&bytes), self.sends())
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        let violations = lock(&self.state.violations).join("\n");
        let quiet = violations.is_empty() || std::thread::panicking();
        assert!(quiet, "{violations}");
    }
}

impl State {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> io::Result<Response<Body>> {
        use Step::{Die, Trailers, Wait, Write};
        let (head, body) = request.into_parts();
        let nth = self.note(&head);
        let token = head.headers.get(AUTHORIZATION);
        let token = token.map_or("none", |token| token.to_str().unwrap());
        let refused = lock(&self.refused).contains(token);
        let path = head.uri.path().to_owned();
        if refused {
            let read = match head.headers.get("x-read") {
                Some(bytes) => bytes.to_str().unwrap().parse().unwrap(),
                None => usize::MAX,
            };
            let body = self.read(body, nth, read).await;
            // Closing with unread bytes would be a reset, which may outrun the answer.
            tokio::spawn(async move { drop(self.read(body, nth, usize::MAX).await) });
            return Ok(refusal());
        }
        drop(self.read(body, nth, usize::MAX).await);
        let sent = self.sends.borrow()[nth].clone();
        let answer = Response::builder();
        Ok(match &*path {
            "/echo" => Response::new(full(sent.body)),
            "/stream" => self.play([Write("first "), Wait, Write("last")]),
            "/dies" => self.play([Write("half of "), Wait, Die]),
            "/waits" => {
                self.gate().await;
                Response::new(full("waited"))
            }
            "/trailers" => {
                let sum = sent.trailers.get("x-sum").cloned();
                let sum = sum.unwrap_or(HeaderValue::from_static("none"));
                let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), sum)]);
                let mut answer = self.play([Write("sum:"), Trailers(trailers)]);
                let announced = HeaderValue::from_static("x-sum");
                answer.headers_mut().insert("trailer", announced);
                answer
            }
            "/moved" => answer
                .status(307)
                .header("location", "http://elsewhere.example/")
                .body(full("moved"))
                .unwrap(),
            "/unchanged" => answer
                .status(304)
                .header("etag", "\"7\"")
                .body(full(""))
                .unwrap(),
            "/empty" => answer.status(204).body(full("")).unwrap(),
            "/hops" => answer
                .header("connection", "x-hop, close")
                .header("x-hop", "1")
                .header("keep-alive", "timeout=5")
                .header("proxy-authenticate", "Basic")
                .header("via", "1.1 before")
                .header("proxy-status", "before, egress_proxy; error=dns_error")
                .header("x-end-to-end", "1")
                .body(full("hops"))
                .unwrap(),
            _ if head.method == Method::HEAD => {
                answer.header("content-length", "7").body(full("")).unwrap()
            }
            _ => Response::new(full("hello")),
        })
    }

    fn note(&self, head: &Parts) -> usize {
        let send = Send {
            line: format!("{} {} {:?}", head.method, head.uri, head.version),
            headers: head.headers.clone(),
            body: Vec::new(),
            trailers: HeaderMap::new(),
            end: End::Open,
        };
        let id = head.headers.get("x-request-id").cloned();
        let mut nth = 0;
        self.sends.send_modify(|sends| {
            sends.push(send);
            nth = sends.len() - 1;
        });
        let same = |send: &&Send| send.headers.get("x-request-id") == id.as_ref();
        if self.sends.borrow().iter().filter(same).count() > 2 {
            lock(&self.violations).push(format!("a third send of {id:?}"));
        }
        nth
    }

    /// Reads on, up to at least so many bytes in all.
    async fn read(&self, mut body: Incoming, nth: usize, upto: usize) -> Incoming {
        loop {
            let sofar = self.sends.borrow()[nth].body.len();
            if sofar >= upto {
                return body;
            }
            let frame = body.frame().await;
            let ended = !matches!(frame, Some(Ok(_)));
            self.sends.send_modify(|sends| match frame {
                None => sends[nth].end = End::Whole,
                Some(Err(_)) => sends[nth].end = End::Broken,
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => sends[nth].body.extend(data),
                    Err(frame) => sends[nth].trailers = frame.into_trailers().unwrap(),
                },
            });
            if ended {
                return body;
            }
        }
    }

    async fn gate(&self) {
        let mut gate = self.gate.subscribe();
        gate.wait_for(|open| *open).await.unwrap();
    }
}

/// For a machine that is busy with the other tests.
pub const NET: Duration = Duration::from_secs(120);

fn refusal() -> Response<Body> {
    Response::builder()
        .status(StatusCode::UNAUTHORIZED)
        .header("www-authenticate", "Bearer error=\"invalid_token\"")
        .header("x-server", "intact")
        .body(full("refused by the upstream"))
        .unwrap()
}

fn full(bytes: impl Into<Bytes>) -> Body {
    let body = Full::new(bytes.into());
    body.map_err(|never| match never {}).boxed_unsync()
}

/// What an answer's body does next.
enum Step {
    Write(&'static str),
    Wait,
    Trailers(HeaderMap),
    Die,
}

impl State {
    fn play(self: Arc<Self>, steps: impl IntoIterator<Item = Step>) -> Response<Body> {
        let (mut sender, body) = Channel::new(1);
        let steps: Vec<_> = steps.into_iter().collect();
        tokio::spawn(async move {
            for step in steps {
                let sent = match step {
                    Step::Write(text) => sender.send_data(Bytes::from(text)).await,
                    Step::Wait => {
                        self.gate().await;
                        Ok(())
                    }
                    Step::Trailers(trailers) => sender.send_trailers(trailers).await,
                    Step::Die => return sender.abort(io::Error::other("scripted")),
                };
                if sent.is_err() {
                    return; // nobody reads any more
                }
            }
        });
        Response::new(body.boxed_unsync())
    }
}
