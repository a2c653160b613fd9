//! How much of it is run.

use std::{env, time::Duration};

pub struct Plan {
    /// How many caches.
    pub caches: &'static [usize],
    /// How many callers of one cache.
    pub callers: &'static [usize],
    /// How often what is compared is run in turns: fewer times where there are many.
    rounds: [usize; 2],
    /// How long caches are left idle.
    pub idle: Duration,
    /// Chapters whose names have one of these in them; all, if there is none.
    named: Vec<String>,
}

impl Plan {
    /// Cargo passes `--bench` where times are wanted. Without it (`cargo test --benches`) it is
    /// enough that all of it runs.
    pub fn from_command_line() -> Self {
        let arguments: Vec<String> = env::args().skip(1).collect();
        let measuring = arguments.iter().any(|argument| argument == "--bench");
        let named = arguments
            .into_iter()
            .filter(|argument| !argument.starts_with('-'))
            .collect();
        if !measuring {
            return Self {
                caches: &[1, 10],
                callers: &[1, 10],
                rounds: [1, 1],
                idle: Duration::from_millis(50),
                named,
            };
        }
        // A keeper looks at the wall clock every 30 s: less would be no look at all.
        let seconds = env::var("SCALE_IDLE").map_or(31, |text| text.parse().unwrap());
        Self {
            caches: &[1, 10, 1_000, 100_000],
            callers: &[1, 10, 1_000, 10_000, 100_000],
            rounds: [3, 51],
            idle: Duration::from_secs(seconds),
            named,
        }
    }

    pub fn has(&self, chapter: &str) -> bool {
        self.named.is_empty()
            || self
                .named
                .iter()
                .any(|name| chapter.contains(name.as_str()))
    }

    /// How often `number` of what is compared are run in turns.
    pub fn rounds(&self, number: usize) -> usize {
        let [fewest, most] = self.rounds;
        (200_000 / number).clamp(fewest, most)
    }

    pub fn most_caches(&self) -> usize {
        self.caches.iter().copied().max().unwrap_or_default()
    }
}
