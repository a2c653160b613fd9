//! What the servers refuse, what they grant instead, and what their users then read.

use tower_oauth::{AccessToken, ClientAuth, ClientCredentials, Demand, TokenError, TokenSource};

use super::server::{AuthorizationServer, PRODUCTS, Product, SECRET, WEIRD_ID, WEIRD_SECRET};

#[tokio::test]
async fn oidc_provider() {
    let Some(server) = AuthorizationServer::start(Product::OidcProvider).await else {
        return;
    };
    let unencoded = ClientAuth::basic_unencoded("basic", "100%");
    let elsewhere = basic("basic", SECRET).resource("https://other.test");
    for (asked, status, code) in [
        (basic("basic", "wrong"), 401, "invalid_client"),
        (post("post", "wrong"), 401, "invalid_client"),
        (basic("nobody", SECRET), 401, "invalid_client"),
        (basic("expired", SECRET), 400, "invalid_client"),
        (by(unencoded), 400, "invalid_request"),
        (basic("users-only", SECRET), 400, "invalid_request"),
        (elsewhere, 400, "invalid_target"),
    ] {
        refuses(&server, asked, status, code).await;
    }
    for (scope, granted) in [
        ("api:read api:write", Some("api:read api:write")),
        ("api:read api:fly", Some("api:read")),
        ("api:fly", None),
    ] {
        let resource = "https://api.test/opaque";
        let asked = basic("basic", SECRET).scope(scope).resource(resource);
        let token = asked.of(&server).await.unwrap();
        assert_eq!(token.scope(), granted);
        let known = server.introspect(&token).await;
        assert_eq!(known["scope"].as_str(), granted);
        assert_eq!(known["aud"], resource);
    }
}

#[tokio::test]
async fn django_oauth_toolkit() {
    let Some(server) = AuthorizationServer::start(Product::Django).await else {
        return;
    };
    let ours = || basic("client_credentials", SECRET);
    for (asked, status, code) in [
        (basic("client_credentials", "wrong"), 401, "invalid_client"),
        (post("client_credentials", "wrong"), 401, "invalid_client"),
        (basic("nobody", SECRET), 401, "invalid_client"),
        (basic("device_code", SECRET), 400, "unauthorized_client"),
        (ours().scope("api:read api:fly"), 400, "invalid_scope"),
        (ours().resource("urn:without-a-host"), 400, "invalid_target"),
    ] {
        refuses(&server, asked, status, code).await;
    }
}

#[tokio::test]
async fn an_id_and_a_secret_of_any_characters() {
    for product in PRODUCTS {
        let Some(server) = AuthorizationServer::start(product).await else {
            return;
        };
        for asked in [basic(WEIRD_ID, WEIRD_SECRET), post(WEIRD_ID, WEIRD_SECRET)] {
            let token = asked.of(&server).await.unwrap();
            assert_eq!(server.introspect(&token).await["client_id"], WEIRD_ID);
        }
    }
}

async fn refuses(server: &AuthorizationServer, asked: Asked, status: u16, code: &str) {
    let error = asked.of(server).await.expect_err(&format!("{asked:?}"));
    assert!(!error.is_transient(), "{asked:?}: {error}");
    assert_eq!(error.oauth_code(), Some(code), "{asked:?}: {error}");
    let heard = server.log().await.pop().unwrap();
    assert_eq!(heard["error"], code, "{asked:?}");
    assert_eq!(heard["status"], status, "{asked:?}");
    let shown = error.to_string();
    assert!(shown.contains(&format!("HTTP {status}")), "{shown}");
}

/// A token request by client credentials.
#[derive(Debug)]
struct Asked {
    auth: ClientAuth,
    scope: &'static str,
    resource: &'static str,
}

fn basic(id: &str, secret: &str) -> Asked {
    by(ClientAuth::basic(id, secret))
}

fn post(id: &str, secret: &str) -> Asked {
    by(ClientAuth::post(id, secret))
}

fn by(auth: ClientAuth) -> Asked {
    let (scope, resource) = ("", "");
    Asked {
        auth,
        scope,
        resource,
    }
}

impl Asked {
    fn scope(self, scope: &'static str) -> Self {
        Self { scope, ..self }
    }

    fn resource(self, resource: &'static str) -> Self {
        Self { resource, ..self }
    }

    async fn of(&self, server: &AuthorizationServer) -> Result<AccessToken, TokenError> {
        let endpoint = server.endpoint(self.auth.clone());
        let endpoint = endpoint.param("resource", self.resource).build().unwrap();
        let source = ClientCredentials::new(endpoint).scope(self.scope);
        source.token(Demand::default()).await
    }
}
