//! A flight: one call of the source, as a task with a total deadline, that panics nobody.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    task::AbortHandle,
    time::{error::Elapsed, timeout},
};

use super::last_act::LastAct;
use crate::{
    clock::{Clock, Moment},
    source::{Demand, ErasedSource, Panicked, TokenError, caught},
    token::AccessToken,
};

/// How a flight ended.
pub(super) enum End {
    /// With a token or an error; lifetimes count from `asked`.
    Arrived {
        asked: Moment,
        result: Result<AccessToken, TokenError>,
    },
    /// With its runtime, which was shut down.
    Lost,
}

tokio::task_local! {
    /// The cache that the current task fetches a token for.
    static ABOARD: usize;
}

/// Whether the caller runs in a flight for `cache`, inside its source.
pub(super) fn is_aboard(cache: usize) -> bool {
    ABOARD.try_with(|aboard| *aboard == cache).unwrap_or(false)
}

/// What the source is told.
pub(super) struct Wish {
    /// The token that it must not hand back.
    pub(super) rejected: Option<Box<AccessToken>>,
    /// The one that serves on meanwhile.
    pub(super) held: Option<AccessToken>,
}

/// Starts a flight on the caller's runtime. `on_end` is called exactly once, also where there is
/// no runtime to start on.
pub(super) fn start(
    cache: usize,
    source: Arc<dyn ErasedSource>,
    wish: Wish,
    deadline: Duration,
    clock: Clock,
    on_end: impl FnOnce(End) + Send + 'static,
) -> Option<AbortHandle> {
    let last_act = LastAct::new(End::Lost, on_end);
    let runtime = Handle::try_current().ok()?;
    let flight = async move {
        let asked = clock.now();
        let call = call(&*source, &wish, deadline);
        let result = ABOARD.scope(cache, call).await;
        last_act.perform(End::Arrived { asked, result });
    };
    Some(runtime.spawn(flight).abort_handle())
}

/// Calls the source. A panic of its is an error to those who wait, and so is its deadline.
async fn call(
    source: &dyn ErasedSource,
    wish: &Wish,
    deadline: Duration,
) -> Result<AccessToken, TokenError> {
    // A source may panic before there is a future to poll.
    let demand = Demand::instead_of(wish.rejected.as_deref()).while_held(wish.held.as_ref());
    let token = async { source.token(demand).await };
    match caught(timeout(deadline, token)).await {
        Ok(Ok(result)) => result,
        Ok(Err(Elapsed { .. })) => Err(TokenError::transient(FlightError::TimedOut(deadline))),
        Err(Panicked) => Err(TokenError::transient(FlightError::Panicked)),
    }
}

/// What can go wrong between the cache and its source.
#[derive(Debug)]
pub(super) enum FlightError {
    TimedOut(Duration),
    Panicked,
    ArrivedExpired { lifetime: Duration },
    NoRuntime,
    Recursive,
    Lost,
    Closed,
    NotClosedInTime(Duration),
    RevocationPanicked,
    ClosingLost,
}

impl fmt::Display for FlightError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut(deadline) => write!(
                f,
                "the token source did not answer within {deadline:?}; if it needs longer, raise \
                 TokenCache::builder(source).deadline(…)"
            ),
            Self::Panicked => f.write_str(
                "the token source panicked; its message went to the panic hook (standard error by \
                 default)",
            ),
            Self::ArrivedExpired { lifetime } => write!(
                f,
                "the token arrived expired: it lives {lifetime:?} from when it was asked for, and \
                 the answer took about as long, or the clock was set meanwhile; if it comes again, ask \
                 the authorization server's operator for longer-lived tokens"
            ),
            Self::NoRuntime => f.write_str(
                "no Tokio runtime to fetch a token on: call from within one (tokio::main, \
                 Runtime::enter)",
            ),
            Self::Lost => f.write_str(
                "the runtime that a token is fetched on is being shut down; call from one that \
                 goes on",
            ),
            Self::Closed => f.write_str(
                "the token cache was closed (TokenCache::close) and hands out no token; make a new \
                 one",
            ),
            Self::NotClosedInTime(deadline) => write!(
                f,
                "the token cache is closed, but its tokens were not given back within \
                 {deadline:?}: they may live on until they expire"
            ),
            Self::RevocationPanicked => f.write_str(
                "the token cache is closed, but the token source panicked when it was to give back \
                 tokens (its message went to the panic hook): they may live on until they expire",
            ),
            Self::ClosingLost => f.write_str(
                "the token cache is closed, but the runtime that was to give back its tokens is \
                 being shut down: they may live on until they expire; close the cache before",
            ),
            Self::Recursive => f.write_str(
                "the token source waits for itself: its token request went through the layer that \
                 it serves; give the source a client of its own, or name the layer's origins \
                 (OAuthLayer::for_origin)",
            ),
        }
    }
}

impl Error for FlightError {}
