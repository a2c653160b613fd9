//! gRPC calls whose messages are bytes, as a generated client would make them.

use bytes::{Buf, BufMut, Bytes};
use http::{Request, Response, uri::PathAndQuery};
use tokio_stream::Stream;
use tonic::{
    Status,
    body::Body,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};
use tower::{Service, ServiceBuilder, ServiceExt, util::BoxCloneSyncService};
use tower_oauth::{BoxError, OAuthLayer, ReplayBody, TokenCache, rejection::GrpcTrailersLayer};

use crate::tonic_client::example::authorized;

/// A service that generated clients could be made of; of one type, so that they are compiled once.
/// Its errors are what tonic would make of the service's own.
pub type Stack = BoxCloneSyncService<Request<Body>, Response<Body>, Status>;

pub fn boxed<S, R>(service: S) -> Stack
where
    S: Service<Request<Body>, Response = Response<R>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    R: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let service = service.map_response(|response: Response<R>| response.map(Body::new));
    let status = |error: S::Error| Status::from_error(error.into());
    BoxCloneSyncService::new(service.map_err(status))
}

/// A channel behind the layer.
pub fn plain(api: &str, cache: &TokenCache) -> Stack {
    boxed(authorized(api, cache.clone()).unwrap())
}

/// A channel behind the layer, with a `GrpcTrailersLayer` between.
pub fn with_trailers(api: &str, cache: &TokenCache) -> Stack {
    let service = ServiceBuilder::new()
        .layer(OAuthLayer::for_origin(api, cache.clone()).unwrap())
        .layer(GrpcTrailersLayer::new())
        .map_request(|request: Request<ReplayBody<Body>>| request.map(Body::new))
        .service(Channel::from_shared(api.to_owned()).unwrap().connect_lazy());
    boxed(service)
}

/// One message there, one back.
pub async fn unary(
    service: &Stack,
    request: tonic::Request<Bytes>,
    path: &'static str,
) -> Result<Bytes, Status> {
    let mut grpc = ready(service).await?;
    let answer = grpc.unary(request, PathAndQuery::from_static(path), Raw);
    Ok(answer.await?.into_inner())
}

/// One message there, several back.
pub async fn server_streaming(
    service: &Stack,
    request: tonic::Request<Bytes>,
    path: &'static str,
) -> Result<tonic::Streaming<Bytes>, Status> {
    let mut grpc = ready(service).await?;
    let answer = grpc.server_streaming(request, PathAndQuery::from_static(path), Raw);
    Ok(answer.await?.into_inner())
}

/// Several messages there, one back.
pub async fn client_streaming(
    service: &Stack,
    request: tonic::Request<impl Stream<Item = Bytes> + Send + 'static>,
    path: &'static str,
) -> Result<Bytes, Status> {
    let mut grpc = ready(service).await?;
    let answer = grpc.client_streaming(request, PathAndQuery::from_static(path), Raw);
    Ok(answer.await?.into_inner())
}

/// Several messages there and back.
pub async fn bidi(
    service: &Stack,
    request: tonic::Request<impl Stream<Item = Bytes> + Send + 'static>,
    path: &'static str,
) -> Result<tonic::Streaming<Bytes>, Status> {
    let mut grpc = ready(service).await?;
    let answer = grpc.streaming(request, PathAndQuery::from_static(path), Raw);
    Ok(answer.await?.into_inner())
}

/// The messages up to the end of a stream, and how it ended.
pub async fn messages(mut stream: tonic::Streaming<Bytes>) -> (Vec<Bytes>, Result<(), Status>) {
    let mut messages = Vec::new();
    loop {
        match stream.message().await {
            Ok(Some(message)) => messages.push(message),
            Ok(None) => return (messages, Ok(())),
            Err(status) => return (messages, Err(status)),
        }
    }
}

async fn ready(service: &Stack) -> Result<Grpc<Stack>, Status> {
    let mut grpc = Grpc::new(service.clone());
    grpc.ready().await?;
    Ok(grpc)
}

/// Bytes as they are.
#[derive(Debug, Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, target: &mut EncodeBuf<'_>) -> Result<(), Status> {
        target.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(source.copy_to_bytes(source.remaining())))
    }
}
