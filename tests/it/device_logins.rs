//! Logins by another machine's browser: what is asked, when it is polled, and when that ends.

use std::time::Duration;

use tokio::time::Instant;
use tower_oauth::{
    ClientAuth, Demand, DeviceCode, LoginError, RefreshToken, TokenEndpoint, TokenSource,
};

use crate::support::{
    endpoint::{Endpoint, Reply, TOKEN, answer, error, json},
    secs,
};

const CODES: &str = r#"{"device_code":"d/c","user_code":"WDJB-MJHT","verification_uri":"https://as.example/go","verification_uri_complete":"https://as.example/go?user_code=WDJB-MJHT","expires_in":1800}"#;

fn codes() -> Reply {
    json(200, CODES)
}

async fn login(endpoint: TokenEndpoint) -> Result<RefreshToken, LoginError> {
    DeviceCode::new(endpoint).login(|_| ()).await
}

/// Logs in; the seconds at which polls came, and at which it was over.
async fn polls(server: &Endpoint) -> (Vec<f64>, f64, Result<RefreshToken, LoginError>) {
    let start = Instant::now();
    let outcome = login(server.build()).await;
    let since = |at: Instant| at.duration_since(start).as_secs_f64().floor();
    let polls = server
        .asked()
        .iter()
        .skip(1)
        .map(|asked| since(asked.at))
        .collect();
    (polls, since(Instant::now()), outcome)
}

