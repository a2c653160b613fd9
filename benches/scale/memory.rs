//! What a cache takes beyond its token's text: counted where it is allocated, and as the process
//! grows by it.

use std::{
    future::Future,
    sync::atomic::AtomicUsize,
    task::{Context, Waker},
};

use allocation_counter::measure;
use tokio::runtime::Runtime;
use tower::{Layer, Service};
use tower_oauth::{OAuthLayer, TokenCache};

use crate::{
    fixture::{Answering, Held, TOKEN, request, tenant},
    host::{one_thread, resident, until_alive},
    plan::Plan,
    table::{count, head, line},
};

static ASKED: AtomicUsize = AtomicUsize::new(0);

pub fn run(plan: &Plan) {
    head(
        "per cache",
        [
            "caches",
            "live bytes",
            "allocations",
            "without text",
            "resident",
        ],
    );
    for &caches in plan.caches {
        of_tenants(caches);
    }
    println!("(without text: less the token's {TOKEN} bytes; resident says little of few)");
}

/// The lives of a cache, one after the other.
fn of_tenants(number: usize) {
    let runtime = one_thread();
    let mut caches: Vec<TokenCache> = Vec::with_capacity(number);
    let mut services = Vec::with_capacity(number);
    let mut kept = Kept::none(number);

    kept.add("built, never used", 0, || {
        caches.extend((0..number).map(|number| tenant(number, &ASKED)));
    });
    kept.add("with a token, and its keeper", TOKEN, || {
        runtime.block_on(warm_up(&caches));
    });
    kept.add("and a service of a layer of its own", TOKEN, || {
        let layers = caches.iter().cloned().map(OAuthLayer::for_any_origin);
        services.extend(layers.map(|layer| layer.layer(Answering)));
    });
    kept.add("and one request by one thread", TOKEN, || {
        runtime.block_on(async {
            for service in &mut services {
                service.call(request()).await.unwrap();
            }
        });
    });
    kept.add("dropped", 0, || {
        services.clear();
        caches.clear();
        runtime.block_on(until_alive(0));
    });
    waiting(number, &runtime);
}

async fn warm_up(caches: &[TokenCache]) {
    for cache in caches {
        cache.ready().await.unwrap();
    }
    // All that is left are the keepers.
    until_alive(caches.len()).await;
}

/// What is added while a token is fetched: the flight, and one caller who waits for it.
fn waiting(number: usize, runtime: &Runtime) {
    let mut caches = Vec::with_capacity(number);
    let mut callers = Vec::with_capacity(number);
    let mut kept = Kept::none(number);
    // One source for all, to be let go at once, is not counted.
    let source = Held::new();
    caches.extend((0..number).map(|_| source.cache()));
    kept.add("on top while a first token is under way", 0, || {
        runtime.block_on(async {
            let mut context = Context::from_waker(Waker::noop());
            for cache in &caches {
                let mut caller = Box::pin(cache.ready());
                assert!(caller.as_mut().poll(&mut context).is_pending());
                callers.push(caller);
            }
            while source.asked() < number {
                tokio::task::yield_now().await;
            }
        });
    });
}

/// Sums up what is alive.
struct Kept {
    caches: usize,
    bytes: i64,
    allocations: i64,
    resident_before: i64,
}

impl Kept {
    fn none(caches: usize) -> Self {
        Self {
            caches,
            bytes: 0,
            allocations: 0,
            resident_before: resident(),
        }
    }

    fn add(&mut self, name: &str, text: usize, work: impl FnOnce()) {
        let counted = measure(work);
        self.bytes += counted.bytes_current;
        self.allocations += counted.count_current;
        let each = |of: i64| format!("{:.1}", of as f64 / self.caches as f64);
        line(
            name,
            [
                count(self.caches),
                each(self.bytes),
                each(self.allocations),
                each(self.bytes - (text * self.caches) as i64),
                each(resident() - self.resident_before),
            ],
        );
    }
}
