//! An authorization server without a socket: documents by URL, and a token for each POST.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::Service;
use tower_oauth::{
    ClientAuth, ClientCredentials, Demand, Discovery, DiscoveryError, TokenEndpoint, TokenError,
    TokenSource,
};

pub const ISSUER: &str = "https://as.example/t";
pub const FIRST: &str = "https://as.example/.well-known/oauth-authorization-server/t";
pub const SECOND: &str = "https://as.example/t/.well-known/openid-configuration";
pub const THIRD: &str = "https://as.example/.well-known/openid-configuration/t";

#[derive(Clone, Default)]
pub struct Server {
    documents: Arc<Vec<(String, u16, Vec<u8>)>>,
    heard: Arc<Mutex<Vec<Heard>>>,
}

#[derive(Clone)]
pub struct Heard {
    pub method: Method,
    pub url: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Server {
    pub fn with<B: ToString>(documents: impl IntoIterator<Item = (&'static str, u16, B)>) -> Self {
        let documents = documents.into_iter();
        let documents =
            documents.map(|(url, status, body)| (url.to_owned(), status, body.to_string().into()));
        Self {
            documents: Arc::new(documents.collect()),
            ..Self::default()
        }
    }

    pub fn discover(&self, issuer: &str) -> Discovery {
        TokenEndpoint::discover(issuer).transport(self.clone())
    }

    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    pub fn urls(&self) -> Vec<String> {
        self.heard().into_iter().map(|heard| heard.url).collect()
    }

    /// The one token request of a client that discovers its endpoint.
    pub async fn token_request(
        &self,
        issuer: &str,
        client_auth: ClientAuth,
    ) -> Result<Heard, TokenError> {
        let builder = self.discover(issuer).await?.client_auth(client_auth);
        let source = ClientCredentials::new(builder.build().unwrap());
        source.token(Demand::default()).await?;
        let heard = self.heard().pop().unwrap();
        assert_eq!(heard.method, Method::POST);
        Ok(heard)
    }

    pub async fn error(&self, issuer: &str) -> DiscoveryError {
        match self.discover(issuer).await {
            Ok(builder) => panic!("{builder:?}"),
            Err(error) => error,
        }
    }
}

impl Service<Request<Full<Bytes>>> for Server {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let url = head.uri.to_string();
            let found = this.documents.iter().find(|(at, ..)| *at == url);
            let (status, answer) = match found {
                Some((_, status, body)) => (*status, body.clone()),
                None if head.method == Method::POST => (
                    200,
                    br#"{"access_token":"a","token_type":"Bearer"}"#.to_vec(),
                ),
                None => (404, Vec::new()),
            };
            this.heard.lock().unwrap().push(Heard {
                method: head.method,
                url,
                headers: head.headers,
                body,
            });
            let answer = Response::builder()
                .status(status)
                .header("location", "https://login.example/?back=x")
                .header("retry-after", "7")
                .body(Full::from(answer));
            Ok(answer.unwrap())
        })
    }
}

pub fn metadata(issuer: &str) -> Value {
    json!({"issuer": issuer, "token_endpoint": "https://as.example/token"})
}

pub fn with(members: Value) -> String {
    let mut document = metadata(ISSUER);
    let members = members.as_object().unwrap().clone();
    document.as_object_mut().unwrap().extend(members);
    document.to_string()
}
