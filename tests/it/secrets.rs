//! *Secrets* never print: not in `Debug`, errors, logs or panics.
//!
//! Every flow runs with unique secrets and with all log lines of all crates kept, at TRACE; then
//! no eight bytes of a secret, raw, form-encoded or in base64, may stand in anything that was
//! shown.

use std::{
    error::Error,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{Request, header::AUTHORIZATION};
use tower_oauth::{
    AccessToken, AuthorizationCode, BoxError, ClientAuth, ClientCertificate, ClientCredentials,
    Demand, DeviceCode, JwtBearer, OAuthLayer, RefreshToken, Secret, TokenCache, TokenEndpoint,
    TokenEndpointBuilder, TokenError, TokenExchange, TokenSource,
};
use tracing::subscriber::NoSubscriber;
use tracing_subscriber::filter::LevelFilter;

use crate::support::{
    canary::{Log, Search, Shown, panics},
    endpoint::{Endpoint, json},
    raw::{End, Peer, Script, answer},
    servers::{ApiServer, AuthServer, ID},
    tls::{Authority, TlsServer},
    wire::{BOTH, Protocol, basic, cache, client, full, layered, post, request, send},
};

const CLIENT: &str = "Kq7!vX2p:Zt9%mW4+/Rb6~Ld8&Gh3=Yc5";
const PROVIDED: &str = "Uj5?nE8w:Ao1%sI6+/Pf9~Vx2&Mz7=Qk4";
const WRONG: &str = "Bd3!hT6y:Gr8%cN1+/Jw5~Se7&Xa9=Fo2";
const TOKEN: &str = "Wm4-kP9_tZ2.Hs6~Rv1-Qd8_";
const OWN: &str = "Ly7-jC3_bN5.Xf9~Gu2-Ta6_";
const PARAM: &str = "Ei2-wS8_pV4/Kz7~Mh1+Dn5_";
const HEADER: &str = "Of9-rB6_gL3.Ju4~Yt8-Cx1_";
const QUERY: &str = "Zn1-aH7_uQ5.Wk3~Ep9-Iv6_";
const ANSWERED: &str = "Ts8-fM2_xD6.Cb4~Oj7-Nw3_";
const CODE: &str = "Vb6-kR1_cY9/Dh5+Pz2~Gm8_";
const USER_CODE: &str = "Hx3-nT7_fA4.Lq8~Sw1-Bu5_";
const REFRESH: &str = "Gy6-kD1_rW9.Hn3~Pe7-Sb5_";
const ROTATED: &str = "Vc2-oJ8_tM4.Ua6~Xz1-Lf9_";
const ASSERTION: &str = "Gp4-cN7_eH1.Lq5~Ib9-Vs2_.Dt6-mR3_uZ8";
const ACTOR: &str = "Xa8-jF1_oW4.Cg7~Pk2-Ye5_.Ru9-nB6_iM3";

const ALL: &[&str] = &[
    CLIENT, PROVIDED, WRONG, TOKEN, OWN, PARAM, HEADER, QUERY, ANSWERED, CODE, USER_CODE, REFRESH,
    ROTATED, ASSERTION, ACTOR,
];

#[tokio::test] // one thread, so that the subscriber sees all
async fn no_secret_is_in_anything_that_is_shown() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(log.clone())
        .finish();
    // With one subscriber alone, an event that another test's thread reaches first is off for all
    // threads, as that one has none. With two, each thread's own is asked.
    let second = tracing::Dispatch::new(NoSubscriber::new());
    let subscribed = tracing::subscriber::set_default(subscriber);
    let panics = panics();
    let mut shown = Shown::default();

    tokens_are_used_and_renewed(&mut shown).await;
    clients_are_refused(&mut shown).await;
    tokens_are_shown_and_refused(&mut shown).await;
    #[cfg(feature = "jwt")]
    let key = jwts_are_signed_and_refused(&mut shown).await;
    answers_are_useless(&mut shown).await;
    nobody_answers(&mut shown).await;
    sources_panic(&mut shown).await;
    refresh_tokens_rotate(&mut shown).await;
    destinations_are_refused(&mut shown).await;
    users_log_in(&mut shown).await;
    devices_log_in(&mut shown).await;
    settings_are_wrong(&mut shown);
    nothing_is_discovered(&mut shown).await;
    let keys = certificates_are_refused(&mut shown).await;
    drop((subscribed, second));

    #[cfg(feature = "jwt")]
    let keys = [&*keys, &[key]].concat();
    let search = Search::new(&[ALL, &keys].concat());
    let (log, panics) = (log.text(), panics.lock().unwrap().clone());
    for (what, text) in [
        ("log", &*log),
        ("shown", shown.text()),
        ("panics", &*panics),
    ] {
        let hits = search.hits(text.as_bytes());
        assert!(hits.is_empty(), "in {what}:\n{}", hits.join("\n"));
    }
    assert!(panics.contains("the source gave up"));
    assert!(log.contains("h2::"), "HTTP/2 says what it does");
    #[cfg(feature = "tracing")]
    for event in [
        "access token fetched",
        "access token refused",
        "no access token could be",
    ] {
        assert!(log.contains(event), "{event}");
    }
}

