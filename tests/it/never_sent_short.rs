//! *Replaying*: no body is ever sent short, whatever the server, the connection and the caller do;
//! and the second send is the source, all of it, or it was never sent.
//!
//! Uploads are made up from seeds. A failure prints its seed; with that as `SEED` in the environment
//! a test runs the same uploads again, and no others.

use std::{env, sync::Arc};

use fastrand::Rng;
use tokio::{
    runtime, task,
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::support::{
    case::Case,
    paused,
    pipes::{Call, Pipes},
    secs,
    upload::{Scenario, Wire},
};

#[test]
fn in_eighty_thousand_uploads_by_a_call() {
    many(80_000, |seed| one_by_one(Wire::Call, seed));
}

#[test]
fn in_twelve_thousand_uploads_over_http1() {
    many(12_000, |seed| one_by_one(Wire::Http1, seed));
}

#[test]
fn in_eight_thousand_uploads_over_http2() {
    many(8_000, |seed| one_by_one(Wire::Http2, seed));
}

/// What one of the readers, or the caller, does, meets the others at any moment.
#[test]
fn in_twenty_thousand_uploads_on_two_threads() {
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    many(20_000, |seed| runtime.block_on(at_once(seed)));
}

/// Uploads of one seed.
const UPLOADS: usize = 100;

/// `run` says how many uploads of a seed were sent again.
fn many(uploads: usize, run: impl Fn(u64) -> usize) {
    if let Ok(seed) = env::var("SEED") {
        run(seed.parse().unwrap());
        return;
    }
    let first = Rng::new().u64(..);
    println!("{uploads} uploads; the seeds are drawn from {first}");
    let mut rng = Rng::with_seed(first);
    let again: usize = (0..uploads / UPLOADS).map(|_| run(rng.u64(..))).sum();
    let a_third = uploads / 3;
    assert!(
        again > a_third,
        "{again} were sent again: this shows little"
    );
}

fn one_by_one(wire: Wire, seed: u64) -> usize {
    let mut rng = Rng::with_seed(seed);
    paused(async {
        let pipes = Pipes::new(wire, &mut rng);
        let mut cases = Vec::new();
        for _ in 0..UPLOADS {
            let case = Case::new(Scenario::random(wire, &mut rng));
            let outcome = match wire {
                Wire::Call => case.run(Call(Arc::clone(&case)), secs(3600)).await,
                Wire::Http1 | Wire::Http2 => case.run(pipes.to(&case), secs(3600)).await,
            };
            report(seed, &case, outcome);
            cases.push(case);
        }
        // What is still being sent has all the time it wants.
        sleep(secs(3600)).await;
        for case in &cases {
            report(seed, case, case.check_sends());
            if wire == Wire::Call {
                report(seed, case, case.check_ends());
            }
        }
        assert_eq!(pipes.panic().await, None, "SEED={seed}");
        cases.iter().filter(|case| case.sends() == 2).count()
    })
}

async fn at_once(seed: u64) -> usize {
    let mut rng = Rng::with_seed(seed);
    let mut uploads = JoinSet::new();
    for _ in 0..UPLOADS {
        let case = Case::new(Scenario::random(Wire::Call, &mut rng));
        uploads.spawn(async move {
            let outcome = case.run(Call(Arc::clone(&case)), secs(60)).await;
            report(seed, &case, outcome);
            let begun = Instant::now();
            while case.check_ends().is_err() && begun.elapsed() < secs(60) {
                task::yield_now().await;
            }
            report(seed, &case, case.check_ends());
            report(seed, &case, case.check_sends());
            usize::from(case.sends() == 2)
        });
    }
    uploads.join_all().await.into_iter().sum()
}

fn report(seed: u64, case: &Case, outcome: Result<(), String>) {
    if let Err(what) = outcome {
        panic!("SEED={seed}: {what}\n{:#?}", case);
    }
}
