//! Services that hold Tower's contract against whoever calls them.

use std::{
    mem,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::Service;
use tower_oauth::BoxError;

/// Panics if it is called without having been ready, itself and not the one it was cloned from.
pub struct Probe<S> {
    inner: S,
    ready: bool,
    calls: Arc<AtomicUsize>,
}

impl<S> Probe<S> {
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            ready: false,
            calls: Arc::default(),
        }
    }

    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// How many clones there are, of itself and in the making.
    pub fn instances(&self) -> usize {
        Arc::strong_count(&self.calls)
    }
}

impl<S: Clone> Clone for Probe<S> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            ready: false,
            calls: Arc::clone(&self.calls),
        }
    }
}

impl<S: Service<R>, R> Service<R> for Probe<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        ready!(self.inner.poll_ready(cx))?;
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> S::Future {
        assert!(
            mem::replace(&mut self.ready, false),
            "called without having been ready"
        );
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.inner.call(request)
    }
}

/// What the n-th readiness that is asked for is, counted over all clones.
pub struct Readiness<S> {
    inner: S,
    script: Arc<Mutex<Vec<Step>>>,
}

#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// Pending once, and woken at once.
    Pause,
    Ready,
    Break,
}

impl<S> Readiness<S> {
    /// Ready after the last step.
    pub fn new(inner: S, steps: &[Step]) -> Self {
        Self {
            inner,
            script: Arc::new(Mutex::new(steps.iter().rev().copied().collect())),
        }
    }

    pub fn is_through(&self) -> bool {
        self.script.lock().unwrap().is_empty()
    }
}

impl<S: Clone> Clone for Readiness<S> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            script: Arc::clone(&self.script),
        }
    }
}

impl<S, R> Service<R> for Readiness<S>
where
    S: Service<R>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self.script.lock().unwrap().pop() {
            Some(Step::Pause) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Some(Step::Break) => Poll::Ready(Err("never ready again".into())),
            Some(Step::Ready) | None => self.inner.poll_ready(cx).map_err(Into::into),
        }
    }

    fn call(&mut self, request: R) -> Self::Future {
        let answer = self.inner.call(request);
        Box::pin(async move { answer.await.map_err(Into::into) })
    }
}

/// Lets one request in at a time, up to the end of its answer's body.
pub struct UntilBodyEnds<S> {
    inner: S,
    places: Arc<Semaphore>,
    place: Option<OwnedSemaphorePermit>,
    waiting: Option<Waiting>,
}

type Waiting = Pin<Box<dyn Future<Output = OwnedSemaphorePermit> + Send>>;

impl<S> UntilBodyEnds<S> {
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            places: Arc::new(Semaphore::new(1)),
            place: None,
            waiting: None,
        }
    }

    pub fn places(&self) -> Arc<Semaphore> {
        Arc::clone(&self.places)
    }
}

impl<S: Clone> Clone for UntilBodyEnds<S> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            places: Arc::clone(&self.places),
            place: None,
            waiting: None,
        }
    }
}

impl<S, R> Service<R> for UntilBodyEnds<S>
where
    S: Service<R, Response = Response<Full<Bytes>>>,
    S::Future: Send + 'static,
{
    type Response = Response<Holding>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Holding>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        if self.place.is_none() {
            let places = Arc::clone(&self.places);
            let waiting = self
                .waiting
                .get_or_insert_with(|| Box::pin(async { places.acquire_owned().await.unwrap() }));
            self.place = Some(ready!(waiting.as_mut().poll(cx)));
            self.waiting = None;
        }
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let place = self.place.take().expect("called without a place");
        let answer = self.inner.call(request);
        Box::pin(async move {
            Ok(answer.await?.map(|body| Holding {
                body,
                _place: place,
            }))
        })
    }
}

/// A body that holds its request's place.
pub struct Holding {
    body: Full<Bytes>,
    _place: OwnedSemaphorePermit,
}

impl Body for Holding {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
