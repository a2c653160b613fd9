//! A server that refuses uploads when the first KiB is there, over HTTP/1.1 and HTTP/2, and takes
//! them with the next token.

use std::{
    convert::Infallible,
    error::Error,
    fmt,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, channel::Channel};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{Barrier, watch},
};

use super::{
    http1::{self, Answers, Head, Requests},
    servers::lock,
    sockets::{Running, accept},
    wire::Protocol,
};

pub const UPLOAD: usize = 1024 * 1024;
const CHUNK: usize = 32 * 1024;
/// How much the system takes on either side, in bytes.
pub const SOCKET: u32 = 32 * 1024;
/// Of a body, the server reads so much before it refuses.
const ENOUGH: usize = 1024;
pub const WORDS: &[u8] = b"the server's own words";

/// The body of the refusal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Words {
    None,
    WithTheHead,
    InALaterPacket,
    WithoutEnd,
}

/// What the server does with the rest of an upload that it refused.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rest {
    /// HTTP/1.1: closes as RFC 9112 §9.6 says: its own side first, and reads on until the client
    /// closes. HTTP/2: resets the stream.
    Close,
    /// Reads on, and would take another request.
    ReadOn,
    /// Neither reads nor closes as long as the round lasts.
    Ignore,
    /// Closes at once, with bytes unread: a reset, which may overtake the answer. HTTP/1.1 only.
    Slam,
}

/// A number of uploads at the same time, all of which are refused once.
pub struct Round {
    /// Uploads with `token-<round>` are refused, those with the next token taken.
    pub number: usize,
    pub words: Words,
    pub rest: Rest,
    /// Refusals go out when all uploads have begun.
    begun: Barrier,
    over: watch::Sender<bool>,
    /// The sends of each upload.
    sends: Vec<AtomicUsize>,
    pub connections: AtomicUsize,
}

impl Round {
    pub fn new(number: usize, uploads: usize, words: Words, rest: Rest) -> Self {
        Self {
            number,
            words,
            rest,
            begun: Barrier::new(uploads),
            over: watch::Sender::new(false),
            sends: (0..uploads).map(|_| AtomicUsize::new(0)).collect(),
            connections: AtomicUsize::new(0),
        }
    }

    pub fn end(&self) {
        self.over.send_replace(true);
    }

    async fn ended(&self) {
        self.over.subscribe().wait_for(|over| *over).await.unwrap();
    }

    pub fn sends_of(&self, upload: usize) -> usize {
        self.sends[upload].load(Ordering::SeqCst)
    }

    /// Which send of which upload this is; `Err` is whether a request without a body is welcome.
    fn send(&self, id: Option<&str>, token: &str) -> Result<usize, bool> {
        let good = token == format!("token-{}", self.number + 1);
        let Some(id) = id else {
            return Err(good);
        };
        let upload: usize = id.parse().unwrap();
        let send = self.sends[upload].fetch_add(1, Ordering::SeqCst) + 1;
        assert!(send <= 2, "a third send of {upload}");
        assert_eq!(good, send == 2, "send {send} with {token}");
        Ok(send)
    }
}

pub struct Server {
    pub address: SocketAddr,
    state: Arc<State>,
    _running: Running,
}

struct State {
    source: Bytes,
    round: Mutex<Arc<Round>>,
    /// What was wrong: a panic in the task of a connection would be lost.
    wrong: Mutex<Vec<String>>,
}

impl Server {
    /// `source` is what all uploads must be.
    pub fn start(protocol: Protocol, source: Bytes) -> Self {
        let idle = Round::new(0, 0, Words::None, Rest::Close);
        let state = Arc::new(State {
            source,
            round: Mutex::new(Arc::new(idle)),
            wrong: Mutex::default(),
        });
        let serving = Arc::clone(&state);
        let (address, running) = accept(small_socket(), move |stream| {
            let state = Arc::clone(&serving);
            state.round().connections.fetch_add(1, Ordering::SeqCst);
            async move {
                match protocol {
                    Protocol::Http1 => over_http1(&state, stream).await,
                    Protocol::Http2 => over_http2(&state, stream).await,
                }
            }
        });
        Self {
            address,
            state,
            _running: running,
        }
    }

    pub fn begin(&self, round: Round) -> Arc<Round> {
        let round = Arc::new(round);
        *lock(&self.state.round) = Arc::clone(&round);
        round
    }

