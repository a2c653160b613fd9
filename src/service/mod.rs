//! The service: put the token on, send, judge the answer, and if the token was refused, renew it
//! and send once more.

mod again;
mod choices;

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

use self::again::{Again, BetterToken, Refusal, SentAgain, attempt};
pub(crate) use self::choices::{Choices, Retry};
use crate::{
    authorize::{self, DestinationError, Step},
    cache::{Credential, TokenCache},
    rejection::Verdict,
    replay::{self, Deadline, DeadlinePassed, Replay, ReplayBody, within},
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
    choices: Arc<Choices>,
}

impl<S> OAuth<S> {
    pub(crate) fn new(inner: S, choices: Arc<Choices>) -> Self {
        Self { inner, choices }
    }

    /// The service below.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The service below, to be set up.
    pub fn get_mut(&mut self) -> &mut S {
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

    fn call(&mut self, request: Request<B>) -> ResponseFuture<S, B> {
        let stage = match self.choices.authorize.step(&request) {
            Err(error) => {
                // What the ready service reserved for this request is given back.
                self.inner = self.inner.clone();
                Stage::Refused { error: Some(error) }
            }
            Ok(Step::Leave) => Stage::Passing {
                answer: self.inner.call(replay::pass(request)),
            },
            Ok(step) => {
                // Keep the ready service, leave its clone behind.
                let clone = self.inner.clone();
                let ready = mem::replace(&mut self.inner, clone);
                let choices = Arc::clone(&self.choices);
                let first = First {
                    service: ready,
                    deadline: Deadline::of(&request, || choices.cache.now()),
                    request,
                    choices,
                };
                match step {
                    Step::AuthorizeAnew => first.wait_for(TokenCache::newer),
                    _ => match first.choices.cache.credential() {
                        Some(credential) => first.send(credential),
                        None => first.wait_for(TokenCache::obtained),
                    },
                }
            }
        };
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
        Sent { #[pin] answer: S::Future, sent: Option<Sent<S, B>> },
        // A better token than the one that was refused.
        Renewing { token: BetterToken, refusal: Option<Box<Refusal<S, B>>> },
        // The inner service's readiness for the second send.
        Readying { again: Option<Box<Again<S, B>>> },
        // The answer to the second send, which is the caller's whatever it says.
        SentAgain { #[pin] answer: S::Future, sent: SentAgain },
        // Nothing: the token must not go where the request goes.
        Refused { error: Option<DestinationError> },
    }
}

type FirstToken = Pin<Box<dyn Future<Output = Result<Credential, TokenError>> + Send>>;

/// A request about to be sent.
struct First<S, B> {
    service: S,
    request: Request<B>,
    deadline: Option<Deadline>,
    choices: Arc<Choices>,
}

/// A request on its way, and what sending it once more needs.
struct Sent<S, B> {
    service: S,
    credential: Credential,
    replay: Option<Replay<B>>,
    deadline: Option<Deadline>,
    choices: Arc<Choices>,
}

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
                    let credential = ready!(token.as_mut().poll(cx))?;
                    match first.take() {
                        Some(first) => first.delayed().send(credential),
                        None => return Poll::Pending,
                    }
                }
                StageProj::Sent { answer, sent } => {
                    let answer = ready!(answer.poll(cx)).map_err(Into::into)?;
                    match sent.take() {
                        Some(sent) => match sent.judge(answer) {
                            Ok(answer) => return Poll::Ready(Ok(answer)),
                            Err(refusal) => Stage::Renewing {
                                token: refusal.better_token(),
                                refusal: Some(refusal),
                            },
                        },
                        None => return Poll::Ready(Ok(answer)),
                    }
                }
                StageProj::Renewing { token, refusal } => {
                    let better = ready!(token.as_mut().poll(cx));
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
                    let answer = ready!(answer.poll(cx)).map_err(Into::into)?;
                    return Poll::Ready(Ok(sent.note(answer)));
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

impl<S, B> First<S, B>
where
    S: Service<Request<ReplayBody<B>>>,
    B: Body<Error: Into<BoxError>> + 'static,
{
    fn wait_for<F>(self, token: impl FnOnce(TokenCache) -> F) -> Stage<S, B>
    where
        F: Future<Output = Result<Credential, TokenError>> + Send + 'static,
    {
        let token = within(self.deadline, token(self.choices.cache.clone()));
        Stage::Waiting {
            token: Box::pin(async {
                let in_time = token.await;
                in_time.unwrap_or_else(|| Err(TokenError::transient(DeadlinePassed)))
            }),
            first: Some(Box::new(self)),
        }
    }

    /// The same after a wait, which counts.
    fn delayed(mut self) -> Self {
        if let Some(deadline) = self.deadline {
            deadline.put(self.request.headers_mut(), self.choices.cache.now());
        }
        self
    }

    fn send(self, credential: Credential) -> Stage<S, B> {
        let mut service = self.service;
        let (mut request, replay) = match self.choices.retry {
            Retry::Never => (replay::pass(self.request), None),
            Retry::UpTo(limit) => replay::record(self.request, limit),
        };
        authorize::put(request.headers_mut(), credential.header.clone());
        Stage::Sent {
            answer: service.call(request),
            sent: Some(Sent {
                service,
                credential,
                replay,
                deadline: self.deadline,
                choices: self.choices,
            }),
        }
    }
}

impl<S, B, R> Sent<S, B>
where
    S: Service<Request<ReplayBody<B>>, Response = Response<R>> + Clone,
    B: Body,
{
    /// The answer, if it is the caller's; what sending again needs, if the token was refused.
    fn judge(self, answer: Response<R>) -> Result<Response<R>, Box<Refusal<S, B>>> {
        let cache = &self.choices.cache;
        let generation = self.credential.generation;
        match self.choices.judge.verdict(&answer) {
            Verdict::Accepted => cache.accepted(generation),
            Verdict::Refused => match self.replay {
                Some(replay) if replay.pause() => {
                    return Err(Box::new(Refusal {
                        answer,
                        refused: self.credential,
                        service: self.service,
                        replay,
                        deadline: self.deadline,
                        choices: self.choices,
                    }));
                }
                _ => {
                    cache.refused(generation);
                    return Ok(attempt(1, &self.credential).noted_on(answer));
                }
            },
            _ => {}
        }
        if self.choices.report_attempts {
            return Ok(attempt(1, &self.credential).noted_on(answer));
        }
        Ok(answer)
    }
}

impl<S: fmt::Debug> fmt::Debug for OAuth<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuth")
            .field("inner", &self.inner)
            .field("choices", &self.choices)
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
