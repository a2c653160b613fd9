//! *Refused*: RST_STREAM, GOAWAY and broken connections at every point of an exchange. No POST is
//! applied twice, none is sent a third time, and the error is the transport's own.

use std::{
    future::pending,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use h2::{Reason, RecvStream, server::SendResponse};
use http::{Request, Response};
use http_body_util::{BodyExt, channel::Channel};
use hyper_util::{
    client::legacy::{Client as Hyper, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{
    net::TcpStream,
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};
use tower::Layer;
use tower_oauth::{OAuthLayer, TokenCache, TokenError};

use crate::support::{
    http1, secs,
    servers::lock,
    sockets::{Running, listen},
    source::{Ledger, numbered},
    wire::{Body, Client, Line, Protocol, full, send},
};

const FIRST: &str = "two green ";
const SECOND: &str = "widgets";

/// Where in an exchange it happens.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Point {
    /// Before the server has read the head of the request; only of the first.
    Connected,
    HeadRead,
    /// A streamed body waits here until the server has acted or reads on.
    SomeRead,
    AllRead,
    HeadSent,
    SomeSent,
    AllSent,
}

const POINTS: [Point; 7] = [
    Point::Connected,
    Point::HeadRead,
    Point::SomeRead,
    Point::AllRead,
    Point::HeadSent,
    Point::SomeSent,
    Point::AllSent,
];

/// What happens there.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Act {
    /// HTTP/2: RST_STREAM.
    Reset(Reason),
    /// HTTP/2: GOAWAY that says that no stream was processed (RFC 9113 §6.8), and nothing more.
    GoAwayBelow(Reason),
    /// HTTP/2: GOAWAY that says that no later stream will be processed; the exchange goes on.
    GoAwayAt(Reason),
    /// HTTP/2: GOAWAY in two steps, as RFC 9113 §6.8 recommends; the exchange goes on.
    Graceful,
    /// HTTP/2: GOAWAY, and the connection is closed.
    Abrupt,
    /// The connection is closed.
    HangUp,
    /// The connection is closed by RST in place of FIN.
    HangUpRudely,
}

const REASONS: [Reason; 5] = [
    Reason::NO_ERROR,
    Reason::CANCEL,
    Reason::REFUSED_STREAM,
    Reason::INTERNAL_ERROR,
    Reason::ENHANCE_YOUR_CALM,
];

#[derive(Debug, Clone, Copy)]
struct Case {
    protocol: Protocol,
    /// Of which send; the first is refused in any case, the second taken.
    send: usize,
    point: Point,
    act: Act,
    streamed: bool,
    /// Hyper's own retries, of requests that were never started.
    retries_unstarted: bool,
}

fn cases(protocol: Protocol) -> Vec<Case> {
    let mut acts = vec![Act::HangUp, Act::HangUpRudely];
    if protocol == Protocol::Http2 {
        acts.extend(REASONS.map(Act::Reset));
        for reason in [Reason::NO_ERROR, Reason::ENHANCE_YOUR_CALM] {
            acts.extend([Act::GoAwayBelow(reason), Act::GoAwayAt(reason)]);
        }
        acts.extend([Act::Graceful, Act::Abrupt]);
    }
    let mut cases = Vec::new();
    for act in acts {
        for (send, point) in [1, 2]
            .into_iter()
            .flat_map(|n| POINTS.map(|point| (n, point)))
        {
            // Before the second head comes, the first answer was sent; and what has no stream yet
            // can't be reset.
            let connected = point == Point::Connected;
            if connected && (send == 2 || matches!(act, Act::Reset(_))) {
                continue;
            }
            for streamed in [false, true] {
                cases.extend([false, true].map(|retries_unstarted| Case {
                    protocol,
                    send,
                    point,
                    act,
                    streamed,
                    retries_unstarted,
                }));
            }
        }
    }
    cases
}

/// What the server knows.
struct Server {
    case: Case,
    sends: AtomicUsize,
    /// How often the request was read whole with a token that is taken.
    applied: AtomicUsize,
    acted: AtomicUsize,
    /// Bodies that came as whole ones and weren't. A panic would end only the exchange.
    short: Mutex<Vec<String>>,
    /// A streamed body may go on.
    go_on: watch::Sender<bool>,
}

impl Server {
    fn start(case: Case) -> (SocketAddr, Arc<Self>, Running) {
        let server = Arc::new(Self {
            case,
            sends: AtomicUsize::new(0),
            applied: AtomicUsize::new(0),
            acted: AtomicUsize::new(0),
            short: Mutex::default(),
            go_on: watch::Sender::new(false),
        });
        let serving = Arc::clone(&server);
        let (address, running) = listen(move |stream| {
            let server = Arc::clone(&serving);
            async move {
                match server.case.protocol {
                    Protocol::Http1 => server.over_http1(stream).await,
                    Protocol::Http2 => server.over_http2(stream).await,
                }
            }
        });
        (address, server, running)
    }

    /// What happens at this point of this send, which is only once.
    fn act(&self, send: usize, point: Point) -> Option<Act> {
        let here = self.case.send == send && self.case.point == point;
        if !here || self.acted.fetch_add(1, SeqCst) > 0 {
            return None;
        }
        self.go_on.send_replace(true);
        Some(self.case.act)
    }

    /// Counts a send of the request in question; others are 0.
    fn count(&self, id: Option<&str>) -> usize {
        match id {
            Some("the one") => self.sends.fetch_add(1, SeqCst) + 1,
            _ => 0,
        }
    }

    /// Whether the token is taken.
    fn judge(&self, send: usize, token: &str, body: &[u8]) -> bool {
        if send == 0 {
            return true;
        }
        if body != [FIRST, SECOND].concat().as_bytes() {
            let body = String::from_utf8_lossy(body);
            lock(&self.short).push(format!("{body:?} of send {send}"));
        }
        let taken = token != "token-1";
        self.applied.fetch_add(usize::from(taken), SeqCst);
        taken
    }

    async fn over_http2(self: Arc<Self>, stream: TcpStream) {
        if self.case.act == Act::HangUpRudely {
            stream.set_zero_linger().unwrap();
        }
        let (stream, line) = Line::of(stream);
        let Ok(mut http2) = h2::server::handshake(stream).await else {
            return;
        };
        let (wishes, mut wished) = mpsc::unbounded_channel();
        if let Some(act) = self.act(1, Point::Connected) {
            wishes.send((act, 0)).unwrap();
        }
        let mut exchanges = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                Some((act, stream)) = wished.recv() => match act {
                    Act::GoAwayBelow(reason) => line.go_away(0, reason.into()),
                    Act::GoAwayAt(reason) => line.go_away(stream, reason.into()),
                    Act::Graceful => http2.graceful_shutdown(),
                    Act::Abrupt => http2.abrupt_shutdown(Reason::INTERNAL_ERROR),
                    Act::HangUp => return line.hang_up(),
                    Act::HangUpRudely => return,
                    Act::Reset(_) => {}
                },
                accepted = http2.accept() => match accepted {
                    Some(Ok((request, answer))) => {
                        let server = Arc::clone(&self);
                        exchanges.spawn(server.exchange(request, answer, wishes.clone()));
                    }
                    _ => return,
                },
            }
        }
    }

    async fn exchange(
        self: Arc<Self>,
        request: Request<RecvStream>,
        mut answer: SendResponse<Bytes>,
        wishes: mpsc::UnboundedSender<(Act, u32)>,
    ) -> Option<()> {
        let header = |name| {
            request
                .headers()
                .get(name)
                .map(|value| value.to_str().unwrap())
        };
        let send = self.count(header("x-request-id"));
        let token = header("authorization").unwrap_or_default();
        let token = token.trim_start_matches("Bearer ").to_owned();
        let stream = answer.stream_id().as_u32();
        // Whether the exchange goes on, and if the stream is to be reset, why.
        let act = |point| match self.act(send, point) {
            None => Ok(()),
            Some(Act::Reset(reason)) => Err(Some(reason)),
            Some(act) => {
                let _ = wishes.send((act, stream));
                match act {
                    Act::Graceful | Act::GoAwayAt(_) => Ok(()),
                    _ => Err(None),
                }
            }
        };
        let mut body = request.into_body();
        let mut all = Vec::new();
        let read = async {
            act(Point::HeadRead)?;
            while let Some(some) = body.data().await {
                let Ok(some) = some else {
                    return Err(None);
                };
                let _ = body.flow_control().release_capacity(some.len());
                if all.is_empty() {
                    act(Point::SomeRead)?;
                    self.go_on.send_replace(true);
                }
                all.extend(&some);
            }
            let taken = self.judge(send, &token, &all);
            act(Point::AllRead)?;
            Ok(taken)
        };
        let status = match read.await {
            Ok(true) => 200,
            Ok(false) => 401,
            Err(None) => return pending().await,
            Err(Some(reason)) => {
                answer.send_reset(reason);
                return Some(());
            }
        };
        let head = Response::builder().status(status).body(()).unwrap();
        let mut words = answer.send_response(head, false).ok()?;
        for (point, some, end) in [
            (Point::HeadSent, "some ", false),
            (Point::SomeSent, "words", true),
            (Point::AllSent, "", true),
        ] {
            // So that what was said is on its way.
            tokio::task::yield_now().await;
            match act(point) {
                Ok(()) => {}
                Err(None) => return pending().await,
                Err(Some(reason)) => {
                    words.send_reset(reason);
                    return Some(());
                }
            }
            if !some.is_empty() {
                words.send_data(some.into(), end).ok()?;
            }
        }
        Some(())
    }

    async fn over_http1(self: Arc<Self>, stream: TcpStream) {
        let (mut requests, answers) = http1::split(stream);
        if let Some(rude @ (Act::HangUp | Act::HangUpRudely)) = self.act(1, Point::Connected) {
            if rude == Act::HangUpRudely {
                requests.close_rudely();
            }
            return;
        }
        let mut answers = answers;
        while self
            .one_over_http1(&mut requests, &mut answers)
            .await
            .is_some()
        {}
    }

    /// `None` if the connection is to be closed.
    async fn one_over_http1(
        &self,
        requests: &mut http1::Requests,
        answers: &mut http1::Answers,
    ) -> Option<()> {
        let head = requests.head().await?;
        let send = self.count(head.header("x-request-id"));
        let act = |requests: &http1::Requests, point| match self.act(send, point) {
            None => Some(()),
            Some(act) => {
                if act == Act::HangUpRudely {
                    requests.close_rudely();
                }
                None
            }
        };
        act(requests, Point::HeadRead)?;
        let mut body = head.body();
        let mut all = Vec::new();
        while let Some(some) = requests.some(&mut body).await.ok()? {
            if all.is_empty() {
                act(requests, Point::SomeRead)?;
                self.go_on.send_replace(true);
            }
            all.extend(&some);
        }
        let status = match self.judge(send, head.token(), &all) {
            true => "200 OK",
            false => "401 Unauthorized",
        };
        act(requests, Point::AllRead)?;
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: 10\r\n\r\n");
        for (point, some) in [
            (Point::HeadSent, head.as_str()),
            (Point::SomeSent, "some "),
            (Point::AllSent, "words"),
        ] {
            answers.write(some).await.ok()?;
            act(requests, point)?;
        }
        Some(())
    }
}

