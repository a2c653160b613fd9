//! Sockets that keep what they hear, with HTTP/1.1 and HTTP/2 on them.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{servers::lock, wire::Fault};

/// Everything that a server got over its sockets, connection by connection.
#[derive(Default)]
pub struct Heard(Mutex<Vec<Arc<Mutex<Vec<u8>>>>>);

impl Heard {
    pub fn connection(&self) -> Arc<Mutex<Vec<u8>>> {
        let bytes = Arc::default();
        lock(&self.0).push(Arc::clone(&bytes));
        bytes
    }

    pub fn connections(&self) -> Vec<Vec<u8>> {
        let connections = lock(&self.0);
        connections
            .iter()
            .map(|bytes| lock(bytes).clone())
            .collect()
    }
}

/// Ends what it stands for when it is dropped.
pub struct Running(tokio::task::AbortHandle);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub fn listen<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> (SocketAddr, Running)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    accept(TcpListener::from_std(listener).unwrap(), serve)
}

/// As [`listen`], with a socket of its own choice.
pub fn accept<F>(
    listener: TcpListener,
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> (SocketAddr, Running)
where
    F: Future<Output = ()> + Send + 'static,
{
    let address = listener.local_addr().unwrap();
    let accepting = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            connections.spawn(serve(stream));
        }
    });
    (address, Running(accepting.abort_handle()))
}

pub async fn connection<S>(stream: Tee, service: S)
where
    S: hyper::service::Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Fault>
        + Send,
    S::Future: Send + 'static,
{
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http2().max_concurrent_streams(1000);
    // Clients may break off at any time: that is for their tests to judge.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

/// A stream that keeps what it reads.
pub struct Tee {
    pub stream: TcpStream,
    pub heard: Arc<Mutex<Vec<u8>>>,
}

impl AsyncRead for Tee {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        lock(&self.heard).extend(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tee {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
