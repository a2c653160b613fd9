//! *When*: renewed ahead of time if it is used, gone before it expires, kept through outages.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::time::{Instant, advance, sleep, sleep_until};
use tower_oauth::{AccessToken, CacheState, TokenCache, TokenError};

use crate::support::{
    api::{Api, get},
    paused, secs, settle,
    source::{Ledger, failing, numbered, scripted, slow, token},
};

const HOUR: Duration = secs(3600);
/// Before the advisory window of a one-hour token, with any jitter.
const EARLY: Duration = secs(3299);
/// In it, with any jitter.
const DUE: Duration = secs(3500);
/// After the token has left the cache.
const GONE: Duration = secs(3570);

async fn text(cache: &TokenCache) -> String {
    cache.get().await.unwrap().expose_secret().to_owned()
}

#[test]
fn a_used_token_is_renewed_in_the_background_and_nobody_waits() {
    paused(async {
        let (ledger, source) = slow(HOUR, secs(5));
        let cache = TokenCache::from(source);
        assert_eq!(text(&cache).await, "token-1");
        // The lifetime counts from the asking: 5 s are gone.
        advance(EARLY - secs(5)).await;
        settle().await;
        assert_eq!(
            (text(&cache).await.as_str(), ledger.calls()),
            ("token-1", 1)
        );

        advance(DUE - EARLY).await;
        settle().await;
        let asked = Instant::now();
        assert_eq!(text(&cache).await, "token-1");
        assert_eq!(asked.elapsed(), Duration::ZERO, "nobody waits");
        settle().await;
        assert_eq!(ledger.calls(), 2, "in the background");
        assert_eq!(text(&cache).await, "token-1", "until the new one is in");
        sleep(secs(5)).await;
        settle().await;
        assert_eq!(text(&cache).await, "token-2");
        assert_eq!(ledger.calls(), 2);
    });
}

#[test]
fn a_cache_renews_each_of_its_tokens_at_the_same_age() {
    paused(async {
        let wall = Wall::new();
        let (ledger, cache) = wall.watched(HOUR);
        let mut ages = Vec::new();
        for n in 1..=8 {
            cache.ready().await.unwrap();
            settle().await;
            assert_eq!(ledger.calls(), n);
            let asked = Instant::now();
            sleep(EARLY).await;
            while ledger.calls() == n {
                sleep(secs(1)).await;
                settle().await;
                cache.ready().await.unwrap();
                settle().await;
            }
            ages.push(asked.elapsed());
        }
        assert!(ages.iter().all(|&age| age == ages[0]), "{ages:?}");
    });
}

#[test]
fn an_idle_client_spends_no_tokens() {
    paused(async {
        let (ledger, source) = numbered(HOUR);
        let cache = TokenCache::from(source);
        cache.ready().await.unwrap();
        sleep(HOUR * 24).await;
        assert_eq!(ledger.calls(), 1);
        assert!(matches!(cache.state(), CacheState::Empty));
    });
}

#[test]
fn an_expiring_token_leaves_the_cache_and_callers_wait_for_the_next() {
    paused(async {
        let (ledger, source) = slow(HOUR, secs(1));
        let cache = TokenCache::from(source);
        cache.ready().await.unwrap();
        sleep(GONE - secs(1) - Duration::from_millis(1)).await;
        assert!(cache.has_token());
        sleep(Duration::from_millis(1)).await;
        settle().await;
        assert!(!cache.has_token(), "30 s before its end");
        let asked = Instant::now();
        assert_eq!(text(&cache).await, "token-2");
        assert_eq!(asked.elapsed(), secs(1));
        assert_eq!(ledger.calls(), 2);
    });
}

