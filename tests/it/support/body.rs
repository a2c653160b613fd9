//! Bodies that do what a test says, and data whose drops are counted.

use std::{
    collections::VecDeque,
    future::poll_fn,
    marker::PhantomPinned,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tower_oauth::BoxError;

#[derive(Debug, Clone)]
pub enum Step {
    Data(Bytes),
    Trailers(HeaderMap),
    /// Pending once, and woken at once.
    Pause,
    Break,
}

/// A body that follows its steps. It can't be moved once it is pinned, as those of async streams.
pub struct Script {
    steps: Mutex<VecDeque<Step>>,
    length_is_known: bool,
    _pinned: PhantomPinned,
}

impl Script {
    pub fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self {
            steps: Mutex::new(steps.into_iter().collect()),
            length_is_known: false,
            _pinned: PhantomPinned,
        }
    }

    pub fn chunks(chunks: &[&'static str]) -> Self {
        Self::new(chunks.iter().map(|chunk| data(chunk)))
    }

    /// With an exact size hint.
    pub fn of_known_length(self) -> Self {
        Self {
            length_is_known: true,
            ..self
        }
    }
}

pub fn data(text: &'static str) -> Step {
    Step::Data(Bytes::from_static(text.as_bytes()))
}

pub fn trailers(names: &[&'static str]) -> HeaderMap {
    names
        .iter()
        .map(|name| {
            let value = HeaderValue::from_str(&format!("the {name}")).unwrap();
            (HeaderName::from_static(name), value)
        })
        .collect()
}

impl Body for Script {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let step = self.steps.lock().unwrap().pop_front();
        Poll::Ready(match step {
            None => None,
            Some(Step::Data(data)) => Some(Ok(Frame::data(data))),
            Some(Step::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Some(Step::Break) => Some(Err("the body broke".into())),
            Some(Step::Pause) => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.steps.lock().unwrap().is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        if !self.length_is_known {
            return SizeHint::default();
        }
        let bytes = |step: &Step| match step {
            Step::Data(data) => data.len() as u64,
            _ => 0,
        };
        SizeHint::with_exact(self.steps.lock().unwrap().iter().map(bytes).sum())
    }
}

/// What came out of a body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Read {
    pub data: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

impl Read {
    pub fn text(text: &str) -> Self {
        Self {
            data: text.as_bytes().to_vec(),
            trailers: None,
        }
    }

    pub fn add(&mut self, frame: Frame<Bytes>) {
        match frame.into_data() {
            Ok(data) => {
                assert!(self.trailers.is_none(), "data after the trailers");
                self.data.extend_from_slice(&data);
            }
            Err(frame) => self.trailers = frame.into_trailers().ok(),
        }
    }
}

/// Reads at most `frames` frames, and says whether the body came to its end.
pub async fn read_some<B>(body: B, frames: usize) -> (Read, Result<bool, BoxError>)
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let mut body = pin!(body);
    let mut read = Read::default();
    for _ in 0..frames {
        match body.frame().await {
            None => return (read, Ok(true)),
            Some(Ok(frame)) => read.add(frame),
            Some(Err(error)) => return (read, Err(error.into())),
        }
    }
    (read, Ok(false))
}

pub async fn read<B>(body: B) -> Result<Read, BoxError>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let (read, end) = read_some(body, usize::MAX).await;
    assert!(end?);
    Ok(read)
}

/// Polls for one frame, once.
pub async fn poll_once<B: Body + Unpin>(
    body: &mut B,
) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *body).poll_frame(cx))).await
}

/// How many of the pieces of data that it made are gone.
#[derive(Clone, Default)]
pub struct Drops(Arc<AtomicUsize>);

impl Drops {
    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    pub fn data(&self, text: &str) -> Step {
        Step::Data(Bytes::from_owner(Owner {
            text: text.to_owned(),
            drops: self.clone(),
        }))
    }
}

struct Owner {
    text: String,
    drops: Drops,
}

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.drops.0.fetch_add(1, Ordering::SeqCst);
    }
}