/// The proof that the search can fail.
#[test]
fn a_canary_is_found_in_any_dress() {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let search = Search::new(ALL);
    let encoded: String = form_urlencoded::byte_serialize(CLIENT.as_bytes()).collect();
    for text in [
        format!("secret={CLIENT}"),
        format!("cut: {}", &CLIENT[..8]),
        format!("cut: {}", &CLIENT[CLIENT.len() - 8..]),
        format!("client_secret={encoded}"),
        format!("client_secret={}", encoded.to_lowercase()),
        format!(
            "Basic {}",
            BASE64_STANDARD.encode(format!("{ID}:{encoded}"))
        ),
        format!("Basic {}", BASE64_STANDARD.encode(format!("id:{CLIENT}"))),
        format!("Basic {}", BASE64_STANDARD.encode(format!("a:{CLIENT}"))),
        format!("{:?}", [CLIENT]),
    ] {
        let hits = search.hits(text.as_bytes());
        assert!(hits.iter().any(|hit| hit.starts_with(CLIENT)), "{text}");
    }
    for text in [
        "",
        "client-1",
        "Bearer",
        &CLIENT[..7],
        "a long text without any of them",
    ] {
        assert!(search.hits(text.as_bytes()).is_empty(), "{text}");
    }
    let mut shown = Shown::default();
    shown.error(&std::io::Error::other(TokenError::permanent(OWN)));
    assert!(!search.hits(shown.text().as_bytes()).is_empty());
}

async fn tokens_are_used_and_renewed(shown: &mut Shown) {
    let provider = Secret::provided_by(|| Ok(PROVIDED.to_owned()));
    for (secret, client_auth) in [
        (CLIENT, basic(CLIENT)),
        (CLIENT, ClientAuth::post(ID, CLIENT)),
        (PROVIDED, ClientAuth::basic(ID, provider.clone())),
        (PROVIDED, ClientAuth::post(ID, provider)),
    ] {
        for protocol in BOTH {
            let auth = AuthServer::start(secret, TOKEN);
            let api = ApiServer::start(&auth);
            let cache = cache(&auth, client_auth.clone());
            let client = client(protocol, &api, &cache);
            assert_eq!(post(&client, &api, 1).await.unwrap().status(), 200);
            auth.revoke();
            assert_eq!(post(&client, &api, 2).await.unwrap().status(), 200);
            assert_eq!(api.sends_of("2").len(), 2);
            let own = request(&api, "own").header(AUTHORIZATION, format!("Bearer {OWN}"));
            let answer = send(&client, own.body(full("x")).unwrap()).await.unwrap();
            assert_eq!(answer.status(), 401);
            assert_eq!(api.sends_of("own")[0].token.as_deref(), Some(OWN));

            let token = cache.get().await.unwrap();
            assert!(token.expose_secret().starts_with(TOKEN));
            shown.value(&token);
            shown.value(&(&cache, cache.state(), cache.watch()));
            shown.value(&client);
            let request = request(&api, 3).body(full("x")).unwrap();
            let on_its_way = tower::Service::call(&mut client.clone(), request);
            shown.value(&on_its_way);
            // The fresh token is refused in vain: its successor can't be fetched.
            auth.be_down(true);
            auth.revoke();
            assert_eq!(post(&client, &api, 4).await.unwrap().status(), 401);
            let error = post(&client, &api, 5).await.unwrap_err();
            show_error(shown, &*error);
            shown.value(&cache);
        }
    }
    // A source that looks at all it is given.
    let seen = Arc::new(Mutex::new(Shown::default()));
    let cache = TokenCache::from(Onlooker(Arc::clone(&seen)));
    for _ in 0..2 {
        cache.ready().await.unwrap();
        cache.invalidate();
    }
    let seen = seen.lock().unwrap();
    assert!(seen.text().contains("AccessToken"), "the refused one");
    shown.value(&seen.text());
}

