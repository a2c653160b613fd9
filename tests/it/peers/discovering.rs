use tower_oauth::{ClientAuth, ClientCredentials, TokenCache, TokenEndpoint, TokenSource};

use super::{
    scripted_users::logged_in,
    server::{AuthorizationServer, PRODUCTS, Product, SECRET},
};

/// Nothing but the issuer and the client's credentials is known here.
// rule 74
#[tokio::test]
async fn what_servers_say_of_themselves_is_enough() {
    for product in PRODUCTS {
        let Some(server) = AuthorizationServer::start(product).await else {
            return;
        };
        let discovered = async |grant| {
            let endpoint = TokenEndpoint::discover(server.issuer()).await.unwrap();
            let client = server.client(grant, "basic");
            let auth = ClientAuth::basic(client, SECRET);
            endpoint.client_auth(auth).build().unwrap()
        };
        let machine = ClientCredentials::new(discovered("client_credentials").await);
        gives_and_revokes(&server, machine).await;
        let endpoint = discovered("authorization_code").await;
        let user = logged_in(&server, endpoint).await.unwrap();
        gives_and_revokes(&server, user).await;

        if product == Product::OidcProvider {
            // RFC 8705 §5: a certificate is shown where it is asked for.
            let roots = server.certificates.authority();
            let discovery = TokenEndpoint::discover(server.issuer()).root_certificates(roots);
            let auth = ClientAuth::tls("tls_client_auth", server.certificates.signed());
            let endpoint = discovery.await.unwrap().client_auth(auth).build().unwrap();
            gives_and_revokes(&server, ClientCredentials::new(endpoint)).await;
        }
    }
}

async fn gives_and_revokes(server: &AuthorizationServer, source: impl TokenSource) {
    let cache = TokenCache::from(source);
    let token = cache.get().await.unwrap();
    assert_eq!(server.introspect(&token).await["active"], true);
    cache.close().await.unwrap();
    assert_eq!(server.introspect(&token).await["active"], false);
}
