//! An upload as it happens, and what must hold for all of them.

use std::{
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::{
    Request, Response,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
};
use http_body::{Body, SizeHint};
use http_body_util::{BodyExt, Full};
use tokio::{task::yield_now, time::timeout};
use tower::{Layer, Service, ServiceExt};
use tower_oauth::{BoxError, OAuthLayer, ReplayBody, TokenError};

use super::{
    api::ORIGIN,
    body::Read,
    secs,
    server::answer,
    source::{scripted, token},
    upload::{Length, Scenario, Then, Upload, Wire, bytes_of, data_of, let_run},
};

/// One scenario as it happens.
pub struct Case {
    pub scenario: Scenario,
    source: Read,
    seen: Mutex<Vec<Seen>>,
}

/// What the server saw of a send.
#[derive(Debug, Default)]
struct Seen {
    /// What is said of the body's length: headers, or a hint.
    length: String,
    read: Read,
    /// How much of it before the answer.
    before: Option<usize>,
    /// The first hint that was wrong.
    wrong: Option<String>,
    /// `Some(true)`: whole, as far as the server can tell; `Some(false)`: cut off.
    end: Option<bool>,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case")
            .field("scenario", &self.scenario)
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

impl Case {
    pub fn new(scenario: Scenario) -> Arc<Self> {
        Arc::new(Self {
            source: data_of(&scenario.steps),
            scenario,
            seen: Mutex::default(),
        })
    }

    /// The server's side of one send.
    pub async fn serve<B>(self: Arc<Self>, request: Request<B>) -> Result<Answer, BoxError>
    where
        B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let (head, body) = request.into_parts();
        let send = {
            let mut seen = self.seen.lock().unwrap();
            seen.push(Seen {
                length: match self.scenario.wire {
                    Wire::Call => format!("{:?}", body.size_hint()),
                    _ => format!(
                        "{:?} {:?}",
                        head.headers.get(CONTENT_LENGTH),
                        head.headers.get(TRANSFER_ENCODING)
                    ),
                },
                ..Seen::default()
            });
            seen.len() - 1
        };
        let Some(&serving) = self.scenario.sends.get(send) else {
            return Err("a third send".into());
        };
        let mut body = Box::pin(body);
        for _ in 0..serving.cut {
            if self.read_frame(send, &mut body).await? {
                break;
            }
        }
        {
            let mut seen = self.seen.lock().unwrap();
            seen[send].before = Some(seen[send].read.data.len());
        }
        match serving.then {
            Then::Dropped => drop(body),
            Then::Held(others) => {
                tokio::spawn(async move {
                    let_run(others).await;
                    drop(body);
                });
            }
            Then::ReadOn => {
                let this = Arc::clone(&self);
                tokio::spawn(async move {
                    while let Ok(false) = this.read_frame(send, &mut body).await {
                        yield_now().await;
                    }
                });
            }
        }
        serving.status.map(answer).ok_or_else(|| NO_ANSWER.into())
    }

    /// Whether that was the end.
    async fn read_frame<B>(&self, send: usize, body: &mut Pin<Box<B>>) -> Result<bool, BoxError>
    where
        B: Body<Data = Bytes, Error: Into<BoxError>>,
    {
        let frame = body.frame().await;
        let (hint, at_end) = (body.size_hint(), body.is_end_stream());
        let seen = &mut self.seen.lock().unwrap()[send];
        match frame {
            None => seen.end = Some(true),
            Some(Ok(frame)) => {
                seen.read.add(frame);
                if self.scenario.wire == Wire::Call {
                    let wrong = self.wrong(&seen.read, hint, at_end);
                    seen.wrong = seen.wrong.take().or(wrong);
                }
            }
            Some(Err(error)) => {
                seen.end = Some(false);
                return Err(error.into());
            }
        }
        Ok(seen.end.is_some())
    }

    fn wrong(&self, read: &Read, hint: SizeHint, at_end: bool) -> Option<String> {
        let said = self.scenario.said();
        if self.scenario.length == Length::ExactForever && said > Some(self.scenario.limit) {
            // It passes as it is, with a hint that is its own.
            return None;
        }
        let whole = said.unwrap_or(bytes_of(&self.scenario.steps) as usize);
        let left = (whole - read.data.len()) as u64;
        let fits = hint.lower() <= left && hint.upper().is_none_or(|upper| left <= upper);
        let fits = fits && (said.is_none() || hint.exact() == Some(left));
        let ends = !at_end || *read == self.source;
        (!fits || !ends).then(|| format!("{left} left: {hint:?}, at its end: {at_end}"))
    }

    /// Uploads, through a layer of its own around `server`, and says what is wrong with it.
    pub async fn run<S, R>(&self, server: S, most: Duration) -> Result<(), String>
    where
        S: Service<Request<ReplayBody<Upload>>, Response = Response<R>> + Clone,
        S::Error: Into<BoxError>,
    {
        let (latency, renewed) = (self.scenario.latency, self.scenario.renewed);
        let (_, source) = scripted(move |n| async move {
            if n > 1 {
                let_run(latency).await;
            }
            if n > 1 && !renewed {
                return Err(TokenError::transient("down"));
            }
            Ok(token(n, secs(3600)))
        });
        let layer = OAuthLayer::for_origin(ORIGIN, source)
            .unwrap()
            .replay_limit(self.scenario.limit);
        let request = Request::post(ORIGIN)
            .header("trailer", "x-last")
            .body(Upload::new(&self.scenario))
            .unwrap();
        let answer = {
            let mut answer = pin!(layer.layer(server).oneshot(request));
            let mut patience = self.scenario.patience;
            let impatient = poll_fn(|cx| match &mut patience {
                Some(0) => Poll::Ready(None),
                patience => {
                    if let Some(polls) = patience {
                        *polls -= 1;
                    }
                    answer.as_mut().poll(cx).map(Some)
                }
            });
            timeout(most, impatient).await.map_err(|_| "hangs")?
        };
        let answer = match answer {
            None => None,
            Some(Ok(answer)) => {
                let intact = answer.headers().get("x-server").is_some();
                check(intact, "an answer that is not the server's")?;
                Some(Ok(answer.status().as_u16()))
            }
            Some(Err(error)) => Some(Err(error)),
        };
        self.check_answer(answer)?;
        self.check_sends()
    }

    pub fn sends(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// Whether the server has read the last send to its end.
    pub fn is_through(&self) -> bool {
        let seen = self.seen.lock().unwrap();
        seen.last().is_some_and(|send| send.end == Some(true))
    }

    fn check_answer(&self, answer: Option<Result<u16, BoxError>>) -> Result<(), String> {
        let scenario = &self.scenario;
        let seen = self.seen.lock().unwrap();
        let length = self.source.data.len();
        check(seen.len() <= 2, "a third send")?;
        let expected = match seen.len() {
            // What the connection could not even begin.
            0 => None,
            n => scenario.sends[n - 1].status,
        };
        match answer {
            None => return Ok(()),
            Some(Ok(status)) => check(Some(status) == expected, "another answer")?,
            Some(Err(error)) => {
                let may = scenario.breaks() || expected.is_none();
                check(may, &format!("an error: {error:?}"))?;
                return Ok(());
            }
        }
        // The first was answered.
        if scenario.sends[0].status == Some(401) && !scenario.breaks() {
            let before = seen[0].before.unwrap_or(0);
            let known = scenario.said().unwrap_or(length);
            let known_too_long = scenario.said().is_some() && known > scenario.limit;
            let never = !scenario.renewed || known_too_long || before > scenario.limit;
            let always = scenario.renewed && known <= scenario.limit;
            check(
                seen.len() == 2 || !always,
                "it fits, but was not sent again",
            )?;
            check(seen.len() == 1 || !never, "it was sent again")?;
        } else {
            let again = seen.len() == 2 && scenario.sends[0].status != Some(401);
            check(!again, "sent again without a refusal")?;
        }
        Ok(())
    }

    /// Holds at any time, and is to hold in the end.
    pub fn check_sends(&self) -> Result<(), String> {
        let seen = self.seen.lock().unwrap();
        let is_http1 = self.scenario.wire == Wire::Http1;
        for (n, send) in seen.iter().enumerate() {
            let read = &send.read;
            let is_prefix = self.source.data.starts_with(&read.data);
            check(is_prefix, &format!("send {n} is mixed up: {read:?}"))?;
            // RFC 9112 §7.1.2: trailers are part of the chunked coding.
            let expected = match &self.source.trailers {
                Some(_) if is_http1 && self.scenario.said().is_some() => None,
                trailers => trailers.clone(),
            };
            if send.end == Some(true) {
                let whole = read.data == self.source.data && read.trailers == expected;
                let whole = whole && !self.scenario.breaks();
                check(whole, &format!("send {n} looks whole: {read:?}"))?;
            }
            check(send.wrong.is_none(), &format!("send {n}: {:?}", send.wrong))?;
            check(
                send.length == seen[0].length,
                &format!("{} and then {}", seen[0].length, send.length),
            )?;
        }
        Ok(())
    }

    /// What holds in the end where the server reads what the client gives.
    pub fn check_ends(&self) -> Result<(), String> {
        let seen = self.seen.lock().unwrap();
        for (n, send) in seen.iter().enumerate() {
            let serving = self.scenario.sends[n];
            let reads = send.before.is_some() && serving.then == Then::ReadOn;
            if reads {
                check(send.end.is_some(), &format!("send {n} waits forever"))?;
            }
            let stands = seen.len() == n + 1 && !self.scenario.breaks();
            if reads && stands && serving.status.is_some() {
                check(
                    send.end == Some(true),
                    &format!("send {n} is given up in vain"),
                )?;
            }
        }
        Ok(())
    }
}

pub type Answer = Response<Full<Bytes>>;

const NO_ANSWER: &str = "the server has no answer";

fn check(holds: bool, what: &str) -> Result<(), String> {
    holds.then_some(()).ok_or_else(|| what.to_owned())
}
