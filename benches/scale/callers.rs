//! Many callers who wait for one flight: how long from the source's answer until the last of them
//! has woken up with its token, and what each keeps meanwhile.

use std::{
    future::{Future, poll_fn},
    mem::size_of_val,
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Waker},
    time::Duration,
};

use allocation_counter::measure;
use tokio::{
    runtime::Runtime,
    sync::{Notify, watch},
    task::yield_now,
    time::timeout,
};
use tower::{Layer, ServiceExt};
use tower_oauth::OAuthLayer;

use crate::{
    fixture::{Answering, HOUR, Held, Refusing, request},
    host::{Mark, one_thread, two_workers, until_alive},
    plan::Plan,
    table::{count, each, head, line, median, nanos, ratio},
};

const WAYS: [Way; 5] = [Way::Get, Way::Layer, Way::Refused, Way::Watch, Way::Timer];

/// How a caller waits.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Get,
    Layer,
    /// Through the layer, after a 401.
    Refused,
    /// For a bare channel: the least that it takes to wake a task with a value.
    Watch,
    /// The same with a timer, as nobody should wait forever.
    Timer,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Get => "TokenCache::get",
            Self::Layer => "the layer, first token",
            Self::Refused => "the layer, after a 401",
            Self::Watch => "a bare watch channel",
            Self::Timer => "a watch channel and a timeout",
        }
    }
}

pub fn times(plan: &Plan) {
    times_of("on one thread", one_thread, plan);
    times_of("on two workers", two_workers, plan);
}

fn times_of(place: &str, runtime: fn() -> Runtime, plan: &Plan) {
    head(
        &format!("answer to last caller, {place}"),
        [
            "callers",
            "in all",
            "per caller",
            "/ watch",
            "/ watch, timer",
        ],
    );
    for &callers in plan.callers {
        let samples: Vec<[f64; 5]> = (0..plan.rounds(callers))
            .map(|_| WAYS.map(|way| each(once(way, callers, &runtime()), callers)))
            .collect();
        for (at, way) in WAYS.iter().enumerate() {
            let per_caller = median(samples.iter().map(|round| round[at]).collect());
            let over = |floor: usize| {
                let ratios = samples.iter().map(|round| round[at] / round[floor]);
                ratio(median(ratios.collect()))
            };
            let cells = [
                count(callers),
                nanos(per_caller * callers as f64),
                nanos(per_caller),
                over(3),
                over(4),
            ];
            line(way.name(), cells);
        }
    }
}

/// The time from the answer until the last of `callers` has it.
fn once(way: Way, callers: usize, runtime: &Runtime) -> Duration {
    // Where `block_on` is no worker, what it does is done on one.
    runtime.block_on(async move {
        let crowd = tokio::spawn(async move {
            match way {
                Way::Watch | Way::Timer => at_a_channel(way, callers).await,
                Way::Get | Way::Layer => before_the_first_token(way, callers).await,
                Way::Refused => after_a_refusal(callers).await,
            }
        });
        let time = crowd.await.unwrap();
        until_alive(1).await;
        time
    })
}

async fn before_the_first_token(way: Way, callers: usize) -> Duration {
    let source = Held::new();
    let cache = source.cache();
    let layer = OAuthLayer::for_any_origin(cache.clone());
    let client = layer.layer(Answering);
    let crowd = Crowd::new(callers);
    for _ in 0..callers {
        match way {
            Way::Get => {
                let cache = cache.clone();
                crowd.joined_by(async move { drop(cache.get().await.unwrap()) });
            }
            _ => {
                let (client, request) = (client.clone(), request());
                crowd.joined_by(async move { drop(client.oneshot(request).await.unwrap()) });
            }
        }
    }
    crowd.waits().await;
    source.open();
    let last = crowd.last().await;
    assert_eq!(source.asked(), 1, "one token request");
    source.answered().until(last)
}

async fn after_a_refusal(callers: usize) -> Duration {
    let source = Held::new();
    let second = source.clone();
    // The first is there at once, the second is the one that is waited for.
    let first = Arc::new(AtomicUsize::new(0));
    let rest = source.cache();
    let cache = tower_oauth::TokenCache::from({
        let first = Arc::clone(&first);
        move || {
            let (number, rest) = (first.fetch_add(1, Ordering::Relaxed), rest.clone());
            async move {
                match number {
                    0 => Ok(tower_oauth::AccessToken::bearer("refused")?.expires_in(HOUR)),
                    _ => rest.get().await,
                }
            }
        }
    });
    cache.ready().await.unwrap();
    let layer = OAuthLayer::for_any_origin(cache);
    let client = layer.layer(Refusing("Bearer refused".into()));
    let crowd = Crowd::new(callers);
    for _ in 0..callers {
        let (client, request) = (client.clone(), request());
        crowd.joined_by(async move {
            let answer = client.oneshot(request).await.unwrap();
            assert!(answer.status().is_success());
        });
    }
    crowd.waits().await;
    second.open();
    let last = crowd.last().await;
    assert_eq!(first.load(Ordering::Relaxed), 2, "one more token request");
    second.answered().until(last)
}

