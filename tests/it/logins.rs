//! Logins by a browser: what is asked for, what is believed of the answer, and what is sent then.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use tower_oauth::{
    AuthorizationCode, ClientAuth, Demand, EndpointError, InvalidScope, LoginError, PendingLogin,
    RefreshToken, TokenEndpointBuilder, TokenSource,
};

use crate::support::{
    endpoint::{Endpoint, Reply, TOKEN, error, json},
    secs,
};

const REDIRECT: &str = "https://app.example/cb?x=1";

fn login(endpoint: TokenEndpointBuilder) -> PendingLogin {
    AuthorizationCode::new(endpoint.build().unwrap(), REDIRECT)
        .start()
        .unwrap()
}

/// The one value of a parameter in a URL.
pub fn param(url: &str, name: &str) -> String {
    let query = url.split_once('?').unwrap().1;
    let named = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == name);
    let values: Vec<String> = named.map(|(_, value)| value.into_owned()).collect();
    assert_eq!(values.len(), 1, "{name} in {url}");
    values.into_iter().next().unwrap()
}

/// What the server sends the browser back with.
fn response(login: &PendingLogin, rest: &str) -> String {
    format!("state={}&{rest}", param(login.url(), "state"))
}

fn form(body: &str, name: &str) -> String {
    param(&format!("?{body}"), name)
}

/// That a response ends the login before anything is sent.
async fn refused(endpoint: TokenEndpointBuilder, rest: &str) -> LoginError {
    let login = login(endpoint);
    let response = response(&login, rest);
    match login.finish(&response).await {
        Ok(_) => panic!("{rest} was believed"),
        Err(error) => error,
    }
}

// rules 11, 73
#[tokio::test]
async fn a_login_asks_and_exchanges_with_these_bytes() {
    let server = Endpoint::replying([json(200, TOKEN)]);
    let endpoint = server
        .builder()
        .authorization_endpoint("https://as.example/authorize?tenant=a+b")
        .client_auth(ClientAuth::basic("id", "s3cr3t"))
        .param("api_key", "k3y")
        .build()
        .unwrap();
    let login = AuthorizationCode::new(endpoint, REDIRECT)
        .scope(" read  write")
        .resource("https://api.example/")
        .param("prompt", "consent")
        .param("audience", "a")
        .param("audience", "b")
        .param("empty", "")
        .start()
        .unwrap();
    let (state, challenge) = (
        param(login.url(), "state"),
        param(login.url(), "code_challenge"),
    );
    assert_eq!((state.len(), challenge.len()), (43, 43), "256 bits");
    assert_eq!(login.state(), state);
    assert_eq!(
        login.url(),
        format!(
            "https://as.example/authorize?tenant=a+b&response_type=code&client_id=id&\
             redirect_uri=https%3A%2F%2Fapp.example%2Fcb%3Fx%3D1&state={state}&scope=read+write&\
             resource=https%3A%2F%2Fapi.example%2F&code_challenge={challenge}&\
             code_challenge_method=S256&prompt=consent&audience=a&audience=b"
        )
    );

    let back = format!("{REDIRECT}&code=c%2Fo+d%26e&state={state}");
    login.finish(&back).await.unwrap();
    let [asked] = &server.asked()[..] else {
        panic!("not one request");
    };
    let verifier = form(&asked.body, "code_verifier");
    assert_eq!(asked.uri, "https://as.example/token");
    assert_eq!(asked.authorization.as_deref(), Some("Basic aWQ6czNjcjN0"));
    assert_eq!(
        asked.body,
        format!(
            "grant_type=authorization_code&code=c%2Fo+d%26e&\
             redirect_uri=https%3A%2F%2Fapp.example%2Fcb%3Fx%3D1&code_verifier={verifier}&\
             resource=https%3A%2F%2Fapi.example%2F&api_key=k3y"
        )
    );
    let hash = BASE64_URL_SAFE_NO_PAD.encode(hmac_sha256::Hash::hash(verifier.as_bytes()));
    assert_eq!(hash, challenge);
}

#[tokio::test]
async fn what_is_not_sent_may_stand_in_the_endpoints_own_query() {
    let server = Endpoint::replying([]);
    let endpoint = server
        .builder()
        .authorization_endpoint("https://as.example/authorize?scope=openid");
    let login = login(endpoint);
    assert_eq!(param(login.url(), "scope"), "openid");
}

#[tokio::test]
async fn a_client_without_an_id_logs_nobody_in() {
    let server = Endpoint::replying([]);
    let endpoint = server.builder().client_auth(ClientAuth::anonymous());
    let error = AuthorizationCode::new(endpoint.build().unwrap(), REDIRECT)
        .start()
        .unwrap_err();
    assert!(error.to_string().contains("client_id"), "{error}");
}