struct Peers {
    server: Arc<Server>,
    origin: String,
    client: Client,
    cache: TokenCache,
    ledger: Ledger,
    _running: Running,
}

impl Peers {
    fn meet(case: Case) -> Self {
        let (address, server, running) = Server::start(case);
        let origin = format!("http://{address}");
        let (ledger, tokens) = numbered(secs(3600));
        let cache = TokenCache::from(tokens);
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let pool = Hyper::builder(TokioExecutor::new())
            .http2_only(case.protocol == Protocol::Http2)
            .retry_canceled_requests(case.retries_unstarted)
            .build(connector);
        let layer = OAuthLayer::for_origin(&origin, cache.clone()).unwrap();
        Self {
            server,
            origin,
            client: layer.layer(pool),
            cache,
            ledger,
            _running: running,
        }
    }

    /// The status, or whose error it was.
    async fn post(&self, id: &str, body: Body) -> Result<u16, String> {
        let request = Request::post(&self.origin).header("x-request-id", id);
        let answer = send(&self.client, request.body(body).unwrap());
        let answer = timeout(secs(30), answer).await;
        match answer.map_err(|_| "hangs")? {
            Ok(answer) => Ok(answer.status().as_u16()),
            Err(error) if error.is::<TokenError>() => Err("ours".to_owned()),
            Err(error) if error.is::<hyper_util::client::legacy::Error>() => Ok(0),
            // The answer broke off.
            Err(error) if error.is::<hyper::Error>() => Ok(0),
            Err(error) => Err(format!("whose? {error}")),
        }
    }
}