async fn at_a_channel(way: Way, callers: usize) -> Duration {
    let (sender, receiver) = watch::channel(None::<Arc<str>>);
    let crowd = Crowd::new(callers);
    for _ in 0..callers {
        let mut receiver = receiver.clone();
        crowd.joined_by(async move {
            let value = receiver.wait_for(Option::is_some);
            let value = match way {
                Way::Timer => timeout(HOUR, value).await.unwrap(),
                _ => value.await,
            };
            drop(value.unwrap().clone());
        });
    }
    crowd.waits().await;
    let answer = tokio::spawn(async move {
        let answered = Mark::begin();
        sender.send_replace(Some("value".into()));
        answered
    });
    let last = crowd.last().await;
    answer.await.unwrap().until(last)
}

/// Tasks that wait for the same.
struct Crowd {
    callers: usize,
    inside: Arc<Inside>,
}

struct Inside {
    waiting: AtomicUsize,
    left: AtomicUsize,
    last: OnceLock<Mark>,
    all_left: Notify,
}

impl Crowd {
    fn new(callers: usize) -> Self {
        let inside = Inside {
            waiting: AtomicUsize::new(0),
            left: AtomicUsize::new(callers),
            last: OnceLock::new(),
            all_left: Notify::new(),
        };
        Self {
            callers,
            inside: Arc::new(inside),
        }
    }

    fn joined_by(&self, wait: impl Future<Output = ()> + Send + 'static) {
        let inside = Arc::clone(&self.inside);
        tokio::spawn(async move {
            let mut wait = pin!(wait);
            let mut polled = false;
            poll_fn(|cx| {
                let end = wait.as_mut().poll(cx);
                if !polled {
                    polled = true;
                    assert!(end.is_pending(), "there is something to wait for");
                    inside.waiting.fetch_add(1, Ordering::Relaxed);
                }
                end
            })
            .await;
            if inside.left.fetch_sub(1, Ordering::Relaxed) == 1 {
                inside.last.get_or_init(Mark::end);
                inside.all_left.notify_one();
            }
        });
    }

    async fn waits(&self) {
        while self.inside.waiting.load(Ordering::Relaxed) < self.callers {
            yield_now().await;
        }
        // Those who start flights have done so, and the flight waits as well.
        for _ in 0..10 {
            yield_now().await;
        }
    }

    async fn last(&self) -> Mark {
        self.inside.all_left.notified().await;
        *self.inside.last.get().unwrap()
    }
}

/// What each keeps while it waits: its future, and what that allocates.
pub fn memory(plan: &Plan) {
    head(
        "memory per waiting caller",
        ["callers", "future", "heap bytes", "allocations", "together"],
    );
    for &callers in plan.callers {
        let runtime = one_thread();
        let _entered = runtime.enter();
        let cache = Held::new().cache();
        let client = OAuthLayer::for_any_origin(cache.clone()).layer(Answering);
        let channel = watch::Sender::new(None::<Arc<str>>);
        // The first starts the flight, which isn't theirs.
        let mut first = Box::pin(cache.ready());
        let mut context = Context::from_waker(Waker::noop());
        assert!(first.as_mut().poll(&mut context).is_pending());

        let get = || {
            let cache = cache.clone();
            async move { drop(cache.get().await) }
        };
        kept(Way::Get, callers, get);
        let call = || {
            let (client, request) = (client.clone(), request());
            async move { drop(client.oneshot(request).await) }
        };
        kept(Way::Layer, callers, call);
        let wait = || {
            let mut receiver = channel.subscribe();
            async move { drop(receiver.wait_for(Option::is_some).await) }
        };
        kept(Way::Watch, callers, wait);
        let wait_a_while = || {
            let mut receiver = channel.subscribe();
            async move { drop(timeout(HOUR, receiver.wait_for(Option::is_some)).await) }
        };
        kept(Way::Timer, callers, wait_a_while);
    }
}

fn kept<F: Future>(way: Way, callers: usize, wait: impl Fn() -> F) {
    let mut waiting: Vec<_> = (0..callers).map(|_| Box::pin(wait())).collect();
    let future = size_of_val(&*waiting[0]);
    let counted = measure(|| {
        let mut context = Context::from_waker(Waker::noop());
        for caller in &mut waiting {
            assert!(caller.as_mut().poll(&mut context).is_pending());
        }
    });
    let each = |of: i64| of as f64 / callers as f64;
    let cells = [
        count(callers),
        count(future),
        format!("{:.1}", each(counted.bytes_current)),
        format!("{:.1}", each(counted.count_current)),
        format!("{:.1}", each(counted.bytes_current) + future as f64),
    ];
    line(way.name(), cells);
}
