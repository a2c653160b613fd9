//! A tonic client whose calls, unary and streaming, carry an OAuth 2.0 access token.
//!
//! ```sh
//! cargo run --example tonic_client
//! ```
//!
//! To copy: `authorized` and `token_error`. The rest is a show: after each call the authorization
//! server changes its signing key, as a restart may do, so the next call is refused as
//! `UNAUTHENTICATED`, and sent once more with a token that the new key has signed.
//! `tonic_client/ledger.v1.rs` is what tonic-prost-build makes of `ledger.proto`.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program"
)]

#[path = "tonic_client/servers.rs"]
mod servers;

#[allow(clippy::all, clippy::pedantic, reason = "made by a program")]
pub mod proto {
    include!("tonic_client/ledger.v1.rs");
}

use std::{error::Error, process::ExitCode};

use http::Request;
use tonic::{
    Status,
    body::Body,
    transport::{Channel, ClientTlsConfig},
};
use tower::{ServiceBuilder, util::MapRequest};
use tower_oauth::{
    BoxError, ClientAuth, ClientCredentials, OAuth, OAuthLayer, ReplayBody, TokenCache,
    TokenEndpoint, TokenError,
};

use self::proto::{Account, Booking, ledger_client::LedgerClient};
pub use self::servers::{Bank, CLIENT_ID, CLIENT_SECRET};

/// A channel whose calls carry the token: generated clients take it as they take a channel.
pub type Authorized = OAuth<MapRequest<Channel, fn(Request<ReplayBody<Body>>) -> Request<Body>>>;

/// Connects with the first call. Clones share token and connection.
///
/// For `https:` tonic needs its features `tls-ring` and `tls-native-roots`. Built without any TLS it
/// calls an `https:` server in the clear, token and all; here that wouldn't compile.
pub fn authorized(api: &str, tokens: impl Into<TokenCache>) -> Result<Authorized, BoxError> {
    let tls = ClientTlsConfig::new().with_native_roots();
    let channel = Channel::from_shared(api.to_owned())?;
    let channel = channel.tls_config(tls)?.connect_lazy();
    let oauth = OAuthLayer::for_origin(api, tokens)?;
    Ok(ServiceBuilder::new()
        .layer(oauth)
        .map_request((|request| request.map(Body::new)) as fn(Request<_>) -> _)
        .service(channel))
}

/// Why there was no token, if that is why a call failed: it says who must act. The status that
/// tonic makes of it has the code `Unknown`, as a rule.
pub fn token_error(status: &Status) -> Option<&TokenError> {
    status.source()?.downcast_ref()
}

/// Each kind of call, twice: the second time with a token that is no longer good.
pub async fn run(bank: &Bank, client_secret: &str) -> Result<Vec<Call>, BoxError> {
    let endpoint = TokenEndpoint::builder(bank.token_url())
        .client_auth(ClientAuth::basic(CLIENT_ID, client_secret))
        .build()?;
    let tokens = ClientCredentials::new(endpoint);
    let mut ledger = LedgerClient::new(authorized(&bank.origin(), tokens)?);
    let mut calls = Vec::new();
    for kind in [Kind::Book, Kind::Balance, Kind::Bookings] {
        for _ in 0..2 {
            let before = bank.sends();
            calls.push(Call {
                kind,
                outcome: kind.call(&mut ledger).await?,
                sends: bank.sends() - before,
            });
            bank.change_signing_key();
        }
    }
    Ok(calls)
}

#[derive(Debug, PartialEq)]
pub struct Call {
    pub kind: Kind,
    pub outcome: String,
    /// How often the request was sent.
    pub sends: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Bidirectional.
    Book,
    /// Unary.
    Balance,
    /// Server streaming.
    Bookings,
}

impl Kind {
    async fn call(self, ledger: &mut LedgerClient<Authorized>) -> Result<String, Status> {
        let account = Account { iban: IBAN.into() };
        match self {
            Self::Book => {
                let booking = |(text, cents): (&str, _)| Booking {
                    iban: account.iban.clone(),
                    text: text.to_owned(),
                    cents,
                };
                let wanted = [("coffee", -350), ("lunch", -1100)].map(booking);
                let stream = tokio_stream::iter(wanted);
                let mut balances = ledger.book(stream).await?.into_inner();
                let mut cents = Vec::new();
                while let Some(amount) = balances.message().await? {
                    cents.push(amount.cents.to_string());
                }
                Ok(format!("{} cents", cents.join(", then ")))
            }
            Self::Balance => {
                let amount = ledger.balance(account).await?.into_inner();
                Ok(format!("{} cents", amount.cents))
            }
            Self::Bookings => {
                let mut bookings = ledger.bookings(account).await?.into_inner();
                let mut texts = Vec::new();
                while let Some(booking) = bookings.message().await? {
                    texts.push(booking.text);
                }
                Ok(texts.join(", "))
            }
        }
    }
}

const IBAN: &str = "DE02 1203 0000 0000 2020 51";

#[tokio::main]
async fn main() -> ExitCode {
    match show().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            if let Some(cause) = error.downcast_ref().and_then(token_error) {
                eprintln!("no token; may pass by itself: {}", cause.is_transient());
            }
            ExitCode::FAILURE
        }
    }
}

async fn show() -> Result<(), BoxError> {
    let bank = Bank::open().await?;
    let calls = run(&bank, CLIENT_SECRET).await?;
    for call in &calls {
        let kind = format!("{:?}", call.kind);
        println!("{kind:<8}  sent {} ×  {}", call.sends, call.outcome);
    }
    let sends: usize = calls.iter().map(|call| call.sends).sum();
    let token_requests = bank.token_requests();
    println!(
        "{} calls, {sends} sends, {token_requests} token requests, no failure",
        calls.len()
    );
    Ok(())
}
