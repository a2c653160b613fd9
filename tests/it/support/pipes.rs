//! A server of uploads, by a call or by HTTP over pipes in memory.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use fastrand::Rng;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
    server, service,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{DuplexStream, duplex},
    task::JoinSet,
};
use tower::Service;
use tower_oauth::{BoxError, ReplayBody};

use super::{
    case::{Answer, Case},
    upload::{Upload, Wire},
};

type Sent = Request<ReplayBody<Upload>>;
/// HTTP/2 wants bodies that can be moved.
type Pinned = Pin<Box<ReplayBody<Upload>>>;
type Answering<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// Calls the server.
#[derive(Clone)]
pub struct Call(pub Arc<Case>);

impl Service<Sent> for Call {
    type Response = Answer;
    type Error = BoxError;
    type Future = Answering<Answer>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Sent) -> Self::Future {
        Box::pin(Arc::clone(&self.0).serve(request))
    }
}

/// Connections to the server, each for many uploads.
pub struct Pipes {
    wire: Wire,
    rng: Mutex<Rng>,
    senders: Mutex<Vec<Sender>>,
    cases: Arc<Mutex<HashMap<String, Arc<Case>>>>,
    tasks: Mutex<JoinSet<()>>,
}

enum Sender {
    Http1(http1::SendRequest<Pinned>),
    Http2(http2::SendRequest<Pinned>),
}

impl Pipes {
    pub fn new(wire: Wire, rng: &mut Rng) -> Arc<Self> {
        Arc::new(Self {
            wire,
            rng: Mutex::new(rng.fork()),
            senders: Mutex::default(),
            cases: Arc::default(),
            tasks: Mutex::default(),
        })
    }

    /// The service for one upload.
    pub fn to(self: &Arc<Self>, case: &Arc<Case>) -> Piped {
        let mut cases = self.cases.lock().unwrap();
        let id = cases.len().to_string();
        cases.insert(id.clone(), Arc::clone(case));
        let (pipes, case) = (Arc::clone(self), Arc::clone(case));
        Piped { pipes, case, id }
    }

    /// A panic of one of the connections, if there was one.
    pub async fn panic(&self) -> Option<String> {
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap());
        tasks.abort_all();
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended
                && error.is_panic()
            {
                return Some(error.to_string());
            }
        }
        None
    }

    async fn sender(&self) -> Result<Sender, BoxError> {
        let idle = {
            let mut senders = self.senders.lock().unwrap();
            senders.retain(|sender| match sender {
                Sender::Http1(sender) => sender.is_ready(),
                Sender::Http2(sender) => sender.is_ready(),
            });
            senders.pop()
        };
        match idle {
            Some(idle) => Ok(idle),
            None => self.connect().await,
        }
    }

    async fn connect(&self) -> Result<Sender, BoxError> {
        let (room, window) = {
            let mut rng = self.rng.lock().unwrap();
            (1 << rng.u32(5..14), 1 << rng.u32(3..17))
        };
        let (here, there) = duplex(room);
        let serving = self.serve(there, window);
        let (sender, connection): (_, Answering<()>) = match self.wire {
            Wire::Http2 => {
                let (sender, connection) =
                    http2::handshake(TokioExecutor::new(), TokioIo::new(here)).await?;
                let connection = async { Ok(connection.await?) };
                (Sender::Http2(sender), Box::pin(connection))
            }
            _ => {
                let (sender, connection) = http1::handshake(TokioIo::new(here)).await?;
                let connection = async { Ok(connection.await?) };
                (Sender::Http1(sender), Box::pin(connection))
            }
        };
        let mut tasks = self.tasks.lock().unwrap();
        for end in [serving, connection] {
            // That it breaks may be what the upload is about.
            tasks.spawn(async { drop(end.await) });
        }
        Ok(sender)
    }

    fn serve(&self, pipe: DuplexStream, window: u32) -> Answering<()> {
        let cases = Arc::clone(&self.cases);
        let service = service::service_fn(move |request: Request<Incoming>| {
            let id = request.headers()[ID].to_str().unwrap();
            let case = Arc::clone(&cases.lock().unwrap()[id]);
            case.serve(request)
        });
        let pipe = TokioIo::new(pipe);
        match self.wire {
            Wire::Http2 => {
                let serving = server::conn::http2::Builder::new(TokioExecutor::new())
                    .initial_stream_window_size(window)
                    .serve_connection(pipe, service);
                Box::pin(async { Ok(serving.await?) })
            }
            _ => {
                let serving = server::conn::http1::Builder::new().serve_connection(pipe, service);
                Box::pin(async { Ok(serving.await?) })
            }
        }
    }
}

#[derive(Clone)]
pub struct Piped {
    pipes: Arc<Pipes>,
    case: Arc<Case>,
    id: String,
}

impl Service<Sent> for Piped {
    type Response = Response<Incoming>;
    type Error = BoxError;
    type Future = Answering<Response<Incoming>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Sent) -> Self::Future {
        let Self { pipes, case, id } = self.clone();
        Box::pin(async move {
            request.headers_mut().insert(ID, id.parse()?);
            let request = request.map(Box::pin);
            let mut sender = pipes.sender().await?;
            let answer = match &mut sender {
                Sender::Http1(sender) => sender.send_request(request).await?,
                Sender::Http2(sender) => sender.send_request(request).await?,
            };
            // Over HTTP/1.1 a server that hasn't read a body may close the connection at any time.
            if pipes.wire == Wire::Http2 || case.is_through() {
                pipes.senders.lock().unwrap().push(sender);
            }
            Ok(answer)
        })
    }
}

const ID: &str = "x-upload";
