//! grpcio: a server that issues tokens, asks for them, and takes them back.

use std::collections::HashMap;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use tokio::sync::watch;
use tower_oauth::{
    AccessToken, ClientAuth, ClientCredentials, Demand, TokenCache, TokenEndpoint, TokenError,
    TokenSource,
};

use super::{process::Process, server::answer};

pub struct GrpcServer {
    /// Where it is called.
    pub origin: String,
    control: String,
    http: Client<HttpConnector, Full<Bytes>>,
    _process: Process,
}

#[derive(Debug)]
pub struct Stats {
    pub token_requests: usize,
    pub revocations: usize,
    /// Sends that were let in.
    pub served: usize,
    /// By call.
    pub sends: HashMap<String, usize>,
}

impl GrpcServer {
    /// None if grpcio isn't installed, which must not be so with `REQUIRE_PEERS=1`.
    pub async fn start() -> Option<Self> {
        let process = Process::start("python", "grpc", "server.py", Some("grpc"), "").await?;
        let address = |name: &str| process.ready[name].as_str().unwrap().to_owned();
        Some(Self {
            origin: address("grpc"),
            control: address("control"),
            http: Client::builder(TokioExecutor::new()).build_http(),
            _process: process,
        })
    }

    /// Tokens of this server, and how often the client has asked for one.
    pub fn tokens(&self) -> (TokenCache, watch::Receiver<usize>) {
        let endpoint = TokenEndpoint::builder(format!("{}/token", self.control))
            .client_auth(ClientAuth::basic("client", "secret"))
            .build()
            .unwrap();
        let (asked, heard) = watch::channel(0);
        let source = ClientCredentials::new(endpoint);
        (TokenCache::from(Counted { source, asked }), heard)
    }

    /// All tokens issued so far are dead.
    pub async fn revoke(&self) {
        self.control("revoke", &json!({})).await;
    }

    /// As [`revoke`](Self::revoke), each time that so many calls were served.
    pub async fn revoke_every(&self, calls: usize) {
        self.control("revoke-every", &json!(calls)).await;
    }

    /// What it has seen; fails if a call was sent three times.
    pub async fn stats(&self) -> Stats {
        let stats = self.control("stats", &json!({})).await;
        assert_eq!(stats["third_sends"], json!([]));
        let number = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
        let sends = stats["sends"].as_object().unwrap();
        Stats {
            token_requests: number(&stats["token_requests"]),
            revocations: number(&stats["revocations"]),
            served: number(&stats["served"]),
            sends: sends
                .iter()
                .map(|(call, sends)| (call.clone(), number(sends)))
                .collect(),
        }
    }

    async fn control(&self, action: &str, with: &Value) -> Value {
        let request = Request::post(format!("{}/{action}", self.control));
        let request = request.body(Full::from(with.to_string())).unwrap();
        answer(self.http.request(request).await.unwrap()).await
    }
}

impl Stats {
    /// The sends of one call.
    pub fn sends_of(&self, call: &str) -> usize {
        self.sends.get(call).copied().unwrap_or(0)
    }
}

struct Counted {
    source: ClientCredentials,
    asked: watch::Sender<usize>,
}

impl TokenSource for Counted {
    async fn token(&self, demand: Demand<'_>) -> Result<AccessToken, TokenError> {
        self.asked.send_modify(|times| *times += 1);
        self.source.token(demand).await
    }
}
