use std::{convert::Infallible, pin::Pin, sync::Mutex, task::Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full};

use super::*;
use crate::secret::Secret;

const GRANT: &[(&str, &str)] = &[("grant_type", "client_credentials")];
const TOKEN: &str = r#"{"access_token":"a","token_type":"Bearer","expires_in":60}"#;

fn builder() -> TokenEndpointBuilder {
    TokenEndpoint::builder("https://as.example/token?tenant=x")
        .client_auth(ClientAuth::basic("id", "hunter2"))
}

/// One byte a second.
struct Drip(Pin<Box<tokio::time::Sleep>>);

impl http_body::Body for Drip {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        std::task::ready!(self.0.as_mut().poll(cx));
        self.0 = Box::pin(tokio::time::sleep(Duration::from_secs(1)));
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b" ")))))
    }
}

// rule F32
#[tokio::test(start_paused = true)]
async fn the_deadline_is_total_and_a_server_that_drips_does_not_prolong_it() {
    let endpoint = builder()
        .transport(tower::service_fn(|_| async {
            let sleep = tokio::time::sleep(Duration::from_secs(1));
            Ok::<_, Infallible>(Response::new(Drip(Box::pin(sleep))))
        }))
        .build()
        .unwrap();
    let start = Clock::default().now().mono;
    let error = endpoint.exchange(GRANT).await.unwrap_err();
    let elapsed = Clock::default().now().mono - start;
    assert_eq!(elapsed, Duration::from_secs(10), "the default");
    assert!(error.is_transient());
    assert_eq!(
        error.to_string(),
        "the authorization server at https://as.example/token didn't answer within 10s; trying \
         again may help, or a longer .timeout(…)"
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_came_while_the_program_stood_still_counts() {
    let endpoint = builder()
        .transport(tower::service_fn(|_| async {
            let connection = tokio::spawn(async {
                tokio::time::sleep(Duration::from_secs(2)).await;
                // As a client does that reads on a task of its own.
                tokio::task::yield_now().await;
                Response::new(String::from(TOKEN))
            });
            Ok::<_, Infallible>(connection.await.unwrap())
        }))
        .build()
        .unwrap();
    let asked = tokio::spawn(async move { endpoint.exchange(GRANT).await.map(drop) });
    tokio::task::yield_now().await;
    tokio::time::advance(Duration::from_secs(60)).await;
    asked.await.unwrap().unwrap();
}

proptest::proptest! {
    // rules 16, F30: whatever comes, there is a verdict.
    #[test]
    fn any_answer_has_a_verdict(
        status in 100_u16..1000,
        label in proptest::option::of("(text/plain|application/x-www-form-urlencoded|[ -~]*)"),
        body in proptest::prop_oneof![
            proptest::collection::vec(proptest::num::u8::ANY, 0..64),
            proptest::strategy::Strategy::prop_map(
                ("[ -~]{0,9}", "-?[0-9]{0,40}(\\.[0-9]+)?(e[0-9]{1,3})?"),
                |(token, number)| {
                    let token = serde_json::Value::from(token);
                    format!(r#"{{"access_token":{token},"expires_in":{number}}}"#).into_bytes()
                },
            ),
        ],
    ) {
        let mut headers = HeaderMap::new();
        if let Some(label) = label {
            headers.insert(http::header::CONTENT_TYPE, label.parse().unwrap());
        }
        let expectation = Expectation {
            url: &Arc::from("https://as.example/token"),
            secrets: &Redactor::new([]),
            assume_lifetime: None,
            wrapped: &JsonPointer::default(),
            token_types: &[],
            now: Clock::default().now().wall,
        };
        let status = http::StatusCode::from_u16(status).unwrap();
        let verdict = expectation.judge(&Answer { status, headers, body: body.into() });
        if let Ok(TokenResponse { token, .. }) = &verdict {
            proptest::prop_assert!(status.is_success());
            proptest::prop_assert!(!token.expose_secret().is_empty());
        }
    }
}

#[tokio::test]
async fn each_request_asks_for_the_secret_and_carries_parameters_and_headers() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let transport = tower::service_fn({
        let seen = Arc::clone(&seen);
        move |request: Request<Full<Bytes>>| {
            let seen = Arc::clone(&seen);
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                seen.lock().unwrap().push((head, body));
                Ok::<_, Infallible>(Response::new(String::from(TOKEN)))
            }
        }
    });
    let count = Mutex::new(0);
    let secret = Secret::provided_by(move || {
        let mut count = count.lock().unwrap();
        *count += 1;
        Ok(format!("secret-{count}"))
    });
    let endpoint = TokenEndpoint::builder("https://as.example/token?tenant=x")
        .client_auth(ClientAuth::post("id", secret))
        .param("resource", "https://a.example")
        .param("resource", "https://b.example")
        .param("empty", "")
        .header("X-Key", "k")
        .transport(transport)
        .build()
        .unwrap();
    for _ in 0..2 {
        endpoint.exchange(GRANT).await.unwrap();
    }
    let seen = seen.lock().unwrap();
    for ((head, body), secret) in seen.iter().zip(["secret-1", "secret-2"]) {
        assert_eq!(head.uri, "https://as.example/token?tenant=x");
        assert_eq!(head.headers["x-key"], "k");
        assert!(head.headers["x-key"].is_sensitive());
        let expected = format!(
            "grant_type=client_credentials&resource=https%3A%2F%2Fa.example&\
             resource=https%3A%2F%2Fb.example&client_id=id&client_secret={secret}"
        );
        assert_eq!(*body, expected);
    }
    assert_eq!(seen.len(), 2);
}

#[tokio::test]
async fn a_failed_provider_may_recover_and_a_bad_secret_does_not() {
    let failing = Secret::provided_by(|| Err("vault is sealed".into()));
    let unused =
        tower::service_fn(|_| async { Ok::<_, Infallible>(Response::new(String::from("unused"))) });
    let fails_with = |auth| {
        let endpoint = builder()
            .client_auth(auth)
            .transport(unused)
            .build()
            .unwrap();
        async move { endpoint.exchange(GRANT).await.unwrap_err() }
    };
    let error = fails_with(ClientAuth::basic("id", failing)).await;
    assert!(
        error.is_transient() && error.to_string().contains("vault is sealed"),
        "{error}"
    );
    let error = fails_with(ClientAuth::basic_unencoded("id", "hunter2\n")).await;
    assert!(
        !error.is_transient() && !error.to_string().contains("hunter2"),
        "{error}"
    );
}

// rule F29
#[test]
fn an_endpoint_prints_names_and_no_values() {
    let builder = builder()
        .param("api_key", "hunter2-param")
        .header("x-api-key", "hunter2-header")
        .transport(tower::service_fn(|_| async {
            Ok::<_, Infallible>(Response::new(String::new()))
        }));
    let shown = format!("{builder:?}");
    assert!(
        !shown.contains("hunter2") && !shown.contains("tenant=x"),
        "{shown}"
    );
    let shown = format!("{:?}", builder.build().unwrap());
    assert!(
        shown.contains("api_key") && shown.contains("x-api-key"),
        "{shown}"
    );
    assert!(
        !shown.contains("hunter2") && !shown.contains("tenant=x"),
        "{shown}"
    );
}

// rule F29
#[tokio::test]
async fn a_server_that_repeats_what_stands_in_its_urls_query_does_not_show_it() {
    let answer = r#"{"error":"invalid_request","error_description":"no key hunter2-key+x in hunter2-key%2bx, tenant x"}"#;
    let endpoint = TokenEndpoint::builder("https://as.example/token?key=hunter2-key%2Bx&tenant=x")
        .client_auth(ClientAuth::none("id"))
        .transport(tower::service_fn(move |_| async move {
            Ok::<_, Infallible>(Response::new(String::from(answer)))
        }))
        .build()
        .unwrap();
    let error = endpoint.exchange(GRANT).await.unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("tenant x"), "{shown}");
}