impl Case {
    fn body(self, go_on: &watch::Sender<bool>) -> Body {
        if !self.streamed {
            return full([FIRST, SECOND].concat());
        }
        let (mut sender, body) = Channel::<Bytes, io::Error>::new(1);
        let mut go_on = go_on.subscribe();
        tokio::spawn(async move {
            let _ = sender.send_data(Bytes::from_static(FIRST.as_bytes())).await;
            let _ = go_on.wait_for(|go_on| *go_on).await;
            let _ = sender
                .send_data(Bytes::from_static(SECOND.as_bytes()))
                .await;
        });
        body.boxed_unsync()
    }

    /// Runs it, and gives what became of the request (0 is a transport error) or what was wrong.
    async fn run(self) -> Result<u16, String> {
        let peers = Peers::meet(self);
        let server = &peers.server;
        let status = peers.post("the one", self.body(&server.go_on)).await?;
        let (sends, applied) = (server.sends.load(SeqCst), server.applied.load(SeqCst));
        let check = |ok: bool, what: &str| {
            let state = format!("{status}, {sends} sends, {applied} applied");
            ok.then_some(()).ok_or(format!("{what}: {state}"))
        };
        check(sends <= 2, "a third send")?;
        check(applied <= 1, "applied twice")?;
        check(status != 401, "a refusal came through")?;
        check(status == 0 || applied == 1, "a success of nothing")?;
        check(server.acted.load(SeqCst) > 0, "nothing happened")?;
        // What breaks before the refusal is in, isn't sent again by us.
        let refused = self.send == 2 || self.point_is_in_the_answer();
        check(refused || self.goes_on() || sends <= 1, "sent again")?;
        // rule 41: a transport error is no reason to distrust the token.
        check(peers.cache.has_token(), "the token is gone")?;
        check(peers.ledger.calls() <= 2, "more tokens than needed")?;
        // The next connection may be on its way out as well, but no more than that one.
        let mut works = false;
        for _ in 0..3 {
            works = works || peers.post("another", full("x")).await? == 200;
        }
        check(works, "the client is broken")?;
        let short = lock(&server.short).join(", ");
        check(short.is_empty(), &format!("short bodies: {short}"))?;
        Ok(status)
    }

    fn point_is_in_the_answer(self) -> bool {
        matches!(
            self.point,
            Point::HeadSent | Point::SomeSent | Point::AllSent
        )
    }

    fn goes_on(self) -> bool {
        matches!(self.act, Act::Graceful | Act::GoAwayAt(_))
            // Nothing was read of the first: hyper may send it on another connection.
            || self.point == Point::Connected
    }
}

async fn all(protocol: Protocol) -> (usize, usize) {
    let (mut wrong, mut through, mut broken) = (Vec::new(), 0, 0);
    for case in cases(protocol) {
        match case.run().await {
            Ok(200) => through += 1,
            Ok(_) => broken += 1,
            Err(what) => wrong.push(format!("{case:?}: {what}")),
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    (through, broken)
}

#[tokio::test]
async fn at_every_point_over_http2() {
    let (through, broken) = all(Protocol::Http2).await;
    // Both are tried: a table whose cases all end alike would try nothing.
    assert!(through > 100 && broken > 100, "{through} {broken}");
}

#[tokio::test]
async fn at_every_point_over_http1() {
    let (through, broken) = all(Protocol::Http1).await;
    assert!(through > 10 && broken > 10, "{through} {broken}");
}
