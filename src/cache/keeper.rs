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
    let mut duty = Duty {
        token,
        gone: times.gone,
        due,
        marked: false,
        clock,
    };
    // A block, as an `async fn` keeps its arguments twice, and there may be a keeper for each tenant.
    let task = runtime.spawn(async move {
        while let Some(pause) = duty.look() {
            sleep(pause).await;
        }
        last_act.perform(End::Expired);
    });
    Some(task.abort_handle())
}

struct Duty {
    token: Arc<Snapshot>,
    gone: Deadline,
    due: Deadline,
    marked: bool,
    clock: Clock,
}

impl Duty {
    /// Marks the token when its time has come. How long until the next look; `None` once it is gone.
    fn look(&mut self) -> Option<Duration> {
        let now = self.clock.now();
        if self.gone.passed(now) {
            return None;
        }
        if !self.marked && self.due.passed(now) {
            self.token.mark_due();
            self.marked = true;
        }
        let next = if self.marked { self.gone } else { self.due };
        let pause = next.remaining(now).min(self.gone.remaining(now));
        Some(pause.min(LOOK_AT_LEAST_EVERY))
    }
}
