//! Uploads, and what a server and a caller do meanwhile, made up from a seed.

use std::{
    collections::VecDeque,
    marker::PhantomPinned,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use fastrand::Rng;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::task::yield_now;
use tower_oauth::BoxError;

use super::body::Read;

#[derive(Debug, Clone)]
pub enum Step {
    Data(Bytes),
    Trailers(HeaderMap),
    /// Pending once, and woken at once.
    Pause,
    /// Pending until others ran so often.
    Wait(usize),
    /// An error; more would follow.
    Break,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Length {
    Exact,
    /// What it was at the start, whatever was read since.
    ExactForever,
    /// More than comes.
    Overstated,
    Unknown,
    /// Half as much, or twice as much.
    Bounded,
}

/// What the server does with one of the sends.
#[derive(Debug, Clone, Copy)]
pub struct Serving {
    /// How many frames it reads before it answers.
    pub cut: usize,
    /// `None` is no answer, but an error.
    pub status: Option<u16>,
    pub then: Then,
}

/// What becomes of the body once the answer is out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Then {
    Dropped,
    /// Dropped once others ran so often.
    Held(usize),
    /// In a task of its own, which lets others run between frames.
    ReadOn,
}

/// What lies between the layer and the server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Wire {
    /// A call.
    Call,
    Http1,
    Http2,
}

#[derive(Debug, Clone)]
pub struct Scenario {
    pub wire: Wire,
    pub steps: Vec<Step>,
    pub length: Length,
    pub limit: usize,
    pub sends: [Serving; 2],
    /// How often others run before the second token arrives.
    pub latency: usize,
    /// Whether there is a second token.
    pub renewed: bool,
    /// After how many polls the caller loses interest.
    pub patience: Option<usize>,
}

impl Scenario {
    pub fn random(wire: Wire, rng: &mut Rng) -> Self {
        let steps = steps(rng);
        let length = *pick(
            rng,
            &[
                Length::Exact,
                Length::Exact,
                Length::ExactForever,
                Length::Overstated,
                Length::Unknown,
                Length::Unknown,
                Length::Unknown,
                Length::Bounded,
            ],
        );
        let cut = |rng: &mut Rng| match rng.u8(..4) {
            0 => usize::MAX,
            _ => rng.usize(..10),
        };
        let then = |rng: &mut Rng| match rng.u8(..4) {
            0 => Then::Dropped,
            1 => Then::Held(rng.usize(..40)),
            _ => Then::ReadOn,
        };
        let first = Serving {
            cut: cut(rng),
            status: *pick(
                rng,
                &[Some(401), Some(401), Some(401), Some(401), Some(200), None],
            ),
            then: then(rng),
        };
        let second = match rng.u8(..8) {
            0 => Serving {
                cut: cut(rng),
                status: *pick(rng, &[Some(401), Some(200), None]),
                then: then(rng),
            },
            _ => Serving {
                cut: usize::MAX,
                status: Some(200),
                then: Then::Dropped,
            },
        };
        let length_of_data = data_of(&steps).data.len();
        Self {
            wire,
            steps,
            length,
            // Above, at, and below what there is.
            limit: match rng.u8(..4) {
                0 => length_of_data.saturating_sub(rng.usize(..8)),
                1 => length_of_data,
                2 => rng.usize(..40),
                _ => 64 * 1024,
            },
            sends: [first, second],
            latency: rng.usize(..8),
            renewed: rng.u8(..6) > 0,
            patience: (rng.u8(..8) == 0).then(|| rng.usize(..30)),
        }
    }

    /// Whether a whole body can't be had of it. That a body is shorter than it says, only a
    /// connection notices.
    pub fn breaks(&self) -> bool {
        let noticed = self.length == Length::Overstated && self.wire != Wire::Call;
        noticed || self.steps.iter().any(|step| matches!(step, Step::Break))
    }

    /// What it says at first, if it says exactly.
    pub fn said(&self) -> Option<usize> {
        let length = bytes_of(&self.steps) as usize;
        match self.length {
            Length::Exact | Length::ExactForever => Some(length),
            Length::Overstated => Some(length + 3),
            Length::Unknown | Length::Bounded => None,
        }
    }
}

fn pick<'a, T>(rng: &mut Rng, among: &'a [T]) -> &'a T {
    &among[rng.usize(..among.len())]
}

