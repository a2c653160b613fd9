//! The service: put the token on, send, judge the answer, and if the token was refused, renew it
//! and send once more.

mod again;
mod choices;
mod common;
mod first;

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

pub(crate) use self::choices::{Choices, Retry};
use self::{
    again::{Again, BetterToken, Refusal, SentAgain},
    common::Common,
    first::{First, Sent, send},
};
use crate::{
    authorize::{DestinationError, Step},
    cache::{Credential, TokenCache},
    replay::{self, Deadline, DeadlinePassed, ReplayBody, within},
    source::{BoxError, TokenError},
};

/// A service that puts an access token on each request; made by an
/// [`OAuthLayer`](crate::OAuthLayer).
///
/// Its clones share the token. Its error is a [`BoxError`]: a [`TokenError`] if there is no token
/// to be had, a [`DestinationError`] if the token must not go where the request goes, and
/// otherwise the inner service's own error.
///
/// # The inner service
///
/// It is `Clone`, and takes requests with bodies of the type [`ReplayBody<B>`](ReplayBody), `B`
/// being the type of the requests' own bodies: any that borrows nothing, and whose error can be
/// boxed. A client's body type is best left to the compiler; one
/// that is fixed is mapped to:
///
/// ```
/// use bytes::Bytes;
/// use http::Request;
/// use http_body_util::{BodyExt, Full, combinators::BoxBody};
/// use hyper_util::{client::legacy::Client, rt::TokioExecutor};
/// use tower::{ServiceBuilder, util::BoxCloneSyncService};
/// use tower_oauth::{AccessToken, BoxError, OAuth, OAuthLayer, ReplayBody};
///
/// # let source = || async { Ok(AccessToken::bearer("mF_9.B5f-4.1JqM")?) };
/// let layer = OAuthLayer::for_origin("http://localhost:8080", source)?;
///
/// // A type that can be named.
/// type Api = OAuth<Client<hyper_util::client::legacy::connect::HttpConnector, ReplayBody<Full<Bytes>>>>;
/// let http = Client::builder(TokioExecutor::new()).build_http();
/// let named: Api = ServiceBuilder::new().layer(layer.clone()).service(http);
///
/// // One that needn't be.
/// let boxed: BoxCloneSyncService<Request<Full<Bytes>>, _, BoxError> = BoxCloneSyncService::new(named);
///
/// // A client whose body type is fixed.
/// let fixed: Client<_, BoxBody<Bytes, BoxError>> =
///     Client::builder(TokioExecutor::new()).build_http();
/// let client = ServiceBuilder::new()
///     .layer(layer)
///     .map_request(|request: Request<ReplayBody<Full<Bytes>>>| request.map(BodyExt::boxed))
///     .service(fixed);
/// # drop((boxed, client));
/// # Ok::<(), tower_oauth::InvalidOrigin>(())
/// ```
///
/// Over a tonic channel the mapping is
/// `.map_request(|request: http::Request<_>| request.map(tonic::body::Body::new))`; a [`TokenError`]
/// is then the source of a `Status` with code `Unknown`. A call's `grpc-timeout` keeps running while
/// a token is awaited and the call is sent again: each later send says what is left, and once
/// nothing is, the error is a [`TokenError`], or the refusal is the caller's.
///
/// Without a TLS feature of its own tonic calls an `https:` server in the clear, which this layer
/// can't see: give it `tls-ring` and a `tls_config`.
///
/// Services that aren't `Clone`, such as a rate limit, go around the layer, or into a buffer below
/// it.
///
/// Where a client doesn't compile, `client.oneshot(request)` says only that bounds aren't satisfied;
/// `tower::ServiceExt::<http::Request<_>>::oneshot(client, request)` says which: that the inner
/// service isn't `Clone`, that its body type is fixed (map it, as above), or that the request body's
/// error is no [`Error`](std::error::Error).
#[derive(Clone)]
pub struct OAuth<S> {
    inner: S,
    common: Arc<Common<S>>,
}

