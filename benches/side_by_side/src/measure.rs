//! Takes turns: in each round every case is sampled once, in random order, so that whatever else the
//! machine does meets all of them alike. What is compared is compared within a round.

use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::{
    thread::{CpuSet, sched_setaffinity},
    time::{ClockId, clock_gettime},
};

use crate::{case::Case, lane::Lane, shape::Shape};

/// Lanes are made anew for each block, so that they lie elsewhere in memory.
const BLOCKS: usize = 8;
const ROUNDS: usize = 40;
const SAMPLE: Duration = Duration::from_micros(250);
const WARM_UP: u32 = 8;
/// A sample in which the thread was off its CPU for more than this part of the time is dropped.
const STOLEN: f64 = 0.02;

/// What one round gave: nanoseconds per request of each case; `None` where there is none.
pub struct Round(Vec<Option<f64>>);

impl Round {
    pub fn of(&self, case: usize) -> Option<f64> {
        self.0.get(case).copied().flatten()
    }

    pub fn ratio(&self, case: usize, to: usize) -> Option<f64> {
        Some(self.of(case)? / self.of(to)?)
    }
}

/// One thread, pinned to a CPU of its own.
pub fn on_one_thread(cases: &[Case], shape: Shape) -> Vec<Round> {
    pin(0);
    let mut rounds = Vec::new();
    for _ in 0..BLOCKS {
        let mut lanes: Vec<_> = cases.iter().map(|case| case.lane(shape)).collect();
        let requests: Vec<_> = lanes.iter_mut().map(calibrate).collect();
        for _ in 0..ROUNDS {
            let mut round = vec![None; cases.len()];
            for case in shuffled(cases.len()) {
                if let Some(lane) = &mut lanes[case] {
                    lane.run(requests[case] / WARM_UP);
                    round[case] = sample(lane.as_mut(), requests[case]);
                }
            }
            rounds.push(Round(round));
        }
    }
    rounds
}

/// Two threads, each pinned to a CPU, each with long-lived clones of its own, at the same time.
pub fn on_two_threads(cases: &[Case], shape: Shape) -> Vec<Round> {
    pin(0);
    (0..BLOCKS)
        .flat_map(|_| block_of_two(cases, shape))
        .collect()
}

fn block_of_two(cases: &[Case], shape: Shape) -> Vec<Round> {
    let lanes = || {
        cases
            .iter()
            .map(|case| case.lane(shape))
            .collect::<Vec<_>>()
    };
    let (mut mine, mut theirs) = (lanes(), lanes());
    let requests: Vec<_> = mine.iter_mut().map(calibrate).collect();
    let plan: Vec<_> = (0..ROUNDS).map(|_| shuffled(cases.len())).collect();
    let start = Arc::new(SpinBarrier::default());
    let ready = Arc::new(Barrier::new(2));
    let run = |lanes: &mut Vec<Option<Box<dyn Lane>>>, cpu: usize| {
        pin(cpu);
        ready.wait();
        let mut rounds = Vec::new();
        for order in &plan {
            let mut round = vec![None; lanes.len()];
            for &case in order {
                if let Some(lane) = &mut lanes[case] {
                    start.wait();
                    lane.run(requests[case] / WARM_UP);
                    round[case] = sample(lane.as_mut(), requests[case]);
                }
            }
            rounds.push(round);
        }
        rounds
    };
    let (first, second) = thread::scope(|scope| {
        let other = scope.spawn(|| run(&mut theirs, 1));
        let first = run(&mut mine, 0);
        (first, other.join().unwrap())
    });
    let mean = |(a, b): (Option<f64>, Option<f64>)| Some((a? + b?) / 2.0);
    let both = first.into_iter().zip(second);
    both.map(|(a, b)| Round(a.into_iter().zip(b).map(mean).collect()))
        .collect()
}

/// Two threads start together, without a wake-up between them.
#[derive(Default)]
struct SpinBarrier {
    arrived: AtomicU32,
    turn: AtomicUsize,
}

impl SpinBarrier {
    fn wait(&self) {
        let turn = self.turn.load(Ordering::Acquire);
        if self.arrived.fetch_add(1, Ordering::AcqRel) == 1 {
            self.arrived.store(0, Ordering::Relaxed);
            self.turn.store(turn + 1, Ordering::Release);
        } else {
            while self.turn.load(Ordering::Acquire) == turn {
                std::hint::spin_loop();
            }
        }
    }
}

/// How many requests fill a sample.
fn calibrate(lane: &mut Option<Box<dyn Lane>>) -> u32 {
    let Some(lane) = lane else { return 0 };
    let mut requests = 64;
    loop {
        let start = Instant::now();
        lane.run(requests);
        let took = start.elapsed();
        if took > SAMPLE / 2 {
            let per_request = took.as_secs_f64() / f64::from(requests);
            return ((SAMPLE.as_secs_f64() / per_request) as u32).max(WARM_UP);
        }
        requests *= 2;
    }
}

/// Nanoseconds per request; `None` if the thread was taken off its CPU meanwhile.
fn sample(lane: &mut dyn Lane, requests: u32) -> Option<f64> {
    let (cpu, start) = (cpu_time(), Instant::now());
    lane.run(requests);
    let (wall, cpu) = (start.elapsed(), cpu_time().saturating_sub(cpu));
    let stolen = wall.saturating_sub(cpu).as_secs_f64() > wall.as_secs_f64() * STOLEN;
    (!stolen).then(|| wall.as_secs_f64() * 1e9 / f64::from(requests))
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.try_into().unwrap(),
        time.tv_nsec.try_into().unwrap(),
    )
}

pub fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    // Where there is only one CPU, or none may be chosen, the figures are what they are.
    let _ = sched_setaffinity(None, &set);
}

fn shuffled(cases: usize) -> Vec<usize> {
    let mut order: Vec<_> = (0..cases).collect();
    fastrand::shuffle(&mut order);
    order
}

/// The middle one; NaN of nothing.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
