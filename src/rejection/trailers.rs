//! gRPC's answer, when it comes in trailers and no message before them.
//!
//! Most servers answer a bad token trailers-only, and that is in the head. One that has sent its head already, or never sends
//! trailers-only, says so in trailers. Who waits for the first frame of the body knows, at a price that only the caller can
//! weigh: hence a layer of its own.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Buf;
use http::{HeaderMap, Response, StatusCode, header::CONTENT_TYPE, response::Parts};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::grpc;

/// Has gRPC's `UNAUTHENTICATED` judged also where it comes in trailers that follow no message.
///
/// Goes below the [`OAuthLayer`](crate::OAuthLayer), which by itself judges heads only. For a gRPC response without a status
/// in its head this layer waits for the body's first frame, and shows trailers that come first to whoever judges
/// ([`ResponseHead::trailers`](super::ResponseHead::trailers)). The caller gets head, messages, trailers and errors as they
/// are without the layer; what isn't gRPC passes at the price of a header lookup. A call that has got a message is never
/// sent again.
///
/// # What it costs
///
/// The head waits for the first frame, and so long a copy of the request is kept. A bidirectional call whose server answers
/// with its head and then waits for the first message, from a caller who waits for the head, **waits for ever**. It is meant
/// for unary and server-streaming calls; give other calls a client without it, over the same
/// [`TokenCache`](crate::TokenCache).
///
/// # Examples
///
/// ```
/// use http::Request;
/// use tonic::{body::Body, transport::Channel};
/// use tower::ServiceBuilder;
/// use tower_oauth::{AccessToken, GrpcTrailersLayer, OAuthLayer, ReplayBody};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_oauth::InvalidOrigin> {
/// # let source = || async { Ok(AccessToken::bearer("mF_9.B5f-4.1JqM")?) };
/// let channel = Channel::from_static("https://api.example.com").connect_lazy();
/// let service = ServiceBuilder::new()
///     .layer(OAuthLayer::for_origin("https://api.example.com", source)?)
///     .layer(GrpcTrailersLayer::new())
///     .map_request(|request: Request<ReplayBody<Body>>| request.map(Body::new))
///     .service(channel);
/// let client = tonic::client::Grpc::new(service);
/// # drop(client);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct GrpcTrailersLayer {
    _private: (),
}

impl GrpcTrailersLayer {
    /// The layer; there is nothing to choose.
    pub const fn new() -> Self {
        Self { _private: () }
    }
}

impl<S> Layer<S> for GrpcTrailersLayer {
    type Service = GrpcTrailers<S>;

    fn layer(&self, inner: S) -> GrpcTrailers<S> {
        GrpcTrailers { inner }
    }
}

/// A service that waits for the first frame of a gRPC response; made by a [`GrpcTrailersLayer`].
///
/// Responses' bodies are `Unpin`, as those of clients are; others are boxed below it, by
/// `map_response(|response| response.map(Box::pin))`.
#[derive(Debug, Clone)]
pub struct GrpcTrailers<S> {
    inner: S,
}

impl<S, Q, R> Service<Q> for GrpcTrailers<S>
where
    S: Service<Q, Response = Response<R>>,
    R: Body + Unpin,
{
    type Response = Response<GrpcTrailersBody<R>>;
    type Error = S::Error;
    type Future = GrpcTrailersFuture<S::Future, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Q) -> Self::Future {
        GrpcTrailersFuture {
            stage: Stage::Head {
                answer: self.inner.call(request),
            },
        }
    }
}

pin_project! {
    /// The answer that a [`GrpcTrailers`] service waits for.
    #[must_use = "futures do nothing unless polled"]
    pub struct GrpcTrailersFuture<F, R> {
        #[pin]
        stage: Stage<F, R>,
    }
}

pin_project! {
    // What is being waited for.
    #[project = StageProj]
    enum Stage<F, R> {
        // The head.
        Head { #[pin] answer: F },
        // The first frame; without a response, nothing any more.
        FirstFrame { response: Option<Response<R>> },
    }
}

impl<F, R, E> Future for GrpcTrailersFuture<F, R>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body + Unpin,
{
    type Output = Result<Response<GrpcTrailersBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut stage = self.project().stage;
        loop {
            match stage.as_mut().project() {
                StageProj::Head { answer } => {
                    let response = ready!(answer.poll(cx))?;
                    if !leaves_its_status_open(&response) {
                        let body = |body| GrpcTrailersBody::new(body, First::Read);
                        return Poll::Ready(Ok(response.map(body)));
                    }
                    let response = Some(response);
                    stage.set(Stage::FirstFrame { response });
                }
                StageProj::FirstFrame { response } => {
                    let Some(waiting) = response else {
                        return Poll::Pending;
                    };
                    let first = ready!(poll_first(waiting.body_mut(), cx));
                    let Some(response) = response.take() else {
                        return Poll::Pending;
                    };
                    let (mut head, body) = response.into_parts();
                    show_trailers(&mut head, &first);
                    let body = GrpcTrailersBody::new(body, first);
                    return Poll::Ready(Ok(Response::from_parts(head, body)));
                }
            }
        }
    }
}