struct Onlooker(Arc<Mutex<Shown>>);

impl TokenSource for Onlooker {
    async fn token(&self, demand: Demand<'_>) -> Result<AccessToken, TokenError> {
        self.0.lock().unwrap().value(&demand);
        Ok(AccessToken::bearer(TOKEN)?)
    }
}

/// The server repeats all that it was sent.
async fn clients_are_refused(shown: &mut Shown) {
    let auth = AuthServer::start(CLIENT, TOKEN);
    let api = ApiServer::start(&auth);
    let provider = || Secret::provided_by(|| Ok(WRONG.to_owned()));
    for client_auth in [
        ClientAuth::basic(ID, WRONG),
        ClientAuth::basic_unencoded(ID, WRONG),
        ClientAuth::post(ID, WRONG),
        ClientAuth::basic(ID, provider()),
        ClientAuth::post(ID, provider()),
    ] {
        shown.value(&client_auth);
        let cache = cache(&auth, client_auth);
        let client = client(Protocol::Http1, &api, &cache);
        let error = post(&client, &api, "refused").await.unwrap_err();
        assert!(error.to_string().contains("invalid_client"), "{error}");
        show_error(shown, &*error);
        shown.value(&(&cache, cache.state()));
    }
}

/// The server repeats all that it was sent, and knows nobody.
async fn tokens_are_shown_and_refused(shown: &mut Shown) {
    let auth = AuthServer::start(CLIENT, TOKEN);
    let endpoint = TokenEndpoint::builder(auth.url())
        .client_auth(ClientAuth::none(ID))
        .build()
        .unwrap();
    let bearer = JwtBearer::new(endpoint.clone(), Secret::from(ASSERTION));
    let exchange = TokenExchange::new(endpoint, Secret::from(ASSERTION))
        .actor(|| async { Ok(AccessToken::bearer(ACTOR)?) });
    shown.value(&(&bearer, &exchange));
    for cache in [TokenCache::from(bearer), TokenCache::from(exchange)] {
        let error = cache.get().await.unwrap_err();
        assert_eq!(error.oauth_code(), Some("invalid_client"));
        show_error(shown, &error);
        shown.value(&cache);
    }
    for bad in ["{TOKEN}\n", "{TOKEN} {TOKEN}"] {
        let bad = Secret::from(bad.replace("{TOKEN}", TOKEN));
        show_error(shown, &bad.token(Demand::default()).await.unwrap_err());
    }
}

/// Hands back the key, which must not be shown either.
#[cfg(feature = "jwt")]
async fn jwts_are_signed_and_refused(shown: &mut Shown) -> &'static str {
    use base64::{Engine, prelude::BASE64_STANDARD};
    use tower_oauth::{SignedJwt, SigningKey};

    let key = rcgen::KeyPair::generate().unwrap().serialize_der();
    let key: &str = BASE64_STANDARD.encode(key).leak();
    let pem =
        |body: &str| format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
    let auth = AuthServer::start(CLIENT, TOKEN);
    let builder = |client_auth| {
        TokenEndpoint::builder(auth.url())
            .issuer("https://as.example")
            .client_auth(client_auth)
    };
    for client_auth in [
        ClientAuth::private_key_jwt(ID, SigningKey::es256(pem(key))),
        ClientAuth::client_secret_jwt(ID, PROVIDED),
    ] {
        shown.value(&client_auth);
        let endpoint = builder(client_auth).build().unwrap();
        let source = ClientCredentials::new(endpoint);
        let error = source.token(Demand::default()).await.unwrap_err();
        assert_eq!(error.oauth_code(), Some("invalid_client"));
        show_error(shown, &error);
    }
    // Damaged, for another algorithm, and no PEM text.
    for bad in [
        SigningKey::es256(pem(&key[4..])),
        SigningKey::rs256(pem(key)),
        SigningKey::es256(key),
    ] {
        let source = SignedJwt::new(bad.clone()).issuer("i").audience("a");
        shown.value(&(&bad, &source));
        show_error(shown, &source.token(Demand::default()).await.unwrap_err());
        let endpoint = builder(ClientAuth::private_key_jwt(ID, bad));
        show_error(shown, &endpoint.build().unwrap_err());
    }
    let bad = ClientAuth::client_secret_jwt(ID, format!("{CLIENT}\n"));
    show_error(shown, &builder(bad).build().unwrap_err());
    key
}

