use tokio::task::JoinSet;
use tower_oauth::{ClientAuth, ClientCredentials, TokenCache};

use super::server::{AuthorizationServer, PRODUCTS, SECRET};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_callers_make_one_token_request() {
    for product in PRODUCTS {
        let Some(server) = AuthorizationServer::start(product).await else {
            return;
        };
        let client = server.client("client_credentials", "basic");
        let endpoint = server.endpoint(ClientAuth::basic(client, SECRET));
        let cache = TokenCache::from(ClientCredentials::new(endpoint.build().unwrap()));
        let mut callers = JoinSet::new();
        for _ in 0..1000 {
            let cache = cache.clone();
            callers.spawn(async move { cache.get().await.unwrap() });
        }
        let tokens = callers.join_all().await;
        let first = &tokens[0];
        assert!(
            tokens
                .iter()
                .all(|token| token.expose_secret() == first.expose_secret())
        );
        assert_eq!(server.introspect(first).await["active"], true);
        assert_eq!(server.log().await.len(), 1, "{product:?}");
    }
}
