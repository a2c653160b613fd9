//! Servers that end a login when a refresh token comes twice, and callers who don't wait.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use fastrand::Rng;
use tokio::{task::JoinSet, time::timeout};
use tower_oauth::{ClientAuth, Demand, RefreshToken, TokenCache, TokenSource};

use super::{
    scripted_users::logged_in,
    server::{AuthorizationServer, PRODUCTS, SECRET},
};

const CALLERS: usize = 1000;
const CACHES: usize = 4;
/// At least; those under way when it is reached come on top.
const ROTATIONS: usize = 200;

/// The refresh tokens that the hook got, in order.
type Kept = Arc<Mutex<Vec<String>>>;

// rules 80, F2, F12, F23
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_impatient_callers_never_send_a_refresh_token_twice() {
    for product in PRODUCTS {
        let Some(server) = AuthorizationServer::start(product).await else {
            return;
        };
        let client = server.client("authorization_code", "basic");
        let endpoint = server.endpoint(ClientAuth::basic(&client, SECRET));
        let source = logged_in(&server, endpoint.build().unwrap()).await;
        let kept = Kept::default();
        let source = source.unwrap().on_rotation({
            let kept = Arc::clone(&kept);
            move |pair| {
                kept.lock().unwrap().push(pair.refresh_token().to_owned());
                async { Ok(()) }
            }
        });
        // The first is that of the login.
        source.token(Demand::default()).await.unwrap();
        assert_eq!(kept.lock().unwrap().len(), 1);

        let cancelled = impatient_callers(&source, &kept).await;
        // The last redemption is of callers who all have gone.
        let token = source.token(Demand::default()).await.unwrap();
        let kept = kept.lock().unwrap().clone();
        let rotations = kept.len() - 1;
        // How many, depends on how fast the server is.
        assert!(rotations >= ROTATIONS && cancelled >= CALLERS / 10);

        let requests = server.log().await;
        let requests = &requests[1..]; // The login's own.
        for request in requests {
            assert_eq!(request["grant"], "refresh_token", "{request}");
            assert_eq!(request["status"], 200, "{request}");
        }
        assert_eq!(requests.len(), rotations, "{product:?}");
        assert_eq!(server.introspect(&token).await["active"], true);

        // The server would have noticed.
        let form = [
            ("grant_type", "refresh_token"),
            ("refresh_token", &*kept[rotations - 1]),
        ];
        let answer = server.post("token", &form, Some(&client)).await;
        assert_eq!(answer["error"], "invalid_grant", "{product:?}");
        assert_eq!(server.introspect(&token).await["active"], false);
        let error = source.token(Demand::default()).await.unwrap_err();
        assert!(!error.is_transient(), "{error}");
        assert_eq!(error.oauth_code(), Some("invalid_grant"));
        assert!(error.to_string().contains("log in again"), "{error}");
    }
}

/// Ask until there were enough rotations; says how many of them gave up.
async fn impatient_callers(source: &RefreshToken, kept: &Kept) -> usize {
    let caches: Vec<TokenCache> = (0..CACHES)
        .map(|_| TokenCache::from(source.clone()))
        .collect();
    let mut callers = JoinSet::new();
    for n in 0..CALLERS {
        let mut random = Rng::with_seed(n.try_into().unwrap());
        let (source, cache) = (source.clone(), caches[n % CACHES].clone());
        let kept = Arc::clone(kept);
        callers.spawn(async move {
            let mut cancelled = 0;
            while kept.lock().unwrap().len() <= ROTATIONS {
                let patience = Duration::from_micros(random.u64(..50_000));
                let answered = if random.bool() {
                    let asking = source.token(Demand::default());
                    timeout(patience, asking).await.map(drop).is_ok()
                } else {
                    let asked = timeout(patience, cache.get()).await;
                    if random.u8(..10) == 0 {
                        cache.invalidate();
                    }
                    asked.is_ok()
                };
                cancelled += usize::from(!answered);
                tokio::time::sleep(patience).await;
            }
            cancelled
        });
    }
    callers.join_all().await.into_iter().sum()
}
