//! An authorization server without a socket: it answers as scripted, request by request, and keeps
//! what it was asked, and when.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, header::AUTHORIZATION};
use http_body_util::{BodyExt, Full};
use tokio::time::Instant;
use tower::Service;
use tower_oauth::{ClientAuth, TokenEndpoint, TokenEndpointBuilder};

pub const TOKEN: &str =
    r#"{"access_token":"a","token_type":"Bearer","expires_in":60,"refresh_token":"r"}"#;

/// What comes in answer to one request.
pub enum Reply {
    Answer(Response<String>),
    /// A connection that breaks.
    Broken,
    /// Silence.
    Never,
}

pub fn json(status: u16, body: impl Into<String>) -> Reply {
    answer(status, &[("content-type", "application/json")], body)
}

pub fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<String>) -> Reply {
    let mut answer = Response::builder().status(status);
    for (name, value) in headers {
        answer = answer.header(*name, *value);
    }
    Reply::Answer(answer.body(body.into()).unwrap())
}

pub fn error(code: &str) -> Reply {
    json(400, format!(r#"{{"error":"{code}"}}"#))
}

#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    pub at: Instant,
    pub uri: String,
    pub authorization: Option<String>,
    pub body: String,
}

#[derive(Clone)]
pub struct Endpoint {
    replies: Arc<Mutex<VecDeque<Reply>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Endpoint {
    /// One reply a request; a request that finds none is a panic.
    pub fn replying<const N: usize>(replies: [Reply; N]) -> Self {
        Self {
            replies: Arc::new(Mutex::new(VecDeque::from(replies))),
            asked: Arc::default(),
        }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub fn bodies(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.body).collect()
    }

    /// A public client's, who knows where to log in.
    pub fn builder(&self) -> TokenEndpointBuilder {
        TokenEndpoint::builder("https://as.example/token")
            .authorization_endpoint("https://as.example/authorize")
            .device_authorization_endpoint("https://as.example/device")
            .client_auth(ClientAuth::none("id"))
            .transport(self.clone())
    }

    pub fn build(&self) -> TokenEndpoint {
        self.builder().build().unwrap()
    }
}

impl Service<Request<Full<Bytes>>> for Endpoint {
    type Response = Response<String>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Response<String>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap_or_else(|e| match e {});
            let authorization = head.headers.get(AUTHORIZATION);
            this.asked.lock().unwrap().push(Asked {
                at: Instant::now(),
                uri: head.uri.to_string(),
                authorization: authorization.map(|value| value.to_str().unwrap().to_owned()),
                body: String::from_utf8(body.to_bytes().to_vec()).unwrap(),
            });
            let reply = this.replies.lock().unwrap().pop_front();
            match reply.expect("a request that nobody expected") {
                Reply::Answer(answer) => Ok(answer),
                Reply::Broken => Err(io::ErrorKind::ConnectionReset.into()),
                Reply::Never => std::future::pending().await,
            }
        })
    }
}
