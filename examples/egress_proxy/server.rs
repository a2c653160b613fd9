//! A port that speaks HTTP/1.1 and HTTP/2, and can end without breaking off what it does.

use std::{
    convert::Infallible, io, net::SocketAddr, pin::Pin, pin::pin, sync::Arc, time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Either, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    select,
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};

/// An upstream's answer, whose body streams through, or one of the proxy's own.
pub type Answer = Response<Either<Incoming, Full<Bytes>>>;

pub type Handler =
    Arc<dyn Fn(Request<Incoming>) -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync>;

pub struct Server {
    pub address: SocketAddr,
    pub ending: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Server {
    pub async fn start(address: SocketAddr, handler: Handler) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let ending = watch::Sender::new(false);
        Ok(Self {
            address: listener.local_addr()?,
            serving: tokio::spawn(serve(listener, handler, ending.subscribe())),
            ending,
        })
    }

    /// Accepts no more and waits for the requests under way, up to `limit`. False if there were
    /// some left then: they are broken off.
    pub async fn stop(&mut self, limit: Duration) -> bool {
        self.ending.send_replace(true);
        let ended = timeout(limit, &mut self.serving).await.is_ok();
        self.serving.abort();
        ended
    }
}

async fn serve(listener: TcpListener, handler: Handler, mut ending: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            _ = ending.changed() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(connection(stream, Arc::clone(&handler), ending.clone()));
            }
            // Out of file descriptors, most likely: some will be given back.
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(stream: TcpStream, handler: Handler, mut ending: watch::Receiver<bool>) {
    // Else the end of an answer may wait up to 40 ms in the hope of filling a packet.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let answer = handler(request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    select! {
        // An error is the client's: it hung up, or spoke no HTTP.
        _ = connection.as_mut() => return,
        _ = ending.wait_for(|ending| *ending) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
