//! Grants that show the authorization server a token to get another one: what is sent, and which
//! token is shown after one was refused.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex},
};

use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tower_oauth::{
    AccessToken, ClientAuth, Demand, Encoding, EndpointError, InvalidResource, InvalidScope,
    InvalidToken, JwtBearer, Secret, TokenCache, TokenEndpoint, TokenEndpointBuilder, TokenError,
    TokenExchange, TokenSource, TokenType,
};

const TOKEN: &str = r#"{"access_token":"a","token_type":"Bearer","issued_token_type":"urn:x"}"#;

const BEARER: &str = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer";
const EXCHANGE: &str = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange";
const TYPE: &str = "urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3A";

/// An authorization server that keeps what it got and answers as it was told, or with a token.
#[derive(Clone, Default)]
struct Server {
    bodies: Arc<Mutex<Vec<String>>>,
    answers: Arc<Mutex<VecDeque<&'static str>>>,
}

impl Server {
    fn answering(answers: &[&'static str]) -> Self {
        let server = Self::default();
        server.answers.lock().unwrap().extend(answers);
        server
    }

    fn builder(&self, auth: ClientAuth) -> TokenEndpointBuilder {
        let server = self.clone();
        let transport = tower::service_fn(move |request: Request<Full<bytes::Bytes>>| {
            let server = server.clone();
            async move {
                let body = request.into_body().collect().await?.to_bytes();
                let body = String::from_utf8(body.to_vec()).unwrap();
                server.bodies.lock().unwrap().push(body);
                let answer = server.answers.lock().unwrap().pop_front();
                Ok::<_, Infallible>(Response::new(answer.unwrap_or(TOKEN).to_owned()))
            }
        });
        TokenEndpoint::builder("https://as.example/token")
            .client_auth(auth)
            .transport(transport)
    }

    fn endpoint(&self, auth: ClientAuth) -> TokenEndpoint {
        self.builder(auth).build().unwrap()
    }

    fn bodies(&self) -> Vec<String> {
        self.bodies.lock().unwrap().clone()
    }
}

async fn ask(source: &impl TokenSource) -> Result<AccessToken, TokenError> {
    source.token(Demand::default()).await
}

/// A source that caches: it hands out `<name>1` until that one is refused, then `<name>2`, ….
struct Caching {
    name: &'static str,
    number: Mutex<usize>,
}

fn caching(name: &'static str) -> Caching {
    let number = Mutex::new(1);
    Caching { name, number }
}

impl TokenSource for Caching {
    async fn token(&self, demand: Demand<'_>) -> Result<AccessToken, TokenError> {
        let mut number = self.number.lock().unwrap();
        let current = format!("{}{number}", self.name);
        if demand.rejected().map(AccessToken::expose_secret) == Some(&current) {
            *number += 1;
        }
        Ok(AccessToken::bearer(format!("{}{number}", self.name))?)
    }
}

// rules 1, 8, 69
#[tokio::test]
async fn an_assertion_is_sent_with_what_is_wanted_and_the_clients_own_authentication() {
    for (auth, client) in [
        (ClientAuth::anonymous(), ""),
        (ClientAuth::basic("id", "s3cr3t"), ""),
        (ClientAuth::none("id"), "&client_id=id"),
        (
            ClientAuth::post("id", "s3cr3t"),
            "&client_id=id&client_secret=s3cr3t",
        ),
    ] {
        let server = Server::default();
        let source = JwtBearer::new(server.endpoint(auth), Secret::from("h.p.s"))
            .scope("read  write")
            .resource("https://api.example/");
        assert_eq!(ask(&source).await.unwrap().expose_secret(), "a");
        assert_eq!(
            server.bodies(),
            [format!(
                "{BEARER}&assertion=h.p.s&scope=read+write&resource=https%3A%2F%2Fapi.example%2F\
                 {client}"
            )]
        );
    }
}

// rule 76
#[tokio::test]
async fn an_exchange_says_the_type_of_each_token_that_there_is() {
    let server = Server::default();
    let endpoint = || server.endpoint(ClientAuth::none("id"));
    let plain = TokenExchange::new(endpoint(), Secret::from("s"));
    ask(&plain).await.unwrap();
    ask(&plain.clone().actor_token_type(TokenType::JWT))
        .await
        .unwrap();
    let all = plain
        .subject_token_type(TokenType::ID_TOKEN)
        .actor(Secret::from("a"))
        .actor_token_type("urn:example:badge")
        .requested_token_type(TokenType::JWT)
        .scope("read")
        .resource("https://api.example/")
        .audience("one")
        .audience("two");
    ask(&all).await.unwrap();
    let plain =
        format!("{EXCHANGE}&subject_token=s&subject_token_type={TYPE}access_token&client_id=id");
    assert_eq!(
        server.bodies(),
        [
            plain.clone(),
            plain,
            format!(
                "{EXCHANGE}&subject_token=s&subject_token_type={TYPE}id_token&actor_token=a&\
                 actor_token_type=urn%3Aexample%3Abadge&requested_token_type={TYPE}jwt&scope=read&\
                 resource=https%3A%2F%2Fapi.example%2F&audience=one&audience=two&client_id=id"
            ),
        ]
    );
    assert_eq!(
        TokenType::ACCESS_TOKEN,
        TokenType::from("urn:ietf:params:oauth:token-type:access_token")
    );
}

#[tokio::test]
async fn json_carries_an_exchange_as_well() {
    let server = Server::default();
    let endpoint = server.builder(ClientAuth::anonymous());
    let endpoint = endpoint.encoding(Encoding::Json).build().unwrap();
    let source = TokenExchange::new(endpoint, Secret::from("s")).audience("one");
    ask(&source).await.unwrap();
    assert_eq!(
        server.bodies(),
        [
            r#"{"grant_type":"urn:ietf:params:oauth:grant-type:token-exchange","subject_token":"s","#
                .to_owned()
                + r#""subject_token_type":"urn:ietf:params:oauth:token-type:access_token","#
                + r#""audience":"one"}"#
        ]
    );
}

// rule 76
#[tokio::test]
async fn an_answer_that_does_not_say_what_it_issued_is_refused_unless_allowed() {
    for answer in [
        r#"{"access_token":"a","token_type":"Bearer"}"#,
        r#"{"access_token":"a","token_type":"Bearer","issued_token_type":""}"#,
        r#"{"access_token":"a","token_type":"Bearer","issued_token_type":null}"#,
    ] {
        let server = Server::answering(&[answer, answer]);
        let endpoint = server.endpoint(ClientAuth::none("id"));
        let source = TokenExchange::new(endpoint, Secret::from("s"));
        let error = ask(&source).await.unwrap_err();
        let cause = error.get_ref().downcast_ref::<EndpointError>();
        assert!(matches!(cause, Some(EndpointError::Malformed { .. })));
        assert!(error.to_string().contains("issued_token_type"), "{error}");
        let lenient = source.allow_missing_issued_token_type();
        assert_eq!(ask(&lenient).await.unwrap().expose_secret(), "a");
    }
    let not_applicable =
        r#"{"access_token":"a","token_type":"N_A","issued_token_type":"urn:ietf:x"}"#;
    let server = Server::answering(&[not_applicable]);
    let endpoint = server.endpoint(ClientAuth::none("id"));
    let source = TokenExchange::new(endpoint, Secret::from("s"));
    let error = ask(&source.allow_missing_issued_token_type()).await;
    let error = error.unwrap_err();
    let cause = error.get_ref().downcast_ref::<EndpointError>();
    assert!(matches!(cause, Some(EndpointError::TokenType { .. })));
}

/// What the two grants show to the server, token request by token request.
async fn shown(answers: &[&'static str], exchange: bool) -> Vec<String> {
    let server = Server::answering(answers);
    let endpoint = server.endpoint(ClientAuth::none("id"));
    if exchange {
        let source = TokenExchange::new(endpoint, caching("s")).actor(caching("a"));
        for _ in answers {
            let _ = ask(&source.clone()).await; // clones remember as one
        }
    } else {
        let source = JwtBearer::new(endpoint, caching("s"));
        for _ in answers {
            let _ = ask(&source.clone()).await;
        }
    }
    let shown = |body: &String| {
        let params: Vec<String> = form_urlencoded::parse(body.as_bytes())
            .filter(|(key, _)| ["assertion", "subject_token", "actor_token"].contains(&&**key))
            .map(|(_, value)| value.into_owned())
            .collect();
        params.join(" ")
    };
    server.bodies().iter().map(shown).collect()
}

#[tokio::test]
async fn a_token_that_the_server_refused_is_not_shown_again() {
    let grant = r#"{"error":"invalid_grant"}"#;
    let request = r#"{"error":"invalid_request"}"#;
    let token = r#"{"error":"invalid_token"}"#;
    let client = r#"{"error":"invalid_client"}"#;
    let busy = r#"{"error":"temporarily_unavailable"}"#;
    let answers = [
        TOKEN, grant, client, busy, TOKEN, TOKEN, request, token, TOKEN,
    ];
    // Who is refused for another reason leaves the last word about the token as it was.
    let numbers = [1, 1, 2, 2, 2, 2, 2, 3, 4];
    assert_eq!(
        shown(&answers, false).await,
        numbers.map(|number| format!("s{number}"))
    );
    assert_eq!(
        shown(&answers, true).await,
        numbers.map(|number| format!("s{number} a{number}"))
    );
}

#[tokio::test]
async fn an_api_that_refuses_the_new_token_says_nothing_of_the_one_shown() {
    let server = Server::default();
    let source = JwtBearer::new(server.endpoint(ClientAuth::none("id")), Onlooker);
    let cache = tower_oauth::TokenCache::from(source);
    cache.get().await.unwrap();
    cache.invalidate();
    cache.get().await.unwrap();
    assert_eq!(server.bodies().len(), 2);
}

/// Fails the test if it is told of a refused token.
struct Onlooker;

impl TokenSource for Onlooker {
    async fn token(&self, demand: Demand<'_>) -> Result<AccessToken, TokenError> {
        assert_eq!(demand.rejected(), None);
        Ok(AccessToken::bearer("h.p.s")?)
    }
}

// rules 9, 66
#[tokio::test]
async fn a_mistake_costs_neither_a_token_nor_a_request() {
    let never = || async { panic!("the source was asked") };
    let server = Server::default();
    let endpoint = || server.endpoint(ClientAuth::none("id"));
    let error = ask(&JwtBearer::new(endpoint(), never).scope("a\"b")).await;
    assert!(error.unwrap_err().get_ref().is::<InvalidScope>());
    let error = ask(&JwtBearer::new(endpoint(), never).resource("x")).await;
    assert!(error.unwrap_err().get_ref().is::<InvalidResource>());
    let error = ask(&TokenExchange::new(endpoint(), never).scope("a\"b")).await;
    assert!(error.unwrap_err().get_ref().is::<InvalidScope>());
    let error = ask(&TokenExchange::new(endpoint(), never).resource("x")).await;
    assert!(error.unwrap_err().get_ref().is::<InvalidResource>());
    assert!(server.bodies().is_empty());
}

#[tokio::test]
async fn a_source_that_fails_ends_it_as_it_says() {
    let server = Server::default();
    let endpoint = || server.endpoint(ClientAuth::none("id"));
    let sealed = || Secret::provided_by(|| Err("vault is sealed".into()));
    let good = || Secret::from("good");
    for error in [
        ask(&JwtBearer::new(endpoint(), sealed())).await,
        ask(&TokenExchange::new(endpoint(), sealed())).await,
        ask(&TokenExchange::new(endpoint(), good()).actor(sealed())).await,
    ] {
        let error = error.unwrap_err();
        assert!(error.is_transient());
        assert_eq!(error.to_string(), "vault is sealed");
    }
    for bad in ["", "hunter2 hunter2", "hunter2\n"] {
        let error = ask(&JwtBearer::new(endpoint(), Secret::from(bad))).await;
        let error = error.unwrap_err();
        assert!(!error.is_transient() && error.get_ref().is::<InvalidToken>());
    }
    assert!(server.bodies().is_empty());
}

#[tokio::test]
async fn a_file_is_read_each_time_without_the_line_break_at_its_end() {
    let path = std::env::temp_dir().join(format!("tower-oauth-{}", std::process::id()));
    let server = Server::default();
    let endpoint = server.endpoint(ClientAuth::none("id"));
    let source = JwtBearer::new(endpoint, Secret::from_file(&path));
    let missing = ask(&source).await.unwrap_err();
    assert!(missing.is_transient());
    assert!(missing.to_string().contains(path.to_str().unwrap()));
    for text in ["one", "two\n", "three\r\n"] {
        std::fs::write(&path, text).unwrap();
        ask(&source).await.unwrap();
    }
    for text in ["four\n\n", "five\r", " six"] {
        std::fs::write(&path, text).unwrap();
        let error = ask(&source).await.unwrap_err();
        assert!(error.get_ref().is::<InvalidToken>(), "{text:?}");
    }
    std::fs::remove_file(&path).unwrap();
    let expected = ["one", "two", "three"];
    assert_eq!(
        server.bodies(),
        expected.map(|text| format!("{BEARER}&assertion={text}&client_id=id"))
    );
}

// rule F29
#[tokio::test]
async fn a_server_that_repeats_the_token_does_not_show_it() {
    let echo = r#"{"error":"invalid_grant","error_description":"hunter2-h.hunter2-p.hunter2-s and hunter2-p"}"#;
    let server = Server::answering(&[echo, echo, echo]);
    let endpoint = || server.endpoint(ClientAuth::none("id"));
    let token = || Secret::from("hunter2-h.hunter2-p.hunter2-s");
    for error in [
        ask(&JwtBearer::new(endpoint(), token())).await,
        ask(&TokenExchange::new(endpoint(), token())).await,
        ask(&TokenExchange::new(endpoint(), Secret::from("x")).actor(token())).await,
    ] {
        let error = error.unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("[redacted] and [redacted]"), "{shown}");
    }
}

#[tokio::test]
async fn what_is_held_is_revoked_by_a_form_even_where_token_requests_are_json() {
    let server = Server::default();
    let endpoint = server
        .builder(ClientAuth::post("id", "s3cr3t"))
        .encoding(Encoding::Json)
        .revocation_endpoint("https://as.example/revoke")
        .build()
        .unwrap();
    let bearer = TokenCache::from(JwtBearer::new(endpoint.clone(), Secret::from("subject")));
    let exchange = TokenExchange::new(endpoint, Secret::from("subject"));
    for cache in [bearer, TokenCache::from(exchange)] {
        let token = cache.get().await.unwrap();
        cache.close().await.unwrap();
        let revocation = format!(
            "token={}&token_type_hint=access_token&client_id=id&client_secret=s3cr3t",
            token.expose_secret()
        );
        assert_eq!(server.bodies().last(), Some(&revocation));
    }
    assert_eq!(server.bodies().len(), 4, "{:?}", server.bodies());
}

/// What a server refused may be accepted a minute later, and with two tokens it isn't known which
/// was refused: no refusal is final.
#[tokio::test]
async fn a_token_that_was_refused_is_shown_again_where_there_is_no_other() {
    let path = std::env::temp_dir().join(format!("tower-oauth-actor-{}", std::process::id()));
    std::fs::write(&path, "actor").unwrap();
    let server = Server::answering(&[r#"{"error":"invalid_grant"}"#]);
    let endpoint = server.endpoint(ClientAuth::none("id"));
    let source =
        TokenExchange::new(endpoint, caching("subject")).actor(tower_oauth::FileToken::new(&path));
    let outcomes = [
        ask(&source).await.is_ok(),
        ask(&source).await.is_ok(),
        ask(&source).await.is_ok(),
    ];
    std::fs::remove_file(&path).unwrap();
    assert_eq!(outcomes, [false, false, true]);
}