#[test]
fn a_failed_refresh_never_replaces_a_valid_token() {
    paused(async {
        // Down from 240 s to 31 s before the end.
        let down = Arc::new(Mutex::new(false));
        let (ledger, source) = failing(HOUR, {
            let down = Arc::clone(&down);
            move |_| down.lock().unwrap().then(|| TokenError::transient("down"))
        });
        let cache = TokenCache::from(source);
        let client = Api::accepting(|token| token == "token-1").behind(&cache);
        assert_eq!(get(&client, "warm").await.unwrap(), 200);
        advance(HOUR - secs(240)).await;
        *down.lock().unwrap() = true;
        for second in 0..209 {
            settle().await;
            assert_eq!(get(&client, second).await.unwrap(), 200, "{second}");
            advance(secs(1)).await;
        }
        assert!(matches!(cache.state(), CacheState::Failing { .. }));
        assert!(cache.has_token());
        assert!(
            (3..=16).contains(&ledger.calls()),
            "{} calls",
            ledger.calls()
        );
        *down.lock().unwrap() = false;
        sleep(secs(60)).await;
        let next = text(&cache).await;
        assert_ne!(next, "token-1");
        assert!(matches!(cache.state(), CacheState::Valid));
    });
}

#[test]
fn retry_after_is_honoured_while_requests_go_on() {
    paused(async {
        let (ledger, source) = failing(HOUR, |n| {
            (n == 2).then(|| TokenError::transient("busy").with_retry_after(secs(120)))
        });
        let cache = TokenCache::builder(source).renew_ahead(secs(600)).build();
        cache.ready().await.unwrap();
        advance(HOUR - secs(300)).await;
        settle().await;
        text(&cache).await;
        settle().await;
        assert_eq!(ledger.calls(), 2);
        for _ in 0..119 {
            advance(secs(1)).await;
            settle().await;
            assert_eq!(text(&cache).await, "token-1");
        }
        assert_eq!(ledger.calls(), 2, "left alone for 120 s");
        advance(secs(2)).await;
        settle().await;
        text(&cache).await;
        settle().await;
        assert_eq!(text(&cache).await, "token-3");
    });
}

#[test]
fn after_an_outage_past_the_end_the_same_client_recovers() {
    paused(async {
        let start = Instant::now();
        let (_, source) = failing(secs(120), move |_| {
            let down = (secs(60)..secs(180)).contains(&start.elapsed());
            down.then(|| TokenError::transient("down"))
        });
        let cache = TokenCache::from(source);
        for second in 0..300 {
            settle().await;
            match (second, cache.get().await) {
                (0..108, token) => assert_eq!(token.unwrap().expose_secret(), "token-1"),
                (108..180, token) => assert!(token.unwrap_err().is_transient()),
                // The last pause before the end of the outage is at most a minute.
                (180..240, _) => {}
                (_, token) => drop(token.unwrap()),
            }
            advance(secs(1)).await;
        }
    });
}

#[test]
fn an_unknown_lifetime_lasts_until_it_is_refused() {
    paused(async {
        for unknown in [None, Some(Duration::ZERO)] {
            let (ledger, source) = scripted(move |n| async move {
                let token = AccessToken::bearer(format!("token-{n}"))?;
                Ok(match unknown {
                    Some(zero) => token.expires_in(zero),
                    None => token,
                })
            });
            let cache = TokenCache::from(source);
            let api = Api::accepting(|_| true);
            let client = api.behind(&cache);
            for day in 0..400 {
                assert_eq!(get(&client, day).await.unwrap(), 200);
                sleep(HOUR * 24).await;
            }
            assert_eq!(ledger.calls(), 1);
            let strict = Api::accepting(|token| token == "token-2").behind(&cache);
            assert_eq!(get(&strict, "refused").await.unwrap(), 200);
            assert_eq!(ledger.calls(), 2);
        }
    });
}

#[test]
fn short_lifetimes_make_no_storm() {
    paused(async {
        for (lifetime, most) in [(1, 76), (2, 38), (5, 15), (60, 2)] {
            let (ledger, source) = numbered(secs(lifetime));
            let cache = TokenCache::from(source);
            for _ in 0..6000 {
                cache.get().await.unwrap();
                advance(Duration::from_millis(10)).await;
                settle().await;
            }
            assert!(ledger.calls() <= most, "{lifetime} s: {}", ledger.calls());
        }
    });
}