async fn answers_are_useless(shown: &mut Shown) {
    let token = |rest: &str| format!("{{\"access_token\":\"{ANSWERED}\"{rest}");
    let echo = |field: &str, secret: &str| {
        let mut error = serde_json::json!({"error": "invalid_request"});
        let encoded: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        error[field] = format!("is it {secret}? {encoded}? {CLIENT}").into();
        error.to_string()
    };
    let json = "application/json";
    for (status, kind, body) in [
        (200, json, token("")),
        (200, json, token("}")),
        (200, json, token(", \"token_type\":\"mac\"}")),
        (200, json, token(" and more\", \"token_type\":\"Bearer\"}")),
        (
            200,
            json,
            format!("{{\"access_token\":\"{ANSWERED} b\",\"token_type\":\"Bearer\"}}"),
        ),
        (200, json, format!("\"{ANSWERED}\"")),
        (200, "text/html", format!("<p>{CLIENT} {ANSWERED}")),
        (500, "text/html", format!("<p>{CLIENT} {ANSWERED}")),
        (401, "text/plain", format!("{CLIENT} {ANSWERED}")),
        (200, &*format!("text/html; secret={CLIENT}"), String::new()),
        (400, json, echo("error_description", CLIENT)),
        (400, json, echo("error_uri", CLIENT)),
        (400, json, echo("error", CLIENT)),
        (400, json, echo("error_description", PARAM)),
        (400, json, echo("error_description", HEADER)),
        (307, json, String::new()),
    ] {
        let location = format!("http://user:{ANSWERED}@127.0.0.1:1/{ANSWERED}?{ANSWERED}");
        let headers = [("Content-Type", kind), ("Location", &location)];
        let bytes = answer(status, &headers, body.as_bytes());
        let peer = Peer::start(Script {
            bytes,
            ..Script::default()
        })
        .await;
        let source = ClientCredentials::new(endpoint(&peer.url("")).build().unwrap());
        match source.token(Demand::default()).await {
            Ok(token) => shown.value(&token), // some servers leave the type out
            Err(error) => show_error(shown, &error),
        }
        assert_eq!(peer.requests().len(), 1);
        shown.value(&source);
    }
}

/// With secrets wherever there is room for one.
fn endpoint(origin: &str) -> TokenEndpointBuilder {
    TokenEndpoint::builder(format!("{origin}/token?key={QUERY}"))
        .client_auth(ClientAuth::basic(ID, CLIENT))
        .param("api_key", PARAM)
        .header("x-api-key", HEADER)
}

async fn nobody_answers(shown: &mut Shown) {
    for end in [End::Close, End::Reset, End::Silence] {
        let peer = Peer::start(Script {
            end,
            ..Script::default()
        })
        .await;
        // However long it is waited for, silence stays.
        let timeout = match end {
            End::Silence => Duration::from_millis(1),
            End::Close | End::Reset => Duration::from_secs(60),
        };
        let endpoint = endpoint(&peer.url("")).timeout(timeout);
        shown.value(&endpoint);
        let endpoint = endpoint.build().unwrap();
        shown.value(&endpoint);
        let source = ClientCredentials::new(endpoint);
        let error = source.token(Demand::default()).await.unwrap_err();
        show_error(shown, &error);
        let cache = TokenCache::builder(source);
        shown.value(&cache);
        let error = cache.build().get().await.unwrap_err();
        show_error(shown, &error);
    }
    let never = || async { std::future::pending().await };
    let cache = TokenCache::builder(never).deadline(Duration::ZERO).build();
    show_error(shown, &cache.get().await.unwrap_err());
}