// rule 75
#[tokio::test(start_paused = true)]
async fn a_device_asks_and_polls_with_these_bytes() {
    let server = Endpoint::replying([codes(), error("authorization_pending"), json(200, TOKEN)]);
    let endpoint = server
        .builder()
        .client_auth(ClientAuth::basic("id", "s3cr3t"))
        .param("audience", "a")
        .build()
        .unwrap();
    let mut shown = 0;
    DeviceCode::new(endpoint)
        .scope(" read  write")
        .resource("https://api.example/")
        .login(|prompt| {
            shown += 1;
            assert_eq!(prompt.verification_uri(), "https://as.example/go");
            assert_eq!(prompt.user_code(), "WDJB-MJHT");
            assert_eq!(prompt.expires_in(), secs(1800));
            assert_eq!(
                prompt.verification_uri_complete(),
                Some("https://as.example/go?user_code=WDJB-MJHT")
            );
            assert!(!format!("{prompt:?}").contains("WDJB"));
        })
        .await
        .unwrap();
    assert_eq!(shown, 1);
    let poll = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code&\
                device_code=d%2Fc&resource=https%3A%2F%2Fapi.example%2F&audience=a";
    assert_eq!(
        server.bodies(),
        [
            "scope=read+write&resource=https%3A%2F%2Fapi.example%2F&client_id=id&audience=a",
            poll,
            poll
        ]
    );
    let asked = server.asked();
    let uris: Vec<&str> = asked.iter().map(|asked| &*asked.uri).collect();
    let token = "https://as.example/token";
    assert_eq!(uris, ["https://as.example/device", token, token]);
    for asked in asked {
        assert_eq!(asked.authorization.as_deref(), Some("Basic aWQ6czNjcjN0"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_public_client_says_who_it_is() {
    let server = Endpoint::replying([codes(), json(200, TOKEN)]);
    login(server.build()).await.unwrap();
    assert_eq!(server.bodies()[0], "client_id=id");
    assert!(server.bodies()[1].ends_with("&device_code=d%2Fc&client_id=id"));
}

// rule 75
#[tokio::test(start_paused = true)]
async fn polls_keep_the_distance_that_they_were_told() {
    let pending = || error("authorization_pending");
    let server = Endpoint::replying([
        codes(),
        pending(),          // at 5
        pending(),          // at 10
        error("slow_down"), // at 15: from now on 10
        pending(),          // at 25
        error("slow_down"), // at 35: from now on 15
        pending(),          // at 50
        json(200, TOKEN),   // at 65
    ]);
    let (polls, end, outcome) = polls(&server).await;
    outcome.unwrap();
    assert_eq!(polls, [5.0, 10.0, 15.0, 25.0, 35.0, 50.0, 65.0]);
    assert_eq!(end, 65.0);
}

// rule 75
#[tokio::test(start_paused = true)]
async fn an_interval_that_the_server_gives_is_kept() {
    let seven = CODES.replace("1800}", "1800,\"interval\":\"7\"}");
    let pending = error("authorization_pending");
    let server = Endpoint::replying([json(200, seven), pending, json(200, TOKEN)]);
    assert_eq!(polls(&server).await.0, [7.0, 14.0]);
}

// rules 44, 75
#[tokio::test(start_paused = true)]
async fn a_server_that_cannot_answer_is_asked_less_often() {
    let pending = || error("authorization_pending");
    let later = |status, seconds| answer(status, &[("retry-after", seconds)], "");
    let server = Endpoint::replying([
        codes(),
        pending(),        // at 5
        Reply::Broken,    // at 10: then 10
        Reply::Never,     // at 20, until 30: then 20
        json(503, ""),    // at 50: then 40
        json(500, ""),    // at 90: then 60, the longest
        Reply::Broken,    // at 150: then 60
        pending(),        // at 210: then 5
        later(429, "90"), // at 215
        later(503, "1"),  // at 305: less than 20, the backoff
        pending(),        // at 325
        json(200, TOKEN), // at 330
    ]);
    let (polls, _, outcome) = polls(&server).await;
    outcome.unwrap();
    assert_eq!(
        polls,
        [
            5.0, 10.0, 20.0, 50.0, 90.0, 150.0, 210.0, 215.0, 305.0, 325.0, 330.0
        ]
    );
}

// rule 75
#[tokio::test(start_paused = true)]
async fn a_no_ends_it() {
    // The second is what Microsoft Entra says.
    for code in ["access_denied", "authorization_declined"] {
        let no = format!(r#"{{"error":"{code}","error_description":"the user said no"}}"#);
        let server = Endpoint::replying([codes(), json(400, no)]);
        let (polls, end, outcome) = polls(&server).await;
        assert_eq!((polls, end), (vec![5.0], 5.0));
        let error = outcome.unwrap_err();
        assert!(matches!(error, LoginError::Refused { .. }), "{error:?}");
        assert_eq!(error.oauth_code(), Some(code));
        assert!(!error.is_transient());
        assert!(error.to_string().contains("(the user said no)"), "{error}");
        assert!(error.to_string().contains("log in again"), "{error}");
    }

    // So does any other error that lasts, as it came.
    let server = Endpoint::replying([codes(), self::error("invalid_grant")]);
    let error = login(server.build()).await.unwrap_err();
    assert_eq!(error.oauth_code(), Some("invalid_grant"));
    assert!(matches!(error, LoginError::NoToken(_)), "{error:?}");
}

// rule 75
#[tokio::test(start_paused = true)]
async fn an_expired_code_ends_it() {
    let server = Endpoint::replying([codes(), error("expired_token")]);
    let (polls, end, outcome) = polls(&server).await;
    assert_eq!((polls, end), (vec![5.0], 5.0));
    let by_server = outcome.unwrap_err();

    let short = CODES.replace("1800", "12");
    let pending = || error("authorization_pending");
    let server = Endpoint::replying([json(200, short), pending(), pending()]);
    let (polls, end, outcome) = self::polls(&server).await;
    assert_eq!((polls, end), (vec![5.0, 10.0], 12.0));
    for error in [by_server, outcome.unwrap_err()] {
        assert!(matches!(error, LoginError::Expired { .. }), "{error:?}");
        assert_eq!(error.oauth_code(), Some("expired_token"));
        assert!(!error.is_transient());
        assert!(error.to_string().contains("start it again"), "{error}");
    }

    // The moment of the expiry is one too late.
    let ten = CODES.replace("1800", "10");
    let server = Endpoint::replying([json(200, ten), pending()]);
    let (polls, end, _) = self::polls(&server).await;
    assert_eq!((polls, end), (vec![5.0], 10.0));
}

/// The clock of the code runs from when it was asked for, not from when it came.
#[tokio::test(start_paused = true)]
async fn a_slow_answer_leaves_less_time() {
    let server = Endpoint::replying([json(200, CODES.replace("1800", "12"))]);
    let slow = tower::service_fn(move |request| {
        let mut server = server.clone();
        async move {
            tokio::time::sleep(secs(8)).await;
            tower::Service::call(&mut server, request).await
        }
    });
    let endpoint = Endpoint::replying([]).builder().transport(slow).build();
    let start = Instant::now();
    let error = login(endpoint.unwrap()).await.unwrap_err();
    assert!(matches!(error, LoginError::Expired { .. }), "{error:?}");
    let elapsed = start.elapsed();
    assert!(
        elapsed < secs(12) + Duration::from_millis(10),
        "{elapsed:?}"
    );
}

/// The lifetime of the token counts from the poll that brought it.
// rule 18
#[tokio::test(start_paused = true)]
async fn the_first_token_is_the_one_that_the_last_poll_brought() {
    let pending = error("authorization_pending");
    let server = Endpoint::replying([codes(), pending, json(200, TOKEN)]);
    let source = login(server.build()).await.unwrap();
    tokio::time::advance(secs(20)).await;
    let token = source.token(Demand::default()).await.unwrap();
    assert_eq!(token.expose_secret(), "a");
    let left = token.lifetime().unwrap().as_secs_f64();
    assert!((39.0..=40.0).contains(&left), "{left}");
    assert_eq!(server.asked().len(), 3, "no other token was needed");
}

#[tokio::test(start_paused = true)]
async fn a_device_endpoint_that_gives_no_codes_is_named() {
    for (reply, part) in [
        (
            json(400, r#"{"error":"invalid_client"}"#),
            "https://as.example/device refused the client: invalid_client",
        ),
        (
            answer(200, &[("content-type", "text/html")], "<p>"),
            "no device authorization response (RFC 8628 §3.2): it is neither JSON nor a form",
        ),
        (json(200, "{}"), "it has no device_code"),
        (
            json(200, CODES.replace("WDJB", "\\u001b[2J")),
            "a code has a control character",
        ),
        (answer(404, &[], ""), "check the endpoint's URL"),
        (
            answer(307, &[("location", "https://b.example/")], ""),
            "points to https://b.example",
        ),
    ] {
        let server = Endpoint::replying([reply]);
        let login = DeviceCode::new(server.build()).login(|_| panic!("nothing to show"));
        let error = login.await.unwrap_err();
        assert!(!error.is_transient(), "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
    let server = Endpoint::replying([Reply::Broken]);
    assert!(login(server.build()).await.unwrap_err().is_transient());
}

// rule 9
#[tokio::test]
async fn what_cannot_be_asked_is_refused_before_anything_is_sent() {
    let server = Endpoint::replying([]);
    let unknown = TokenEndpoint::builder("https://as.example/token")
        .client_auth(ClientAuth::none("id"))
        .transport(server.clone());
    let error = login(unknown.build().unwrap()).await.unwrap_err();
    let shown = error.to_string();
    assert!(shown.contains(".device_authorization_endpoint("), "{shown}");
    let scope = DeviceCode::new(server.build()).scope("a\"b");
    let error = scope.login(|_| ()).await.unwrap_err();
    assert!(error.to_string().contains("byte 1"), "{error}");
    let nobody = server.builder().client_auth(ClientAuth::anonymous());
    let error = login(nobody.build().unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("ClientAuth::none"), "{error}");
    assert!(server.asked().is_empty());
}
