//! A gRPC call's deadline, which keeps running while a token is awaited and the call is sent again.
//!
//! On the wire it is the time that is left when the call is sent (`grpc-timeout`; gRPC over HTTP/2,
//! "Requests"), and whatever sends it, a channel or a server, starts counting anew. So a later
//! send says what is left by then.

use std::{
    error::Error,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use pin_project_lite::pin_project;
use tokio::{
    runtime::Handle,
    time::{Instant, Sleep, sleep_until},
};

static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// When a call must be over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    at: Instant,
    timeout: Duration,
}

impl Deadline {
    /// The deadline of a call that is made `now`. `None` for other requests, and where it can't be
    /// read or lies beyond what the clock can say.
    #[inline]
    pub(crate) fn of(
        method: &Method,
        headers: &HeaderMap,
        now: impl FnOnce() -> Instant,
    ) -> Option<Self> {
        // Every call is a POST; other requests are spared the lookup. It goes through the names, which
        // are few, for less than a hash of the name it looks for.
        if method != Method::POST || !headers.keys().any(|name| name == GRPC_TIMEOUT) {
            return None;
        }
        let timeout = parse(headers.get(&GRPC_TIMEOUT)?.as_bytes())?;
        let at = now().checked_add(timeout)?;
        Some(Self { at, timeout })
    }

    /// Ends when it passes. `None` outside of a runtime, where there is no timer.
    pub(crate) fn timer(self) -> Option<Pin<Box<Sleep>>> {
        Handle::try_current().ok()?;
        Some(Box::pin(sleep_until(self.at)))
    }

    pub(crate) fn has_passed(self, now: Instant) -> bool {
        self.at <= now
    }

    /// Says in `headers` what is left `now`.
    pub(crate) fn put(self, headers: &mut HeaderMap, now: Instant) {
        let left = self.at.saturating_duration_since(now);
        if left < self.timeout
            && let Some(value) = render(left)
        {
            headers.insert(&GRPC_TIMEOUT, value);
        }
    }
}

/// What `wait` brings; `None` if the deadline, where there is one, passes before.
pub(crate) fn within<F: Future>(deadline: Option<Deadline>, wait: F) -> Within<F> {
    // Outside of a runtime there is no timer, and no token to be waited for either.
    let time_is_up = deadline.and_then(Deadline::timer);
    Within { wait, time_is_up }
}

pin_project! {
    /// Written by hand, as an `async` block keeps room for each place that `wait` is moved to:
    /// thousands may wait at a time, each with one of these.
    pub(crate) struct Within<F> {
        #[pin]
        wait: F,
        time_is_up: Option<Pin<Box<Sleep>>>,
    }
}

impl<F: Future> Future for Within<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(brought) = this.wait.poll(cx) {
            return Poll::Ready(Some(brought));
        }
        match this.time_is_up {
            Some(time_is_up) => time_is_up.as_mut().poll(cx).map(|()| None),
            None => Poll::Pending,
        }
    }
}

/// `TimeoutValue TimeoutUnit`: at most eight digits, and one of `HMSmun`.
fn parse(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > MOST_DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value: u64 = str::from_utf8(digits).ok()?.parse().ok()?;
    match unit {
        b'H' => value.checked_mul(3600).map(Duration::from_secs),
        b'M' => value.checked_mul(60).map(Duration::from_secs),
        b'S' => Some(Duration::from_secs(value)),
        b'm' => Some(Duration::from_millis(value)),
        b'u' => Some(Duration::from_micros(value)),
        b'n' => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

/// In the finest unit that has room, rounded down, and never zero: that is no timeout.
fn render(left: Duration) -> Option<HeaderValue> {
    let seconds = u128::from(left.as_secs());
    let minutes = seconds.checked_div(60)?;
    let hours = seconds.checked_div(3600)?;
    let (value, unit) = [
        (left.as_nanos().max(1), 'n'),
        (left.as_micros(), 'u'),
        (left.as_millis(), 'm'),
        (seconds, 'S'),
        (minutes, 'M'),
        (hours, 'H'),
    ]
    .into_iter()
    .find(|(value, _)| *value <= MOST)?;
    HeaderValue::try_from(format!("{value}{unit}")).ok()
}

const MOST_DIGITS: usize = 8;
const MOST: u128 = 99_999_999;

/// A gRPC call that was not sent, or not again, because the time that its `grpc-timeout` gives was
/// over before it could be: in a transient [`TokenError`](crate::TokenError::get_ref). For gRPC
/// this is `DEADLINE_EXCEEDED`.
#[derive(Debug)]
#[non_exhaustive]
pub struct DeadlinePassed;

impl fmt::Display for DeadlinePassed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the call was not sent, or not again: the time that its grpc-timeout gives was over \
             before there was a good token and the service was ready",
        )
    }
}

impl Error for DeadlinePassed {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_read_in_each_unit() {
        for (text, nanos) in [
            ("1H", Some(3_600_000_000_000)),
            ("2M", Some(120_000_000_000)),
            ("3S", Some(3_000_000_000)),
            ("99999999m", Some(99_999_999_000_000)),
            ("5u", Some(5_000)),
            ("7n", Some(7)),
            ("0S", Some(0)),
            ("100000000m", None),
            ("", None),
            ("S", None),
            ("1", None),
            ("1s", None),
            ("+1S", None),
            ("-1S", None),
            ("1.5S", None),
            (" 1S", None),
        ] {
            let expected = nanos.map(Duration::from_nanos);
            assert_eq!(parse(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_left_is_said_in_eight_digits_and_never_more_than_there_is() {
        let (milli, second) = (Duration::from_millis(1), Duration::from_secs(1));
        for (left, text) in [
            (Duration::ZERO, "1n"),
            (Duration::from_nanos(17), "17n"),
            (Duration::from_nanos(99_999_999), "99999999n"),
            (Duration::from_nanos(100_000_999), "100000u"),
            (second, "1000000u"),
            (second * 99 + milli * 999, "99999000u"),
            (second * 100, "100000m"),
            (second * 100_000, "100000S"),
            (second * 100_000_000, "1666666M"),
            (second * 60 * 100_000_000, "1666666H"),
        ] {
            assert_eq!(render(left).unwrap(), text, "{left:?}");
            let read = parse(text.as_bytes()).unwrap();
            assert!(read <= left.max(Duration::from_nanos(1)), "{left:?}");
        }
    }

    #[test]
    fn no_time_passed_leaves_the_text_as_it_is() {
        #[expect(clippy::disallowed_methods, reason = "any moment will do")]
        let now = Instant::now();
        let mut request = http::Request::builder()
            .method(Method::POST)
            .header("grpc-timeout", "1S")
            .body(())
            .unwrap();
        let deadline = Deadline::of(request.method(), request.headers(), || now).unwrap();
        deadline.put(request.headers_mut(), now);
        assert_eq!(request.headers()["grpc-timeout"], "1S");
        deadline.put(request.headers_mut(), now + Duration::from_millis(400));
        assert_eq!(request.headers()["grpc-timeout"], "600000u");
        *request.method_mut() = Method::PUT;
        assert!(Deadline::of(request.method(), request.headers(), || now).is_none());
    }
}
