//! Who calls: one request after the other, each answered and read to its end before the next.

use std::fmt::Debug;

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, Uri,
    header::{ACCEPT, CONTENT_TYPE, USER_AGENT},
};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tonic::{body::Body, client::GrpcService, codegen::StdError};
use tower::{Service, ServiceExt};

use crate::proto::{Account, ledger_client::LedgerClient};

/// Each clone is another caller, with a service of its own for as long as it lives.
pub trait Caller: Clone + Send + 'static {
    /// One request; how long the token was that the server saw.
    fn call(&mut self) -> impl Future<Output = usize> + Send;
}

/// Calls over HTTP/1.1.
#[derive(Clone)]
pub struct Http<S> {
    pub service: S,
    pub method: Method,
    pub uri: Uri,
    pub body: Bytes,
}

impl Http<()> {
    pub fn through<S>(&self, service: S) -> Http<S> {
        Http {
            service,
            method: self.method.clone(),
            uri: self.uri.clone(),
            body: self.body.clone(),
        }
    }
}

impl<S> Caller for Http<S>
where
    S: Service<Request<Full<Bytes>>, Response = Response<Incoming>, Error: Debug, Future: Send>,
    S: Clone + Send + 'static,
{
    async fn call(&mut self) -> usize {
        let service = self.service.ready().await.unwrap();
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        let json = HeaderValue::from_static("application/json");
        let headers = request.headers_mut();
        headers.insert(ACCEPT, json.clone());
        headers.insert(USER_AGENT, HeaderValue::from_static("stack-bench/1.0"));
        headers.insert("traceparent", HeaderValue::from_static(TRACE));
        if !self.body.is_empty() {
            headers.insert(CONTENT_TYPE, json);
        }
        let answer = service.call(request).await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        str::from_utf8(&body).unwrap().parse().unwrap()
    }
}

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Calls over HTTP/2.
#[derive(Clone)]
pub struct Grpc<S> {
    client: LedgerClient<S>,
}

impl<S> Grpc<S>
where
    S: GrpcService<Body, Error: Into<StdError>>,
    S::ResponseBody: http_body::Body<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static,
{
    pub fn through(service: S) -> Self {
        let client = LedgerClient::new(service);
        Self { client }
    }
}

impl<S> Caller for Grpc<S>
where
    S: GrpcService<Body, Error: Into<StdError>, Future: Send> + Clone + Send + 'static,
    S::ResponseBody: http_body::Body<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static,
{
    async fn call(&mut self) -> usize {
        let iban = "DE02 1203 0000 0000 2020 51".to_owned();
        let amount = self.client.balance(Account { iban }).await.unwrap();
        amount.into_inner().cents.try_into().unwrap()
    }
}
