//! *Sharing*: one token request for all processes that have one store, and each knows what the others
//! have fetched.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, advance},
};
use tower_oauth::{
    AccessToken, ClientAuth, ClientCredentials, Demand, Identity, OnStoreLoss, Shared, TokenCache,
    TokenEndpoint, TokenError, TokenSource,
    store::{Leased, Memory, StoreError, StoreKey, TokenStore, Written},
};

use crate::support::{
    faulty_store::{Faulty, Write},
    secs, settle,
    source::token,
    wall_clock,
};

const HOUR: Duration = secs(3600);
const MINUTE: Duration = secs(60);
const DATE: &str = "Mon, 30 Nov 2026 12:00:00 GMT";

/// An authorization server, seen from all processes; its n-th answer is `token-{n}`.
#[derive(Clone, Default)]
struct Server {
    requests: Arc<AtomicUsize>,
    latency: Duration,
    rejected: Arc<Mutex<Vec<Option<String>>>>,
}

impl Server {
    fn with_latency(latency: Duration) -> Self {
        Self {
            latency,
            ..Self::default()
        }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl TokenSource for Server {
    async fn token(&self, demand: Demand<'_>) -> Result<AccessToken, TokenError> {
        let n = self.requests.fetch_add(1, Ordering::SeqCst) + 1;
        let rejected = demand.rejected().map(|token| token.expose_secret().into());
        self.rejected.lock().unwrap().push(rejected);
        tokio::time::sleep(self.latency).await;
        Ok(token(n, HOUR))
    }

    fn identify(&self, identity: &mut Identity) {
        identity.part("server", "one");
    }
}

/// What a process has of its own: a source and a cache. Only the store is common.
fn process(server: &Server, store: &(impl TokenStore + Clone)) -> TokenCache {
    let wall = wall_clock(DATE);
    let source = server.clone().shared(store.clone());
    let source = source.wall_clock(wall.clone());
    TokenCache::builder(source).wall_clock(wall).build()
}

fn fleet(processes: usize, server: &Server, store: &(impl TokenStore + Clone)) -> Vec<TokenCache> {
    (0..processes).map(|_| process(server, store)).collect()
}

async fn text(cache: &TokenCache) -> String {
    cache.get().await.unwrap().expose_secret().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_fleet_that_starts_at_once_makes_one_token_request() {
    let server = Server::with_latency(secs(2));
    let store = Memory::new();
    let mut callers = JoinSet::new();
    for cache in fleet(8, &server, &store) {
        for _ in 0..10 {
            let cache = cache.clone();
            callers.spawn(async move { text(&cache).await });
        }
    }
    let begun = Instant::now();
    for token in callers.join_all().await {
        assert_eq!(token, "token-1");
    }
    assert_eq!(server.requests(), 1);
    assert!(begun.elapsed() < secs(3), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_process_that_starts_later_finds_the_token_with_what_is_left_of_it() {
    let (server, store) = (Server::default(), Memory::new());
    assert_eq!(text(&process(&server, &store)).await, "token-1");
    advance(HOUR / 2).await;
    let wall = wall_clock("Mon, 30 Nov 2026 12:30:00 GMT");
    let source = server.clone().shared(store.clone()).wall_clock(wall);
    let found = source.token(Demand::default()).await.unwrap();
    assert_eq!(found.expose_secret(), "token-1");
    assert_eq!(found.lifetime(), Some(HOUR / 2));
    assert_eq!(server.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn setting_the_wall_clock_back_prolongs_no_token_of_a_store() {
    let (server, store) = (Server::default(), Memory::new());
    let behind = Arc::new(AtomicUsize::new(0));
    let process = || {
        let (wall, behind) = (wall_clock(DATE), Arc::clone(&behind));
        let source = server.clone().shared(store.clone());
        source.wall_clock(move || wall() - MINUTE * behind.load(Ordering::SeqCst) as u32)
    };
    // One that has fetched it, and one that has found it.
    let (one, other) = (process(), process());
    let ask = async |source: &Shared<Server>| source.token(Demand::default()).await.unwrap();
    ask(&one).await;
    for source in [&other, &one] {
        assert_eq!(ask(source).await.lifetime(), Some(HOUR));
    }
    advance(MINUTE * 30).await;
    behind.store(60, Ordering::SeqCst);
    for source in [&one, &other] {
        let token = ask(source).await;
        assert_eq!(token.expose_secret(), "token-1");
        assert_eq!(token.lifetime(), Some(MINUTE * 30));
    }
    advance(MINUTE * 30).await;
    for source in [&one, &other] {
        assert_eq!(ask(source).await.expose_secret(), "token-2");
    }
    assert_eq!(server.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_had_to_wait_for_a_token_has_it_for_as_long_as_it_lives() {
    // Half of it is over before another process's turn ends.
    let store = Memory::new();
    let asked = Arc::new(AtomicUsize::new(0));
    let caches = [(); 4].map(|()| {
        let asked = Arc::clone(&asked);
        let source = move || {
            let n = asked.fetch_add(1, Ordering::SeqCst) + 1;
            async move {
                tokio::time::sleep(secs(5)).await;
                Ok(token(n, secs(10)))
            }
        };
        let wall = wall_clock(DATE);
        let source = source.shared(store.clone()).named("accounts");
        let source = source.wall_clock(wall.clone());
        TokenCache::builder(source).wall_clock(wall).build()
    });
    let mut callers = JoinSet::new();
    for cache in caches {
        callers.spawn(async move { cache.get().await });
    }
    for found in callers.join_all().await {
        let found = found.unwrap();
        assert_eq!(found.expose_secret(), "token-1");
        let left = found.lifetime().unwrap();
        assert!(left > secs(4) && left <= secs(5), "{left:?}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_token_lives_as_long_whatever_date_the_source_and_its_cache_have() {
    let dates = [
        "Mon, 30 Nov 2026 12:00:00 GMT",
        "Tue, 01 Dec 2026 12:00:00 GMT",
    ];
    for (theirs, ours) in [(0, 1), (1, 0)] {
        let (server, store) = (Server::default(), Memory::new());
        let (theirs, ours) = (wall_clock(dates[theirs]), wall_clock(dates[ours]));
        let source = server.clone().shared(store).wall_clock(theirs);
        let source = source.budget(1, HOUR).reserve(0).wall_clock(ours.clone());
        let cache = TokenCache::builder(source).wall_clock(ours).build();
        assert_eq!(text(&cache).await, "token-1");
        // Where the budget is spent, the token at hand serves to its last second.
        advance(HOUR - secs(2)).await;
        settle().await;
        assert_eq!(text(&cache).await, "token-1");
        advance(secs(2)).await;
        settle().await;
        assert_eq!(text(&cache).await, "token-2");
        assert_eq!(server.requests(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_due_token_is_renewed_by_one_process_and_read_by_the_others() {
    let (server, store) = (Server::default(), Memory::new());
    let fleet = fleet(8, &server, &store);
    for cache in &fleet {
        assert_eq!(text(cache).await, "token-1");
    }
    // Five minutes before its end, less the jitter, it is due everywhere.
    advance(HOUR - secs(100)).await;
    settle().await;
    for cache in &fleet {
        text(cache).await;
    }
    for _ in 0..20 {
        advance(Duration::from_millis(50)).await;
        settle().await;
    }
    for cache in &fleet {
        assert_eq!(text(cache).await, "token-2");
    }
    assert_eq!(server.requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_known_by_what_it_is_and_a_newer_one_is_used() {
    let (server, store) = (Server::default(), Memory::new());
    let (one, other) = (process(&server, &store), process(&server, &store));
    assert_eq!(text(&one).await, "token-1");
    assert_eq!(text(&other).await, "token-1");
    one.invalidate();
    assert_eq!(text(&one).await, "token-2");
    // The other one hears of it only now.
    other.invalidate();
    assert_eq!(text(&other).await, "token-2");
    assert_eq!(server.requests(), 2);
    let rejected = server.rejected.lock().unwrap().clone();
    assert_eq!(rejected, [None, Some("token-1".into())]);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_killed_in_its_turn_holds_up_the_others_until_its_lease_ends() {
    let (server, store) = (Server::default(), Faulty::new());
    let cache = process(&server, &store);
    text(&cache).await;
    cache.invalidate();
    let lease = store.lease(&store.key(), "killed", secs(10)).await.unwrap();
    assert!(matches!(lease, Leased::Granted(_)));
    let begun = Instant::now();
    assert_eq!(text(&cache).await, "token-2");
    let waited = begun.elapsed();
    assert!(waited >= secs(10) && waited < secs(11), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_another_process_gives_up_before_the_flight_does_and_says_why() {
    let (server, store) = (Server::default(), Faulty::new());
    let cache = process(&server, &store);
    text(&cache).await;
    cache.invalidate();
    let lease = store.lease(&store.key(), "stuck", secs(1000)).await;
    assert!(matches!(lease, Ok(Leased::Granted(_))));
    let begun = Instant::now();
    let error = cache.get().await.unwrap_err();
    assert!(error.is_transient());
    assert!(error.to_string().contains("other processes"), "{error}");
    let waited = begun.elapsed();
    assert!(waited >= secs(25) && waited < secs(26), "{waited:?}");
    assert_eq!(server.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_takes_longer_than_its_lease_keeps_it() {
    for factor in [0.5, 0.9, 1.0, 1.5, 2.0] {
        let server = Server::with_latency(secs(10).mul_f64(factor));
        let store = Memory::new();
        let mut callers = JoinSet::new();
        for cache in fleet(4, &server, &store) {
            callers.spawn(async move { text(&cache).await });
        }
        for token in callers.join_all().await {
            assert_eq!(token, "token-1", "{factor}");
        }
        assert_eq!(server.requests(), 1, "{factor}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_stood_still_in_its_turn_takes_what_was_fetched_meanwhile() {
    let server = Server::with_latency(secs(12));
    let store = Faulty::new();
    store.set_stopped(true); // no lease is prolonged
    let (slow, fast) = (process(&server, &store), process(&server, &store));
    let slow = tokio::spawn(async move { text(&slow).await });
    settle().await;
    assert_eq!(server.requests(), 1);
    advance(secs(11)).await;
    let fast = tokio::spawn(async move { text(&fast).await });
    settle().await;
    store.set_stopped(false);
    assert_eq!(server.requests(), 2, "its lease is over");
    // The first answer comes, and is fenced off.
    assert_eq!(slow.await.unwrap(), "token-1");
    assert!(store.shelves().read(&store.key()).await.unwrap().is_none());
    assert_eq!(fast.await.unwrap(), "token-2");
    assert!(store.text().await.contains("token-2"));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_loses_nothing_that_the_server_hands_out() {
    let server = Server::with_latency(secs(5));
    let store = Faulty::new();
    let source = server.clone().shared(store.clone());
    let call = tokio::spawn(async move { source.token(Demand::default()).await });
    settle().await;
    call.abort();
    settle().await;
    advance(secs(6)).await;
    settle().await;
    assert!(store.text().await.contains("token-1"));
}

#[tokio::test(start_paused = true)]
async fn tokens_in_hand_serve_on_while_the_store_is_down_and_new_ones_are_refused() {
    let (server, store) = (Server::default(), Faulty::new());
    let cache = process(&server, &store);
    text(&cache).await;
    store.set_down(true);
    advance(HOUR - secs(60)).await;
    for _ in 0..10 {
        assert_eq!(text(&cache).await, "token-1");
        settle().await;
    }
    advance(secs(60)).await;
    settle().await;
    let error = cache.get().await.unwrap_err();
    assert!(error.is_transient() && error.get_ref().is::<StoreError>());
    assert_eq!(server.requests(), 1);
    store.set_down(false);
    advance(secs(60)).await;
    assert_eq!(text(&cache).await, "token-2");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_fetched_alone_is_written_when_the_store_is_back() {
    let (server, store) = (Server::default(), Faulty::new());
    let alone = || {
        let source = server.clone().shared(store.clone());
        source.on_store_loss(OnStoreLoss::FetchAlone)
    };
    store.set_down(true);
    let source = alone();
    let token = source.token(Demand::default()).await.unwrap();
    assert_eq!(token.expose_secret(), "token-1");
    let again = source.token(Demand::default()).await.unwrap();
    assert_eq!(again.expose_secret(), "token-1", "it knows it");
    store.set_down(false);
    settle().await;
    advance(secs(30)).await;
    settle().await;
    assert!(store.text().await.contains("token-1"));
    let other = alone().token(Demand::default()).await.unwrap();
    assert_eq!(other.expose_secret(), "token-1");
    assert_eq!(server.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_the_store_did_not_take_is_used_and_written_back() {
    for write in [Write::Fails, Write::LosesItsAnswer] {
        let (server, store) = (Server::default(), Faulty::new());
        store.script([write; 5]);
        let source = server.clone().shared(store.clone());
        let token = source.token(Demand::default()).await.unwrap();
        assert_eq!(token.expose_secret(), "token-1");
        for _ in 0..6 {
            settle().await;
            advance(secs(30)).await;
        }
        settle().await;
        assert!(store.text().await.contains("token-1"), "{write:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_forgot_gets_back_what_a_process_knows() {
    let (server, store) = (Server::default(), Faulty::new());
    let source = server.clone().shared(store.clone());
    source.token(Demand::default()).await.unwrap();
    store.forget();
    let token = source.token(Demand::default()).await.unwrap();
    assert_eq!(token.expose_secret(), "token-1");
    let other = server.clone().shared(store.clone());
    let token = other.token(Demand::default()).await.unwrap();
    assert_eq!(token.expose_secret(), "token-1");
    assert_eq!(server.requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_record_of_somebody_else_is_an_error_and_stays() {
    let (server, store) = (Server::default(), Faulty::new());
    let source = server.clone().shared(store.clone());
    source.token(Demand::default()).await.unwrap();
    let key = store.key();
    let there = store.read(&key).await.unwrap().unwrap().generation();
    let strange = tower_oauth::store::Record::new(there + 1, b"strange".to_vec(), None);
    let written = store
        .compare_and_set(&key, Some(there), &strange, None)
        .await;
    assert_eq!(written.unwrap(), Written::Done);
    let error = source.token(Demand::default()).await.unwrap_err();
    assert!(!error.is_transient());
    assert!(error.to_string().contains(key.as_str()), "{error}");
    assert_eq!(store.text().await, "strange");
    assert_eq!(server.requests(), 1);
}

fn endpoint() -> TokenEndpoint {
    let unused = tower::service_fn(|_| async { Err::<http::Response<String>, _>("unused") });
    let builder = TokenEndpoint::builder("https://as.example/token?tenant=a");
    builder
        .client_auth(ClientAuth::basic("id", "secret"))
        .param("audience", "x")
        .transport(unused)
        .build()
        .unwrap()
}

/// The key that a source's record has.
async fn key(shared: impl FnOnce(Faulty) -> Shared<ClientCredentials>) -> StoreKey {
    let store = Faulty::new();
    let _ = shared(store.clone()).token(Demand::default()).await;
    store.key()
}

// rule 67
#[tokio::test]
async fn two_configurations_never_share_a_record() {
    let source = || ClientCredentials::new(endpoint());
    let of = |source: ClientCredentials| key(|store| source.shared(store));
    let other =
        |change: fn(tower_oauth::TokenEndpointBuilder) -> tower_oauth::TokenEndpointBuilder| {
            let unused =
                tower::service_fn(|_| async { Err::<http::Response<String>, _>("unused") });
            let builder = TokenEndpoint::builder("https://as.example/token?tenant=a")
                .client_auth(ClientAuth::basic("id", "secret"))
                .param("audience", "x")
                .transport(unused);
            ClientCredentials::new(change(builder).build().unwrap())
        };
    let keys = [
        of(source()).await,
        of(source().scope("read")).await,
        of(source().scope("write")).await,
        of(source().resource("https://api.example/")).await,
        of(source().audience("https://api.example/")).await,
        of(other(|builder| builder.param("region", "b"))).await,
        of(other(|builder| builder.header("x-tenant", "b"))).await,
        of(other(|builder| builder.answer_at("/authed_user"))).await,
        of(other(|builder| {
            builder.client_auth(ClientAuth::basic("other", "secret"))
        }))
        .await,
        key(|store| source().shared(store).named("accounts")).await,
        key(|store| source().shared(store).named("moves")).await,
    ];
    for (at, one) in keys.iter().enumerate() {
        for another in &keys[at + 1..] {
            assert_ne!(one, another);
        }
    }
    assert_eq!(of(source()).await, of(source()).await);
    // How the client proves who it is shapes nothing: a rotated secret changes no key.
    let rotated = other(|builder| builder.client_auth(ClientAuth::post("id", "rotated")));
    assert_eq!(of(rotated).await, keys[0]);
}

#[tokio::test]
async fn a_source_that_does_not_say_whose_tokens_it_has_needs_a_name() {
    let called = Arc::new(AtomicBool::new(false));
    let source = {
        let called = Arc::clone(&called);
        move || {
            called.store(true, Ordering::SeqCst);
            async { Ok(AccessToken::bearer("a")?) }
        }
    };
    let unnamed = source.clone().shared(Memory::new());
    let error = unnamed.token(Demand::default()).await.unwrap_err();
    assert!(!error.is_transient());
    assert!(error.to_string().contains(".named("), "{error}");
    assert!(!called.load(Ordering::SeqCst));
    let named = source.shared(Memory::new()).named("accounts");
    named.token(Demand::default()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_source_that_panics_or_fails_gives_its_turn_back() {
    let store = Memory::new();
    let calls = Arc::new(AtomicUsize::new(0));
    let source = move || {
        let call = calls.fetch_add(1, Ordering::SeqCst);
        async move {
            match call {
                0 => panic!("scripted"),
                1 => Err(TokenError::permanent("no")),
                _ => Ok(AccessToken::bearer("a")?),
            }
        }
    };
    let source = source.shared(store).named("accounts");
    let begun = Instant::now();
    let error = source.token(Demand::default()).await.unwrap_err();
    assert!(error.to_string().contains("panicked"), "{error}");
    let error = source.token(Demand::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "no");
    source.token(Demand::default()).await.unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO, "nobody waited for a lease");
}

#[tokio::test]
async fn no_secret_prints() {
    let source = (|| async { Ok(AccessToken::bearer("hunter2")?) }).shared(Memory::new());
    let source = source.named("accounts");
    source.token(Demand::default()).await.unwrap();
    let shown = format!("{:?}", source.token(Demand::default()).await);
    assert!(!shown.contains("hunter2"), "{shown}");
    let store = Faulty::new();
    let source = (|| async { Ok(AccessToken::bearer("hunter2")?) }).shared(store.clone());
    let source = source.named("accounts");
    source.token(Demand::default()).await.unwrap();
    let record = store.read(&store.key()).await.unwrap();
    let shown = format!("{record:?} {:?}", store.shelves());
    assert!(!shown.contains("hunter2"), "{shown}");
}