fn steps(rng: &mut Rng) -> Vec<Step> {
    let mut steps = Vec::new();
    let data = |rng: &mut Rng, most: usize| {
        let length = rng.usize(..most);
        Step::Data((0..length).map(|_| rng.u8(..)).collect())
    };
    let count = match rng.u8(..3) {
        0 => rng.usize(..2),
        _ => rng.usize(..10),
    };
    for _ in 0..count {
        steps.push(match rng.u8(..16) {
            0..=8 => data(rng, 9),
            9 => data(rng, 2000),
            10 => Step::Data(Bytes::new()),
            11..=13 => Step::Pause,
            _ => Step::Wait(rng.usize(..6)),
        });
    }
    match rng.u8(..12) {
        0 => steps.extend([Step::Break, Step::Data("never seen".into())]),
        1..=4 => {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-last", HeaderValue::from(rng.u32(..)));
            steps.push(Step::Trailers(trailers));
        }
        _ => {}
    }
    if rng.u8(..4) == 0 {
        steps.push(Step::Pause);
    }
    steps
}

pub fn data_of(steps: &[Step]) -> Read {
    let mut read = Read::default();
    for step in steps {
        match step {
            Step::Data(data) => read.data.extend_from_slice(data),
            Step::Trailers(trailers) => read.trailers = Some(trailers.clone()),
            Step::Pause | Step::Wait(_) => {}
            Step::Break => break,
        }
    }
    read
}

pin_project! {
    /// The body of an upload. It can't be moved once it is pinned.
    pub struct Upload {
        steps: VecDeque<Step>,
        length: Length,
        whole: u64,
        alarm: Option<Arc<Alarm>>,
        #[pin]
        pinned: PhantomPinned,
    }
}

impl Upload {
    pub fn new(scenario: &Scenario) -> Self {
        Self {
            steps: scenario.steps.clone().into(),
            length: scenario.length,
            whole: bytes_of(&scenario.steps),
            alarm: None,
            pinned: PhantomPinned,
        }
    }
}

pub fn bytes_of<'a>(steps: impl IntoIterator<Item = &'a Step>) -> u64 {
    let bytes = |step: &Step| match step {
        Step::Data(data) => data.len() as u64,
        _ => 0,
    };
    steps.into_iter().map(bytes).sum()
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        loop {
            let frame = match this.steps.front() {
                None => None,
                Some(Step::Data(data)) => Some(Ok(Frame::data(data.clone()))),
                Some(Step::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers.clone()))),
                Some(Step::Break) => Some(Err("the body broke".into())),
                Some(Step::Pause) => {
                    this.steps.pop_front();
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Some(Step::Wait(others)) => {
                    ready!(
                        this.alarm
                            .get_or_insert_with(|| Alarm::after(*others))
                            .poll(cx)
                    );
                    *this.alarm = None;
                    this.steps.pop_front();
                    continue;
                }
            };
            this.steps.pop_front();
            return Poll::Ready(frame);
        }
    }

    /// One that says too much doesn't know when it is at its end.
    fn is_end_stream(&self) -> bool {
        self.steps.is_empty() && self.length != Length::Overstated
    }

    fn size_hint(&self) -> SizeHint {
        let left = bytes_of(&self.steps);
        match self.length {
            Length::Exact => SizeHint::with_exact(left),
            Length::ExactForever => SizeHint::with_exact(self.whole),
            Length::Overstated => SizeHint::with_exact(left + 3),
            Length::Unknown => SizeHint::default(),
            Length::Bounded => {
                let mut hint = SizeHint::default();
                hint.set_lower(left / 2);
                hint.set_upper(left * 2 + 1);
                hint
            }
        }
    }
}

/// Wakes the last one who asked, and nobody else.
#[derive(Default)]
struct Alarm {
    rang: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Alarm {
    fn after(others: usize) -> Arc<Self> {
        let alarm = Arc::<Self>::default();
        let ringing = Arc::clone(&alarm);
        tokio::spawn(async move {
            let_run(others).await;
            ringing.ring();
        });
        alarm
    }

    fn ring(&self) {
        let waker = {
            let mut waker = self.waker.lock().unwrap();
            self.rang.store(true, Ordering::SeqCst);
            waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        let mut waker = self.waker.lock().unwrap();
        if self.rang.load(Ordering::SeqCst) {
            return Poll::Ready(());
        }
        *waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

pub async fn let_run(others: usize) {
    for _ in 0..others {
        yield_now().await;
    }
}
