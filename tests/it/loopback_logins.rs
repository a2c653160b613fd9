//! Logins that listen on this machine: any page of the user's browser can reach the port, and only
//! the one right request counts.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
    time::Instant,
};
use tower_oauth::{AuthorizationCode, LoginError, LoopbackLogin, RefreshToken};

use crate::{
    logins::param,
    support::{
        endpoint::{Endpoint, TOKEN, json},
        secs,
    },
};

struct Waiting {
    address: String,
    state: String,
    outcome: JoinHandle<Result<RefreshToken, LoginError>>,
}

async fn start(login: LoopbackLogin) -> Waiting {
    let (show, shown) = oneshot::channel();
    let outcome = tokio::spawn(login.login(move |url| show.send(url.to_owned()).unwrap()));
    let url = shown.await.unwrap();
    let redirect = param(&url, "redirect_uri");
    let (address, _) = redirect
        .strip_prefix("http://")
        .unwrap()
        .split_once('/')
        .unwrap();
    Waiting {
        address: address.to_owned(),
        state: param(&url, "state"),
        outcome,
    }
}

impl Waiting {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).await.unwrap()
    }

    /// What is answered to these bytes.
    async fn send(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        // The server may have heard enough before the end.
        let _ = stream.write_all(bytes.as_ref()).await;
        let _ = stream.shutdown().await;
        rest(stream).await
    }

    async fn get(&self, target: &str) -> String {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"))
            .await
    }

    async fn finish(self, rest: &str) -> (String, Result<RefreshToken, LoginError>) {
        let page = self.get(&format!("/?state={}&{rest}", self.state)).await;
        (page, self.outcome.await.unwrap())
    }
}

async fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

fn login(server: &Endpoint) -> LoopbackLogin {
    AuthorizationCode::listen_on_loopback(server.build())
}

fn status(answer: &str) -> &str {
    answer.get(..12).unwrap_or(answer)
}

#[tokio::test]
async fn a_login_in_one_call() {
    let server = Endpoint::replying([json(200, TOKEN)]);
    let waiting = start(login(&server).scope("read").param("prompt", "login")).await;
    let port = waiting
        .address
        .strip_prefix("127.0.0.1:")
        .unwrap()
        .to_owned();
    let (page, outcome) = waiting.finish("code=c%2Fd").await;
    outcome.unwrap();
    assert_eq!(status(&page), "HTTP/1.1 200");
    assert!(page.contains("You can close this window."), "{page}");
    assert!(page.contains("Cache-Control: no-store"), "{page}");
    assert!(page.contains("Referrer-Policy: no-referrer"), "{page}");
    assert!(!page.contains("c%2Fd") && !page.contains("c/d"), "{page}");
    let body = server.bodies().concat();
    let expected = format!(
        "grant_type=authorization_code&code=c%2Fd&redirect_uri=http%3A%2F%2F127.0.0.1%3A{port}%2F&\
         code_verifier="
    );
    assert!(body.starts_with(&expected), "{body}");
}

