//! A resource server without a socket: an inner service that judges tokens and counts sends per
//! request.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, header::AUTHORIZATION};
use http_body_util::{BodyExt, Full};
use tower::{Service, ServiceExt};
use tower_oauth::{BoxError, OAuth, OAuthLayer, ResponseFuture, TokenCache};

pub const ORIGIN: &str = "https://api.example.com";
const ID: &str = "x-request-id";

/// What the server says to a token.
type Judge = dyn Fn(&str) -> Response<Full<Bytes>> + Send + Sync;

#[derive(Clone)]
pub struct Api {
    judge: Arc<Judge>,
    log: Arc<Mutex<Log>>,
}

#[derive(Default)]
struct Log {
    sends: HashMap<String, usize>,
    tokens: Vec<String>,
}

impl Api {
    /// `accepts` says which tokens are good; others get a plain 401.
    pub fn accepting(accepts: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self::answering(move |token| {
            let status = if accepts(token) { 200 } else { 401 };
            Response::builder()
                .status(status)
                .body(Full::from(format!("answer to {token}")))
                .unwrap()
        })
    }

    pub fn answering(
        judge: impl Fn(&str) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            judge: Arc::new(judge),
            log: Arc::default(),
        }
    }

    pub fn behind(&self, cache: &TokenCache) -> OAuth<Self> {
        self.behind_layer(&OAuthLayer::for_origin(ORIGIN, cache.clone()).unwrap())
    }

    pub fn behind_layer(&self, layer: &OAuthLayer) -> OAuth<Self> {
        tower::Layer::layer(layer, self.clone())
    }

    /// All sends, of all requests.
    pub fn sends(&self) -> usize {
        self.log.lock().unwrap().sends.values().sum()
    }

    /// The sends of one request.
    pub fn sends_of(&self, id: &str) -> usize {
        self.log.lock().unwrap().sends.get(id).copied().unwrap_or(0)
    }

    /// The tokens seen, in order; "" is none.
    pub fn tokens(&self) -> Vec<String> {
        self.log.lock().unwrap().tokens.clone()
    }
}

impl<B> Service<Request<B>> for Api
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            if let Ok(body) = body.collect().await.map_err(Into::<BoxError>::into) {
                drop(body);
            }
            let mut values = head.headers.get_all(AUTHORIZATION).iter();
            let token = values.next().map_or_else(String::new, |value| {
                assert!(value.is_sensitive());
                value
                    .to_str()
                    .unwrap()
                    .trim_start_matches("Bearer ")
                    .to_owned()
            });
            assert!(values.next().is_none(), "two Authorization values");
            let id = head.headers.get(ID).map_or("", |id| id.to_str().unwrap());
            {
                let mut log = this.log.lock().unwrap();
                let sends = log.sends.entry(id.to_owned()).or_default();
                *sends += 1;
                assert!(*sends <= 2 || id.is_empty(), "a third send of {id}");
                log.tokens.push(token.clone());
            }
            // Let others run between a request and its answer.
            tokio::task::yield_now().await;
            Ok((this.judge)(&token))
        })
    }
}

/// Sends one request and gives the status. Requests without an id are not told apart.
pub async fn get(client: &Client, id: impl ToString) -> Result<u16, BoxError> {
    Ok(start(client, id).await?.await?.status().as_u16())
}

/// Puts one request on its way.
pub async fn start(
    client: &Client,
    id: impl ToString,
) -> Result<ResponseFuture<Api, Full<Bytes>>, BoxError> {
    let request = Request::get(format!("{ORIGIN}/"))
        .header(ID, id.to_string())
        .body(Full::default())
        .unwrap();
    let mut client = client.clone();
    ServiceExt::<Request<Full<Bytes>>>::ready(&mut client).await?;
    Ok(client.call(request))
}

pub type Client = OAuth<Api>;
