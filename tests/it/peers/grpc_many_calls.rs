//! 5,000 calls to grpcio, which revokes the token in use again and again.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::{task::JoinSet, time::timeout};
use tonic::Status;
use tower::ServiceBuilder;

use super::grpc_server::{GrpcServer, Stats};
use crate::support::grpc::{
    Stack, bidi, boxed, client_streaming, messages, plain, server_streaming, unary,
};

const CALLS: usize = 5000;
/// So many served calls make a revocation due.
const EVERY: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_at_a_time() {
    let Some(stats) = all_succeed(Some(40)).await else {
        return;
    };
    // At most one for each 50 calls, so 100. One that is due waits until all that the one before
    // refused are back, and what is served in the meantime makes them fewer.
    assert!(stats.revocations >= 90, "{}", stats.revocations);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_at_once() {
    let Some(stats) = all_succeed(None).await else {
        return;
    };
    // The first refuses nearly all of them, and the server revokes again only when those are back:
    // then no call is left that comes for the first time.
    assert!(stats.revocations >= 1, "{}", stats.revocations);
}

async fn all_succeed(limit: Option<usize>) -> Option<Stats> {
    let server = GrpcServer::start().await?;
    server.revoke_every(EVERY).await;
    let start = Instant::now();
    let service = plain(&server.origin, &server.tokens().0);
    // Around the layer: a call keeps its place while it is sent again.
    let service = ServiceBuilder::new()
        .concurrency_limit(limit.unwrap_or(CALLS))
        .service(service);
    let service = boxed(service);
    let mut calls = JoinSet::new();
    for number in 0..CALLS {
        let service = service.clone();
        calls.spawn(async move {
            call(&service, number)
                .await
                .map_err(|status| (number, status))
        });
    }
    let outcomes = timeout(NET, calls.join_all())
        .await
        .expect("some call hangs");
    let failures: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
    assert!(
        failures.is_empty(),
        "{} failures: {:?}",
        failures.len(),
        failures[0]
    );

    let stats = server.stats().await;
    let sends: usize = stats.sends.values().sum();
    println!(
        "{CALLS} calls, {} at a time: {} revocations, {} token requests, {sends} sends, {:?}",
        limit.unwrap_or(CALLS),
        stats.revocations,
        stats.token_requests,
        start.elapsed(),
    );
    assert_eq!(stats.sends.len(), CALLS);
    assert_eq!(stats.served, CALLS);
    assert_eq!(stats.token_requests, 1 + stats.revocations);
    Some(stats)
}

/// Of each kind a quarter; checks the answer.
async fn call(service: &Stack, number: usize) -> Result<(), Status> {
    let text = format!("call {number}");
    let one = Bytes::from(text.clone());
    let parts = text.split(' ').map(|part| Bytes::from(part.to_owned()));
    let parts: Vec<_> = parts.collect();
    match number % 4 {
        0 => {
            let answer = unary(service, request(number, one), "/peer.Peer/Unary");
            assert_eq!(answer.await?, text);
        }
        1 => {
            let request = request(number, one);
            let stream = server_streaming(service, request, "/peer.Peer/ServerStreaming");
            let (got, end) = messages(stream.await?).await;
            end?;
            let expected: Vec<_> = (1..=3).map(|number| format!("{text}{number}")).collect();
            assert_eq!(got, expected);
        }
        2 => {
            let request = request(number, tokio_stream::iter(parts));
            let answer = client_streaming(service, request, "/peer.Peer/ClientStreaming");
            assert_eq!(answer.await?, text);
        }
        _ => {
            let request = request(number, tokio_stream::iter(parts.clone()));
            let stream = bidi(service, request, "/peer.Peer/Bidi");
            let (got, end) = messages(stream.await?).await;
            end?;
            assert_eq!(got, parts);
        }
    }
    Ok(())
}

fn request<T>(call: usize, messages: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(messages);
    let call = call.to_string().parse().unwrap();
    request.metadata_mut().insert("call", call);
    request
}

/// For a call that hangs, on a machine that is busy with other tests.
const NET: Duration = Duration::from_secs(300);
