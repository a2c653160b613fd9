//! *Refused*: the first answer is let go before the second send. Its connection is used again if
//! the answer was there, and nothing waits for what isn't.

use std::{future::poll_fn, net::SocketAddr};

use bytes::Bytes;
use h2::{Reason, server::SendResponse};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client as Hyper, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{net::TcpStream, sync::watch, time::timeout};
use tower::{Layer, ServiceExt};
use tower_oauth::{OAuthLayer, TokenCache};

use crate::support::{
    http1, secs,
    sockets::{Running, listen},
    source::numbered,
};

/// The body of the refusal.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Words {
    /// So many bytes, in one piece with the head.
    WithTheHead(usize),
    /// So many bytes in one chunk, in one piece with the head.
    Chunked(usize),
    /// Comes when the second send has come, or the client has hung up.
    Later,
    WithoutEnd,
}

/// Refuses `token-1`.
struct Server {
    address: SocketAddr,
    seen: watch::Sender<Seen>,
    _running: Running,
}

#[derive(Debug, Clone, Default)]
struct Seen {
    connections: usize,
    /// The connection, from 1, and the token of each request.
    sends: Vec<(usize, String)>,
    /// How the stream of an endless refusal ended.
    reset: Option<Reason>,
}

impl Server {
    fn over_http1(words: Words) -> Self {
        Self::start(move |stream, connection, seen| over_http1(stream, connection, seen, words))
    }