#[test]
fn a_token_that_arrives_expired_is_an_error_and_makes_no_storm() {
    paused(async {
        let (ledger, source) = slow(secs(5), secs(6));
        let cache = TokenCache::from(source);
        let error = cache.get().await.unwrap_err();
        assert!(error.to_string().contains("arrived expired"), "{error}");
        assert!(error.is_transient());
        for _ in 0..600 {
            let _ = cache.get().await;
            advance(Duration::from_millis(100)).await;
        }
        assert!(ledger.calls() <= 12, "{}", ledger.calls());
    });
}

#[test]
fn the_longest_lifetime_panics_nowhere() {
    paused(async {
        let (ledger, source) = numbered(Duration::MAX);
        let cache = TokenCache::from(source);
        cache.ready().await.unwrap();
        sleep(HOUR * 24 * 30).await;
        cache.ready().await.unwrap();
        assert_eq!(ledger.calls(), 1);
    });
}

// rule 18
#[test]
fn the_lifetime_counts_from_when_the_token_was_asked_for() {
    paused(async {
        let (ledger, source) = slow(secs(60), secs(50));
        let cache = TokenCache::builder(source).deadline(secs(60)).build();
        let token = cache.get().await.unwrap();
        assert!(token.lifetime().unwrap() <= secs(10));
        sleep(secs(4)).await;
        settle().await;
        assert!(!cache.has_token(), "a tenth before its end");
        assert_eq!(ledger.calls(), 1);
    });
}

#[test]
fn a_token_is_handed_out_with_what_is_left_of_its_lifetime() {
    paused(async {
        let (_, source) = numbered(HOUR);
        let cache = TokenCache::from(source);
        let left = cache.get().await.unwrap().lifetime().unwrap();
        assert!(left <= HOUR && left > HOUR - secs(10), "{left:?}");
        sleep(secs(3000)).await;
        let left = cache.get().await.unwrap().lifetime().unwrap();
        // The wall clock, which also counts, ran on a little.
        assert!(left <= secs(600) && left > secs(590), "{left:?}");
    });
}

/// A wall clock that a test sets; it follows the paused clock otherwise.
#[derive(Clone)]
struct Wall {
    start: (Instant, SystemTime),
    offset: Arc<Mutex<i64>>,
}

impl Wall {
    fn new() -> Self {
        Self {
            start: (Instant::now(), SystemTime::now()),
            offset: Arc::default(),
        }
    }

    fn set(&self, offset: i64) {
        *self.offset.lock().unwrap() = offset;
    }

    fn now(&self) -> SystemTime {
        let now = self.start.1 + self.start.0.elapsed();
        let offset = *self.offset.lock().unwrap();
        let by = secs(offset.unsigned_abs());
        if offset < 0 { now - by } else { now + by }
    }

    fn watched(&self, lifetime: Duration) -> (Ledger, TokenCache) {
        let (ledger, source) = numbered(lifetime);
        let wall = self.clone();
        let cache = TokenCache::builder(source)
            .wall_clock(move || wall.now())
            .build();
        (ledger, cache)
    }
}

#[test]
fn a_suspended_machine_wakes_up_to_an_expired_token_within_thirty_seconds() {
    paused(async {
        let wall = Wall::new();
        let (ledger, cache) = wall.watched(HOUR);
        cache.ready().await.unwrap();
        sleep(secs(60)).await;
        wall.set(7200);
        sleep(secs(30)).await;
        settle().await;
        assert!(!cache.has_token());
        assert_eq!(text(&cache).await, "token-2");
        assert_eq!(ledger.calls(), 2);
    });
}

#[test]
fn a_wall_clock_set_forward_costs_at_most_one_refresh() {
    paused(async {
        let wall = Wall::new();
        let (ledger, cache) = wall.watched(HOUR);
        cache.ready().await.unwrap();
        sleep(secs(60)).await;
        wall.set(86_400);
        for _ in 0..30 {
            cache.ready().await.unwrap();
            sleep(secs(60)).await;
        }
        assert_eq!(ledger.calls(), 2);
    });
}

