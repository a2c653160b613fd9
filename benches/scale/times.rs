//! What a cache takes in time, by how many there are. Beyond some thousand each use misses the
//! CPU's caches, for which nobody can help: a constant header of its own for each tenant says how
//! much of it must be.

use std::{
    hint::black_box,
    sync::atomic::AtomicUsize,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, header::AUTHORIZATION};
use http_body_util::Empty;
use tokio::runtime::Runtime;
use tower::{Layer, Service};
use tower_oauth::{OAuth, OAuthLayer, TokenCache};

use crate::{
    fixture::{Answering, request, tenant, token},
    host::{Mark, one_thread, until_alive},
    plan::Plan,
    table::{count, each, head, line, median, nanos, ratio},
};

static ASKED: AtomicUsize = AtomicUsize::new(0);

/// How many uses are one sample: short, so that most are not interrupted.
const SAMPLE: usize = 1_000;
/// Uses before, so that what can be in the CPU's caches is there.
const WARM_UP: usize = 2_000;

pub fn run(plan: &Plan) {
    lives(plan);
    uses(plan);
}

/// The beginning and the end, once for each cache.
fn lives(plan: &Plan) {
    head(
        "per cache",
        ["caches", "build", "first token", "drop, keeper"],
    );
    for &caches in plan.caches {
        let repeats = (plan.most_caches() / 10 / caches).clamp(1, 1_000);
        let mut total = [Duration::ZERO; 3];
        let runtime = one_thread();
        for _ in 0..repeats {
            for (sum, time) in total.iter_mut().zip(life(caches, &runtime)) {
                *sum += time;
            }
        }
        let [build, first, end] = total.map(|time| nanos(each(time, caches * repeats)));
        line("", [count(caches), build, first, end]);
    }
}

fn life(number: usize, runtime: &Runtime) -> [Duration; 3] {
    let mut caches = Vec::with_capacity(number);
    let started = Mark::begin();
    caches.extend((0..number).map(|number| tenant(number, &ASKED)));
    let build = started.elapsed();
    runtime.block_on(async {
        let started = Mark::begin();
        for cache in &caches {
            cache.ready().await.unwrap();
        }
        let first = started.elapsed();
        let started = Mark::begin();
        caches.clear();
        until_alive(0).await;
        [build, first, started.elapsed()]
    })
}

/// One population for each number of tenants, all alive, used in turns.
fn uses(plan: &Plan) {
    let runtime = one_thread();
    let mut populations: Vec<Population> = plan
        .caches
        .iter()
        .map(|&number| Population::new(number, &runtime))
        .collect();
    let rounds = plan.rounds(SAMPLE / 10);
    let mut samples = vec![vec![[0.0; 3]; rounds]; populations.len()];
    runtime.block_on(async {
        for round in 0..rounds {
            for (population, samples) in populations.iter_mut().zip(&mut samples) {
                samples[round] = population.sample().await;
            }
        }
    });

    head(
        "per use, each by another tenant",
        ["caches", "get", "layer", "constant", "layer / const."],
    );
    for (population, rounds) in populations.iter().zip(&samples) {
        let of = |case: usize| median(rounds.iter().map(|round| round[case]).collect());
        let over = median(rounds.iter().map(|round| round[1] / round[2]).collect());
        let [get, layer, constant] = [of(0), of(1), of(2)].map(nanos);
        let cells = [count(population.number), get, layer, constant, ratio(over)];
        line("", cells);
    }
    head(
        "growth over one cache",
        ["caches", "get", "layer", "constant"],
    );
    for (population, rounds) in populations.iter().zip(&samples) {
        let over = |case: usize| {
            let pairs = rounds.iter().zip(&samples[0]);
            ratio(median(pairs.map(|(n, one)| n[case] / one[case]).collect()))
        };
        line("", [count(population.number), over(0), over(1), over(2)]);
    }
}

struct Population {
    number: usize,
    /// In which they are used: shuffled, so that no prefetcher guesses the next one.
    order: Vec<usize>,
    at: usize,
    caches: Vec<TokenCache>,
    layered: Vec<OAuth<Answering>>,
    constant: Vec<Constant>,
}

impl Population {
    fn new(number: usize, runtime: &Runtime) -> Self {
        let caches: Vec<_> = (0..number).map(|number| tenant(number, &ASKED)).collect();
        runtime.block_on(async {
            for cache in &caches {
                cache.ready().await.unwrap();
            }
        });
        let layers = caches.iter().cloned().map(OAuthLayer::for_any_origin);
        let mut layered: Vec<_> = layers.map(|layer| layer.layer(Answering)).collect();
        let mut constant: Vec<_> = (0..number).map(Constant::new).collect();
        // What a first use makes is not what each use costs.
        runtime.block_on(async {
            for (layered, constant) in layered.iter_mut().zip(&mut constant) {
                layered.call(request()).await.unwrap();
                constant.call(request()).await.unwrap();
            }
        });
        Self {
            number,
            order: shuffled(number),
            at: 0,
            layered,
            constant,
            caches,
        }
    }

    /// The nanoseconds of a `get`, of a request through the layer, and of one with a constant
    /// header.
    async fn sample(&mut self) -> [f64; 3] {
        [
            self.got().await,
            self.layered().await,
            self.constant().await,
        ]
    }

    async fn got(&mut self) -> f64 {
        let mut started = Mark::begin();
        for step in 0..WARM_UP + SAMPLE {
            if step == WARM_UP {
                started = Mark::begin();
            }
            let tenant = self.next();
            black_box(self.caches[tenant].get().await.unwrap());
        }
        each(started.elapsed(), SAMPLE)
    }

    async fn layered(&mut self) -> f64 {
        let mut started = Mark::begin();
        for step in 0..WARM_UP + SAMPLE {
            if step == WARM_UP {
                started = Mark::begin();
            }
            let tenant = self.next();
            black_box(self.layered[tenant].call(request()).await.unwrap());
        }
        each(started.elapsed(), SAMPLE)
    }

    async fn constant(&mut self) -> f64 {
        let mut started = Mark::begin();
        for step in 0..WARM_UP + SAMPLE {
            if step == WARM_UP {
                started = Mark::begin();
            }
            let tenant = self.next();
            black_box(self.constant[tenant].call(request()).await.unwrap());
        }
        each(started.elapsed(), SAMPLE)
    }

    fn next(&mut self) -> usize {
        let tenant = self.order[self.at];
        self.at = (self.at + 1) % self.number;
        tenant
    }
}

/// The least that a token of its own costs: a header value that never changes.
struct Constant {
    inner: Answering,
    value: HeaderValue,
}

impl Constant {
    fn new(number: usize) -> Self {
        let text = format!("Bearer {}", token(number).unwrap().expose_secret());
        let mut value = HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap();
        value.set_sensitive(true);
        Self {
            inner: Answering,
            value,
        }
    }
}

impl Service<Request<Empty<Bytes>>> for Constant {
    type Response = <Answering as Service<Request<Empty<Bytes>>>>::Response;
    type Error = <Answering as Service<Request<Empty<Bytes>>>>::Error;
    type Future = <Answering as Service<Request<Empty<Bytes>>>>::Future;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Empty<Bytes>>) -> Self::Future {
        request
            .headers_mut()
            .insert(AUTHORIZATION, self.value.clone());
        self.inner.call(request)
    }
}

/// By a generator that gives the same order in every run (xorshift64, Fisher–Yates).
fn shuffled(number: usize) -> Vec<usize> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut order: Vec<usize> = (0..number).collect();
    for at in (1..number).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        order.swap(at, (state % (at as u64 + 1)) as usize);
    }
    order
}
