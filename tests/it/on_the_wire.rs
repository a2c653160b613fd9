//! *Replaying*, over HTTP/1.1 and sockets: what the server reads.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower::{Layer, Service, ServiceExt};
use tower_oauth::{BoxError, OAuthLayer, ReplayBody};

use crate::support::{
    body::{Script, Step, read},
    secs,
    source::numbered,
};

const NO_BODY: &str = "content-length: 0\r\nconnection: close\r\n\r\n";

/// The head of a request, and as much of its body as came with it.
async fn head(socket: &mut TcpStream) -> (String, Vec<u8>) {
    let mut read = Vec::new();
    loop {
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            let body = read.split_off(end + 4);
            return (String::from_utf8(read).unwrap().to_lowercase(), body);
        }
        assert_ne!(socket.read_buf(&mut read).await.unwrap(), 0, "no head");
    }
}

async fn read_up_to(socket: &mut TcpStream, body: &mut Vec<u8>, length: usize) {
    while body.len() < length {
        assert_ne!(socket.read_buf(body).await.unwrap(), 0, "no whole body");
    }
}

async fn put<B>(listener: &TcpListener, body: B) -> Result<u16, BoxError>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let layer = OAuthLayer::for_origin(&origin, numbered(secs(3600)).1)?.replay_limit(2 << 20);
    let client = layer.layer(Client::builder(TokioExecutor::new()).build_http());
    let request = Request::put(origin).body(body)?;
    Ok(client.oneshot(request).await?.status().as_u16())
}

#[tokio::test]
async fn both_sends_have_the_same_content_length_and_no_chunks() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let body = vec![b'x'; 1234];
    let server = async {
        for (send, status) in [(1, "401 Unauthorized"), (2, "200 OK")] {
            let (mut socket, _) = listener.accept().await.unwrap();
            let (head, mut read) = head(&mut socket).await;
            assert!(head.contains("content-length: 1234\r\n"), "{head}");
            assert!(!head.contains("transfer-encoding"), "{head}");
            assert!(head.contains(&format!("bearer token-{send}\r\n")), "{head}");
            read_up_to(&mut socket, &mut read, 1234).await;
            assert_eq!(read, body);
            let answer = format!("HTTP/1.1 {status}\r\n{NO_BODY}");
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    };
    let put = put(&listener, Full::<Bytes>::from(body.clone()));
    assert_eq!(tokio::join!(put, server).0.unwrap(), 200);
}

/// The server refuses after some of 1 MiB, and goes on reading for as long as the client sends.
#[tokio::test]
async fn a_refusal_in_the_middle_of_an_upload_cuts_the_first_send_short_and_the_second_is_whole() {
    const MIB: usize = 1 << 20;
    let source: Vec<u8> = (0..MIB).map(|at| (at / 7) as u8).collect();
    for _ in 0..20 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = async {
            let (mut first, _) = listener.accept().await.unwrap();
            let (_, mut read) = head(&mut first).await;
            read_up_to(&mut first, &mut read, 1024).await;
            let answer = format!("HTTP/1.1 401 Unauthorized\r\n{NO_BODY}");
            first.write_all(answer.as_bytes()).await.unwrap();
            let drain = async {
                // An end, or an error, is how a request that was given up ends.
                while matches!(first.read_buf(&mut read).await, Ok(1..)) {}
                assert!(source.starts_with(&read), "the first send is mixed up");
            };
            let second = async {
                let (mut socket, _) = listener.accept().await.unwrap();
                let (head, mut read) = head(&mut socket).await;
                assert!(head.contains("content-length: 1048576\r\n"), "{head}");
                read_up_to(&mut socket, &mut read, MIB).await;
                assert!(read == source, "the second send is not the source");
                let answer = format!("HTTP/1.1 200 OK\r\n{NO_BODY}");
                socket.write_all(answer.as_bytes()).await.unwrap();
            };
            tokio::join!(drain, second);
        };
        let steps = source
            .chunks(1024)
            .flat_map(|chunk| [Step::Data(Bytes::copy_from_slice(chunk)), Step::Pause]);
        let body = Box::pin(Script::new(steps).of_known_length());
        assert_eq!(tokio::join!(put(&listener, body), server).0.unwrap(), 200);
    }
}