#[test]
fn a_wall_clock_set_back_prolongs_nothing() {
    paused(async {
        let wall = Wall::new();
        let (_, cache) = wall.watched(HOUR);
        cache.ready().await.unwrap();
        wall.set(-86_400);
        sleep(GONE).await;
        settle().await;
        assert!(!cache.has_token());
    });
}

#[test]
fn a_client_clock_that_is_wrong_changes_nothing() {
    paused(async {
        for offset in [-86_400, -50, 50, 86_400] {
            let wall = Wall::new();
            wall.set(offset);
            let (ledger, cache) = wall.watched(secs(60));
            cache.ready().await.unwrap();
            sleep(secs(47)).await;
            assert_eq!(text(&cache).await, "token-1", "expires_in is relative");
            assert_eq!(ledger.calls(), 1);
        }
    });
}

/// The runtime of the keeper, and of the one caller, stands still while the time passes.
#[test]
fn an_expired_token_is_not_handed_out_where_the_keeper_could_not_run() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (wall, ledger, cache) = runtime.block_on(async {
        let wall = Wall::new();
        let (ledger, cache) = wall.watched(HOUR);
        cache.ready().await.unwrap();
        (wall, ledger, cache)
    });
    wall.set(7200);
    assert!(cache.has_token(), "nobody has looked at the clock");
    let token = runtime.block_on(async { cache.get().await.unwrap() });
    assert_eq!(token.expose_secret(), "token-2");
    assert_eq!(ledger.calls(), 2);
}

#[test]
fn a_wall_clock_of_ones_own_is_the_one_that_counts_for_token_endpoints_too() {
    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::Full;
    use tower_oauth::{ClientAuth, ClientCredentials, TokenEndpoint};

    paused(async {
        for days in [-1, 1] {
            let server = tower::service_fn(|_: Request<Full<Bytes>>| async {
                let answer = r#"{"access_token":"a","token_type":"Bearer","expires_in":3600}"#;
                Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::from(answer)))
            });
            let endpoint = TokenEndpoint::builder("https://auth.example.com/token")
                .client_auth(ClientAuth::basic("id", "secret"))
                .transport(server)
                .build()
                .unwrap();
            let wall = Wall::new();
            wall.set(days * 86_400);
            let theirs = wall.clone();
            let cache = TokenCache::builder(ClientCredentials::new(endpoint))
                .wall_clock(move || theirs.now())
                .build();
            cache.ready().await.unwrap();
            assert!(cache.has_token());
            wall.set(days * 86_400 + 7200);
            sleep(secs(31)).await;
            settle().await;
            assert!(!cache.has_token());
        }
    });
}

#[test]
fn a_year_of_hourly_tokens() {
    paused(async {
        let (ledger, source) = numbered(HOUR);
        let cache = TokenCache::from(source);
        let year = HOUR * 24 * 365;
        let start = Instant::now();
        while start.elapsed() < year {
            let before = ledger.calls();
            cache.ready().await.unwrap();
            settle_a_little().await;
            // Busy in the window; before it nothing happens, however often the token is used.
            let renewed = ledger.calls() > before;
            sleep(if renewed { EARLY } else { secs(10) }).await;
        }
        let renewals = ledger.calls();
        // Every 55 min to 57 min 15 s, and up to 30 s until the next use.
        assert!((9090..=9557).contains(&renewals), "{renewals}");
        assert_eq!(
            tokio::runtime::Handle::current()
                .metrics()
                .num_alive_tasks(),
            1
        );
    });
}

/// 30.44 days, the mean month: a server that allows 1,000 tokens in it is never asked for so many.
#[test]
fn a_thrifty_month_of_hourly_tokens() {
    const MONTH: Duration = secs(30 * 86_400 + 38_016);
    paused(async {
        let (ledger, source) = numbered(HOUR);
        let cache = TokenCache::builder(source).thrifty().build();
        let start = Instant::now();
        while start.elapsed() < MONTH {
            cache.ready().await.unwrap();
            sleep(secs(10)).await;
        }
        let tokens = ledger.calls();
        assert!((731..=745).contains(&tokens), "{tokens}");

        let (ledger, source) = numbered(HOUR);
        let cache = TokenCache::builder(source).thrifty().build();
        sleep(MONTH).await;
        assert!(!cache.has_token());
        assert_eq!(ledger.calls(), 0, "idle");
    });
}

