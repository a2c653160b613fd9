//! The examples of providers, and the token requests that they send, byte for byte.
#![allow(
    dead_code,
    clippy::duplicate_mod,
    reason = "examples have a `main`, and each brings the look-alikes along"
)]

#[path = "../../examples/providers/json_api.rs"]
mod json_api;
#[path = "../../examples/providers/quota.rs"]
mod quota;
#[path = "../../examples/providers/scoped_api.rs"]
mod scoped_api;
#[path = "../../examples/providers/tenant.rs"]
mod tenant;
#[path = "../../examples/providers/three_flows.rs"]
mod three_flows;

const FORM: &str = "application/x-www-form-urlencoded";
const SECRET_IN_FORM: &str = "client_id=shop-42&client_secret=s3cr3t%2Fof%2Bshop%3D42";

/// What a provider saw of the requests to one path: content type, credentials in the header, body.
macro_rules! seen {
    ($provider:expr, $path:expr) => {
        $provider
            .seen($path)
            .into_iter()
            .map(|request| {
                let header = |name: &str| match request.headers.get(name) {
                    Some(value) => value.to_str().unwrap().to_owned(),
                    None => String::new(),
                };
                (
                    header("content-type"),
                    header("authorization"),
                    request.body,
                )
            })
            .collect::<Vec<_>>()
    };
}

fn request(label: &str, authorization: &str, body: &str) -> (String, String, String) {
    (label.to_owned(), authorization.to_owned(), body.to_owned())
}

fn form(body: &str) -> (String, String, String) {
    request(FORM, "", &format!("{body}&{SECRET_IN_FORM}"))
}

#[tokio::test]
async fn scoped_api_asks_for_a_token_a_scope() {
    let provider = scoped_api::LookAlike::scoped_api().await.unwrap();
    let statuses = scoped_api::run(&provider).await.unwrap();
    assert_eq!(statuses, [200, 200, 200, 403]);
    let basic = "Basic c2hvcC00MjpzM2NyM3QlMkZvZiUyQnNob3AlM0Q0Mg==";
    let expected = ["read%3Aaccounts", "read%3Amoves"].map(|scope| {
        let body = format!("grant_type=client_credentials&scope={scope}");
        request(FORM, basic, &body)
    });
    assert_eq!(seen!(provider, "/oauth/token"), expected);
    assert_eq!(provider.seen("/moves").len(), 2, "a 403 isn't sent again");
}

#[tokio::test]
async fn three_flows_logs_in_rotates_and_asks_for_itself() {
    let provider = three_flows::LookAlike::three_flows().await.unwrap();
    let store = three_flows::Store::default();
    let statuses = three_flows::run(&provider, store.clone()).await.unwrap();
    assert_eq!(statuses, [200, 200, 200, 200]);

    let seen = seen!(provider, "/token");
    let verifier = form_urlencoded::parse(seen[0].2.as_bytes())
        .find(|(key, _)| key == "code_verifier")
        .map(|(_, value)| value.into_owned())
        .unwrap();
    assert_eq!(verifier.len(), 43);
    let redirect = "redirect_uri=https%3A%2F%2Fshop.example%2Fcallback";
    let code = format!("grant_type=authorization_code&code=code-1&{redirect}");
    assert_eq!(
        seen,
        [
            form(&format!("{code}&code_verifier={verifier}")),
            form("grant_type=refresh_token&refresh_token=refresh-1"),
            form("grant_type=client_credentials"),
        ]
    );
    assert_eq!(*store.lock().unwrap(), ["refresh-1", "refresh-2"]);
}

#[tokio::test]
async fn tenant_brings_the_latest_refresh_token_back() {
    let provider = tenant::LookAlike::tenant().await.unwrap();
    let statuses = tenant::run(&provider, "acme").await.unwrap();
    assert_eq!(statuses, [200, 200, 200, 200, 200]);
    let latest = |n| format!("grant_type=client_credentials&refresh_token=acme-refresh-{n}");
    assert_eq!(
        seen!(provider, "/acme/oauth/v2/token"),
        [
            form("grant_type=client_credentials"),
            form(&latest(1)),
            form(&latest(2)),
        ]
    );
}

#[tokio::test]
async fn quota_uses_one_token_while_it_is_valid() {
    let provider = quota::LookAlike::quota().await.unwrap();
    let statuses = quota::run(&provider).await.unwrap();
    assert!(statuses.iter().all(|status| *status == 200) && statuses.len() == 100);
    assert_eq!(
        seen!(provider, "/oauth/token"),
        [form(
            "grant_type=client_credentials&audience=https%3A%2F%2Fprices.example%2F"
        )]
    );
}

#[tokio::test]
async fn json_api_keeps_its_own_header_on_the_retry() {
    let provider = json_api::LookAlike::json_api().await.unwrap();
    let statuses = json_api::run(&provider).await.unwrap();
    assert_eq!(statuses, [200, 200, 200, 200]);
    let body = concat!(
        r#"{"grant_type":"client_credentials","scope":"crm_read crm_manage","#,
        r#""client_id":"shop-42","client_secret":"s3cr3t/of+shop=42"}"#
    );
    let json = || request("application/json", "", body);
    assert_eq!(seen!(provider, "/oauth2/token"), [json(), json()]);

    let calls = provider.seen("/contacts");
    let organisations = calls.iter().map(|call| &call.headers["x-api-org"]);
    assert_eq!(
        organisations.collect::<Vec<_>>(),
        ["acme", "globex", "acme", "acme"]
    );
    let tokens = calls.iter().map(|call| &call.headers["authorization"]);
    let [first, second] = ["Bearer token-1", "Bearer token-2"];
    assert_eq!(tokens.collect::<Vec<_>>(), [first, first, first, second]);
}