/// One challenge, and the same words again.
#[tokio::test]
async fn a_post_from_a_buffer_is_read_twice_by_the_server() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = async {
        for (send, status) in [
            (1, "401 Unauthorized\r\nwww-authenticate: Bearer"),
            (2, "200 OK"),
        ] {
            let (mut socket, _) = listener.accept().await.unwrap();
            let (head, mut read) = head(&mut socket).await;
            assert!(head.starts_with("post / http/1.1\r\n"), "{head}");
            assert!(head.contains(&format!("bearer token-{send}\r\n")), "{head}");
            read_up_to(&mut socket, &mut read, 9).await;
            assert_eq!(read, b"test data");
            let answer = format!("HTTP/1.1 {status}\r\n{NO_BODY}");
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    };
    let post = async {
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let (ledger, source) = numbered(secs(3600));
        let layer = OAuthLayer::for_origin(&origin, source).unwrap();
        let client = layer.layer(Client::builder(TokioExecutor::new()).build_http());
        let body = Full::<Bytes>::from("test data");
        let request = Request::post(origin).body(body).unwrap();
        let status = client.oneshot(request).await.unwrap().status();
        (status.as_u16(), ledger.calls())
    };
    assert_eq!(tokio::join!(post, server).0, (200, 2));
}

/// RFC 9110 §10.1.1: waits for the server to ask for the body, or to answer without.
#[derive(Clone)]
struct Waiting;

impl Service<Request<ReplayBody<Script>>> for Waiting {
    type Response = Response<()>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<()>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReplayBody<Script>>) -> Self::Future {
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let authority = parts.uri.authority().unwrap().as_str();
            let length = body.size_hint().exact().unwrap();
            let mut text = format!("PUT / HTTP/1.1\r\ncontent-length: {length}\r\n");
            for (name, value) in &parts.headers {
                text += &format!("{name}: {}\r\n", value.to_str()?);
            }
            let mut socket = TcpStream::connect(authority).await?;
            socket.write_all((text + "\r\n").as_bytes()).await?;
            let mut said = head(&mut socket).await.0;
            if said.starts_with("http/1.1 100 ") {
                socket.write_all(&read(body).await?.data).await?;
                said = head(&mut socket).await.0;
            }
            let status = said.split(' ').nth(1).unwrap();
            Ok(Response::builder().status(status).body(())?)
        })
    }
}

#[tokio::test]
async fn a_body_that_the_server_did_not_ask_for_is_sent_once_by_the_second_send() {
    const LENGTH: usize = 1 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let server = async {
        let expect = "expect: 100-continue\r\n";
        let (mut first, _) = listener.accept().await.unwrap();
        let (said, mut body) = head(&mut first).await;
        assert!(said.contains(expect), "{said}");
        let answer = format!("HTTP/1.1 401 Unauthorized\r\n{NO_BODY}");
        first.write_all(answer.as_bytes()).await.unwrap();
        while first.read_buf(&mut body).await.unwrap() > 0 {}
        assert_eq!(body.len(), 0, "nobody asked for it");

        let (mut second, _) = listener.accept().await.unwrap();
        let (said, mut body) = head(&mut second).await;
        assert!(said.contains(expect), "{said}");
        assert!(said.contains("content-length: 1048576\r\n"), "{said}");
        assert_eq!(body.len(), 0, "not asked for yet");
        let asks = b"HTTP/1.1 100 Continue\r\n\r\n";
        second.write_all(asks).await.unwrap();
        read_up_to(&mut second, &mut body, LENGTH).await;
        let answer = format!("HTTP/1.1 200 OK\r\n{NO_BODY}");
        second.write_all(answer.as_bytes()).await.unwrap();
        while second.read_buf(&mut body).await.unwrap() > 0 {}
        assert_eq!(body, vec![b'x'; LENGTH], "once");
    };
    let put = async {
        let chunks = vec![Step::Data(Bytes::from(vec![b'x'; LENGTH / 4])); 4];
        let layer = OAuthLayer::for_origin(&origin, numbered(secs(3600)).1).unwrap();
        let request = Request::put(&origin)
            .header("expect", "100-continue")
            .body(Script::new(chunks).of_known_length())
            .unwrap();
        let client = layer.replay_limit(LENGTH).layer(Waiting);
        client.oneshot(request).await.unwrap().status().as_u16()
    };
    assert_eq!(tokio::join!(put, server).0, 200);
}
