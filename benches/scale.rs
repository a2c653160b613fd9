//! What many caches and many callers cost: time and memory from one to 100,000 of them, to find
//! what grows faster than it must.
//!
//! ```sh
//! cargo bench --bench scale                     # all of it, about two minutes
//! cargo bench --bench scale -- callers memory   # the chapters whose names have one of these in them
//! SCALE_IDLE=90 cargo bench --bench scale -- idle
//! ```
//!
//! Numbers are printed and never asserted, as machines differ; how often a token is asked for is
//! asserted, as it doesn't depend on them. What is compared is run in turns, and ratios are medians
//! of the ratios within a round. Time in which a thread waited for a CPU is left out where it can
//! be told: with two workers it can't, and there a busy machine makes large numbers look worse.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::print_stdout,
    unreachable_pub,
    missing_docs,
    reason = "a benchmark reads the clock, prints, and may stop at the first surprise"
)]

#[path = "scale/callers.rs"]
mod callers;
#[path = "scale/idle.rs"]
mod idle;
#[path = "scale/memory.rs"]
mod memory;
#[path = "scale/renewals.rs"]
mod renewals;
#[path = "scale/times.rs"]
mod times;
#[path = "scale/under_way.rs"]
mod under_way;

#[path = "scale/fixture.rs"]
mod fixture;
#[path = "scale/host.rs"]
mod host;
#[path = "scale/plan.rs"]
mod plan;
#[path = "scale/table.rs"]
mod table;

use plan::Plan;

type Chapter = (&'static str, fn(&Plan));

const CHAPTERS: [Chapter; 7] = [
    // Many caches. Memory comes first, while nothing has been freed that could be used again.
    ("memory of a cache", memory::run),
    ("times of a cache", times::run),
    ("idle caches", idle::run),
    ("renewals", renewals::run),
    // Many callers of one cache.
    ("callers that wait", callers::times),
    ("memory of a caller", callers::memory),
    ("requests under way", under_way::run),
];

fn main() {
    let plan = Plan::from_command_line();
    for (name, run) in CHAPTERS {
        if plan.has(name) {
            println!("\n━━ {name} ━━");
            run(&plan);
        }
    }
}
