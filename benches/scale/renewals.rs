//! When many caches renew that got their tokens at the same moment, in paused time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    task::yield_now,
    time::{Instant as Paused, advance},
};
use tower_oauth::TokenCache;

use crate::{
    fixture::{HOUR, token},
    host::{one_thread_paused, until_alive},
    plan::Plan,
    table::{count, each, head, line, nanos},
};

const SECOND: Duration = Duration::from_secs(1);
/// The policy's defaults, of a one-hour token: renewed from here on, in the first half of what is
/// left until it is gone.
const WINDOW: Duration = Duration::from_secs(3300);
const SPREAD: Duration = Duration::from_secs(135);
/// A part of the window that is looked at closely.
const CLOSE_LOOK: Duration = Duration::from_secs(40);
const SLOT: Duration = Duration::from_millis(5);

pub fn run(plan: &Plan) {
    let number = plan.most_caches();
    one_thread_paused().block_on(async {
        let caches = Caches::with_tokens(number).await;
        caches.used_every_second().await;
    });
    one_thread_paused().block_on(async {
        let caches = Caches::with_tokens(number).await;
        caches.not_used().await;
    });
}

struct Caches {
    /// Those that have not renewed yet, and their places in `asked`.
    caches: Vec<(usize, TokenCache)>,
    number: usize,
    since: Paused,
    /// Tokens so far, of each cache.
    asked: Arc<[AtomicU8]>,
}

impl Caches {
    /// All at the same moment: time stands still meanwhile.
    async fn with_tokens(number: usize) -> Self {
        let asked: Arc<[AtomicU8]> = (0..number).map(|_| AtomicU8::new(0)).collect();
        let caches = (0..number).map(|number| {
            let asked = Arc::clone(&asked);
            let source = move || {
                asked[number].fetch_add(1, Ordering::Relaxed);
                async move { token(number) }
            };
            (number, TokenCache::from(source))
        });
        let caches: Vec<_> = caches.collect();
        for (_, cache) in &caches {
            cache.ready().await.unwrap();
        }
        until_alive(number).await;
        Self {
            caches,
            number,
            since: Paused::now(),
            asked,
        }
    }

    async fn used_every_second(mut self) {
        let mut seconds = Vec::new();
        self.go_to(WINDOW).await;
        while self.since.elapsed() < WINDOW + CLOSE_LOOK {
            seconds.push(self.use_all_after(SECOND).await);
        }
        let mut slots = Vec::new();
        while self.since.elapsed() < WINDOW + CLOSE_LOOK + SECOND {
            slots.push(self.use_all_after(SLOT).await);
        }
        seconds.push(slots.iter().sum());
        while self.since.elapsed() < WINDOW + SPREAD + SECOND {
            seconds.push(self.use_all_after(SECOND).await);
        }
        self.show_seconds(&seconds);
        self.show_slots(&slots);
    }

    fn show_seconds(&self, seconds: &[usize]) {
        let number = self.number;
        head("renewals, all used every second", ["caches", "of them"]);
        for (at, ten) in seconds.chunks(10).enumerate() {
            let renewed: usize = ten.iter().sum();
            if renewed > 0 {
                let from = WINDOW.as_secs() as usize + at * 10;
                let share = renewed as f64 / number as f64;
                let bar = "▇".repeat((share * 200.0).round() as usize);
                let cells = [count(renewed), format!("{:.2} %", share * 100.0)];
                line(&format!("second {from} to {}  {bar}", from + 9), cells);
            }
        }
        let even = number as f64 / SPREAD.as_secs_f64();
        let fullest = seconds.iter().copied().max().unwrap_or_default();
        let all: usize = seconds.iter().sum();
        println!(
            "all {} within the window; the fullest second has {} ({:.2} %), an even one {even:.0}: × {:.2}",
            count(all),
            count(fullest),
            fullest as f64 / number as f64 * 100.0,
            fullest as f64 / even,
        );
        assert_eq!(all, number, "each renews once");
    }

    fn show_slots(&self, slots: &[usize]) {
        let even = self.number as f64 / SPREAD.as_secs_f64() * SLOT.as_secs_f64();
        let busy = slots.iter().filter(|renewed| **renewed > 0).count();
        let fullest = slots.iter().copied().max().unwrap_or_default();
        println!(
            "one second at a close look: {busy} of {} slots of {SLOT:?} have any; the fullest has {}, an even one {even:.1}",
            slots.len(),
            count(fullest),
        );
    }

    /// Nobody asks, so nobody fetches: tokens and keepers go all the same.
    async fn not_used(self) {
        self.go_to(HOUR - SECOND * 31).await;
        assert!(self.caches.iter().all(|(_, cache)| cache.has_token()));
        let started = Instant::now();
        self.go_to(HOUR).await;
        until_alive(0).await;
        let time = started.elapsed();
        assert!(!self.caches.iter().any(|(_, cache)| cache.has_token()));
        let once = |asked: &AtomicU8| asked.load(Ordering::Relaxed) == 1;
        assert!(
            self.asked.iter().all(once),
            "an idle cache asks for nothing"
        );
        println!(
            "\nnot used, all expired at once: no token asked for; {} per cache for its token to go",
            nanos(each(time, self.number)),
        );
    }

    async fn go_to(&self, at: Duration) {
        advance((self.since + at) - Paused::now()).await;
        self.settle().await;
    }

    /// Uses each cache that has not renewed yet, and gives how many do so because of it.
    async fn use_all_after(&mut self, pause: Duration) -> usize {
        advance(pause).await;
        self.settle().await;
        for (_, cache) in &self.caches {
            cache.get().await.unwrap();
        }
        self.settle().await;
        let before = self.caches.len();
        let asked = &self.asked;
        self.caches
            .retain(|(at, _)| asked[*at].load(Ordering::Relaxed) == 1);
        before - self.caches.len()
    }

    /// The runtime polls 61 tasks or fewer between two polls of this one.
    async fn settle(&self) {
        for _ in 0..self.caches.len() / 20 + 10 {
            yield_now().await;
        }
    }
}
