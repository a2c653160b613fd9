//! What a closed cache gives back is worth nothing afterwards.

use std::sync::{Arc, Mutex};

use tower_oauth::{ClientAuth, ClientCredentials, TokenCache};

use super::{
    scripted_users::logged_in,
    server::{AuthorizationServer, PRODUCTS, SECRET},
};

#[tokio::test]
async fn a_closed_cache_leaves_no_token_alive() {
    for product in PRODUCTS {
        let Some(server) = AuthorizationServer::start(product).await else {
            return;
        };
        let client = server.client("client_credentials", "post");
        let endpoint = server.endpoint(ClientAuth::post(client, SECRET));
        let cache = TokenCache::from(ClientCredentials::new(endpoint.build().unwrap()));
        let token = cache.get().await.unwrap();
        assert_eq!(server.introspect(&token).await["active"], true);
        cache.close().await.unwrap();
        assert_eq!(server.introspect(&token).await["active"], false);

        for method in ["none", "basic"] {
            let client = server.client("authorization_code", method);
            let (auth, secret) = match method {
                "none" => (ClientAuth::none(&client), None),
                _ => (ClientAuth::basic(&client, SECRET), Some(&*client)),
            };
            let newest = Arc::new(Mutex::new(String::new()));
            let endpoint = server.endpoint(auth).build().unwrap();
            let source = logged_in(&server, endpoint).await.unwrap().on_rotation({
                let newest = Arc::clone(&newest);
                move |pair| {
                    pair.refresh_token().clone_into(&mut newest.lock().unwrap());
                    async { Ok(()) }
                }
            });
            let cache = TokenCache::from(source);
            cache.get().await.unwrap();
            cache.invalidate();
            let token = cache.get().await.unwrap();
            assert_eq!(server.introspect(&token).await["active"], true);

            cache.close().await.unwrap();
            assert_eq!(server.introspect(&token).await["active"], false);
            let refresh_token = newest.lock().unwrap().clone();
            let form = [
                ("grant_type", "refresh_token"),
                ("refresh_token", &refresh_token),
                ("client_id", &client),
            ];
            let answer = server.post("token", &form, secret).await;
            assert_eq!(answer["error"], "invalid_grant", "{product:?}, {method}");
        }
    }
}
