//! The service: put the token on, send, judge the answer, and if the token was refused, renew it
//! and send once more.

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

use crate::{
    authorize::{self, Authorize, DestinationError, Step},
    cache::{Credential, TokenCache},
    rejection::{Judge, Verdict},
    replay::{self, Replay, ReplayBody},
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
/// being the type of the requests' own bodies. A client's body type is best left to the compiler; one
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
/// is then found among the sources of a `Status` with code `Unknown`.
///
/// Services that aren't `Clone`, such as a rate limit, go around the layer, or into a buffer below
/// it.
#[derive(Clone)]
pub struct OAuth<S> {
    inner: S,
    choices: Arc<Choices>,
}

/// What an [`OAuthLayer`](crate::OAuthLayer) was told.
#[derive(Debug, Clone)]
pub(crate) struct Choices {
    pub(crate) cache: TokenCache,
    pub(crate) authorize: Authorize,
    pub(crate) retry: Retry,
    pub(crate) judge: Judge,
}

/// Whether a refused request is sent once more.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Retry {
    /// Never.
    Never,
    /// Yes, if its body is at most this long.
    UpTo(usize),
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
    B: Body,
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
            Ok(Step::Authorize) => {
                // Keep the ready service, leave its clone behind.
                let clone = self.inner.clone();
                let ready = mem::replace(&mut self.inner, clone);
                let choices = Arc::clone(&self.choices);
                match choices.cache.credential() {
                    Some(credential) => send(ready, request, credential, choices),
                    None => Stage::Waiting {
                        token: Box::pin(choices.cache.clone().obtained()),
                        then: Some(Box::new((ready, request, choices))),
                    },
                }
            }
        };
        ResponseFuture { stage }
    }
}

/// The first send.
fn send<S, B>(
    mut ready: S,
    request: Request<B>,
    credential: Credential,
    choices: Arc<Choices>,
) -> Stage<S, B>
where
    S: Service<Request<ReplayBody<B>>>,
    B: Body,
{
    let (mut request, replay) = match choices.retry {
        Retry::Never => (replay::pass(request), None),
        Retry::UpTo(limit) => replay::record(request, limit),
    };
    authorize::put(request.headers_mut(), credential.header.clone());
    Stage::Sent {
        answer: ready.call(request),
        sent: Some(Sent {
            service: ready,
            credential,
            replay,
            choices,
        }),
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
        // The first token; `then` is what is sent with it.
        Waiting { token: FirstToken, then: Option<Box<(S, Request<B>, Arc<Choices>)>> },
        // The answer to the first send, which is judged.
        Sent { #[pin] answer: S::Future, sent: Option<Sent<S, B>> },
        // A better token than the one that was refused.
        Renewing { token: BetterToken, refusal: Option<Box<Refusal<S, B>>> },
        // The inner service's readiness for the second send.
        Readying { again: Option<Box<Again<S, B>>> },
        // The answer to the second send, which is the caller's whatever it says.
        SentAgain { #[pin] answer: S::Future, credential: Credential, choices: Arc<Choices> },
        // Nothing: the token must not go where the request goes.
        Refused { error: Option<DestinationError> },
    }
}

type FirstToken = Pin<Box<dyn Future<Output = Result<Credential, TokenError>> + Send>>;
type BetterToken = Pin<Box<dyn Future<Output = Option<Credential>> + Send>>;

/// A request on its way, and what sending it once more needs.
struct Sent<S, B> {
    service: S,
    credential: Credential,
    replay: Option<Replay<B>>,
    choices: Arc<Choices>,
}

/// A refused request, with the server's answer in case nothing better can be had.
struct Refusal<S, B>
where
    S: Service<Request<ReplayBody<B>>>,
{
    answer: S::Response,
    refused: Credential,
    service: S,
    replay: Replay<B>,
    choices: Arc<Choices>,
}

/// A request about to be sent once more.
struct Again<S, B> {
    service: S,
    request: Request<ReplayBody<B>>,
    credential: Credential,
    choices: Arc<Choices>,
}

impl<S, B, R> Future for ResponseFuture<S, B>
where
    S: Service<Request<ReplayBody<B>>, Response = Response<R>> + Clone,
    S::Error: Into<BoxError>,
    B: Body,
{
    type Output = Result<Response<R>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut stage = self.project().stage;
        loop {
            let next = match stage.as_mut().project() {
                StageProj::Passing { answer } => return answer.poll(cx).map_err(Into::into),
                StageProj::Waiting { token, then } => {
                    let credential = ready!(token.as_mut().poll(cx))?;
                    let Some(then) = then.take() else {
                        return Poll::Pending;
                    };
                    let (ready, request, choices) = *then;
                    send(ready, request, credential, choices)
                }
                StageProj::Sent { answer, sent } => {
                    let answer = ready!(answer.poll(cx)).map_err(Into::into)?;
                    match sent.take() {
                        Some(sent) => match sent.judge(answer) {
                            Ok(answer) => return Poll::Ready(Ok(answer)),
                            Err(refusal) => refusal.renew(),
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
                    ready!(waiting.service.poll_ready(cx)).map_err(Into::into)?;
                    match again.take() {
                        Some(again) => (*again).send(),
                        None => return Poll::Pending,
                    }
                }
                StageProj::SentAgain {
                    answer,
                    credential,
                    choices,
                } => {
                    let answer = ready!(answer.poll(cx)).map_err(Into::into)?;
                    match choices.judge.verdict(&answer) {
                        Verdict::Accepted => choices.cache.sent_again(credential.generation, true),
                        // The token stays: others may accept it, and this is no proof against it.
                        Verdict::Refused => choices.cache.sent_again(credential.generation, false),
                        _ => {}
                    }
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
                        choices: self.choices,
                    }));
                }
                _ => cache.refused(generation),
            },
            _ => {}
        }
        Ok(answer)
    }
}

impl<S, B, R> Refusal<S, B>
where
    S: Service<Request<ReplayBody<B>>, Response = Response<R>> + Clone,
    B: Body,
{
    fn renew(self: Box<Self>) -> Stage<S, B> {
        let cache = self.choices.cache.clone();
        Stage::Renewing {
            token: Box::pin(cache.instead_of(self.refused.generation)),
            refusal: Some(self),
        }
    }

    /// The second attempt; or the server's own answer, intact, if no better token can be had or
    /// the body can't be sent again.
    fn again_with(self, better: Option<Credential>) -> Result<Again<S, B>, Response<R>> {
        let credential = match better {
            // An authorization server may hand out the same token until it expires.
            Some(better) if better.header != self.refused.header => better,
            _ => return Err(self.answer),
        };
        let Some(mut request) = self.replay.take() else {
            return Err(self.answer);
        };
        authorize::put(request.headers_mut(), credential.header.clone());
        // The answer goes before the second attempt waits for readiness: it may hold what that
        // waits for (a connection, a permit). Dropping it here, at the end of the scope, does.
        Ok(Again {
            // A clone that was never called goes through readiness like any other.
            service: self.service.clone(),
            request,
            credential,
            choices: self.choices,
        })
    }
}

impl<S, B> Again<S, B>
where
    S: Service<Request<ReplayBody<B>>>,
{
    /// The second send, and the last.
    fn send(mut self) -> Stage<S, B> {
        let answer = self.service.call(self.request);
        Stage::SentAgain {
            answer,
            credential: self.credential,
            choices: self.choices,
        }
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