    fn start<F>(serve: impl Fn(TcpStream, usize, watch::Sender<Seen>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let seen = watch::Sender::new(Seen::default());
        let kept = seen.clone();
        let (address, running) = listen(move |stream| {
            kept.send_modify(|seen| seen.connections += 1);
            let connection = kept.borrow().connections;
            serve(stream, connection, kept.clone())
        });
        Self {
            address,
            seen,
            _running: running,
        }
    }

    /// Sends one request through a pool, which must come back with 200.
    async fn post(&self, setup: impl FnOnce(&mut hyper_util::client::legacy::Builder)) -> Seen {
        let mut builder = Hyper::builder(TokioExecutor::new());
        setup(&mut builder);
        let pool = builder.build::<_, _>(HttpConnector::new());
        let origin = format!("http://{}", self.address);
        let cache = TokenCache::from(numbered(secs(3600)).1);
        let client = OAuthLayer::for_origin(&origin, cache).unwrap().layer(pool);
        let request = Request::post(&origin).body(Full::<Bytes>::from("two widgets"));
        let answer = timeout(secs(30), client.oneshot(request.unwrap())).await;
        let answer = answer.expect("something waits").unwrap();
        assert_eq!(answer.status(), 200);
        let words = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(words, "thanks");
        let seen = self.seen.borrow().clone();
        let tokens: Vec<_> = seen.sends.iter().map(|(_, token)| token).collect();
        assert_eq!(tokens, ["token-1", "token-2"]);
        seen
    }
}

async fn over_http1(stream: TcpStream, connection: usize, seen: watch::Sender<Seen>, words: Words) {
    let (mut requests, mut answers) = http1::split(stream);
    while let Some(head) = requests.head().await {
        assert_eq!(requests.all(head.body()).await.unwrap(), b"two widgets");
        let send = (connection, head.token().to_owned());
        seen.send_modify(|seen| seen.sends.push(send));
        if head.token() != "token-1" {
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nthanks";
            let _ = answers.write(answer).await;
            continue;
        }
        let head = "HTTP/1.1 401 Unauthorized\r\nx-server: intact\r\n";
        match words {
            Words::WithTheHead(bytes) => {
                let text = "x".repeat(bytes);
                let answer = format!("{head}content-length: {bytes}\r\n\r\n{text}");
                let _ = answers.write(answer).await;
            }
            Words::Chunked(bytes) => {
                let text = "x".repeat(bytes);
                let answer = format!(
                    "{head}transfer-encoding: chunked\r\n\r\n{bytes:x}\r\n{text}\r\n0\r\n\r\n"
                );
                let _ = answers.write(answer).await;
            }
            Words::Later => {
                let answer = format!("{head}content-length: 5\r\n\r\n");
                let _ = answers.write(answer).await;
                let mut others = seen.subscribe();
                tokio::select! {
                    _ = others.wait_for(|seen| seen.sends.len() == 2) => {}
                    () = requests.linger() => {}
                }
                let _ = answers.write("sorry").await;
            }
            Words::WithoutEnd => {
                let answer = format!("{head}transfer-encoding: chunked\r\n\r\n");
                let _ = answers.write(answer).await;
                while answers.write("5\r\nsorry\r\n").await.is_ok() {
                    tokio::task::yield_now().await;
                }
                return;
            }
        }
    }
}

/// With a known length and small, the answer was read when it is let go, and its connection free.
#[tokio::test]
async fn the_connection_of_an_answer_that_was_there_is_used_again() {
    for bytes in [0, 5, 2_000, 7_000] {
        for max_idle in [usize::MAX, 1] {
            let server = Server::over_http1(Words::WithTheHead(bytes));
            let seen = server.post(|pool| {
                pool.pool_max_idle_per_host(max_idle);
            });
            let seen = seen.await;
            assert_eq!((seen.connections, seen.sends[1].0), (1, 1), "{bytes}");
        }
    }
}

/// The end of a chunked or longer answer is read when it is let go: hyper's pool opens a second
/// connection meanwhile, but sends on the first if that is free before the second is there.
#[tokio::test]
async fn the_connection_of_an_answer_that_was_almost_there_is_used_again() {
    for words in [
        Words::Chunked(5),
        Words::Chunked(2_000),
        Words::WithTheHead(20_000),
    ] {
        let seen = Server::over_http1(words).post(|_| {}).await;
        assert_eq!(seen.sends[1].0, 1, "{words:?}: {seen:?}");
    }
}

#[tokio::test]
async fn nothing_waits_for_an_answer_that_is_not_there() {
    for words in [
        Words::WithTheHead(1_000_000),
        Words::Later,
        Words::WithoutEnd,
    ] {
        for max_idle in [usize::MAX, 1, 0] {
            let server = Server::over_http1(words);
            let seen = server.post(|pool| {
                pool.pool_max_idle_per_host(max_idle);
            });
            let seen = seen.await;
            assert_eq!((seen.connections, seen.sends[1].0), (2, 2), "{words:?}");
        }
    }
}

/// The stream of a refusal that goes on is reset, and its connection used again.
#[tokio::test]
async fn over_http2_the_first_stream_is_reset() {
    for endless in [false, true] {
        let server = Server::start(move |stream, connection, seen| async move {
            let mut http2 = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((request, answer))) = http2.accept().await {
                let token =
                    &request.headers()["authorization"].to_str().unwrap()["Bearer ".len()..];
                let send = (connection, token.to_owned());
                seen.send_modify(|seen| seen.sends.push(send));
                tokio::spawn(answer_over_http2(request, answer, seen.clone(), endless));
            }
        });
        let seen = server.post(|builder| {
            builder.http2_only(true);
        });
        let seen = seen.await;
        assert_eq!(seen.connections, 1);
        if endless {
            let mut seen = server.seen.subscribe();
            let seen = timeout(secs(30), seen.wait_for(|seen| seen.reset.is_some())).await;
            assert_eq!(seen.unwrap().unwrap().reset, Some(Reason::CANCEL));
        }
    }
}

async fn answer_over_http2(
    request: Request<h2::RecvStream>,
    mut answer: SendResponse<Bytes>,
    seen: watch::Sender<Seen>,
    endless: bool,
) {
    let refused = request.headers()["authorization"] == "Bearer token-1";
    let mut body = request.into_body();
    while let Some(some) = body.data().await {
        let _ = body.flow_control().release_capacity(some.unwrap().len());
    }
    let status = if refused { 401 } else { 200 };
    let head = Response::builder().status(status).body(()).unwrap();
    let mut words = answer.send_response(head, false).unwrap();
    if !(refused && endless) {
        let text = if refused { "sorry" } else { "thanks" };
        words.send_data(text.into(), true).unwrap();
        return;
    }
    words.send_data("sorry".into(), false).unwrap();
    let reason = poll_fn(|cx| words.poll_reset(cx)).await.unwrap();
    seen.send_modify(|seen| seen.reset = Some(reason));
}