async fn sources_panic(shown: &mut Shown) {
    let holding = || async {
        let token = AccessToken::bearer(TOKEN)?;
        panic!("the source gave up: {token:?}");
    };
    show_error(shown, &TokenCache::from(holding).get().await.unwrap_err());

    let auth = AuthServer::start(CLIENT, TOKEN);
    let sealed = Secret::provided_by(|| panic!("the source gave up: no vault"));
    let cache = cache(&auth, ClientAuth::post(ID, sealed));
    show_error(shown, &cache.get().await.unwrap_err());
}

async fn refresh_tokens_rotate(shown: &mut Shown) {
    let rotated = format!("{{\"access_token\":\"{TOKEN}\",\"refresh_token\":\"{ROTATED}\"}}");
    let echo = |code: &str| {
        let told = format!("{REFRESH} {ROTATED} {TOKEN}");
        format!("{{\"error\":\"{code}\",\"error_description\":\"{told}\"}}")
    };
    for (status, body) in [
        (200, rotated),
        // What the server repeats is what it was sent: here that isn't the whole pair.
        (
            400,
            echo("invalid_grant").replace(&format!("{ROTATED} {TOKEN}"), ""),
        ),
        (503, String::new()),
    ] {
        let bytes = answer(status, &[], body.as_bytes());
        let peer = Peer::start(Script {
            bytes,
            ..Script::default()
        })
        .await;
        let endpoint = endpoint(&peer.url("")).revocation_endpoint(peer.url("/revoke"));
        let endpoint = endpoint.build().unwrap();
        let seen = Arc::new(Mutex::new(Shown::default()));
        let source = RefreshToken::new(endpoint.clone(), REFRESH).on_rotation({
            let seen = Arc::clone(&seen);
            move |pair| {
                seen.lock().unwrap().value(&pair);
                async { Err("disk full".into()) }
            }
        });
        shown.value(&source);
        for _ in 0..2 {
            let error = source.token(Demand::default()).await.unwrap_err();
            show_error(shown, &error);
        }
        let held = AccessToken::bearer(TOKEN).unwrap();
        if let Err(error) = source.revoke(Some(&held)).await {
            show_error(shown, &error);
        }
        shown.value(&source);
        shown.value(&seen.lock().unwrap().text());
        let kept = ClientCredentials::new(endpoint).keep_refresh_token();
        let _ = kept.token(Demand::default()).await;
        shown.value(&kept);
        let cache = TokenCache::from(source);
        if let Err(error) = cache.close().await {
            show_error(shown, &error);
        }
        shown.value(&(&cache, cache.state()));
        show_error(shown, &cache.get().await.unwrap_err());
    }
    for text in ["", "Gy6-kD1_rW9.Hn3~Pe7-Sb5_\n"] {
        let endpoint = endpoint("http://127.0.0.1:1").build().unwrap();
        let source = RefreshToken::new(endpoint, text);
        let error = source.token(Demand::default()).await.unwrap_err();
        show_error(shown, &error);
    }
}

async fn destinations_are_refused(shown: &mut Shown) {
    let source = || async { Ok(AccessToken::bearer(TOKEN)?) };
    for (layer, uri) in [
        (
            OAuthLayer::for_any_origin(source),
            format!("http://user:{QUERY}@api.example/{QUERY}?key={QUERY}"),
        ),
        (
            OAuthLayer::for_origins(["https://a.example", "https://b.example"], source).unwrap(),
            format!("/{QUERY}?key={QUERY}"),
        ),
    ] {
        let request = Request::get(uri).body(full("")).unwrap();
        let error = send(&layered(Protocol::Http1, &layer), request)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("was not sent"), "{error}");
        show_error(shown, &*error);
        shown.value(&layer);
    }
    for scheme in ["https", "http", "ftp"] {
        for rest in [
            format!("user:{QUERY}@api.example"),
            format!("user:{QUERY}@api.example/path"),
            format!("user:{QUERY}@api.example:99999"),
            format!("user:{QUERY}/@api.example"),
            format!("api.example/?key={QUERY}"),
            format!("api.example#{QUERY}"),
            format!("api.example:99999?key={QUERY}"),
        ] {
            match OAuthLayer::for_origin(format!("{scheme}://{rest}"), source) {
                Ok(layer) => panic!("{layer:?} from {rest}"),
                Err(error) => show_error(shown, &error),
            }
        }
    }
}

