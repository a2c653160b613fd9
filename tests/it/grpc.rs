//! *Refused* and *Where*, for gRPC by tonic, client and server.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::Request;
use tokio::net::TcpListener;
use tokio_stream::{Stream, wrappers::TcpListenerStream};
use tonic::{
    Code, Status,
    body::Body,
    metadata::MetadataMap,
    transport::{Channel, Server},
};
use tower::ServiceBuilder;
use tower_oauth::{DestinationError, OAuthLayer, ReplayBody, TokenCache};

use crate::{
    support::{
        api::{Api, get},
        grpc::{Stack, boxed, messages, plain, server_streaming, unary, with_trailers},
        secs,
        source::{Ledger as Tokens, numbered},
    },
    tonic_client::example::proto::{
        Account, Amount, Booking,
        ledger_server::{Ledger, LedgerServer},
    },
};

const BALANCE: &str = "/ledger.v1.Ledger/Balance";
const BOOKINGS: &str = "/ledger.v1.Ledger/Bookings";

/// A tonic server that accepts one token at a time. A handler that answers with a status is
/// answered trailers-only; a stream that yields one, in trailers.
#[derive(Clone, Default)]
struct Bank(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    good: String,
    sends: HashMap<String, usize>,
}

impl Bank {
    async fn open() -> (Self, String) {
        let bank = Self::default();
        bank.accept("token-1");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let server = Server::builder().add_service(LedgerServer::new(bank.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        (bank, origin)
    }

    fn accept(&self, token: &str) {
        token.clone_into(&mut self.0.lock().unwrap().good);
    }

    fn sends_of(&self, call: &str) -> usize {
        let sends = &self.0.lock().unwrap().sends;
        sends.get(call).copied().unwrap_or(0)
    }

    fn admit(&self, metadata: &MetadataMap) -> Result<(), Status> {
        let text = |name| {
            metadata
                .get(name)
                .map_or("", |value| value.to_str().unwrap())
        };
        let mut state = self.0.lock().unwrap();
        let sends = state.sends.entry(text("call").to_owned()).or_default();
        *sends += 1;
        if *sends > 2 {
            return Err(Status::internal("a third send"));
        }
        if text("authorization") == format!("Bearer {}", state.good) {
            return Ok(());
        }
        let mut metadata = MetadataMap::new();
        metadata.insert("why", "revoked".parse().unwrap());
        let details = Bytes::from_static(b"what \0 to do");
        let code = Code::Unauthenticated;
        Err(Status::with_details_and_metadata(
            code, "no", details, metadata,
        ))
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Ledger for Bank {
    type BookingsStream = Answers<Booking>;
    type BookStream = Answers<Amount>;

    async fn balance(
        &self,
        request: tonic::Request<Account>,
    ) -> Result<tonic::Response<Amount>, Status> {
        self.admit(request.metadata())?;
        Ok(tonic::Response::new(Amount::default()))
    }

    /// With metadata `late`, the refusal comes after a message.
    async fn bookings(
        &self,
        request: tonic::Request<Account>,
    ) -> Result<tonic::Response<Answers<Booking>>, Status> {
        let refused = self.admit(request.metadata());
        let mut answers = Vec::new();
        if refused.is_ok() || request.metadata().contains_key("late") {
            answers.push(Ok(Booking::default()));
        }
        answers.extend(refused.err().map(Err));
        let mut response = tonic::Response::new(Box::pin(tokio_stream::iter(answers)) as _);
        let initial = "metadata".parse().unwrap();
        response.metadata_mut().insert("initial", initial);
        Ok(response)
    }

    async fn book(
        &self,
        _: tonic::Request<tonic::Streaming<Booking>>,
    ) -> Result<tonic::Response<Answers<Amount>>, Status> {
        Err(Status::unimplemented("not asked for"))
    }
}

/// A call without content, which any message can be read from.
fn request(call: &'static str) -> tonic::Request<Bytes> {
    let mut request = tonic::Request::new(Bytes::new());
    request.metadata_mut().insert("call", call.parse().unwrap());
    request
}

fn cache() -> (Tokens, TokenCache) {
    let (tokens, source) = numbered(secs(3600));
    (tokens, TokenCache::from(source))
}

#[tokio::test]
async fn a_stream_that_is_refused_in_its_trailers_is_sent_again_with_the_layer_for_them() {
    let (bank, origin) = Bank::open().await;
    bank.accept("token-2");
    let (tokens, cache) = cache();
    let plain = plain(&origin, &cache);
    let stream = server_streaming(&plain, request("plain"), BOOKINGS).await;
    let (got, end) = messages(stream.unwrap()).await;
    assert_eq!(
        (got.len(), end.unwrap_err().code()),
        (0, Code::Unauthenticated)
    );
    assert_eq!((bank.sends_of("plain"), tokens.calls()), (1, 1));

    let layered = with_trailers(&origin, &cache);
    let stream = server_streaming(&layered, request("layered"), BOOKINGS).await;
    let (got, end) = messages(stream.unwrap()).await;
    assert!(got.len() == 1 && end.is_ok());
    assert_eq!((bank.sends_of("layered"), tokens.calls()), (2, 2));
}

#[tokio::test]
async fn a_stream_that_has_delivered_a_message_is_never_sent_again() {
    let (bank, origin) = Bank::open().await;
    bank.accept("no token");
    let (tokens, cache) = cache();
    let layered = with_trailers(&origin, &cache);
    for (call, outcome) in [
        ("plain", late(&plain(&origin, &cache), "plain").await),
        ("layered", late(&layered, "layered").await),
    ] {
        assert_eq!(outcome, (1, Some(Code::Unauthenticated)));
        assert_eq!((bank.sends_of(call), tokens.calls()), (1, 1));
    }
}

async fn late(service: &Stack, call: &'static str) -> (usize, Option<Code>) {
    let mut request = request(call);
    request
        .metadata_mut()
        .insert("late", "yes".parse().unwrap());
    let stream = server_streaming(service, request, BOOKINGS).await;
    let (got, end) = messages(stream.unwrap()).await;
    (got.len(), end.err().map(|status| status.code()))
}

/// Where nothing helps, the layer for trailers leaves no trace.
#[tokio::test]
async fn a_status_is_the_same_with_the_layer_for_trailers_and_without() {
    let (bank, origin) = Bank::open().await;
    bank.accept("no token");
    let (_, cache) = cache();
    let plain = refusals(&plain(&origin, &cache), ["a", "b"]).await;
    let layered = refusals(&with_trailers(&origin, &cache), ["c", "d"]).await;
    for (plain, layered) in plain.iter().zip(&layered) {
        for status in [plain, layered] {
            assert_eq!(status.code(), Code::Unauthenticated);
            assert_eq!(status.details(), b"what \0 to do");
            assert_eq!(status.metadata().get("why").unwrap(), "revoked");
        }
        assert_eq!(shown(plain), shown(layered));
    }
}

async fn refusals(service: &Stack, calls: [&'static str; 2]) -> [Status; 2] {
    let unary = unary(service, request(calls[0]), BALANCE)
        .await
        .unwrap_err();
    let stream = server_streaming(service, request(calls[1]), BOOKINGS).await;
    let (_, end) = messages(stream.unwrap()).await;
    [unary, end.unwrap_err()]
}

/// But for the time of day.
fn shown(status: &Status) -> String {
    let mut metadata = status.metadata().clone();
    metadata.remove("date");
    format!("{} {:?} {metadata:?}", status.message(), status.details())
}

#[tokio::test]
async fn an_http_stack_and_a_grpc_stack_share_one_cache() {
    let (bank, origin) = Bank::open().await;
    bank.accept("token-2");
    let (tokens, cache) = cache();
    let api = Api::accepting(|token| token != "token-1" && token != "token-2");
    let http = api.behind(&cache);
    let grpc = plain(&origin, &cache);

    // Refused here, renewed for both.
    unary(&grpc, request("first"), BALANCE).await.unwrap();
    assert_eq!((bank.sends_of("first"), tokens.calls()), (2, 2));
    unary(&grpc, request("second"), BALANCE).await.unwrap();
    assert_eq!((bank.sends_of("second"), tokens.calls()), (1, 2));
    // And there.
    assert_eq!(get(&http, "third").await.unwrap(), 200);
    assert_eq!(
        (api.tokens(), tokens.calls()),
        (vec!["token-2".into(), "token-3".into()], 3)
    );
    bank.accept("token-3");
    unary(&grpc, request("fourth"), BALANCE).await.unwrap();
    assert_eq!((bank.sends_of("fourth"), tokens.calls()), (1, 3));
}

/// tonic's channel adds the authority below the layer.
#[tokio::test]
async fn a_call_names_no_server_and_belongs_to_the_one_that_the_channel_is_connected_to() {
    let (bank, origin) = Bank::open().await;
    let stack = |layer: OAuthLayer| {
        let service = ServiceBuilder::new()
            .layer(layer)
            .map_request(|request: Request<ReplayBody<Body>>| {
                assert!(request.uri().authority().is_none());
                request.map(Body::new)
            })
            .service(Channel::from_shared(origin.clone()).unwrap().connect_lazy());
        boxed(service)
    };
    let (tokens, cache) = cache();
    let one = stack(OAuthLayer::for_origin("https://api.example.com", cache.clone()).unwrap());
    unary(&one, request("one"), BALANCE).await.unwrap();
    let any = stack(OAuthLayer::for_any_origin(cache.clone()));
    unary(&any, request("any"), BALANCE).await.unwrap();

    let origins = ["https://api.example.com", "https://api.example.org"];
    let several = stack(OAuthLayer::for_origins(origins, cache).unwrap());
    let status = unary(&several, request("several"), BALANCE)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unknown);
    let cause = std::error::Error::source(&status).unwrap();
    assert!(cause.is::<DestinationError>(), "{cause:?}");
    assert_eq!((bank.sends_of("several"), tokens.calls()), (0, 1));
}
