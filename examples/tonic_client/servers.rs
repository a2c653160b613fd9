//! The other side: an authorization server that signs tokens, and a gRPC server that checks the
//! signature.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use hmac_sha256::HMAC;
use http::{Request, Response, header::AUTHORIZATION};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_stream::{Stream, StreamExt, wrappers::TcpListenerStream};
use tonic::{Status, Streaming, transport::Server};
use tower_oauth::BoxError;

use super::proto::{
    Account, Amount, Booking,
    ledger_server::{Ledger, LedgerServer},
};

pub const CLIENT_ID: &str = "bookkeeper";
pub const CLIENT_SECRET: &str = "correct horse battery staple";

/// Both servers; they end when it is dropped.
pub struct Bank {
    keys: Arc<Keys>,
    counters: Arc<Counters>,
    authorization_server: SocketAddr,
    api: SocketAddr,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Counters {
    token_requests: AtomicUsize,
    sends: AtomicUsize,
}

impl Bank {
    pub async fn open() -> Result<Self, BoxError> {
        let keys = Arc::new(Keys::new());
        let counters = Arc::new(Counters::default());
        let mut tasks = JoinSet::new();

        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let authorization_server = listener.local_addr()?;
        tasks.spawn(grant(listener, Arc::clone(&keys), Arc::clone(&counters)));

        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let api = listener.local_addr()?;
        let (known, count) = (Arc::clone(&keys), Arc::clone(&counters));
        // Refused here, a call is answered trailers-only.
        let check = move |call: tonic::Request<()>| {
            count.sends.fetch_add(1, Relaxed);
            let token = call.metadata().get("authorization");
            let token = token.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
            match token.is_some_and(|token| known.have_signed(token)) {
                true => Ok(call),
                false => Err(Status::unauthenticated("the token's signature is wrong")),
            }
        };
        let service = LedgerServer::with_interceptor(Book::default(), check);
        tasks.spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            let server = Server::builder().add_service(service);
            // Ends with the bank.
            let _ = server.serve_with_incoming(incoming).await;
        });
        Ok(Self {
            keys,
            counters,
            authorization_server,
            api,
            _tasks: tasks,
        })
    }

    pub fn origin(&self) -> String {
        format!("http://{}", self.api)
    }

    pub fn token_url(&self) -> String {
        format!("http://{}/token", self.authorization_server)
    }

    /// As a restart does that loses the key: older tokens are worthless.
    pub fn change_signing_key(&self) {
        *self.keys.lock() = fastrand::u128(..);
    }

    pub fn token_requests(&self) -> usize {
        self.counters.token_requests.load(Relaxed)
    }

    /// How many calls came in, counting those that came twice.
    pub fn sends(&self) -> usize {
        self.counters.sends.load(Relaxed)
    }
}

/// The key that tokens are signed with: HMAC, and one for both servers, to keep it short. A real
/// one is random beyond guessing.
struct Keys(Mutex<u128>);

impl Keys {
    fn new() -> Self {
        Self(Mutex::new(fastrand::u128(..)))
    }

    /// A token: claims and their signature.
    fn sign(&self, claims: &str) -> String {
        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let signature = HMAC::mac(claims, self.lock().to_be_bytes());
        format!("{}.{}", encode(claims.as_bytes()), encode(&signature))
    }

    fn have_signed(&self, token: &str) -> bool {
        let decode = |text| BASE64_URL_SAFE_NO_PAD.decode(text).ok();
        let parts = token.split_once('.');
        let parts = parts.and_then(|(claims, signature)| {
            let signature = decode(signature)?.try_into().ok()?;
            Some((decode(claims)?, signature))
        });
        parts.is_some_and(|(claims, signature): (_, [u8; 32])| {
            HMAC::verify(claims, self.lock().to_be_bytes(), &signature)
        })
    }

    fn lock(&self) -> MutexGuard<'_, u128> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The authorization server: the client credentials grant, for one client.
async fn grant(listener: TcpListener, keys: Arc<Keys>, counters: Arc<Counters>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (keys, counters) = (Arc::clone(&keys), Arc::clone(&counters));
        let service = service_fn(move |request: Request<Incoming>| {
            let number = counters.token_requests.fetch_add(1, Relaxed);
            let encoded = CLIENT_SECRET.replace(' ', "+"); // RFC 6749 §2.3.1: as in a form
            let expected = BASE64_STANDARD.encode(format!("{CLIENT_ID}:{encoded}"));
            let given = request.headers().get(AUTHORIZATION);
            let is_known = given.is_some_and(|given| *given == format!("Basic {expected}"));
            let (status, answer) = if is_known {
                let token = keys.sign(&format!(r#"{{"sub":"{CLIENT_ID}","jti":{number}}}"#));
                let token = format!(r#""access_token":"{token}","token_type":"Bearer""#);
                (200, format!(r#"{{{token},"expires_in":3600}}"#))
            } else {
                (401, String::from(r#"{"error":"invalid_client"}"#))
            };
            let answer = Response::builder()
                .status(status)
                .header("content-type", "application/json")
                .body(answer);
            async { answer }
        });
        connections.spawn(async move {
            let connection = http1::Builder::new();
            // Ends when the client hangs up.
            let _ = connection
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// The gRPC server: one account.
#[derive(Default)]
struct Book(Arc<Mutex<Vec<Booking>>>);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Ledger for Book {
    type BookingsStream = Answers<Booking>;
    type BookStream = Answers<Amount>;

    async fn balance(&self, _: tonic::Request<Account>) -> Result<tonic::Response<Amount>, Status> {
        Ok(tonic::Response::new(balance(&lock(&self.0))))
    }

    async fn bookings(
        &self,
        _: tonic::Request<Account>,
    ) -> Result<tonic::Response<Answers<Booking>>, Status> {
        let all = lock(&self.0).clone();
        let all = tokio_stream::iter(all.into_iter().map(Ok));
        Ok(tonic::Response::new(Box::pin(all)))
    }

    async fn book(
        &self,
        request: tonic::Request<Streaming<Booking>>,
    ) -> Result<tonic::Response<Answers<Amount>>, Status> {
        let booked = Arc::clone(&self.0);
        let balances = request.into_inner().map(move |booking| {
            let mut booked = lock(&booked);
            booked.push(booking?);
            Ok(balance(&booked))
        });
        Ok(tonic::Response::new(Box::pin(balances)))
    }
}

fn balance(bookings: &[Booking]) -> Amount {
    let cents = bookings.iter().map(|booking| booking.cents).sum();
    Amount { cents }
}

fn lock(bookings: &Mutex<Vec<Booking>>) -> MutexGuard<'_, Vec<Booking>> {
    bookings.lock().unwrap_or_else(PoisonError::into_inner)
}