/// By a browser; the server repeats all that it was sent.
async fn users_log_in(shown: &mut Shown) {
    let echo = format!(r#"{{"error":"invalid_grant","error_description":"{CODE}? {CLIENT}?"}}"#);
    let token = format!(r#"{{"access_token":"{TOKEN}","refresh_token":"{ANSWERED}"}}"#);
    let broken = format!(r#"{{"access_token":"{TOKEN} ","refresh_token":"{ANSWERED}"}}"#);
    let server = Endpoint::replying([json(400, echo), json(200, broken), json(200, token)]);
    let endpoint = server
        .builder()
        .authorization_endpoint(format!("https://as.example/authorize?key={QUERY}"))
        .issuer("https://as.example")
        .client_auth(ClientAuth::post(ID, CLIENT))
        .param("api_key", PARAM)
        .build()
        .unwrap();
    let authorization = AuthorizationCode::new(endpoint.clone(), "https://app.example/cb");
    let authorization = authorization.param("login_hint", OWN);
    #[cfg(feature = "loopback")]
    shown.value(&AuthorizationCode::listen_on_loopback(endpoint).param("login_hint", OWN));
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let (code, param) = (encoded(CODE), encoded(PARAM));
    for rest in [
        format!("code={code}"),
        format!("code={code}"),
        format!("code={code}"),
        format!("code={code}&code={code}"),
        format!("code={code}&iss=https://evil.example/{param}"),
        format!("error=x{param}&error_description={param}&error_uri={param}&code={code}"),
        format!("code={code}&state={code}"),
    ] {
        let login = authorization.start().unwrap();
        shown.value(&(&login, &authorization));
        let state = login.url().split("state=").nth(1).unwrap();
        let state = state.split('&').next().unwrap();
        let response = format!("https://app.example/cb?state={state}&{rest}");
        match login.finish(&response).await {
            Ok(source) => shown.value(&source),
            Err(error) => shown.error(&error),
        }
    }
    assert_eq!(server.asked().len(), 3);
}

async fn devices_log_in(shown: &mut Shown) {
    let codes = format!(
        r#"{{"device_code":"{CODE}","user_code":"{USER_CODE}","verification_uri":"https://as.example/",
        "verification_uri_complete":"https://as.example/{USER_CODE}"}}"#
    );
    let broken = codes.replace("\"user_code\"", "\"code\"");
    let echo = format!(r#"{{"error":"access_denied","error_description":"{CODE}? {CLIENT}?"}}"#);
    for replies in [
        [json(200, codes), json(400, &*echo)],
        [json(200, broken), json(400, &*echo)],
        [json(400, echo.replace(CODE, "")), json(400, &*echo)],
    ] {
        let server = Endpoint::replying(replies).builder();
        let server = server.client_auth(ClientAuth::basic(ID, CLIENT));
        let login = DeviceCode::new(server.build().unwrap());
        shown.value(&login);
        // Real time would be five seconds of it.
        tokio::time::pause();
        let outcome = login.login(|prompt| shown.value(prompt)).await;
        tokio::time::resume();
        shown.error(&outcome.unwrap_err());
    }
}

async fn nothing_is_discovered(shown: &mut Shown) {
    let at = |issuer: String| {
        let search = TokenEndpoint::discover(issuer);
        search
            .header("x-api-key", HEADER)
            .timeout(Duration::from_secs(60))
    };
    let document = |issuer: &str, url: &str| {
        let document = serde_json::json!({"issuer": issuer, "token_endpoint": url});
        document.to_string()
    };
    let location = format!("http://user:{ANSWERED}@127.0.0.1:1/{ANSWERED}?{ANSWERED}");
    for (status, body) in [
        (404, format!("<p>{ANSWERED}")),
        (503, format!("<p>{ANSWERED}")),
        (302, String::new()),
        (200, document(&format!("is it {HEADER}?"), "")),
        (200, format!("\"{ANSWERED}\"")),
    ] {
        let bytes = answer(status, &[("Location", &location)], body.as_bytes());
        let peer = Peer::start(Script {
            bytes,
            ..Script::default()
        })
        .await;
        let search = at(peer.url(""));
        shown.value(&search);
        let error = search.await.unwrap_err();
        show_error(shown, &error);
        show_error(shown, &TokenError::from(error));
    }
    for issuer in [
        format!("https://auth.example/?key={QUERY}"),
        format!("https://user:{QUERY}@auth.example"),
        format!("http://auth.example?{QUERY}"),
        format!("http://auth.example#{QUERY}"),
        format!("auth.example?{QUERY}"),
    ] {
        let search = at(issuer);
        shown.value(&search);
        show_error(shown, &search.await.unwrap_err());
    }
}

/// Gives back what may not be shown of the keys, which are new each time.
async fn certificates_are_refused(shown: &mut Shown) -> Vec<&'static str> {
    let authority = Authority::new();
    let token = br#"{"access_token":"a","token_type":"Bearer"}"#;
    let server = TlsServer::for_clients_of(&authority, answer(200, &[], token));
    let [known, stranger] = [&authority, &Authority::named("another")].map(|by| by.sign("client"));
    for (certificate, key) in [
        (&known, &known),
        (&known, &stranger),
        (&stranger, &stranger),
    ] {
        for provided in [false, true] {
            let secret = |text: String| match provided {
                true => Secret::provided_by(move || Ok(text.clone())),
                false => Secret::from(text),
            };
            let certificate = ClientCertificate::from_pem(
                secret(certificate.certificate_pem()),
                secret(key.key_pem()),
            );
            let auth = ClientAuth::tls(ID, certificate.clone());
            shown.value(&(&certificate, &auth));
            let endpoint = endpoint(&server.url("")).root_certificates(authority.pem());
            let endpoint = endpoint.client_auth(auth);
            shown.value(&endpoint);
            match endpoint.build() {
                Ok(endpoint) => {
                    shown.value(&endpoint);
                    let source = ClientCredentials::new(endpoint);
                    match source.token(Demand::default()).await {
                        Ok(token) => shown.value(&token),
                        Err(error) => show_error(shown, &error),
                    }
                }
                Err(error) => show_error(shown, &error),
            }
        }
    }
    // The private number, which stands at the end of the first line and goes on in the second.
    [known, stranger]
        .into_iter()
        .flat_map(|pair| {
            let text: &'static str = String::leak(pair.key_pem());
            let mut lines = text.lines().skip(1);
            [&lines.next().unwrap()[48..], &lines.next().unwrap()[..24]]
        })
        .collect()
}

fn settings_are_wrong(shown: &mut Shown) {
    shown.value(&(Secret::from(CLIENT), sensitive(OWN)));
    let at = |rest: &str| endpoint("http://127.0.0.1:1").param("more", rest);
    for builder in [
        at("").param("api_key", PARAM),
        at("").param("client_secret", CLIENT),
        at("").header("authorization", HEADER),
        at("").header("x-key", format!("{HEADER}\n")),
        at("").header(" ", HEADER),
        at("").client_auth(ClientAuth::basic_unencoded("a:b", CLIENT)),
        endpoint(&format!("http://user:{CLIENT}@127.0.0.1:1")),
        endpoint(&format!("ftp://user:{QUERY}@auth.example")),
        endpoint("http://auth.example"),
    ] {
        shown.value(&builder);
        show_error(shown, &builder.build().unwrap_err());
    }
    for text in [format!("{TOKEN}\n"), format!(" {TOKEN}")] {
        show_error(shown, &AccessToken::bearer(text).unwrap_err());
    }
}

fn show_error(shown: &mut Shown, error: &(dyn Error + 'static)) {
    shown.error(error);
    if let Some(error) = error.downcast_ref::<TokenError>() {
        shown.value(&error.get_ref());
        shown.value(&(error.oauth_code(), error.clone()));
        let boxed: BoxError = Box::new(error.clone());
        shown.value(&boxed);
    }
}

fn sensitive(token: &str) -> http::HeaderValue {
    let mut value: http::HeaderValue = format!("Bearer {token}").parse().unwrap();
    value.set_sensitive(true);
    value
}