#[test]
fn a_thrifty_cache_lets_the_next_caller_wait_once_a_token_is_gone() {
    paused(async {
        let (ledger, source) = slow(HOUR, secs(1));
        let cache = TokenCache::builder(source).thrifty().build();
        cache.ready().await.unwrap();
        advance(GONE - secs(1) - Duration::from_millis(1)).await;
        settle().await;
        assert_eq!(text(&cache).await, "token-1");
        settle().await;
        assert_eq!(ledger.calls(), 1, "nothing ahead of time");
        advance(Duration::from_millis(1)).await;
        settle().await;
        assert!(!cache.has_token());
        let asked = Instant::now();
        assert_eq!(text(&cache).await, "token-2");
        assert_eq!(asked.elapsed(), secs(1));
    });
}

/// The source fails nine times out of ten, in outages that are shorter than what is left of the
/// token when they begin.
#[test]
fn a_hundred_thousand_rotations_through_outages_lose_no_request() {
    const ROTATIONS: usize = 100_000;
    const LIFETIME: Duration = secs(600);
    paused(async {
        let issued: Arc<Mutex<HashMap<String, Instant>>> = Arc::default();
        let outage: Arc<Mutex<Option<Instant>>> = Arc::default();
        let failures = Arc::new(AtomicUsize::new(0));
        let (ledger, source) = scripted({
            let (issued, failures) = (Arc::clone(&issued), Arc::clone(&failures));
            move |n| {
                let now = Instant::now();
                let mut outage = outage.lock().unwrap();
                let lasts = outage.map_or(Duration::ZERO, |since| now - since);
                // Of the window's 90 s, jitter leaves 45. A pause that begins in the first 15 s
                // of an outage is at most 25.6 s long.
                let fails = n > 1 && lasts < secs(15) && fastrand::u8(..10) != 0;
                let answer = if fails {
                    outage.get_or_insert(now);
                    failures.fetch_add(1, Ordering::SeqCst);
                    Err(TokenError::transient("down"))
                } else {
                    *outage = None;
                    let token = token(n, LIFETIME);
                    let mut issued = issued.lock().unwrap();
                    issued.retain(|_, at| at.elapsed() < LIFETIME);
                    issued.insert(token.expose_secret().to_owned(), now);
                    Ok(token)
                };
                async move { answer }
            }
        });
        let cache = TokenCache::from(source);
        let api = {
            let issued = Arc::clone(&issued);
            Api::accepting(move |token| {
                let issued = issued.lock().unwrap();
                issued.get(token).is_some_and(|at| at.elapsed() < LIFETIME)
            })
        };
        let client = api.behind(&cache);
        let (mut requests, mut succeeded) = (0, 0);
        while succeeded < ROTATIONS {
            assert_eq!(get(&client, "").await.unwrap(), 200);
            settle_a_little().await;
            requests += 1;
            let before = succeeded;
            succeeded = ledger.calls() - failures.load(Ordering::SeqCst);
            // Nothing happens before the window; in it there is a request whenever the cache may
            // try again.
            match cache.state() {
                CacheState::Failing { retry_at, .. } => sleep_until(retry_at.into()).await,
                _ if succeeded > before => sleep(secs(479)).await,
                _ => sleep(secs(10)).await,
            }
        }
        let failures = failures.load(Ordering::SeqCst);
        assert_eq!(api.sends(), requests, "none was refused");
        let share = failures as f64 / ledger.calls() as f64;
        assert!(share > 0.8, "the source failed {share}");
    });
}

async fn settle_a_little() {
    for _ in 0..4 {
        tokio::task::yield_now().await;
    }
}
