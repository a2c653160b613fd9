//! The example of a tonic client: what it shows, and what a call without a token looks like.
#![allow(
    dead_code,
    clippy::duplicate_mod,
    reason = "the example has a `main`, and other tests use its client"
)]

#[path = "../../examples/tonic_client.rs"]
pub mod example;

use tonic::Code;
use tower_oauth::TokenError;

use self::example::{
    Bank, CLIENT_SECRET, Call, Kind, authorized, proto::Account,
    proto::ledger_client::LedgerClient, run, token_error,
};
use crate::support::{
    secs,
    source::{failing, numbered},
};

#[tokio::test]
async fn each_kind_of_call_survives_a_new_signing_key() {
    let bank = Bank::open().await.unwrap();
    let calls = run(&bank, CLIENT_SECRET).await.unwrap();
    let call = |kind, sends, outcome: &str| Call {
        kind,
        outcome: outcome.to_owned(),
        sends,
    };
    assert_eq!(
        calls,
        [
            call(Kind::Book, 1, "-350, then -1450 cents"),
            call(Kind::Book, 2, "-1800, then -2900 cents"),
            call(Kind::Balance, 2, "-2900 cents"),
            call(Kind::Balance, 2, "-2900 cents"),
            call(Kind::Bookings, 2, "coffee, lunch, coffee, lunch"),
            call(Kind::Bookings, 2, "coffee, lunch, coffee, lunch"),
        ]
    );
    assert_eq!(bank.token_requests(), 6);
}

#[tokio::test]
async fn a_token_error_is_the_source_of_the_status() {
    let bank = Bank::open().await.unwrap();
    let error = run(&bank, "wrong").await.unwrap_err();
    let status: &tonic::Status = error.downcast_ref().unwrap();
    assert_eq!(status.code(), Code::Unknown);
    let cause = token_error(status).unwrap();
    assert_eq!(cause.oauth_code(), Some("invalid_client"));
    assert!(!cause.is_transient());
    assert_eq!(status.message(), cause.to_string());
    assert_eq!(bank.sends(), 0);
}

#[tokio::test]
async fn a_token_error_says_whether_trying_again_can_help() {
    let bank = Bank::open().await.unwrap();
    let down = failing(secs(60), |_| Some(TokenError::transient("no network")));
    let mut ledger = LedgerClient::new(authorized(&bank.origin(), down.1).unwrap());
    let status = ledger.balance(Account::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unknown);
    assert!(token_error(&status).unwrap().is_transient());
}

#[tokio::test]
async fn a_refusal_by_the_server_is_no_token_error() {
    let bank = Bank::open().await.unwrap();
    let (tokens, source) = numbered(secs(60));
    let mut ledger = LedgerClient::new(authorized(&bank.origin(), source).unwrap());
    let status = ledger.balance(Account::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert_eq!(status.message(), "the token's signature is wrong");
    assert!(token_error(&status).is_none());
    assert_eq!((bank.sends(), tokens.calls()), (2, 2));
}
