//! *A second source* (`or_else`): asked where the first has nothing, and told nothing of its secrets.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::time::advance;
use tower_oauth::{
    AccessToken, BudgetSpent, CacheState, ClientAuth, ClientCredentials, Demand, FileToken, Per,
    TokenCache, TokenEndpoint, TokenError, TokenSource, store::Memory,
};

use crate::support::{secs, settle, wall_clock};

const NOON: &str = "Mon, 30 Nov 2026 12:00:00 GMT";
const MINUTE: Duration = secs(60);

/// Each answer brings the next token by its name, and a refresh token.
#[derive(Clone)]
struct Server {
    name: &'static str,
    lifetime: Duration,
    is_away: Arc<AtomicBool>,
    bodies: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new(name: &'static str, lifetime: Duration) -> Self {
        Self {
            name,
            lifetime,
            is_away: Arc::default(),
            bodies: Arc::default(),
        }
    }

    fn set_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::Relaxed);
    }

    fn bodies(&self) -> Vec<String> {
        self.bodies.lock().unwrap().clone()
    }

    fn requests(&self) -> usize {
        self.bodies().len()
    }

    fn source(&self) -> ClientCredentials {
        let server = self.clone();
        let transport = tower::service_fn(move |request: Request<Full<Bytes>>| {
            let server = server.clone();
            async move { server.answer(request).await }
        });
        let endpoint = TokenEndpoint::builder(format!("https://{}.example/token", self.name));
        let auth = ClientAuth::basic("id", "pw");
        ClientCredentials::new(
            endpoint
                .client_auth(auth)
                .transport(transport)
                .build()
                .unwrap(),
        )
    }

    async fn answer(&self, request: Request<Full<Bytes>>) -> Result<Response<String>, io::Error> {
        if self.is_away.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let mut bodies = self.bodies.lock().unwrap();
        bodies.push(String::from_utf8(body.to_vec()).unwrap());
        let (name, n, life) = (self.name, bodies.len(), self.lifetime.as_secs());
        Ok(Response::new(format!(
            r#"{{"access_token":"{name}{n}","expires_in":{life},"refresh_token":"secret-of-{name}"}}"#
        )))
    }
}

fn pair() -> (Server, Server) {
    (Server::new("a", MINUTE * 60), Server::new("b", MINUTE * 10))
}

async fn text(cache: &TokenCache) -> String {
    cache.get().await.unwrap().expose_secret().to_owned()
}

async fn ask(source: &impl TokenSource) -> Result<String, TokenError> {
    let token = source.token(Demand::default()).await?;
    Ok(token.expose_secret().to_owned())
}

/// A source of one token for good.
fn fixed(text: &'static str) -> impl TokenSource {
    move || async move { Ok(AccessToken::bearer(text)?) }
}

/// Nine minutes: the token of `b` is due, and renewed.
async fn renew_ahead(cache: &TokenCache) {
    advance(MINUTE * 9 + secs(20)).await;
    settle().await;
    let _ = cache.get().await;
    settle().await;
}