#[tokio::test]
async fn what_is_not_the_answer_changes_nothing() {
    let server = Endpoint::replying([json(200, TOKEN)]);
    let waiting = start(login(&server)).await;
    let right = format!("state={}", waiting.state);
    for (target, expected) in [
        ("/favicon.ico", "HTTP/1.1 404"),
        (&*format!("/other?code=c&{right}"), "HTTP/1.1 404"),
        (&*format!("//?code=c&{right}"), "HTTP/1.1 404"),
        ("/", "HTTP/1.1 400"),
        ("/?code=c", "HTTP/1.1 400"),
        ("/?code=c&state=guessed", "HTTP/1.1 400"),
        ("/?error=access_denied&state=guessed", "HTTP/1.1 400"),
        (&*format!("/?code=c&{right}&{right}"), "HTTP/1.1 400"),
    ] {
        assert_eq!(status(&waiting.get(target).await), expected, "{target}");
    }
    let huge = format!(
        "GET /?code=c&{right}&x={} HTTP/1.1\r\n\r\n",
        "x".repeat(20_000)
    );
    for (bytes, expected) in [
        (&b""[..], "HTTP/1.1 400"),
        (b"\r\n\r\n", "HTTP/1.1 400"),
        (b"\x16\x03\x01\x02\0\x01\0\r\n\r\n", "HTTP/1.1 400"),
        (b"\xff\xfe\n\n", "HTTP/1.1 400"),
        (b"GET / HTTP/1.1 x\r\n\r\n", "HTTP/1.1 400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/1.1 400"),
        (huge.as_bytes(), "HTTP/1.1 400"),
        (&b"GET / HTTP/1.1\r\nx: y\r\n".repeat(3000), "HTTP/1.1 400"),
        // Half a request that has all that is needed.
        (
            format!("GET /?code=c&{right} HTTP/1.1\r\nHost: x\r\n").as_bytes(),
            "HTTP/1.1 400",
        ),
        (
            format!("POST /?code=c&{right} HTTP/1.1\r\n\r\n").as_bytes(),
            "HTTP/1.1 405",
        ),
        (
            format!("HEAD /?code=c&{right} HTTP/1.1\r\n\r\n").as_bytes(),
            "HTTP/1.1 405",
        ),
    ] {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        assert_eq!(status(&waiting.send(bytes).await), expected, "{shown:?}");
    }
    assert!(server.asked().is_empty());
    let (page, outcome) = waiting.finish("code=c").await;
    assert_eq!(status(&page), "HTTP/1.1 200");
    outcome.unwrap();
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn slow_connections_keep_nobody_waiting() {
    let server = Endpoint::replying([json(200, TOKEN)]);
    let waiting = start(login(&server)).await;
    let mut slow = Vec::new();
    for _ in 0..30 {
        let mut stream = waiting.connect().await;
        stream.write_all(b"GET /?code=").await.unwrap();
        slow.push(stream);
    }
    let mut drop_by_drop = waiting.connect().await;
    let target = format!("GET /?code=c&state={} HTTP/1.1\nhost: x\n\n", waiting.state);
    for byte in target.as_bytes() {
        drop_by_drop.write_all(&[*byte]).await.unwrap();
    }
    assert_eq!(status(&rest(drop_by_drop).await), "HTTP/1.1 200");
    waiting.outcome.await.unwrap().unwrap();
    for stream in slow {
        assert_eq!(rest(stream).await, "", "closed with the login");
    }
}

#[tokio::test]
async fn two_logins_at_once_are_two() {
    let servers = [(); 2].map(|()| Endpoint::replying([json(200, TOKEN)]));
    let one = start(login(&servers[0])).await;
    let other = start(login(&servers[1])).await;
    assert_ne!(one.address, other.address);
    // The answer to one, sent to the other.
    let crossed = other.get(&format!("/?code=c&state={}", one.state)).await;
    assert_eq!(status(&crossed), "HTTP/1.1 400");
    assert!(servers.iter().all(|server| server.asked().is_empty()));
    other.finish("code=c2").await.1.unwrap();
    one.finish("code=c1").await.1.unwrap();
    for (server, code) in servers.iter().zip(["&code=c1&", "&code=c2&"]) {
        let body = server.bodies().concat();
        assert!(body.contains(code), "{body}");
    }
}

#[tokio::test]
async fn a_no_is_told_to_the_user_and_to_the_program() {
    let server = Endpoint::replying([]);
    let waiting = start(login(&server)).await;
    let (page, outcome) = waiting.finish("error=access_denied").await;
    assert!(page.contains("The login failed"), "{page}");
    let error = outcome.unwrap_err();
    assert_eq!(error.oauth_code(), Some("access_denied"));
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn a_port_and_a_path_may_be_given() {
    let server = Endpoint::replying([json(200, TOKEN)]);
    let waiting = start(login(&server).path("/cb")).await;
    let port: u16 = waiting.address.rsplit(':').next().unwrap().parse().unwrap();

    let error = login(&server).port(port).login(|_| ()).await.unwrap_err();
    assert!(matches!(error, LoginError::Listen { .. }), "{error:?}");
    let shown = error.to_string();
    assert!(shown.contains(&format!("127.0.0.1:{port}")), "{shown}");
    assert!(shown.contains("another port"), "{shown}");

    assert_eq!(status(&waiting.get("/").await), "HTTP/1.1 404");
    let target = format!("/cb?code=c&state={}", waiting.state);
    assert_eq!(status(&waiting.get(&target).await), "HTTP/1.1 200");
    waiting.outcome.await.unwrap().unwrap();
    for path in ["", "cb", "/cb?x=1", "/c b", "/cb#x"] {
        let error = login(&server).path(path).login(|_| ()).await.unwrap_err();
        assert!(matches!(error, LoginError::RedirectUri { .. }), "{path}");
    }
}

#[tokio::test]
async fn a_login_that_is_given_up_closes_its_port() {
    let server = Endpoint::replying([]);
    let waiting = start(login(&server)).await;
    let mut open = waiting.connect().await;
    open.write_all(b"GET").await.unwrap();
    waiting.outcome.abort();
    assert!(waiting.outcome.await.unwrap_err().is_cancelled());
    assert_eq!(rest(open).await, "");
    assert!(TcpStream::connect(&waiting.address).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn nobody_is_waited_for_longer_than_the_limit() {
    let server = Endpoint::replying([]);
    for (login, limit) in [
        (login(&server), secs(300)),
        (login(&server).timeout(secs(7)), secs(7)),
    ] {
        let start = Instant::now();
        let error = login.login(|_| ()).await.unwrap_err();
        assert!(start.elapsed() - limit < Duration::from_millis(10));
        assert!(matches!(error, LoginError::TimedOut { .. }), "{error:?}");
        let shown = error.to_string();
        assert!(shown.contains(&format!("{limit:?}")), "{shown}");
    }
}

#[tokio::test]
async fn connections_that_say_nothing_do_not_keep_the_browser_out() {
    let server = Endpoint::replying([]);
    let login = start(AuthorizationCode::listen_on_loopback(server.build())).await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(login.connect().await);
    }
    // Less than such a connection may last.
    let answer = tokio::time::timeout(secs(5), login.get("/nothing")).await;
    assert!(answer.unwrap().starts_with("HTTP/1.1 404"));
    login.outcome.abort();
}