#[tokio::test]
async fn a_public_client_says_who_it_is() {
    let server = Endpoint::replying([json(200, TOKEN)]);
    let login = login(server.builder());
    let response = response(&login, "code=c");
    login.finish(&response).await.unwrap();
    let body = server.bodies().concat();
    assert!(body.ends_with("&client_id=id"), "{body}");
}

#[tokio::test]
async fn without_pkce_there_is_none() {
    let server = Endpoint::replying([json(200, TOKEN)]);
    let login = AuthorizationCode::new(server.build(), REDIRECT)
        .without_pkce()
        .start()
        .unwrap();
    assert!(!login.url().contains("code_challenge"), "{}", login.url());
    let response = response(&login, "code=c");
    login.finish(&response).await.unwrap();
    assert_eq!(
        server.bodies(),
        ["grant_type=authorization_code&code=c&\
             redirect_uri=https%3A%2F%2Fapp.example%2Fcb%3Fx%3D1&client_id=id"]
    );
}

/// The lifetime counts from the exchange, not from the login's start or from the first use.
// rule 18
#[tokio::test(start_paused = true)]
async fn a_login_ends_in_a_source_whose_first_token_is_the_one_that_came() {
    let server = Endpoint::replying([json(200, TOKEN)]);
    let login = login(server.builder());
    tokio::time::advance(secs(100)).await;
    let response = response(&login, "code=c");
    let source: RefreshToken = login.finish(&response).await.unwrap();
    tokio::time::advance(secs(20)).await;
    let token = source.token(Demand::default()).await.unwrap();
    assert_eq!(token.expose_secret(), "a");
    let left = token.lifetime().unwrap().as_secs_f64();
    assert!((39.0..=40.0).contains(&left), "{left}");
    assert_eq!(server.asked().len(), 1, "no second token was needed");
}

// rule 73
#[test]
fn each_login_has_secrets_of_its_own_and_shows_none() {
    let server = Endpoint::replying([]);
    let authorization = AuthorizationCode::new(server.build(), REDIRECT).param("key", "hunter2");
    let logins = [
        authorization.start().unwrap(),
        authorization.start().unwrap(),
    ];
    let [one, other] = &logins;
    for name in ["state", "code_challenge"] {
        let value = param(one.url(), name);
        assert_ne!(value, param(other.url(), name));
        assert!(!format!("{one:?} {one:#?}").contains(&value));
    }
    assert_ne!(
        param(one.url(), "state"),
        param(one.url(), "code_challenge")
    );
    assert!(!format!("{authorization:?}").contains("hunter2"));
}

// rules 7, 9
#[test]
fn what_cannot_be_asked_is_refused_at_the_start() {
    let server = Endpoint::replying([]);
    let authorization = || AuthorizationCode::new(server.build(), REDIRECT);
    for (authorization, part) in [
        (
            AuthorizationCode::new(server.build(), ""),
            "RFC 6749 §3.1.2",
        ),
        (
            AuthorizationCode::new(server.build(), "/cb"),
            "redirect URI",
        ),
        (
            AuthorizationCode::new(server.build(), "https://app.example/#x"),
            "fragment",
        ),
        (authorization().param("", "x"), "its name is empty"),
        (authorization().param("state", "x"), "sends it itself"),
        (
            authorization().param("client_secret", "x"),
            "sends it itself",
        ),
        (authorization().param("x", "1").param("x", "2"), "twice"),
        (authorization().scope("a\"b"), "byte 1"),
        (authorization().resource("api.example"), "RFC 8707"),
    ] {
        let message = authorization.start().unwrap_err().to_string();
        assert!(message.contains(part), "{part}: {message}");
    }
    let invalid = authorization().scope("\"").start().unwrap_err();
    assert!(!invalid.is_transient());
    let LoginError::NoToken(invalid) = invalid else {
        panic!("{invalid:?}");
    };
    assert!(invalid.get_ref().is::<InvalidScope>());

    let own_query = server
        .builder()
        .authorization_endpoint("https://as.example/authorize?client_id=x");
    let error = AuthorizationCode::new(own_query.build().unwrap(), REDIRECT).start();
    let message = error.unwrap_err().to_string();
    assert!(message.contains("\"client_id\""), "{message}");

    let nobody = server.builder().client_auth(ClientAuth::anonymous());
    let error = AuthorizationCode::new(nobody.build().unwrap(), REDIRECT).start();
    let message = error.unwrap_err().to_string();
    assert!(message.contains("ClientAuth::none"), "{message}");

    let unknown = tower_oauth::TokenEndpoint::builder("https://as.example/token")
        .client_auth(ClientAuth::none("id"))
        .transport(server.clone());
    let error = AuthorizationCode::new(unknown.build().unwrap(), REDIRECT).start();
    let message = error.unwrap_err().to_string();
    assert!(message.contains(".authorization_endpoint("), "{message}");
    assert!(server.asked().is_empty());
}

