//! What the operating system says of this process, and the runtimes that it is asked about.

use std::{
    fs,
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use tokio::{
    runtime::{Builder, Handle, Runtime},
    task::yield_now,
};

/// All on one thread, so that what is allocated there is all that is allocated.
pub fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

pub fn one_thread_paused() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap()
}

pub fn two_workers() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).enable_time().build().unwrap()
}

/// Until no more than `tasks` are alive on the current runtime.
pub async fn until_alive(tasks: usize) {
    let metrics = Handle::current().metrics();
    while metrics.num_alive_tasks() > tasks {
        yield_now().await;
    }
}

/// A moment on a machine that others use as well: where a thread waited for a CPU in between, that
/// is no time of ours.
#[derive(Clone, Copy)]
pub struct Mark {
    at: Instant,
    waited: Duration,
    on: ThreadId,
}

impl Mark {
    pub fn begin() -> Self {
        let waited = waited_for_cpu();
        Self {
            at: Instant::now(),
            waited,
            on: thread::current().id(),
        }
    }

    pub fn end() -> Self {
        Self {
            at: Instant::now(),
            waited: waited_for_cpu(),
            on: thread::current().id(),
        }
    }

    /// Less the waiting, if both are of one thread; otherwise by the clock alone.
    pub fn until(self, end: Self) -> Duration {
        let time = end.at.saturating_duration_since(self.at);
        if self.on == end.on {
            time.saturating_sub(end.waited.saturating_sub(self.waited))
        } else {
            time
        }
    }

    pub fn elapsed(self) -> Duration {
        self.until(Self::end())
    }
}

/// How long this thread was ready to run and had no CPU.
fn waited_for_cpu() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanos = text.split(' ').nth(1).unwrap().parse().unwrap();
    Duration::from_nanos(nanos)
}

/// How long all threads have been on a CPU.
pub fn cpu_time() -> Duration {
    let threads = fs::read_dir("/proc/self/task").unwrap();
    let nanos = threads
        .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("schedstat")).ok())
        .filter_map(|text| text.split(' ').next()?.parse::<u64>().ok())
        .sum();
    Duration::from_nanos(nanos)
}

/// The bytes of memory that the process has, in pages of 4 KiB.
pub fn resident() -> i64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: i64 = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}
