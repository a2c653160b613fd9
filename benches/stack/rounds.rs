//! Turns and rounds: who runs when, and what is noted of it.

use std::{
    iter,
    time::{Duration, Instant},
};

use tokio::runtime::Runtime;

use crate::{
    cpu::Cpu,
    server::Server,
    variants::{Client, Shape, Variant},
};

/// How long it takes.
pub struct Plan {
    /// All rounds together. There is one at least.
    pub total: Duration,
    /// A turn: long enough to have the timers and the change of turns out of it, and so short that
    /// what the machine does besides changes little within a round.
    pub turn: Duration,
}

impl Plan {
    pub fn measure(seconds: Option<u64>) -> Self {
        Self {
            total: Duration::from_secs(seconds.unwrap_or(160)),
            turn: Duration::from_millis(25),
        }
    }

    pub fn try_out() -> Self {
        Self {
            total: Duration::ZERO,
            turn: Duration::from_millis(2),
        }
    }
}

/// One variant's turn.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    pub calls: usize,
    pub wall: Duration,
    /// The client's. `None` where the system doesn't tell.
    pub cpu: Option<Duration>,
    /// Of the wall time, how much client or server spent ready to run, while something else was.
    pub disturbed: f64,
}

/// A turn of each variant.
pub type Round = Vec<Turn>;

/// For each shape its rounds. Those of all shapes alternate, so that a minute of unrest in the
/// machine is shared by all.
pub fn run(plan: &Plan, runtime: &Runtime, server: &Server, shapes: &[Shape]) -> Vec<Vec<Round>> {
    let tracks = shapes
        .iter()
        .map(|shape| Track::warmed_up(plan, runtime, server, shape));
    let mut tracks: Vec<_> = tracks.collect();
    let start = Instant::now();
    loop {
        for track in &mut tracks {
            track.round();
        }
        if start.elapsed() >= plan.total {
            break;
        }
    }
    tracks.into_iter().map(|track| track.rounds).collect()
}

/// A shape's way through its rounds.
struct Track<'a> {
    runtime: &'a Runtime,
    server: &'a Server,
    shape: &'a Shape,
    /// How many calls a caller makes in a turn.
    calls: usize,
    rounds: Vec<Round>,
}

impl<'a> Track<'a> {
    fn warmed_up(plan: &Plan, runtime: &'a Runtime, server: &'a Server, shape: &'a Shape) -> Self {
        let mut track = Self {
            runtime,
            server,
            shape,
            calls: 1,
            rounds: Vec::new(),
        };
        // The number of calls is fixed rather than the time, and the same for all variants: they
        // all do the same work.
        loop {
            let turns = shape.variants.iter().map(|variant| track.turn(variant));
            let mut taken: Vec<_> = turns.map(|turn| turn.wall).collect();
            taken.sort();
            let typical = taken[taken.len() / 2];
            let missing = plan.turn.as_secs_f64() / typical.as_secs_f64();
            if missing < 1.3 {
                return track;
            }
            let grown = track.calls as f64 * missing.min(10.0);
            track.calls = grown.ceil() as usize;
        }
    }

    fn round(&mut self) {
        let mut order: Vec<_> = (0..self.shape.variants.len()).collect();
        fastrand::shuffle(&mut order);
        let mut turns = vec![None; order.len()];
        for of in order {
            turns[of] = Some(self.turn(&self.shape.variants[of]));
        }
        self.rounds.push(turns.into_iter().flatten().collect());
    }

    fn turn(&self, variant: &Variant) -> Turn {
        // In each turn a client of its own, in another place: where its connections and its memory lie
        // moves a client by up to 3 %, for as long as it lives.
        let _between = scattered();
        let client = {
            let _entered = self.runtime.enter();
            (variant.make)()
        };
        // It connects, the code and the data of the last turn leave the caches, and what its connections
        // had left to do is done.
        self.call(&client, self.calls.div_ceil(10));
        let before = self.cpu();
        let start = Instant::now();
        self.call(&client, self.calls);
        let wall = start.elapsed();
        let used = self.cpu().zip(before).map(|(after, before)| {
            let of = |index: usize| after[index] - before[index];
            (of(0), of(1))
        });
        let waiting = used.map_or(Duration::ZERO, |(client, server)| {
            client.waiting + server.waiting
        });
        Turn {
            calls: self.calls * self.shape.callers,
            wall,
            cpu: used.map(|(client, _)| client.on),
            disturbed: waiting.as_secs_f64() / wall.as_secs_f64(),
        }
    }

    fn call(&self, client: &Client, calls: usize) {
        self.runtime.block_on(async {
            let callers = (0..self.shape.callers).map(|_| client(calls));
            for caller in callers.collect::<Vec<_>>() {
                caller.await.unwrap();
            }
        });
    }

    /// The client's, and the server's.
    fn cpu(&self) -> Option<[Cpu; 2]> {
        let client = Cpu::of_this_thread()?;
        let server = Cpu::of_process(self.server.id())?;
        Some([client, server])
    }
}

/// Memory of some size or other, so that what is allocated next isn't where it was the last time.
fn scattered() -> Vec<Vec<u8>> {
    let sizes = iter::repeat_with(|| fastrand::usize(16..6000));
    sizes
        .take(fastrand::usize(1..64))
        .map(Vec::with_capacity)
        .collect()
}
