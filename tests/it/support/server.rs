//! An inner service for one request, which does with each send what a test says.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use http_body::Body;
use http_body_util::Full;
use tower::{Layer, Service, ServiceExt};
use tower_oauth::{BoxError, OAuth, OAuthLayer, ReplayBody};

use super::{
    api::ORIGIN,
    body::{Read, read, read_some},
};

pub type Answer = Result<Response<Full<Bytes>>, BoxError>;
type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Answers send n (from 1) of its one request with what `answer` makes of it.
pub struct Server<B> {
    answer: Arc<dyn Fn(usize, Request<ReplayBody<B>>) -> Answering + Send + Sync>,
    sends: Arc<AtomicUsize>,
}

impl<B> Server<B> {
    pub fn new<F, T>(answer: F) -> Self
    where
        F: Fn(usize, Request<ReplayBody<B>>) -> T + Send + Sync + 'static,
        T: Future<Output = Answer> + Send + 'static,
    {
        Self {
            answer: Arc::new(move |send, request| Box::pin(answer(send, request))),
            sends: Arc::default(),
        }
    }

    pub fn sends(&self) -> usize {
        self.sends.load(Ordering::SeqCst)
    }
}

impl<B: Body<Error: Into<BoxError>> + 'static> Server<B> {
    /// Sends the one request.
    pub async fn put(&self, layer: &OAuthLayer, body: B) -> Answer {
        let request = Request::put(ORIGIN).body(body).unwrap();
        let client: OAuth<Self> = layer.layer(self.clone());
        client.oneshot(request).await
    }
}

impl<B> Clone for Server<B> {
    fn clone(&self) -> Self {
        Self {
            answer: Arc::clone(&self.answer),
            sends: Arc::clone(&self.sends),
        }
    }
}

impl<B> Service<Request<ReplayBody<B>>> for Server<B> {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReplayBody<B>>) -> Answering {
        let send = self.sends.fetch_add(1, Ordering::SeqCst) + 1;
        assert!(send <= 2, "a third send");
        (self.answer)(send, request)
    }
}

pub fn answer(status: u16) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header("x-server", "intact")
        .body(Full::from("the server's own words"))
        .unwrap()
}

/// The one token of a request; "" is none.
pub fn token_of(headers: &HeaderMap) -> String {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let token = values.next().map_or("", |value| {
        assert!(value.is_sensitive());
        value.to_str().unwrap().trim_start_matches("Bearer ")
    });
    assert!(values.next().is_none(), "two Authorization values");
    token.to_owned()
}

type Slot<T> = Arc<Mutex<Option<T>>>;

/// What a server that refused early has in its hands.
pub struct Early<B> {
    /// The body of the first send, as far as it wasn't read.
    first: Slot<Pin<Box<ReplayBody<B>>>>,
    read: Arc<Mutex<Vec<Read>>>,
}

impl<B> Clone for Early<B> {
    fn clone(&self) -> Self {
        Self {
            first: Arc::clone(&self.first),
            read: Arc::clone(&self.read),
        }
    }
}

impl<B> Early<B> {
    pub fn first(&self) -> Pin<Box<ReplayBody<B>>> {
        self.first.lock().unwrap().take().expect("no first send")
    }

    /// What was read, send by send; of the first up to the answer.
    pub fn read(&self) -> Vec<Read> {
        self.read.lock().unwrap().clone()
    }
}

/// Answers the first send with 401 after `frames` frames, and holds on to its body; reads the
/// second to its end.
pub fn refusing_after<B>(frames: usize) -> (Server<B>, Early<B>)
where
    B: Body + Send + 'static,
    B::Error: Into<BoxError>,
{
    answering_after(frames, 401)
}

/// As [`refusing_after`], with another answer to the first send.
pub fn answering_after<B>(frames: usize, status: u16) -> (Server<B>, Early<B>)
where
    B: Body + Send + 'static,
    B::Error: Into<BoxError>,
{
    let early = Early {
        first: Arc::default(),
        read: Arc::default(),
    };
    let hands = early.clone();
    let server = Server::new(move |send, request: Request<ReplayBody<B>>| {
        let hands = hands.clone();
        async move {
            let body = request.into_body();
            if send == 2 {
                let read = read(body).await?;
                hands.read.lock().unwrap().push(read);
                return Ok(answer(200));
            }
            let mut body = Box::pin(body);
            let (read, end) = read_some(body.as_mut(), frames).await;
            end?;
            hands.read.lock().unwrap().push(read);
            *hands.first.lock().unwrap() = Some(body);
            Ok(answer(status))
        }
    });
    (server, early)
}
