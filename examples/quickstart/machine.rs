//! Whether the machine keeps up: on one that doesn't, being late says nothing about the layer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::{task::JoinSet, time::sleep};

/// Measures how late tasks wake up, as long as it lives.
pub struct Lateness {
    worst: Arc<AtomicU64>,
    tasks: JoinSet<()>,
}

impl Lateness {
    pub fn measure() -> Self {
        const NAP: Duration = Duration::from_millis(5);
        let (worst, mut tasks) = (Arc::new(AtomicU64::new(0)), JoinSet::new());
        // Several, as one may wake up in time on one core while another core stands still.
        for _ in 0..4 {
            let worst = Arc::clone(&worst);
            tasks.spawn(async move {
                loop {
                    let due = Instant::now() + NAP;
                    sleep(NAP).await;
                    let late = due.elapsed().as_millis();
                    worst.fetch_max(late.try_into().unwrap_or(u64::MAX), Relaxed);
                }
            });
        }
        Self { worst, tasks }
    }

    pub fn worst(mut self) -> Duration {
        self.tasks.abort_all();
        Duration::from_millis(self.worst.load(Relaxed))
    }
}
