//! Calls to grpcio whose token is refused: of each kind, early, late, in trailers, for good.

use bytes::Bytes;
use tokio::sync::watch;
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Status};
use tower_oauth::TokenCache;

use super::grpc_server::GrpcServer;
use crate::support::grpc::{
    Stack, bidi, client_streaming, messages, plain, server_streaming, unary, with_trailers,
};

/// A client whose token is dead, and who doesn't know yet.
async fn revoked() -> Option<(GrpcServer, TokenCache, watch::Receiver<usize>)> {
    let server = GrpcServer::start().await?;
    let (cache, asked) = server.tokens();
    cache.ready().await.unwrap();
    server.revoke().await;
    Some((server, cache, asked))
}

fn request<T>(call: &'static str, messages: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(messages);
    let call = tonic::metadata::MetadataValue::from_static(call);
    request.metadata_mut().insert("call", call);
    request
}

fn message(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[tokio::test]
async fn each_kind_is_sent_again_whole_and_in_order() {
    for kind in ["unary", "server", "client", "bidi"] {
        let Some((server, cache, asked)) = revoked().await else {
            return;
        };
        let service = plain(&server.origin, &cache);
        let one = || request(kind, message("one"));
        let several = || {
            request(
                kind,
                tokio_stream::iter(["one", "two", "three"].map(message)),
            )
        };
        let got = match kind {
            "unary" => vec![unary(&service, one(), "/peer.Peer/Unary").await.unwrap()],
            "server" => {
                let stream = server_streaming(&service, one(), "/peer.Peer/ServerStreaming");
                whole(messages(stream.await.unwrap()).await)
            }
            "client" => {
                let answer = client_streaming(&service, several(), "/peer.Peer/ClientStreaming");
                vec![answer.await.unwrap()]
            }
            _ => {
                let stream = bidi(&service, several(), "/peer.Peer/Bidi");
                whole(messages(stream.await.unwrap()).await)
            }
        };
        let expected: &[&str] = match kind {
            "unary" => &["one"],
            "server" => &["one1", "one2", "one3"],
            "client" => &["one two three"],
            _ => &["one", "two", "three"],
        };
        assert_eq!(got, expected, "{kind}");
        let stats = server.stats().await;
        assert_eq!(stats.sends_of(kind), 2, "{kind}");
        assert_eq!(stats.token_requests, 2, "{kind}");
        assert_eq!(*asked.borrow(), 2, "{kind}");
    }
}

fn whole((messages, end): (Vec<Bytes>, Result<(), Status>)) -> Vec<Bytes> {
    end.unwrap();
    messages
}

/// The caller has more to say only after the client has asked for another token, which is after
/// the refusal.
#[tokio::test]
async fn a_refusal_that_comes_while_the_caller_still_sends() {
    for kind in ["client", "bidi"] {
        let Some((server, cache, asked)) = revoked().await else {
            return;
        };
        let service = plain(&server.origin, &cache);
        let several = request(kind, slow_caller(asked));
        let got = if kind == "client" {
            let answer = client_streaming(&service, several, "/peer.Peer/ClientStreaming").await;
            answer.unwrap()
        } else {
            let stream = bidi(&service, several, "/peer.Peer/Bidi").await.unwrap();
            whole(messages(stream).await).join(&b' ').into()
        };
        assert_eq!(got, "one two three four", "{kind}");
        let stats = server.stats().await;
        assert_eq!(
            (stats.sends_of(kind), stats.token_requests),
            (2, 2),
            "{kind}"
        );
    }
}

fn slow_caller(mut asked: watch::Receiver<usize>) -> impl Stream<Item = Bytes> {
    let early = tokio_stream::iter(["one", "two"].map(message));
    let (late, rest) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        asked.wait_for(|times| *times >= 2).await.unwrap();
        for text in ["three", "four"] {
            let _ = late.send(message(text));
        }
    });
    early.chain(tokio_stream::wrappers::UnboundedReceiverStream::new(rest))
}

#[tokio::test]
async fn a_message_and_then_a_refusal_are_the_callers() {
    let Some((server, cache, _)) = revoked().await else {
        return;
    };
    late(&plain(&server.origin, &cache), "plain").await;
    late(&with_trailers(&server.origin, &cache), "with trailers").await;
    let stats = server.stats().await;
    assert_eq!(stats.sends_of("plain"), 1);
    assert_eq!(stats.sends_of("with trailers"), 1);
    assert_eq!(stats.token_requests, 1);
}

async fn late(service: &Stack, call: &'static str) {
    let stream = server_streaming(service, request(call, message("one")), "/peer.Peer/Late");
    let (got, end) = messages(stream.await.unwrap()).await;
    assert_eq!(got, ["one"]);
    let status = end.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert_eq!(status.message(), "too late");
}

#[tokio::test]
async fn a_refusal_in_trailers_is_the_callers_without_the_layer_for_them() {
    const PATH: &str = "/peer.Peer/Trailers";
    let Some((server, cache, _)) = revoked().await else {
        return;
    };
    let plain = plain(&server.origin, &cache);
    let refused = unary(&plain, request("plain", message("one")), PATH).await;
    let status = refused.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert_eq!(status.message(), "the token of send 1 is dead");
    assert_eq!(status.metadata().get("initial").unwrap(), "metadata");
    let stats = server.stats().await;
    assert_eq!((stats.sends_of("plain"), stats.token_requests), (1, 1));

    let layered = with_trailers(&server.origin, &cache);
    let answer = unary(&layered, request("layered", message("one")), PATH).await;
    assert_eq!(answer.unwrap(), "one");
    let stats = server.stats().await;
    assert_eq!((stats.sends_of("layered"), stats.token_requests), (2, 2));
}

#[tokio::test]
async fn permission_denied_is_the_callers() {
    let Some(server) = GrpcServer::start().await else {
        return;
    };
    let service = plain(&server.origin, &server.tokens().0);
    let call = request("forbidden", message("one"));
    let status = unary(&service, call, "/peer.Peer/Forbidden")
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    let stats = server.stats().await;
    assert_eq!((stats.sends_of("forbidden"), stats.token_requests), (1, 1));
}

#[tokio::test]
async fn what_is_refused_twice_comes_to_the_caller_as_sent() {
    let Some(server) = GrpcServer::start().await else {
        return;
    };
    let service = plain(&server.origin, &server.tokens().0);
    let call = request("never", message("one"));
    let status = unary(&service, call, "/peer.Peer/Never").await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert_eq!(status.message(), "no token is good enough: send 2");
    let challenge = status.metadata().get("www-authenticate").unwrap();
    assert_eq!(challenge, "Bearer error=\"invalid_token\"");
    let stats = server.stats().await;
    assert_eq!((stats.sends_of("never"), stats.token_requests), (2, 2));
}
