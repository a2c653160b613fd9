//! The keeper: a task that marks a token as due, and takes it out of the cache before it expires.
//!
//! Readers need not look at a clock because of it. So a keeper must not vanish silently: however
//! it ends, even with its runtime, its last act is to say so.

use std::{sync::Arc, time::Duration};

use tokio::{runtime::Handle, task::AbortHandle, time::sleep};

use super::{
    last_act::LastAct,
    snapshot::{Snapshot, Times},
};
use crate::clock::{Clock, Deadline};

/// Timers follow the monotonic clock; this is how long a suspended machine's wall clock can go
/// unnoticed.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_secs(30);

/// How a keeper ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The token's time is over.
    Expired,
    /// Its runtime was shut down, or it was relieved of its duty.
    Stopped,
}

/// Starts a keeper on the caller's runtime. `on_end` is called exactly once, also where there is
/// no runtime to start on.
pub(super) fn start(
    token: Arc<Snapshot>,
    times: Times,
    due: Deadline,
    clock: Clock,
    on_end: impl FnOnce(End) + Send + 'static,
) -> Option<AbortHandle> {
    let last_act = LastAct::new(End::Stopped, on_end);
    let runtime = Handle::try_current().ok()?;
    let task = runtime.spawn(keep(token, times, due, clock, last_act));
    Some(task.abort_handle())
}

async fn keep<F: FnOnce(End)>(
    token: Arc<Snapshot>,
    times: Times,
    due: Deadline,
    clock: Clock,
    last_act: LastAct<End, F>,
) {
    let mut marked = false;
    loop {
        let now = clock.now();
        if times.gone.passed(now) {
            break;
        }
        if !marked && due.passed(now) {
            token.mark_due();
            marked = true;
        }
        let next = if marked { times.gone } else { due };
        let pause = next.remaining(now).min(times.gone.remaining(now));
        sleep(pause.min(LOOK_AT_LEAST_EVERY)).await;
    }
    last_act.perform(End::Expired);
}