    pub fn check(&self) {
        let wrong = lock(&self.state.wrong);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

/// Otherwise the system takes a whole upload before anybody reads it.
fn small_socket() -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(SOCKET).unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    socket.listen(1024).unwrap()
}

impl State {
    fn round(&self) -> Arc<Round> {
        Arc::clone(&lock(&self.round))
    }

    fn check(&self, ok: bool, what: impl FnOnce() -> String) {
        if !ok {
            lock(&self.wrong).push(what());
        }
    }

    /// Compares some of an upload, and gives where the next begins.
    fn compare(&self, at: usize, some: &[u8]) -> usize {
        let to = at + some.len();
        let same = self.source.get(at..to) == Some(some);
        self.check(same, || format!("bytes {at} to {to} differ"));
        to
    }
}

async fn over_http1(state: &State, stream: TcpStream) {
    let (mut requests, mut answers) = http1::split(stream);
    while let Some(head) = requests.head().await {
        let round = state.round();
        let id = head.header("x-upload").map(str::to_owned);
        match round.send(id.as_deref(), head.token()) {
            Ok(1) => {
                if !refuse(state, &round, &head, &mut requests, &mut answers).await {
                    return;
                }
            }
            Ok(_) => {
                let (mut body, mut at) = (head.body(), 0);
                loop {
                    match requests.some(&mut body).await {
                        Ok(Some(some)) => at = state.compare(at, &some),
                        Ok(None) => break,
                        Err(error) => {
                            state.check(false, || format!("second send: {error}"));
                            return;
                        }
                    }
                }
                state.check(at == UPLOAD, || format!("a second send of {at} bytes"));
                let _ = answers.write(head_of(200, "content-length: 0")).await;
            }
            Err(good) => {
                let status = if good { 200 } else { 401 };
                let _ = answers.write(head_of(status, "content-length: 0")).await;
            }
        }
    }
}

/// Whether the connection is good for another request.
async fn refuse(
    state: &State,
    round: &Round,
    head: &Head,
    requests: &mut Requests,
    answers: &mut Answers,
) -> bool {
    let (mut body, mut at) = (head.body(), 0);
    while at < ENOUGH {
        match requests.some(&mut body).await {
            Ok(Some(some)) => at = state.compare(at, &some),
            other => {
                state.check(false, || format!("before the refusal: {other:?}"));
                return false;
            }
        }
    }
    round.begun.wait().await;
    let answer = async {
        let _ = say(round, answers).await;
        if round.rest == Rest::Close {
            answers.end().await;
        }
    };
    match round.rest {
        Rest::Close => {
            tokio::join!(answer, requests.linger());
            false
        }
        Rest::Slam => {
            answer.await;
            false
        }
        Rest::ReadOn => {
            let reading = async {
                loop {
                    match requests.some(&mut body).await {
                        Ok(Some(some)) => at = state.compare(at, &some),
                        Ok(None) => {
                            // An upload that was given up must not pass for one that ended.
                            state.check(at == UPLOAD, || format!("an end after {at} bytes"));
                            return true;
                        }
                        Err(_) => return false,
                    }
                }
            };
            let ((), whole) = tokio::join!(answer, reading);
            whole
        }
        Rest::Ignore => {
            tokio::select! {
                () = async { answer.await; std::future::pending().await } => {}
                () = round.ended() => {}
            }
            false
        }
    }
}

async fn say(round: &Round, answers: &mut Answers) -> std::io::Result<()> {
    let close = match round.rest {
        Rest::ReadOn => "",
        // A client whose upload fits into the sockets' buffers would send its next request here.
        Rest::Close | Rest::Ignore | Rest::Slam => "connection: close\r\n",
    };
    let length = format!("{close}content-length: {}", WORDS.len());
    match round.words {
        Words::None => {
            let head = head_of(401, &format!("{close}content-length: 0"));
            answers.write(head).await
        }
        Words::WithTheHead => {
            let head = head_of(401, &length);
            answers.write([head.as_bytes(), WORDS].concat()).await
        }
        Words::InALaterPacket => {
            answers.write(head_of(401, &length)).await?;
            tokio::task::yield_now().await;
            answers.write(WORDS).await
        }
        Words::WithoutEnd => {
            let head = head_of(401, &format!("{close}transfer-encoding: chunked"));
            answers.write(head).await?;
            let words = WORDS.repeat(64);
            let size = format!("{:x}\r\n", words.len());
            let chunk = [size.as_bytes(), &words, b"\r\n"].concat();
            loop {
                answers.write(&chunk).await?;
                tokio::task::yield_now().await;
            }
        }
    }
}

fn head_of(status: u16, more: &str) -> String {
    format!("HTTP/1.1 {status} Whatever\r\nx-server: intact\r\n{more}\r\n\r\n")
}

async fn over_http2(state: &Arc<State>, stream: TcpStream) {
    let service = service_fn(move |request| {
        let state = Arc::clone(state);
        async move { Ok::<_, Infallible>(answer(&state, request).await) }
    });
    let mut server = http2::Builder::new(TokioExecutor::new());
    server
        .max_concurrent_streams(1000)
        // Uploads that aren't read must not keep the window from those that are.
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(1000 * STREAM_WINDOW)
        .max_frame_size(CHUNK as u32);
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

const STREAM_WINDOW: u32 = 128 * 1024;

async fn answer(state: &Arc<State>, request: Request<Incoming>) -> Response<Channel<Bytes, Over>> {
    let round = state.round();
    let (head, mut body) = request.into_parts();
    let header = |name| {
        let value = head.headers.get(name)?;
        Some(value.to_str().unwrap().to_owned())
    };
    let token = header("authorization").unwrap_or_default();
    let token = token.trim_start_matches("Bearer ");
    match round.send(header("x-upload").as_deref(), token) {
        Ok(1) => {}
        Ok(_) => {
            let at = read(state, &mut body, 0, usize::MAX).await;
            state.check(at == UPLOAD, || format!("a second send of {at} bytes"));
            return response(200, Words::None, &round);
        }
        Err(good) => return response(if good { 200 } else { 401 }, Words::None, &round),
    }
    let at = read(state, &mut body, 0, ENOUGH).await;
    state.check(at >= ENOUGH, || format!("{at} bytes before the refusal"));
    round.begun.wait().await;
    let answer = response(401, round.words, &round);
    let state = Arc::clone(state);
    match round.rest {
        Rest::Close | Rest::Slam => drop(body),
        Rest::ReadOn => {
            tokio::spawn(async move { read(&state, &mut body, at, usize::MAX).await });
        }
        Rest::Ignore => {
            tokio::spawn(async move {
                round.ended().await;
                drop(body);
            });
        }
    }
    answer
}

/// Reads and compares `enough`, or what there is.
async fn read(state: &State, body: &mut Incoming, from: usize, enough: usize) -> usize {
    let mut at = from;
    while at < enough {
        match body.frame().await {
            Some(Ok(frame)) => at = state.compare(at, &frame.into_data().unwrap()),
            Some(Err(_)) => break,
            None => {
                // An upload that was given up must not pass for one that ended.
                state.check(at == UPLOAD, || format!("an end after {at} bytes"));
                break;
            }
        }
    }
    at
}

fn response(status: u16, words: Words, round: &Arc<Round>) -> Response<Channel<Bytes, Over>> {
    let (mut sender, body) = Channel::new(1);
    // Over HTTP/2 the head is a frame of its own, and what comes with it as good as later.
    if words != Words::None {
        let round = Arc::clone(round);
        tokio::spawn(async move {
            if words != Words::WithoutEnd {
                let _ = sender.send_data(Bytes::from_static(WORDS)).await;
                return;
            }
            // Not in small frames, which h2 takes for an attack if nobody reads them.
            let words = Bytes::from(WORDS.repeat(64));
            let writing = async {
                while sender.send_data(words.clone()).await.is_ok() {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                () = writing => {}
                // An upload that waits for the server's window isn't reset by hyper's client when
                // it is given up: the server has to.
                () = round.ended() => sender.abort(Over),
            }
        });
    }
    Response::builder()
        .status(status)
        .header("x-server", "intact")
        .body(body)
        .unwrap()
}

/// The server is tired of an answer without end.
#[derive(Debug)]
struct Over;

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("over")
    }
}

impl Error for Over {}

/// One upload: slices of one text that all share.
pub struct Upload {
    source: Bytes,
    length_is_known: bool,
}

impl Upload {
    pub fn of(source: &Bytes, length_is_known: bool) -> Self {
        Self {
            source: source.clone(),
            length_is_known,
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let chunk = CHUNK.min(self.source.len());
        let chunk = self.source.split_to(chunk);
        Poll::Ready((!chunk.is_empty()).then(|| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.length_is_known && self.source.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        match self.length_is_known {
            true => SizeHint::with_exact(self.source.len() as u64),
            false => SizeHint::default(),
        }
    }
}
