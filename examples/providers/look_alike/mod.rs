//! Five providers as they are in the wild, each an authorization server and an API in one, small
//! enough to be started inside a program.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    unused_imports,
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "they stand in for somebody else's servers, and each example uses one of them"
)]

mod json_api;
mod quota;
mod scoped_api;
mod tenant;
mod three_flows;

use std::{
    collections::HashMap,
    convert::Infallible,
    io,
    sync::{Arc, Mutex},
};

use http_body_util::BodyExt;
use hyper::{
    HeaderMap, Request, Response, body::Incoming, header::AUTHORIZATION, server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::AbortHandle};

pub use self::three_flows::visit;

/// What the clients registered with, at each of them.
pub const CLIENT_ID: &str = "shop-42";
pub const CLIENT_SECRET: &str = "s3cr3t/of+shop=42";

/// A provider on a free port of this machine. It ends when it is dropped.
pub struct LookAlike {
    /// Such as `http://127.0.0.1:49152`.
    pub origin: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    server: AbortHandle,
}

/// A request as the provider got it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub path: String,
    pub query: String,
    pub headers: HeaderMap,
    pub body: String,
}

impl Seen {
    fn form(&self) -> HashMap<String, String> {
        form_urlencoded::parse(self.body.as_bytes())
            .into_owned()
            .collect()
    }

    fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default()
    }

    fn bearer(&self) -> &str {
        let authorization = self.header(AUTHORIZATION.as_str());
        authorization.strip_prefix("Bearer ").unwrap_or_default()
    }
}

impl LookAlike {
    pub async fn scoped_api() -> io::Result<Self> {
        Self::start(|_| scoped_api::provider()).await
    }

    pub async fn three_flows() -> io::Result<Self> {
        Self::start(three_flows::provider).await
    }

    pub async fn tenant() -> io::Result<Self> {
        Self::start(|_| tenant::provider()).await
    }

    pub async fn quota() -> io::Result<Self> {
        Self::start(|_| quota::provider()).await
    }

    pub async fn json_api() -> io::Result<Self> {
        Self::start(|_| json_api::provider()).await
    }

    pub fn url(&self, path: &str) -> String {
        [&self.origin, path].concat()
    }

    /// The requests to `path` so far.
    pub fn seen(&self, path: &str) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap();
        seen.iter()
            .filter(|seen| seen.path == path)
            .cloned()
            .collect()
    }

    async fn start(provider: impl FnOnce(String) -> Provider) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let origin = format!("http://{}", listener.local_addr()?);
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let provider = Arc::new(Mutex::new(provider(origin.clone())));
        let server = tokio::spawn(serve(listener, provider, Arc::clone(&seen)));
        Ok(Self {
            origin,
            seen,
            server: server.abort_handle(),
        })
    }
}

impl Drop for LookAlike {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Answers one request at a time.
type Provider = Box<dyn FnMut(&Seen) -> Response<String> + Send>;

async fn serve(listener: TcpListener, provider: Arc<Mutex<Provider>>, seen: Arc<Mutex<Vec<Seen>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (provider, seen) = (Arc::clone(&provider), Arc::clone(&seen));
        let service = service_fn(move |request: Request<Incoming>| {
            let (provider, seen) = (Arc::clone(&provider), Arc::clone(&seen));
            async move {
                let Ok(request) = read(request).await else {
                    return Ok(answer(400, "the body broke off"));
                };
                let response = provider.lock().unwrap()(&request);
                seen.lock().unwrap().push(request);
                Ok::<_, Infallible>(response)
            }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn read(request: Request<Incoming>) -> Result<Seen, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Seen {
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head.headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

fn answer(status: u16, body: impl Into<String>) -> Response<String> {
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .header("cache-control", "no-store")
        .body(body.into())
        .expect("the parts are fine")
}

fn error(status: u16, code: &str) -> Response<String> {
    answer(status, format!(r#"{{"error":"{code}"}}"#))
}

/// RFC 6750 §3.
fn challenge(status: u16, challenge: &str) -> Response<String> {
    let mut response = answer(status, "{}");
    let challenge = challenge.parse().expect("the challenge is fine");
    response.headers_mut().insert("www-authenticate", challenge);
    response
}