// rules 7, 11
#[tokio::test]
async fn a_response_that_is_not_the_one_right_one_sends_nothing() {
    let server = Endpoint::replying([]);
    for text in [
        "code=c",
        "code=c&state=guessed",
        "code=c&state=",
        "error=access_denied&state=guessed",
    ] {
        let error = login(server.builder()).finish(text).await.unwrap_err();
        assert!(matches!(error, LoginError::State { .. }), "{text}: {error}");
        assert!(!error.is_transient());
    }
    for rest in ["code=c&code=d", "error=x&error=x&code=c", "", "code="] {
        let error = refused(server.builder(), rest).await;
        assert!(matches!(error, LoginError::Response { .. }), "{error}");
    }
    // Twice the right state is none.
    let login = login(server.builder());
    let state = response(&login, "");
    let twice = format!("{state}{state}code=c");
    let error = login.finish(&twice).await.unwrap_err();
    assert!(matches!(error, LoginError::State { .. }), "{error}");
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn what_the_server_says_is_shown_escaped_and_cut() {
    let server = Endpoint::replying([]);
    let long = "x".repeat(1000);
    let rest = format!("error=access_denied&error_description=no%0D%0Aline{long}");
    let error = refused(server.builder(), &rest).await;
    assert_eq!(error.oauth_code(), Some("access_denied"));
    assert!(!error.is_transient());
    let shown = error.to_string();
    assert!(shown.contains("access_denied (no\\r\\nlinexxx"), "{shown}");
    assert!(shown.contains("log in again"), "{shown}");
    assert!(shown.len() < 500, "{shown}");

    let error = refused(server.builder(), "error=temporarily_unavailable").await;
    assert!(error.is_transient());

    let login = login(server.builder());
    let state = param(login.url(), "state");
    let echo = response(&login, &format!("error=x&error_description={state}"));
    let error = login.finish(&echo).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains(&state), "{error}");
    assert!(server.asked().is_empty());
}

// rules 78, 84
#[tokio::test]
async fn a_response_of_another_issuer_sends_nothing() {
    let server = Endpoint::replying([]);
    for iss in [
        "https://evil.example",
        "https://as.example/",
        "https://AS.example",
    ] {
        let endpoint = server.builder().issuer("https://as.example");
        let error = refused(endpoint, &format!("code=c&iss={iss}")).await;
        assert!(matches!(error, LoginError::Issuer { .. }), "{error}");
        let shown = error.to_string();
        assert!(shown.contains(iss) && shown.contains("\"https://as.example\""));
    }
    assert!(server.asked().is_empty());

    let server = Endpoint::replying([json(200, TOKEN)]);
    let login = login(server.builder().issuer("https://as.example"));
    let response = response(&login, "code=c&iss=https%3A%2F%2Fas.example");
    login.finish(&response).await.unwrap();
}

/// The user logs in at one server by a client that was sent to the other (RFC 9700 §4.4).
// rule 84
#[tokio::test]
async fn a_mix_up_hands_no_code_to_the_wrong_server() {
    let (honest, attacker) = (Endpoint::replying([]), Endpoint::replying([]));
    let at_attacker = login(attacker.builder().issuer("https://attacker.example"));
    let at_honest = login(honest.builder().issuer("https://as.example"));

    // The attacker sent the browser on to the honest server, with the state of its own login.
    let back = response(&at_attacker, "code=c&iss=https://as.example");
    let error = at_attacker.finish(&back).await.unwrap_err();
    assert!(matches!(error, LoginError::Issuer { .. }), "{error}");

    // A response to one login is none to the other.
    let other = login(attacker.builder());
    let back = response(&other, "code=c&iss=https://as.example");
    let error = at_honest.finish(&back).await.unwrap_err();
    assert!(matches!(error, LoginError::State { .. }), "{error}");
    assert!(honest.asked().is_empty() && attacker.asked().is_empty());
}

/// `finish` takes the login, so that there is no second time; and by itself it doesn't try twice.
// rule 11
#[tokio::test]
async fn a_code_is_exchanged_once_whatever_comes() {
    for (reply, transient) in [
        (error("invalid_grant"), false),
        (json(503, ""), true),
        (Reply::Broken, true),
    ] {
        let server = Endpoint::replying([reply]);
        let error = refused(server.builder(), "code=c0de-c0de").await;
        assert_eq!(server.asked().len(), 1);
        assert_eq!(error.is_transient(), transient, "{error}");
        let LoginError::NoToken(error) = error else {
            panic!("{error:?}");
        };
        assert!(error.get_ref().is::<EndpointError>());
    }
    // What was sent isn't shown.
    let echo = r#"{"error":"invalid_grant","error_description":"c0de-c0de?"}"#;
    let server = Endpoint::replying([json(400, echo)]);
    let error = refused(server.builder(), "code=c0de-c0de").await;
    assert_eq!(error.oauth_code(), Some("invalid_grant"));
    assert!(!format!("{error} {error:?}").contains("c0de"), "{error}");
}
