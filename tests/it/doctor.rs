//! The example that asks a provider what it wants: what it finds, what that costs, and the code.
#![allow(
    dead_code,
    clippy::duplicate_mod,
    reason = "the example has a `main`, and brings the look-alikes along"
)]

#[path = "../../examples/doctor.rs"]
mod example;

use std::{cell::Cell, rc::Rc};

use self::example::{Budget, LookAlike, Patient, code, examine, look_alike, table};
use crate::support::raw::{Peer, Script, answer};

async fn admitted(name: &str) -> (Patient, LookAlike) {
    let mut patient = Patient::default();
    let provider = look_alike(name, &mut patient).await.unwrap();
    (patient, provider)
}

#[tokio::test]
async fn each_look_alike_is_found_out_with_three_token_requests_at_most() {
    for (name, path, spent, parts) in [
        (
            "scoped_api",
            "/oauth/token",
            2,
            ["ClientAuth::basic(", "ClientCredentials::new(endpoint))"],
        ),
        (
            "three_flows",
            "/token",
            2,
            ["ClientAuth::post(", ".build()?"],
        ),
        (
            "tenant",
            "/acme/oauth/v2/token",
            2,
            ["ClientAuth::post(", ".keep_refresh_token()"],
        ),
        (
            "quota",
            "/oauth/token",
            2,
            [
                "ClientAuth::post(",
                r#".param("audience", "https://prices.example/")"#,
            ],
        ),
        (
            "json_api",
            "/oauth2/token",
            3,
            [".encoding(Encoding::Json)", "// .assume_lifetime(…)"],
        ),
    ] {
        let (patient, provider) = admitted(name).await;
        let never = Budget::asking(|spent| panic!("asked for more after {spent}"));
        let findings = examine(&patient, &never).await.unwrap();
        assert!(findings.works(), "{name}: {}", table(&findings));
        assert_eq!(findings.spent, spent, "{name}");
        assert_eq!(provider.seen(path).len(), spent, "{name}");
        let code = code(&patient, &findings);
        assert!(code.contains(&patient.url), "{code}");
        for part in parts {
            assert!(code.contains(part), "{name}: {code}");
        }
        let shown = code + &table(&findings);
        assert!(!shown.contains(&patient.client_secret), "{shown}");
    }
}

#[tokio::test]
async fn a_scope_that_was_cut_and_a_wrong_secret_are_told() {
    let (mut patient, _provider) = admitted("json_api").await;
    patient.scope = String::from("crm_read crm_delete");
    let findings = examine(&patient, &Budget::asking(|_| true)).await.unwrap();
    let shown = table(&findings);
    assert!(shown.contains("crm_delete was not granted"), "{shown}");

    patient.client_secret = String::from("wr/ng");
    let asked = Rc::new(Cell::new(Vec::new()));
    let budget = Budget::asking({
        let asked = Rc::clone(&asked);
        move |spent| {
            asked.set([asked.take(), vec![spent]].concat());
            false
        }
    });
    let findings = examine(&patient, &budget).await.unwrap();
    assert!(!findings.works() && code(&patient, &findings).is_empty());
    assert_eq!(findings.spent, 3);
    assert_eq!(asked.take(), [3], "three are free, the fourth is asked for");
    assert!(table(&findings).contains("invalid_client"));
}

#[tokio::test]
async fn the_secret_goes_nowhere_while_it_is_unclear_who_is_asked() {
    let metadata =
        br#"{"issuer":"https://other.example","token_endpoint":"https://other.example/"}"#;
    let peer = Peer::start(Script {
        bytes: answer(200, &[("Content-Type", "application/json")], metadata),
        ..Script::default()
    })
    .await;
    let patient = |url| Patient {
        url,
        client_id: String::from("id"),
        client_secret: String::from("hunter2"),
        ..Patient::default()
    };
    let never = Budget::asking(|spent| panic!("asked for more after {spent}"));
    let Err(error) = examine(&patient(peer.url("")), &never).await else {
        panic!("another issuer's metadata was used");
    };
    assert!(
        error.to_string().contains("https://other.example"),
        "{error}"
    );
    let requests = peer.requests();
    assert!(
        requests.iter().all(|request| request.starts_with("GET ")),
        "{requests:?}"
    );

    let nobody = String::from("http://127.0.0.1:1/token");
    assert!(examine(&patient(nobody), &never).await.is_err());
}
