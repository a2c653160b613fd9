//! *Spending*: never more token requests than the authorization server allows, by its own count.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tokio::time::advance;
use tower_oauth::{
    AccessToken, BudgetSpent, ClientAuth, ClientCredentials, Demand, Pace, Per, TokenCache,
    TokenEndpoint, TokenError, TokenSource,
    store::{Memory, StoreError},
};

use crate::support::{
    faulty_store::{Faulty, Write},
    rotating::{Answer::Unheard, Rotating},
    secs, settle, wall_clock,
};

const HOUR: Duration = secs(3600);
const MINUTE: Duration = secs(60);

/// What the authorization server does with a token request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Grants,
    Fails,
    /// It can't be reached.
    Away,
}

/// It counts the token requests that reach it, month by month, and its tokens live for an hour.
#[derive(Clone)]
struct Server {
    mood: Arc<Mutex<Mood>>,
    counted: Arc<Mutex<Vec<SystemTime>>>,
    now: Arc<dyn Fn() -> SystemTime + Send + Sync>,
}

impl Server {
    fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self {
            mood: Arc::new(Mutex::new(Mood::Grants)),
            counted: Arc::default(),
            now: Arc::new(now),
        }
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn requests(&self) -> usize {
        self.counted.lock().unwrap().len()
    }

    /// How many came in each month, by its name.
    fn by_month(&self) -> BTreeMap<String, usize> {
        let mut months = BTreeMap::new();
        for at in &*self.counted.lock().unwrap() {
            let date = httpdate::fmt_http_date(*at);
            *months.entry(date[8..16].to_owned()).or_default() += 1;
        }
        months
    }

    fn source(&self) -> ClientCredentials {
        let server = self.clone();
        let endpoint = TokenEndpoint::builder("https://as.example/token")
            .client_auth(ClientAuth::basic("id", "pw"))
            .transport(tower::service_fn(move |_: Request<Full<Bytes>>| {
                let answer = server.answer();
                async { answer }
            }));
        ClientCredentials::new(endpoint.build().unwrap())
    }

