//! What caches with a token cost while nobody uses them: their keepers look at the wall clock, and
//! must not hold up the runtime that they are on.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use tokio::time::sleep;
use tower_oauth::TokenCache;

use crate::{
    fixture::tenant,
    host::{cpu_time, one_thread},
    plan::Plan,
    table::{count, head, line},
};

static ASKED: AtomicUsize = AtomicUsize::new(0);

const TICK: Duration = Duration::from_millis(10);

pub fn run(plan: &Plan) {
    head(
        &format!("in {:?}", plan.idle),
        ["caches", "CPU", "of one core", "per cache", "latest tick"],
    );
    let most = plan.most_caches();
    // What the measuring itself costs.
    let idle = leave_alone(0, plan.idle.min(Duration::from_secs(5)));
    let own = idle.share();
    show("none: a tick every 10 ms", 0, &idle, 0.0);
    show(
        "without the ticks",
        most,
        &leave_alone(most, plan.idle),
        own,
    );
}

fn show(name: &str, caches: usize, idle: &Idle, own: f64) {
    let share = (idle.share() - own).max(0.0);
    let seconds = share * idle.wall.as_secs_f64();
    let per_cache = seconds * 1e9 / caches.max(1) as f64;
    line(
        name,
        [
            count(caches),
            format!("{:.1} ms", seconds * 1e3),
            format!("{:.3} %", share * 100.0),
            format!("{per_cache:.0} ns"),
            format!("{:.1} ms", idle.latest.as_secs_f64() * 1e3),
        ],
    );
}

struct Idle {
    cpu: Duration,
    wall: Duration,
    /// By how much the latest tick was late.
    latest: Duration,
}

impl Idle {
    fn share(&self) -> f64 {
        self.cpu.as_secs_f64() / self.wall.as_secs_f64()
    }
}

fn leave_alone(number: usize, idle: Duration) -> Idle {
    let caches: Vec<TokenCache> = (0..number).map(|number| tenant(number, &ASKED)).collect();
    let before = ASKED.load(Ordering::Relaxed);
    let runtime = one_thread();
    runtime.block_on(async {
        for cache in &caches {
            cache.ready().await.unwrap();
        }
        let (cpu, started) = (cpu_time(), Instant::now());
        let mut latest = Duration::ZERO;
        while started.elapsed() < idle {
            let tick = Instant::now();
            sleep(TICK).await;
            latest = latest.max(tick.elapsed().saturating_sub(TICK));
        }
        assert_eq!(ASKED.load(Ordering::Relaxed) - before, number);
        Idle {
            cpu: cpu_time() - cpu,
            wall: started.elapsed(),
            latest,
        }
    })
}