#[tokio::test]
async fn no_server_sees_the_refresh_token_of_another() {
    for is_shared in [false, true] {
        let (a, b) = pair();
        let keeping = |server: &Server| server.source().keep_refresh_token();
        let either = keeping(&a).or_else(keeping(&b));
        let cache = match is_shared {
            true => TokenCache::from(either.shared(Memory::new())),
            false => TokenCache::from(either),
        };
        for is_away in [false, true, false, true] {
            a.set_away(is_away);
            cache.get().await.unwrap();
            cache.invalidate();
        }
        assert_eq!((a.requests(), b.requests()), (2, 2));
        for (server, others) in [(&a, "secret-of-b"), (&b, "secret-of-a")] {
            let bodies = server.bodies();
            assert!(!bodies.concat().contains(others), "{is_shared}: {bodies:?}");
            assert!(bodies[1].contains(server.name), "its own: {bodies:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_not_handed_out_again_by_a_source_with_a_memory() {
    for is_shared in [false, true] {
        let wall = wall_clock(NOON);
        let (a, b) = pair();
        let build =
            |builder: tower_oauth::TokenCacheBuilder| builder.wall_clock(wall.clone()).build();
        let cache = if is_shared {
            let first = a.source().shared(Memory::new()).wall_clock(wall.clone());
            build(TokenCache::builder(first.or_else(b.source())))
        } else {
            let first = a.source().budget(1, Per::Day).reserve(0);
            let first = first.wall_clock(wall.clone());
            build(TokenCache::builder(first.or_else(b.source())))
        };
        assert_eq!(text(&cache).await, "a1");
        a.set_away(true);
        cache.invalidate();
        assert_eq!(text(&cache).await, "b1", "{is_shared}");
        renew_ahead(&cache).await;
        assert_eq!(text(&cache).await, "b2", "{is_shared}: renewed");
        cache.invalidate();
        assert_eq!(text(&cache).await, "b3", "{is_shared}: refused");
    }
}

#[tokio::test(start_paused = true)]
async fn a_spent_budget_hands_each_cache_the_token_that_it_holds() {
    let wall = wall_clock(NOON);
    let (a, _) = pair();
    let source = a.source().budget(2, Per::Day).reserve(0);
    let source = source.wall_clock(wall.clone());
    let cache = || {
        let builder = TokenCache::builder(source.clone());
        builder.wall_clock(wall.clone()).build()
    };
    let (one, two) = (cache(), cache());
    assert_eq!(
        (text(&one).await, text(&two).await),
        ("a1".into(), "a2".into())
    );
    two.invalidate();
    assert_eq!(text(&two).await, "a1", "the other one has time left");
    advance(secs(3_500)).await;
    for second in 3_500..3_599 {
        settle().await;
        assert_eq!(text(&one).await, "a1", "{second}");
        settle().await;
        advance(secs(1)).await;
    }
    assert_eq!(a.requests(), 2);
}

#[tokio::test]
async fn a_budget_around_both_counts_what_is_sent_and_nothing_else() {
    let (a, b) = pair();
    let source = a.source().or_else(fixed("fixed")).budget(10, Per::Day);
    for n in 1..=3 {
        ask(&source).await.unwrap();
        assert_eq!((a.requests(), source.watch().spent()), (n, n as u32));
    }
    a.set_away(true);
    assert_eq!(ask(&source).await.unwrap(), "fixed");
    assert_eq!(
        source.watch().spent(),
        4,
        "a closure is counted by its calls"
    );

    let file = std::env::temp_dir().join(format!("tower-oauth-second-{}", std::process::id()));
    std::fs::write(&file, "from-file").unwrap();
    let source = FileToken::new(&file)
        .or_else(b.source())
        .budget(10, Per::Day);
    for _ in 0..20 {
        assert_eq!(ask(&source).await.unwrap(), "from-file");
    }
    std::fs::remove_file(&file).unwrap();
    assert_eq!((b.requests(), source.watch().spent()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_is_spent_shows_through_both() {
    let wall = wall_clock(NOON);
    let (a, b) = pair();
    let source = a
        .source()
        .or_else(b.source())
        .budget(1, Per::Day)
        .reserve(0);
    let source = source.wall_clock(wall.clone());
    ask(&source).await.unwrap();
    advance(secs(3_580)).await;
    assert_eq!(ask(&source).await.unwrap(), "a1", "20 seconds are left");
    advance(secs(20)).await;
    let error = ask(&source).await.unwrap_err();
    assert!(error.get_ref().is::<BudgetSpent>(), "{error}");
    assert_eq!((a.requests(), b.requests()), (1, 0));

    // Two budgets: the sooner one counts. And one budget, where the other fails otherwise.
    let hourly = || a.source().budget(0, Per::Hour).wall_clock(wall.clone());
    let monthly = b.source().budget(0, Per::Month).wall_clock(wall.clone());
    let error = ask(&hourly().or_else(monthly)).await.unwrap_err();
    let spent: &BudgetSpent = error.get_ref().downcast_ref().unwrap();
    let next = httpdate::parse_http_date("Mon, 30 Nov 2026 14:00:00 GMT").unwrap();
    assert_eq!(spent.next_at(), next);
    assert_eq!(error.retry_after(), Some(MINUTE * 60));
    b.set_away(true);
    let error = ask(&hourly().or_else(b.source())).await.unwrap_err();
    assert!(error.to_string().contains("neither source"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn the_token_at_hand_serves_where_one_budget_is_spent_and_the_other_source_is_down() {
    let wall = wall_clock(NOON);
    let (a, b) = pair();
    let store = Memory::new();
    let process = || {
        let first = a.source().budget(1, Per::Day).reserve(0);
        let either = first.wall_clock(wall.clone()).or_else(b.source());
        either.shared(store.clone()).wall_clock(wall.clone())
    };
    ask(&process()).await.unwrap();
    b.set_away(true);
    advance(secs(3_580)).await;
    assert_eq!(ask(&process()).await.unwrap(), "a1");
    advance(secs(20)).await;
    ask(&process()).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_up_again_is_not_left_alone_for_the_others_sake() {
    let wall = wall_clock(NOON);
    let (a, b) = pair();
    let first = a.source().budget(0, Per::Month).wall_clock(wall.clone());
    let cache = TokenCache::builder(first.or_else(b.source()));
    let cache = cache.wall_clock(wall).build();
    b.set_away(true);
    let error = cache.get().await.unwrap_err();
    assert_eq!(error.retry_after(), None, "{error}");
    b.set_away(false);
    let CacheState::Failing { .. } = cache.state() else {
        panic!("{:?}", cache.state());
    };
    advance(secs(1)).await;
    assert_eq!(text(&cache).await, "b1");
}

#[tokio::test(start_paused = true)]
async fn a_budget_around_shared_sources_holds_over_restarts() {
    for are_both_shared in [true, false] {
        let wall = wall_clock(NOON);
        let (a, b) = pair();
        let store = Memory::new();
        for _ in 0..5 {
            let shared = |server: &Server| {
                let shared = server.source().shared(store.clone());
                shared.wall_clock(wall.clone())
            };
            let cache = if are_both_shared {
                let either = shared(&a).or_else(shared(&b)).budget(2, Per::Day);
                TokenCache::from(either.reserve(0).wall_clock(wall.clone()))
            } else {
                let either = b.source().or_else(shared(&a)).budget(2, Per::Day);
                TokenCache::from(either.reserve(0).wall_clock(wall.clone()))
            };
            for _ in 0..4 {
                let _ = cache.get().await;
                cache.invalidate();
            }
        }
        assert_eq!(a.requests() + b.requests(), 2, "{are_both_shared}");
    }
}