    fn answer(&self) -> Result<Response<String>, io::Error> {
        let mood = *self.mood.lock().unwrap();
        if mood == Mood::Away {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let mut counted = self.counted.lock().unwrap();
        counted.push((self.now)());
        let n = counted.len();
        let (status, body) = match mood {
            Mood::Fails => (500, String::new()),
            _ => (
                200,
                format!(r#"{{"access_token":"a{n}","expires_in":3600}}"#),
            ),
        };
        Ok(Response::builder().status(status).body(body).unwrap())
    }
}

fn spent(error: &TokenError) -> BudgetSpent {
    *error.get_ref().downcast_ref().unwrap()
}

async fn ask(source: &impl TokenSource) -> Result<String, TokenError> {
    let token = source.token(Demand::default()).await?;
    Ok(token.expose_secret().to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_spent_budget_says_when_the_next_token_is_allowed_and_sends_nothing() {
    let wall = wall_clock("Mon, 30 Nov 2026 23:00:00 GMT");
    let server = Server::new(wall.clone());
    let source = server.source().budget(3, Per::Day).wall_clock(wall);
    let budget = source.watch();
    assert_eq!((budget.remaining(), budget.spent()), (3, 0));
    let token = source.token(Demand::default()).await.unwrap();
    assert_eq!(token.expose_secret(), "a1");
    ask(&source).await.unwrap();
    ask(&source).await.unwrap();
    assert_eq!((budget.remaining(), budget.spent()), (0, 3));
    // The last one serves to its last second.
    let last = source.token(Demand::default()).await.unwrap();
    assert_eq!(last.expose_secret(), "a3");
    advance(HOUR - secs(5)).await;
    let last = source.token(Demand::default()).await.unwrap();
    assert_eq!(
        (last.expose_secret(), last.lifetime()),
        ("a3", Some(secs(5)))
    );
    advance(secs(4)).await;
    let error = source.token(Demand::default()).await.unwrap_err();
    assert!(error.is_transient());
    let midnight = httpdate::parse_http_date("Tue, 01 Dec 2026 00:00:00 GMT").unwrap();
    assert_eq!(spent(&error).next_at(), midnight);
    assert_eq!(error.retry_after(), Some(secs(1)));
    assert!(error.to_string().contains("3 of the 3"), "{error}");
    assert!(
        error.to_string().contains("Tue, 01 Dec 2026 00:00:00 GMT"),
        "{error}"
    );
    assert_eq!(budget.resets_at(), midnight);
    assert_eq!(server.requests(), 3);
    advance(secs(1)).await;
    assert_eq!(ask(&source).await.unwrap(), "a4");
    assert_eq!(budget.remaining(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_cache_uses_the_current_token_to_its_last_second_once_the_budget_is_spent() {
    let wall = wall_clock("Mon, 30 Nov 2026 12:00:00 GMT");
    let server = Server::new(wall.clone());
    let source = server.source().budget(1, Per::Day).wall_clock(wall.clone());
    let cache = TokenCache::builder(source).wall_clock(wall).build();
    for second in 0..3_598 {
        let token = cache.get().await;
        assert!(token.is_ok(), "{second}: {token:?}");
        settle().await;
        advance(secs(1)).await;
    }
    advance(secs(2)).await;
    settle().await;
    let error = cache.get().await.unwrap_err();
    assert_eq!(spent(&error).spent(), 1);
    assert_eq!(server.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_reserve_is_kept_for_refusals() {
    let wall = wall_clock("Mon, 30 Nov 2026 12:00:00 GMT");
    let server = Server::new(wall.clone());
    let source = server
        .source()
        .budget(10, Per::Day)
        .wall_clock(wall.clone());
    let source = source.reserve(4);
    let budget = source.watch();
    let cache = TokenCache::builder(source).wall_clock(wall).build();
    // Refused again and again: all ten.
    for n in 1..=10 {
        let token = cache.get().await.unwrap();
        assert_eq!(token.expose_secret(), format!("a{n}"));
        cache.invalidate();
    }
    assert!(cache.get().await.is_err());
    assert_eq!((server.requests(), budget.remaining()), (10, 0));

    let server = Server::new(wall_clock("Mon, 30 Nov 2026 12:00:00 GMT"));
    let source = server.source().budget(10, Per::Day).reserve(4);
    for _ in 0..20 {
        ask(&source).await.unwrap();
    }
    assert_eq!(server.requests(), 6, "nobody refused anything");
    assert_eq!(source.watch().remaining(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_even_pace_puts_renewals_off_and_serves_on() {
    let wall = wall_clock("Tue, 01 Dec 2026 00:00:00 GMT");
    let even = |pace| {
        let server = Server::new(wall.clone());
        let source = server.source().budget(24, Per::Day).reserve(0).pace(pace);
        let source = source.wall_clock(wall.clone());
        let cache = TokenCache::builder(source).wall_clock(wall.clone()).build();
        (server, cache)
    };
    let (greedy, even) = (even(Pace::Greedy), even(Pace::Even));
    // Tokens live for an hour and are renewed five minutes ahead: 26 a day.
    let mut refused = 0;
    for _ in 0..(24 * 60) {
        for (_, cache) in [&greedy, &even] {
            refused += usize::from(cache.get().await.is_err());
            settle().await;
        }
        advance(MINUTE).await;
        settle().await;
    }
    assert!(greedy.0.requests() <= 24);
    assert_eq!(even.0.requests(), 24);
    // The greedy one has none left for the end of the day.
    assert!((1..120).contains(&refused), "{refused}");
    let (_, cache) = &even;
    cache.get().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_never_left_is_not_counted_and_what_failed_is() {
    let wall = wall_clock("Mon, 30 Nov 2026 12:00:00 GMT");
    let server = Server::new(wall.clone());
    let store = Memory::new();
    for shared in [false, true] {
        let source = server
            .source()
            .budget(100, Per::Day)
            .wall_clock(wall.clone());
        let budget = source.watch();
        let before = server.requests();
        let ask = async || match shared {
            true => ask(&source.clone().shared(store.clone())).await,
            false => ask(&source).await,
        };
        server.set(Mood::Away);
        for _ in 0..20 {
            ask().await.unwrap_err();
        }
        assert_eq!(budget.spent(), 0, "{shared}");
        server.set(Mood::Fails);
        for _ in 0..20 {
            ask().await.unwrap_err();
        }
        assert_eq!(budget.spent(), 20, "{shared}");
        assert_eq!(server.requests() - before, 20);
    }
}

#[tokio::test]
async fn a_source_that_does_not_say_when_it_sends_is_counted_by_its_calls() {
    let source = || async { Ok(AccessToken::bearer("a")?) };
    let source = source.budget(2, HOUR).reserve(0);
    for _ in 0..5 {
        ask(&source).await.unwrap();
    }
    assert_eq!(source.watch().remaining(), 0);
    let wrong = || async { Err(TokenError::permanent("no")) };
    let source = wrong.budget(2, HOUR).reserve(0);
    for _ in 0..2 {
        assert_eq!(ask(&source).await.unwrap_err().to_string(), "no");
    }
    let error = ask(&source).await.unwrap_err();
    assert_eq!(spent(&error).spent(), 2);
}

#[tokio::test]
async fn each_request_of_one_call_is_counted_also_on_a_task_of_its_own() {
    // `invalid_grant` for the first, and another refresh token from the provider.
    let server = Rotating::start();
    server.log_in("s1");
    let seed = tower_oauth::Secret::provided_by({
        let server = server.clone();
        move || {
            let said = if server.requests() == 0 { "dead" } else { "s1" };
            Ok(said.into())
        }
    });
    let source = server.source(seed).budget(10, HOUR);
    assert_eq!(ask(&source).await.unwrap(), "a1");
    assert_eq!(server.redeemed(), ["dead", "s1"]);
    assert_eq!(source.watch().spent(), 2);
    server.script([Unheard]);
    ask(&source).await.unwrap_err();
    assert_eq!(source.watch().spent(), 3, "it may have been heard");
}

#[tokio::test(start_paused = true)]
async fn a_shared_budget_holds_for_all_processes_and_over_restarts_in_either_order() {
    for outside in [false, true] {
        let wall = wall_clock("Mon, 30 Nov 2026 12:00:00 GMT");
        let server = Server::new(wall.clone());
        let store = Memory::new();
        let mut tokens = 0;
        for _ in 0..30 {
            // A process that starts, is refused each token, and ends.
            let source = server.source();
            let cache = if outside {
                let source = source.shared(store.clone()).wall_clock(wall.clone());
                let source = source.budget(10, Per::Day).reserve(0);
                TokenCache::builder(source.wall_clock(wall.clone())).build()
            } else {
                let source = source.budget(10, Per::Day).reserve(0);
                let source = source.wall_clock(wall.clone()).shared(store.clone());
                TokenCache::builder(source.wall_clock(wall.clone())).build()
            };
            let token = cache.get().await;
            cache.invalidate();
            tokens += usize::from(token.is_ok());
            tokens += usize::from(cache.get().await.is_ok());
        }
        assert_eq!(server.requests(), 10, "{outside}");
        assert!(tokens >= 10);
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_starts_when_the_budget_is_spent_uses_the_stored_token_to_its_last_second() {
    let wall = wall_clock("Mon, 30 Nov 2026 12:00:00 GMT");
    let server = Server::new(wall.clone());
    let store = Memory::new();
    let process = || {
        let source = server.source().budget(1, Per::Day).wall_clock(wall.clone());
        source.shared(store.clone()).wall_clock(wall.clone())
    };
    ask(&process()).await.unwrap();
    advance(HOUR - secs(10)).await;
    let token = process().token(Demand::default()).await.unwrap();
    assert_eq!(
        (token.expose_secret(), token.lifetime()),
        ("a1", Some(secs(10)))
    );
    advance(secs(9)).await;
    let error = ask(&process()).await.unwrap_err();
    assert_eq!(spent(&error).spent(), 1);
    assert_eq!(server.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_counted_is_not_sent() {
    let wall = wall_clock("Mon, 30 Nov 2026 12:00:00 GMT");
    let server = Server::new(wall.clone());
    let store = Faulty::new();
    store.set_down(true);
    let alone = tower_oauth::OnStoreLoss::FetchAlone;
    let inside = server.source().budget(10, Per::Day);
    let inside = inside.shared(store.clone()).on_store_loss(alone);
    let outside = server.source().shared(store.clone()).on_store_loss(alone);
    let outside = outside.budget(10, Per::Day);
    for error in [
        ask(&inside).await.unwrap_err(),
        ask(&outside).await.unwrap_err(),
    ] {
        assert!(error.get_ref().is::<StoreError>(), "{error}");
    }
    assert_eq!(server.requests(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_budget_for_a_time_is_one_for_all_also_between_milliseconds() {
    let wall = wall_clock("Mon, 30 Nov 2026 12:00:00 GMT");
    let wall = move || wall() + Duration::from_nanos(500_001);
    let server = Server::new(wall.clone());
    let store = Memory::new();
    let process = || {
        let source = server.source().budget(10, HOUR).reserve(0);
        let source = source.wall_clock(wall.clone()).shared(store.clone());
        TokenCache::builder(source.wall_clock(wall.clone())).build()
    };
    let (one, other) = (process(), process());
    for _ in 0..30 {
        for cache in [&one, &other] {
            cache.invalidate();
            let _ = cache.get().await;
        }
    }
    assert_eq!(server.requests(), 10);
}

#[tokio::test(start_paused = true)]
async fn two_budgets_around_one_source_both_count() {
    let wall = wall_clock("Mon, 30 Nov 2026 12:00:00 GMT");
    let server = Server::new(wall.clone());
    let source = server.source().budget(2, Per::Hour).reserve(0);
    let source = source.wall_clock(wall.clone());
    let hour = source.watch();
    let source = source.budget(3, Per::Day).reserve(0).wall_clock(wall);
    let day = source.watch();
    for _ in 0..5 {
        let _ = ask(&source).await;
    }
    assert_eq!(server.requests(), 2);
    advance(HOUR).await;
    for _ in 0..5 {
        let _ = ask(&source).await;
    }
    assert_eq!(server.requests(), 3);
    assert_eq!((hour.spent(), day.spent()), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn two_sources_behind_one_record_have_budgets_of_their_own() {
    let wall = wall_clock("Mon, 30 Nov 2026 12:00:00 GMT");
    let server = Server::new(wall.clone());
    let store = Memory::new();
    let process = || {
        let first = server.source().scope("a").budget(2, Per::Hour).reserve(0);
        let other = server.source().scope("b").budget(3, Per::Month).reserve(0);
        let first = first.wall_clock(wall.clone());
        let either = first.or_else(other.wall_clock(wall.clone()));
        TokenCache::from(either.shared(store.clone()).wall_clock(wall.clone()))
    };
    for _ in 0..20 {
        let cache = process();
        let _ = cache.get().await;
        cache.invalidate();
        let _ = cache.get().await;
    }
    assert_eq!(server.requests(), 5);
}

#[tokio::test(start_paused = true)]
async fn sources_with_one_name_share_one_budget() {
    let wall = wall_clock("Mon, 30 Nov 2026 12:00:00 GMT");
    let server = Server::new(wall.clone());
    let store = Memory::new();
    let of = |scope: &str, name: Option<&str>| {
        let source = server.source().scope(scope).budget(2, Per::Day).reserve(0);
        match name {
            Some(name) => source.named(name).shared(store.clone()),
            None => source.shared(store.clone()),
        }
    };
    for scope in ["a", "b", "c"] {
        ask(&of(scope, None)).await.unwrap();
    }
    assert_eq!(server.requests(), 3);
    ask(&of("d", Some("tenant"))).await.unwrap();
    ask(&of("e", Some("tenant"))).await.unwrap();
    let error = ask(&of("f", Some("tenant"))).await.unwrap_err();
    assert_eq!(spent(&error).spent(), 2);
    assert_eq!(server.requests(), 5);
}

/// Whether a fleet of eight got through a month minute by minute: how often it had no token.
async fn december(mut each_minute: impl AsyncFnMut(u64) -> u64) -> u64 {
    let mut failed = 0;
    for minute in 0..(31 * 24 * 60) {
        failed += each_minute(minute).await;
        advance(MINUTE).await;
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }
    failed
}

async fn failures(fleet: &[TokenCache]) -> u64 {
    let mut failed = 0;
    for cache in fleet {
        failed += u64::from(cache.get().await.is_err());
    }
    failed
}

#[tokio::test(start_paused = true)]
async fn a_fleet_of_eight_needs_at_most_745_one_hour_tokens_in_a_month() {
    let wall = wall_clock("Tue, 01 Dec 2026 00:00:00 GMT");
    let server = Server::new(wall.clone());
    let store = Memory::new();
    let fleet = [(); 8].map(|()| {
        let source = server.source().shared(store.clone());
        let cache = TokenCache::builder(source.wall_clock(wall.clone()));
        let cache = cache.wall_clock(wall.clone()).thrifty();
        cache.expiry_margin(secs(1)).build()
    });
    let failed = december(async |_| failures(&fleet).await).await;
    assert_eq!(failed, 0);
    let requests = server.requests();
    assert!((740..=745).contains(&requests), "{requests}");
}

#[tokio::test(start_paused = true)]
async fn a_crash_loop_every_five_minutes_costs_no_token_where_they_are_written_down() {
    let wall = wall_clock("Tue, 01 Dec 2026 00:00:00 GMT");
    let server = Server::new(wall.clone());
    let store = Memory::new();
    let start = || {
        [(); 8].map(|()| {
            let source = server.source().budget(1_000, Per::Month);
            let source = source.wall_clock(wall.clone()).pace(Pace::Even);
            let source = source.shared(store.clone()).wall_clock(wall.clone());
            let cache = TokenCache::builder(source).wall_clock(wall.clone());
            cache.thrifty().build()
        })
    };
    let mut fleet = start();
    let failed = december(async |minute| {
        if minute % 5 == 0 {
            fleet = start();
        }
        failures(&fleet).await
    })
    .await;
    assert_eq!(failed, 0);
    assert!(server.requests() <= 800, "{}", server.requests());
}

#[tokio::test(start_paused = true)]
async fn a_crash_loop_that_loses_each_token_stays_within_the_budget_by_the_servers_own_count() {
    let wall = wall_clock("Tue, 01 Dec 2026 00:00:00 GMT");
    let server = Server::new(wall.clone());
    let store = Faulty::new();
    let mut got = 0;
    for _ in 0..(33 * 24 * 12) {
        // One is enough to see that nothing is left.
        let processes = if got < 950 { 8 } else { 1 };
        for _ in 0..processes {
            // The count is written, the token isn't, and then the process is killed.
            let lost = [Write::Works].into_iter().chain([Write::Fails; 8]);
            store.script(lost);
            let source = server.source().budget(1_000, Per::Month);
            let source = source.wall_clock(wall.clone());
            let source = source.shared(store.clone()).wall_clock(wall.clone());
            let asked = source.token(Demand::default()).await;
            drop(source);
            store.script([]);
            match asked {
                Ok(_) => got += 1,
                Err(error) => assert!(spent(&error).spent() >= 950, "{error}"),
            }
        }
        advance(MINUTE * 5).await;
    }
    let months = server.by_month();
    // A twentieth is kept for refusals.
    assert_eq!(months["Dec 2026"], 950);
    assert!(months["Jan 2027"] <= 1_000);
    assert_eq!(got, server.requests());
}

#[tokio::test(start_paused = true)]
async fn a_budget_without_an_end_begins_once() {
    let start = wall_clock("Mon, 30 Nov 2026 12:00:00 GMT");
    let server = Server::new(start.clone());
    let source = server.source().budget(3, Duration::MAX).reserve(0);
    let source = source.wall_clock(start);
    for _ in 0..20 {
        let _ = ask(&source).await;
        advance(HOUR * 1_000).await;
    }
    assert_eq!(server.requests(), 3);
    let error = ask(&source).await.unwrap_err();
    assert!(error.to_string().contains("after the year 9999"), "{error}");
    assert!(format!("{:?}", source.watch()).contains("spent: 3"));
}

/// A clock that can be set.
fn adjustable(
    date: &'static str,
) -> (
    Arc<Mutex<Duration>>,
    impl Fn() -> SystemTime + Clone + Send + Sync + 'static,
) {
    let ahead = Arc::new(Mutex::new(Duration::ZERO));
    let wall = wall_clock(date);
    let clock = {
        let ahead = Arc::clone(&ahead);
        move || wall() + *ahead.lock().unwrap()
    };
    (ahead, clock)
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_an_hour_ahead_blocks_nobody_once_it_is_right() {
    let (ahead, clock) = adjustable("Mon, 30 Nov 2026 12:00:00 GMT");
    let server = Server::new(clock.clone());
    let source = server.source().budget(3, MINUTE).reserve(0);
    let source = source.wall_clock(clock);
    *ahead.lock().unwrap() = HOUR;
    ask(&source).await.unwrap();
    *ahead.lock().unwrap() = Duration::ZERO;
    for n in 2..=30 {
        ask(&source).await.unwrap();
        assert_eq!(server.requests(), n);
        advance(MINUTE).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_machine_of_another_date_neither_blocks_the_others_nor_lets_them_spend_more() {
    let right = wall_clock("Mon, 30 Nov 2026 12:00:00 GMT");
    let wrong = wall_clock("Fri, 30 Nov 2029 12:00:00 GMT");
    let store = Memory::new();
    let (server, other) = (Server::new(right.clone()), Server::new(right.clone()));
    for day in 1..=8 {
        for _ in 0..30 {
            for (server, wall) in [(&server, &right), (&other, &wrong)] {
                let source = server.source().budget(10, Per::Day).reserve(0);
                let source = source.wall_clock(wall.clone()).named("tenant");
                // Another record each time, so that each call needs a token of its own.
                let n = server.requests();
                let source = source.shared(store.clone()).wall_clock(wall.clone());
                let _ = ask(&source.named(format!("{day} {n} {:p}", wall))).await;
            }
        }
        assert_eq!((server.requests(), other.requests()), (10 * day, 10 * day));
        advance(HOUR * 24).await;
    }
}

#[tokio::test(start_paused = true)]
async fn clones_that_are_shared_under_two_names_have_a_count_each() {
    let wall = wall_clock("Mon, 30 Nov 2026 12:00:00 GMT");
    let server = Server::new(wall.clone());
    let store = Memory::new();
    let base = server.source().budget(10, Per::Day).reserve(0);
    let base = base.wall_clock(wall.clone());
    for (name, total) in [("a", 10), ("b", 20)] {
        for _ in 0..12 {
            let source = base.clone().shared(store.clone()).named(name);
            let cache = TokenCache::from(source.wall_clock(wall.clone()));
            let _ = cache.get().await;
            cache.invalidate();
            let _ = cache.get().await;
        }
        assert_eq!(server.requests(), total, "{name}");
    }
    assert_eq!(base.watch().spent(), 10);
}
