//! The client's side of the servers, and what can go wrong between them.

use std::{
    error::Error,
    fmt, future,
    io::{self, Write},
    net::{self, Shutdown},
    sync::Arc,
};

use bytes::Bytes;
use http::{Request, Response, request};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper_util::{
    client::legacy::{Client as Hyper, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::net::TcpStream;
use tower::{Layer, ServiceExt};
use tower_oauth::{
    BoxError, ClientAuth, ClientCredentials, OAuth, OAuthLayer, ReplayBody, TokenCache,
    TokenEndpoint,
};

use super::servers::{ApiServer, AuthServer, ID};

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Protocol {
    Http1,
    /// With prior knowledge.
    Http2,
}

pub const BOTH: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];

pub type Body = UnsyncBoxBody<Bytes, io::Error>;
pub type Client = OAuth<Hyper<HttpConnector, ReplayBody<Body>>>;

/// What a program would build: an endpoint, a grant and a cache.
pub fn cache(auth: &AuthServer, client_auth: ClientAuth) -> TokenCache {
    let endpoint = TokenEndpoint::builder(auth.url())
        .client_auth(client_auth)
        .param("audience", "https://api.example")
        .build()
        .unwrap();
    TokenCache::from(ClientCredentials::new(endpoint).scope("read write"))
}

pub fn basic(secret: &str) -> ClientAuth {
    ClientAuth::basic(ID, secret)
}

/// A client whose token travels to `api` only.
pub fn client(protocol: Protocol, api: &ApiServer, cache: &TokenCache) -> Client {
    let layer = OAuthLayer::for_origin(api.origin(), cache.clone()).unwrap();
    layered(protocol, &layer)
}

pub fn layered(protocol: Protocol, layer: &OAuthLayer) -> Client {
    let mut builder = Hyper::builder(TokioExecutor::new());
    builder.http2_only(protocol == Protocol::Http2);
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    layer.layer(builder.build(connector))
}

pub fn request(api: &ApiServer, id: impl fmt::Display) -> request::Builder {
    Request::post(format!("{}/orders?q=1", api.origin())).header("x-request-id", id.to_string())
}

pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// Sends a request and reads its answer to the end.
pub async fn send(client: &Client, request: Request<Body>) -> Result<Response<Bytes>, BoxError> {
    let answer = client.clone().oneshot(request).await?;
    let (head, body) = answer.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Response::from_parts(head, body))
}

pub async fn post(
    client: &Client,
    api: &ApiServer,
    id: impl fmt::Display,
) -> Result<Response<Bytes>, BoxError> {
    let request = request(api, id).body(full("two green widgets")).unwrap();
    send(client, request).await
}

/// A second handle on a server's connection, below HTTP.
#[derive(Clone)]
pub struct Line(Arc<net::TcpStream>);

impl Line {
    pub fn of(stream: TcpStream) -> (TcpStream, Self) {
        let stream = stream.into_std().unwrap();
        let line = Self(Arc::new(stream.try_clone().unwrap()));
        (TcpStream::from_std(stream).unwrap(), line)
    }

    /// GOAWAY, past whoever speaks HTTP/2 on this connection (RFC 9113 §6.8).
    pub fn go_away(&self, last_stream: u32, error: u32) {
        // Length 8, type 7, no flags, stream 0.
        let mut frame = vec![0, 0, 8, 7, 0, 0, 0, 0, 0];
        frame.extend(last_stream.to_be_bytes());
        frame.extend(error.to_be_bytes());
        // The client may have hung up.
        let _ = (&*self.0).write_all(&frame);
    }

    pub fn hang_up(&self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// What a request meets in place of an answer, once it was read.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// HTTP/2: RST_STREAM. HTTP/1.1: the connection is closed.
    Reset,
    /// HTTP/2: GOAWAY, which says that no stream was processed.
    GoAway,
    /// The connection is closed.
    HangUp,
}

impl Fault {
    pub async fn strike(self, line: &Line) -> Self {
        match self {
            Self::Reset => return self,
            Self::GoAway => {
                // RFC 9113 §6.8: length 8, type 7, stream 0; last stream 0, NO_ERROR.
                let frame = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                (&*line.0).write_all(&frame).unwrap();
            }
            Self::HangUp => line.0.shutdown(Shutdown::Both).unwrap(),
        }
        future::pending().await
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "scripted: {self:?}")
    }
}

impl Error for Fault {}
