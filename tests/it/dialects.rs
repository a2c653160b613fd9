//! Servers that depart from RFC 6749: token requests in JSON, answers in a wrapper.

use std::time::Duration;

use tower_oauth::{
    AccessToken, ClientAuth, ClientCredentials, Demand, Encoding, EndpointConfigError,
    TokenEndpoint, TokenEndpointBuilder, TokenError, TokenSource,
};

use crate::support::raw::{Peer, Script, answer};

const TOKEN: &str = r#"{"access_token":"a","token_type":"Bearer","expires_in":60}"#;

async fn server(status: u16, body: &str) -> Peer {
    let bytes = answer(status, &[], body.as_bytes());
    Peer::start(Script {
        bytes,
        ..Script::default()
    })
    .await
}

fn endpoint(server: &Peer) -> TokenEndpointBuilder {
    TokenEndpoint::builder(server.url("/token")).client_auth(ClientAuth::post("id", "s3cr3t"))
}

async fn ask(builder: TokenEndpointBuilder) -> Result<AccessToken, TokenError> {
    let source = ClientCredentials::new(builder.build().unwrap()).scope("read write");
    source.token(Demand::default()).await
}

// rule 5
#[tokio::test]
async fn a_token_request_in_json_has_these_bytes() {
    let server = server(200, TOKEN).await;
    let builder = endpoint(&server)
        .encoding(Encoding::Json)
        .param("audience", "https://a.example")
        .param("audience", "b \"c\"")
        .param("tenant", "x");
    ask(builder).await.unwrap();
    let request = &server.requests()[0];
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /token HTTP/1.1\r\n"), "{head}");
    assert!(
        head.contains("\r\ncontent-type: application/json\r\n"),
        "{head}"
    );
    assert_eq!(
        body,
        concat!(
            r#"{"grant_type":"client_credentials","scope":"read write","#,
            r#""audience":["https://a.example","b \"c\""],"tenant":"x","#,
            r#""client_id":"id","client_secret":"s3cr3t"}"#
        )
    );
}

#[tokio::test]
async fn a_wrapped_answer_is_found_and_an_error_beside_the_wrapper_too() {
    for (pointer, body) in [
        ("/data", format!(r#"{{"status":"ok","data":{TOKEN}}}"#)),
        (
            "/result/0/token",
            format!(r#"{{"result":[{{"token":{TOKEN}}}]}}"#),
        ),
        ("/a~1b", format!(r#"{{"a/b":{TOKEN}}}"#)),
        ("/data", TOKEN.to_owned()), // not wrapped after all
    ] {
        let token = ask(endpoint(&server(200, &body).await).answer_at(pointer)).await;
        let token = token.unwrap_or_else(|error| panic!("{body}: {error}"));
        assert_eq!(token.expose_secret(), "a");
        assert_eq!(token.lifetime(), Some(Duration::from_secs(60)));
    }
    for body in [
        r#"{"error":"invalid_scope"}"#,
        r#"{"data":{"error":"invalid_scope"}}"#,
        r#"{"data":null,"error":"invalid_scope"}"#,
    ] {
        let error = ask(endpoint(&server(400, body).await).answer_at("/data")).await;
        assert_eq!(
            error.unwrap_err().oauth_code(),
            Some("invalid_scope"),
            "{body}"
        );
    }
}

#[tokio::test]
async fn a_wrapped_token_is_judged_as_strictly_as_any() {
    for token in [
        r#"{"access_token":"hunter2","access_token":"hunter2"}"#,
        r#"{"access_token":"hunter2","token_type":"mac"}"#,
        r#"{"access_token":"hunter2\n"}"#,
        r#""hunter2""#,
    ] {
        let server = server(200, &format!(r#"{{"data":{token}}}"#)).await;
        let error = ask(endpoint(&server).answer_at("/data")).await.unwrap_err();
        assert!(!error.is_transient(), "{token}: {error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn what_is_no_json_pointer_is_refused_when_the_endpoint_is_built() {
    let server = server(200, TOKEN).await;
    for bad in ["data.token", "data/token", "/a~2"] {
        let error = endpoint(&server).answer_at(bad).build().unwrap_err();
        assert!(
            matches!(error, EndpointConfigError::AnswerAt { .. }),
            "{bad}: {error}"
        );
    }
    assert!(server.requests().is_empty());
}