/// Whether the answer is gRPC's, and its status is still to come.
fn leaves_its_status_open<R: Body>(response: &Response<R>) -> bool {
    response.status() == StatusCode::OK
        && is_grpc(response.headers())
        && !response.headers().contains_key(&grpc::STATUS)
        && !response.body().is_end_stream()
}

/// gRPC over HTTP/2, "Responses": `"content-type" "application/grpc" [("+proto" / "+json" / {custom})]`. What comes as
/// `application/grpc-web` has its trailers inside the body.
fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return false;
    };
    let Some((start, rest)) = value.as_bytes().split_at_checked(GRPC.len()) else {
        return false;
    };
    start.eq_ignore_ascii_case(GRPC) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

const GRPC: &[u8] = b"application/grpc";

/// What a body yields first, of a body that doesn't move.
fn poll_first<R: Body + Unpin>(
    body: &mut R,
    cx: &mut Context<'_>,
) -> Poll<First<R::Data, R::Error>> {
    loop {
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        match frame {
            // An empty frame is no part of a message.
            Some(Ok(frame)) if frame.data_ref().is_some_and(|data| !data.has_remaining()) => {}
            Some(frame) => return Poll::Ready(First::Kept(frame)),
            None => return Poll::Ready(First::End),
        }
    }
}

fn show_trailers<D, E>(head: &mut Parts, first: &First<D, E>) {
    if let First::Kept(Ok(frame)) = first
        && let Some(trailers) = frame.trailers_ref()
    {
        head.extensions.insert(EarlyTrailers(trailers.clone()));
    }
}

/// In a response's extensions: the trailers that follow no message. They are in the body, too.
#[derive(Debug, Clone)]
pub(super) struct EarlyTrailers(pub(super) HeaderMap);

/// The body of a response that passed a [`GrpcTrailers`] service: yields what `R` yields, and has its size hint.
pub struct GrpcTrailersBody<R: Body> {
    first: First<R::Data, R::Error>,
    body: R,
}

/// What a body yielded first.
enum First<D, E> {
    /// It is the reader's already, or not known yet.
    Read,
    /// A frame or an error, kept until it is read.
    Kept(Result<Frame<D>, E>),
    /// Nothing: the body must not be asked again.
    End,
}

impl<R: Body> GrpcTrailersBody<R> {
    fn new(body: R, first: First<R::Data, R::Error>) -> Self {
        Self { first, body }
    }
}

/// Nothing in it is pinned but the body.
impl<R: Body + Unpin> Unpin for GrpcTrailersBody<R> {}

impl<R: Body + Unpin> Body for GrpcTrailersBody<R> {
    type Data = R::Data;
    type Error = R::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<R::Data>, R::Error>>> {
        match std::mem::replace(&mut self.first, First::Read) {
            First::Read => Pin::new(&mut self.body).poll_frame(cx),
            First::Kept(frame) => Poll::Ready(Some(frame)),
            First::End => {
                self.first = First::End;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.first {
            First::Read => self.body.is_end_stream(),
            First::Kept(_) => false,
            First::End => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.body.size_hint();
        let First::Kept(Ok(frame)) = &self.first else {
            return rest;
        };
        let kept = frame.data_ref().map_or(0, Buf::remaining);
        let kept = u64::try_from(kept).unwrap_or(u64::MAX);
        let mut whole = SizeHint::new();
        if let Some(upper) = rest.upper() {
            whole.set_upper(upper.saturating_add(kept));
        }
        whole.set_lower(rest.lower().saturating_add(kept));
        whole
    }
}

impl<F, R> fmt::Debug for GrpcTrailersFuture<F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcTrailersFuture").finish_non_exhaustive()
    }
}

impl<R: Body> fmt::Debug for GrpcTrailersBody<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrpcTrailersBody").finish_non_exhaustive()
    }
}