impl<S> OAuth<S> {
    pub(crate) fn new(inner: S, choices: Choices) -> Self {
        let common = Arc::new(Common::new(choices));
        Self { inner, common }
    }

    /// The service below.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The service below, to be set up.
    pub fn get_mut(&mut self) -> &mut S {
        // What was set aside for second sends is of the service as it was.
        self.common = Arc::new(self.common.anew());
        &mut self.inner
    }

    /// The service below, without its token.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, B, R> Service<Request<B>> for OAuth<S>
where
    S: Service<Request<ReplayBody<B>>, Response = Response<R>> + Clone,
    S::Error: Into<BoxError>,
    B: Body<Error: Into<BoxError>> + 'static,
{
    type Response = Response<R>;
    type Error = BoxError;
    type Future = ResponseFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    #[inline]
    fn call(&mut self, mut request: Request<B>) -> ResponseFuture<S, B> {
        let choices = self.common.choices();
        let step = choices.authorize.step(&request);
        let put = |header: &_| choices.authorize.put(&mut request, header);
        if let Ok(Step::Authorize) = step
            && let Some((true, token)) = choices.cache.put_on(put)
        {
            let hold = self.common.hold(&self.inner);
            let stage = send(&mut self.inner, request, token, hold);
            return ResponseFuture { stage };
        }
        let stage = self.call_the_long_way(request, step);
        ResponseFuture { stage }
    }
}

pin_project! {
    /// The answer to a request that an [`OAuth`] service sent.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, B>
    where
        S: Service<Request<ReplayBody<B>>>,
    {
        #[pin]
        stage: Stage<S, B>,
    }
}

pin_project! {
    // What is being waited for.
    #[project = StageProj]
    enum Stage<S, B>
    where
        S: Service<Request<ReplayBody<B>>>,
    {
        // The answer to a request that isn't ours to authorize.
        Passing { #[pin] answer: S::Future },
        // The first token, and what is sent with it.
        Waiting { token: FirstToken, first: Option<Box<First<S, B>>> },
        // The answer to the first send, which is judged.
        Sent { #[pin] answer: S::Future, sent: Sent<S, B> },
        // A better token than the one that was refused.
        Renewing { token: BetterToken, refusal: Option<Box<Refusal<S, B>>> },
        // The inner service's readiness for the second send.
        Readying { again: Option<Box<Again<S, B>>> },
        // The answer to the second send, which is the caller's whatever it says.
        SentAgain { #[pin] answer: S::Future, sent: SentAgain<S> },
        // Nothing: the token must not go where the request goes.
        Refused { error: Option<DestinationError> },
    }
}

/// `None` where the call's time is over before.
type FirstToken = Pin<Box<dyn Future<Output = Option<Result<Credential, TokenError>>> + Send>>;

impl<S, B, R> Future for ResponseFuture<S, B>
where
    S: Service<Request<ReplayBody<B>>, Response = Response<R>> + Clone,
    S::Error: Into<BoxError>,
    B: Body<Error: Into<BoxError>> + 'static,
{
    type Output = Result<Response<R>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut stage = self.project().stage;
        loop {
            let next = match stage.as_mut().project() {
                StageProj::Passing { answer } => return answer.poll(cx).map_err(Into::into),
                StageProj::Waiting { token, first } => {
                    let in_time = ready!(token.as_mut().poll(cx));
                    let late = || Err(TokenError::transient(DeadlinePassed));
                    let credential = in_time.unwrap_or_else(late)?;
                    match first.take() {
                        Some(first) => first.send(credential),
                        None => return Poll::Pending,
                    }
                }
                StageProj::Sent { answer, sent } => {
                    let mut answer = match ready!(answer.poll(cx)) {
                        Ok(answer) => answer,
                        Err(error) => return Poll::Ready(Err(error.into())),
                    };
                    let Some((replay, service)) = sent.judge(&mut answer) else {
                        return Poll::Ready(Ok(answer));
                    };
                    let refusal = Box::new(Refusal {
                        answer,
                        refused: sent.token,
                        service,
                        deadline: replay.deadline(),
                        replay,
                        hold: Arc::clone(&sent.hold),
                    });
                    Stage::Renewing {
                        token: refusal.better_token(),
                        refusal: Some(refusal),
                    }
                }
                StageProj::Renewing { token, refusal } => {
                    let better = ready!(token.as_mut().poll(cx)).flatten();
                    let Some(refusal) = refusal.take() else {
                        return Poll::Pending;
                    };
                    match refusal.again_with(better) {
                        Ok(again) => Stage::Readying {
                            again: Some(Box::new(again)),
                        },
                        Err(answer) => return Poll::Ready(Ok(answer)),
                    }
                }
                StageProj::Readying { again } => {
                    let Some(waiting) = again else {
                        return Poll::Pending;
                    };
                    ready!(waiting.poll_ready(cx))?;
                    match again.take() {
                        Some(again) => {
                            let (answer, sent) = (*again).send();
                            Stage::SentAgain { answer, sent }
                        }
                        None => return Poll::Pending,
                    }
                }
                StageProj::SentAgain { answer, sent } => {
                    let mut answer = ready!(answer.poll(cx)).map_err(Into::into)?;
                    sent.note(&mut answer);
                    return Poll::Ready(Ok(answer));
                }
                StageProj::Refused { error } => match error.take() {
                    Some(error) => return Poll::Ready(Err(error.into())),
                    None => return Poll::Pending,
                },
            };
            stage.set(next);
        }
    }
}

impl<S> OAuth<S> {
    /// The request is none of ours, or may have to wait for its token.
    fn call_the_long_way<B>(
        &mut self,
        request: Request<B>,
        step: Result<Step, DestinationError>,
    ) -> Stage<S, B>
    where
        S: Service<Request<ReplayBody<B>>> + Clone,
        B: Body<Error: Into<BoxError>>,
    {
        let authorize = &self.common.choices().authorize;
        match step {
            _ if authorize.is_the_callers(&request) => self.pass(request),
            Ok(Step::Leave) => self.pass(request),
            Ok(Step::Authorize) => self.wait_for(TokenCache::obtained, request),
            Ok(Step::AuthorizeAnew) => self.wait_for(TokenCache::newer, request),
            Err(error) => {
                // What the ready service reserved for this request is given back.
                self.inner = self.inner.clone();
                Stage::Refused { error: Some(error) }
            }
        }
    }

    fn pass<B>(&mut self, request: Request<B>) -> Stage<S, B>
    where
        S: Service<Request<ReplayBody<B>>>,
        B: Body<Error: Into<BoxError>>,
    {
        Stage::Passing {
            answer: self.inner.call(replay::pass(request)),
        }
    }

    fn wait_for<B, F>(
        &mut self,
        token: impl FnOnce(TokenCache) -> F,
        request: Request<B>,
    ) -> Stage<S, B>
    where
        S: Service<Request<ReplayBody<B>>> + Clone,
        F: Future<Output = Result<Credential, TokenError>> + Send + 'static,
    {
        let hold = self.common.hold(&self.inner);
        // Keep the ready service, leave its clone behind.
        let clone = self.inner.clone();
        let service = mem::replace(&mut self.inner, clone);
        let cache = &hold.choices().cache;
        let deadline = Deadline::of(request.method(), request.headers(), || cache.now());
        Stage::Waiting {
            token: Box::pin(within(deadline, token(cache.clone()))),
            first: Some(Box::new(First {
                service,
                request,
                deadline,
                hold,
            })),
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for OAuth<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuth")
            .field("inner", &self.inner)
            .field("choices", self.common.choices())
            .finish()
    }
}

impl<S, B> fmt::Debug for ResponseFuture<S, B>
where
    S: Service<Request<ReplayBody<B>>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
