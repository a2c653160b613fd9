//! Logins that servers refuse, and those that are refused before a server hears of them.

use tower_oauth::{AuthorizationCode, ClientAuth, LoginError};

use super::{
    scripted_users::{Decision, device_logged_in, login},
    server::{AuthorizationServer, PRODUCTS, Product, SECRET, encoded},
};

#[tokio::test]
async fn by_a_browser() {
    for product in PRODUCTS {
        let Some(server) = AuthorizationServer::start(product).await else {
            return;
        };
        let auth = ClientAuth::basic(server.client("authorization_code", "basic"), SECRET);
        let endpoint = || server.endpoint(auth.clone());
        let login = || login(endpoint().build().unwrap());

        // Another login's response says nothing, and its code is bound to its verifier.
        let [ours, also_ours] = [(); 2].map(|()| login());
        let theirs = login();
        let our_callback = server.authorize(ours.url()).await;
        let their_callback = server.authorize(theirs.url()).await;
        let error = also_ours.finish(&their_callback).await.unwrap_err();
        assert!(matches!(error, LoginError::State { .. }), "{error}");
        assert!(server.log().await.is_empty(), "{product:?}: it was sent");
        let injected = with(&our_callback, "code", &value(&their_callback, "code"));
        refused(&server, ours.finish(&injected).await, "invalid_grant").await;

        // RFC 6749 §4.1.3: the redirect URI of the token request must be that of the authorization
        // request.
        let ours = login();
        let elsewhere = with(ours.url(), "redirect_uri", "http://127.0.0.1:4322/callback");
        let callback = server.authorize(&elsewhere).await;
        assert!(callback.starts_with("http://127.0.0.1:4322/"), "{callback}");
        let code = match product {
            Product::OidcProvider => "invalid_grant",
            Product::Django => "invalid_request", // RFC 6749 §5.2 has invalid_grant for it.
        };
        refused(&server, ours.finish(&callback).await, code).await;

        // RFC 6749 §4.1.2: "The client MUST NOT use the authorization code more than once."
        let endpoint = endpoint().transport(server.twice()).build().unwrap();
        let ours = AuthorizationCode::new(endpoint, "http://127.0.0.1:4321/callback");
        let ours = ours.scope("openid").start().unwrap();
        let callback = server.authorize(ours.url()).await;
        refused(&server, ours.finish(&callback).await, "invalid_grant").await;

        // RFC 6749 §4.1.2: "The authorization code MUST expire shortly after it is issued".
        let ours = login();
        let callback = server.authorize(ours.url()).await;
        server.expire("code", &value(&callback, "code")).await;
        refused(&server, ours.finish(&callback).await, "invalid_grant").await;

        // oidc-provider leaves out a scope that it doesn't know.
        if product == Product::Django {
            let ours = login();
            let url = with(ours.url(), "scope", "openid api:fly");
            let callback = server.authorize(&url).await;
            let error = ours.finish(&callback).await.unwrap_err();
            assert!(matches!(error, LoginError::Refused { .. }), "{error}");
            assert_eq!(error.oauth_code(), Some("invalid_scope"), "{error}");
        }
    }
}

#[tokio::test]
async fn at_a_device() {
    // At once: a device waits for seconds before it asks.
    let [one, other] = PRODUCTS.map(refused_at_a_device);
    tokio::join!(one, other);
}

async fn refused_at_a_device(product: Product) {
    let Some(server) = AuthorizationServer::start(product).await else {
        return;
    };
    let auth = ClientAuth::none(server.client("device_code", "none"));
    let endpoint = server.endpoint(auth).build().unwrap();
    let (denied, expired) = tokio::join!(
        device_logged_in(&server, endpoint.clone(), Decision::Deny),
        device_logged_in(&server, endpoint.clone(), Decision::TooLate),
    );
    let error = denied.unwrap_err();
    assert!(matches!(error, LoginError::Refused { .. }), "{error}");
    assert_eq!(error.oauth_code(), Some("access_denied"), "{error}");
    let error = expired.unwrap_err();
    assert!(matches!(error, LoginError::Expired { .. }), "{error}");
    let mut heard: Vec<String> = server.log().await.iter().map(error_of).collect();
    heard.sort();
    assert_eq!(heard, ["access_denied", "expired_token"], "{product:?}");
}

fn error_of(request: &serde_json::Value) -> String {
    request["error"].as_str().unwrap_or_default().to_owned()
}

async fn refused<T>(server: &AuthorizationServer, outcome: Result<T, LoginError>, code: &str) {
    let error = outcome.err().expect("it was granted");
    assert!(matches!(error, LoginError::NoToken(_)), "{error}");
    assert!(!error.is_transient(), "{error}");
    assert_eq!(error.oauth_code(), Some(code), "{error}");
    assert!(error.to_string().contains("HTTP 400"), "{error}");
    assert_eq!(error_of(&server.log().await.pop().unwrap()), code);
}

/// The value of a parameter in a URL's query.
fn value(url: &str, key: &str) -> String {
    let (_, query) = url.split_once('?').unwrap();
    let mut query = form_urlencoded::parse(query.as_bytes());
    query
        .find(|(other, _)| other == key)
        .unwrap()
        .1
        .into_owned()
}

/// The URL with another value.
fn with(url: &str, key: &str, value: &str) -> String {
    let (page, query) = url.split_once('?').unwrap();
    let mut params: Vec<_> = form_urlencoded::parse(query.as_bytes())
        .into_owned()
        .collect();
    let slot = params.iter_mut().find(|(other, _)| other == key).unwrap();
    value.clone_into(&mut slot.1);
    let params: Vec<_> = params
        .iter()
        .map(|(key, value)| (&**key, &**value))
        .collect();
    format!("{page}?{}", encoded(&params))
}
