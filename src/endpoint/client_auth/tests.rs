use std::sync::Arc;

use http::{HeaderMap, Uri, header::AUTHORIZATION};
use http_body_util::{BodyExt, Full};

use super::{super::Encoding, *};

fn request(auth: &ClientAuth) -> http::Request<Full<Bytes>> {
    let mut request = TokenRequest::of([("grant_type", "x")]);
    auth.authenticate(&mut request, None, SystemTime::UNIX_EPOCH)
        .unwrap_or_else(|problem| panic!("{}", problem.at(&Arc::from("u"))));
    request.into_http(&Uri::from_static("/"), &HeaderMap::new(), Encoding::Form)
}

fn header(auth: &ClientAuth) -> HeaderValue {
    request(auth).headers()[AUTHORIZATION].clone()
}

async fn body(auth: &ClientAuth) -> Bytes {
    let body = request(auth).into_body();
    body.collect()
        .await
        .unwrap_or_else(|e| match e {})
        .to_bytes()
}

fn refusal(auth: &ClientAuth) -> String {
    match auth.authenticate(&mut TokenRequest::of([]), None, SystemTime::UNIX_EPOCH) {
        Ok(_) => panic!("{auth:?} was accepted"),
        Err(problem) => problem
            .at(&Arc::from("https://as.example/token"))
            .to_string(),
    }
}

// rule 2
#[test]
fn basic_encodes_both_halves() {
    for (id, secret, expected) in [
        // RFC 6749 §2.3.1
        (
            "s6BhdRkqt3",
            "7Fjfp0ZBr1KtDRbnfVdmIw",
            "Basic czZCaGRSa3F0Mzo3RmpmcDBaQnIxS3REUmJuZlZkbUl3",
        ),
        // a+b:p%3Aq
        ("a b", "p:q", "Basic YStiOnAlM0Fx"),
    ] {
        let header = header(&ClientAuth::basic(id, secret));
        assert_eq!(header, expected);
        assert!(header.is_sensitive());
    }
}

proptest::proptest! {
    // rule 2
    #[test]
    fn basic_carries_any_id_and_secret(id in ".*", secret in "\\PC*") {
        let header = header(&ClientAuth::basic(&*id, &*secret));
        let credentials = header.to_str().unwrap().strip_prefix("Basic ").unwrap();
        let pair = BASE64_STANDARD.decode(credentials).unwrap();
        let pair = String::from_utf8(pair).unwrap();
        let (id_half, secret_half) = pair.split_once(':').unwrap();
        for (half, whole) in [(id_half, &id), (secret_half, &secret)] {
            let query = format!("={half}");
            let decoded = form_urlencoded::parse(query.as_bytes()).next().unwrap().1;
            proptest::prop_assert_eq!(&*decoded, &**whole);
        }
    }
}

// rule F34
#[test]
fn basic_unencoded_encodes_neither() {
    let header = header(&ClientAuth::basic_unencoded("a b", "p:q"));
    assert_eq!(header, "Basic YSBiOnA6cQ=="); // a b:p:q
    assert!(header.is_sensitive());
}

// rule 1
#[tokio::test]
async fn there_is_one_method_per_request() {
    let basic = ClientAuth::basic("id", "pw");
    assert_eq!(body(&basic).await, "grant_type=x");
    let post = ClientAuth::post("i d", "p&w");
    assert_eq!(
        body(&post).await,
        "grant_type=x&client_id=i+d&client_secret=p%26w"
    );
    let none = ClientAuth::none("id");
    assert_eq!(body(&none).await, "grant_type=x&client_id=id");
    let anonymous = ClientAuth::anonymous();
    assert_eq!(body(&anonymous).await, "grant_type=x");
    for auth in [post, none, anonymous] {
        assert!(!request(&auth).headers().contains_key(AUTHORIZATION));
    }
}

#[test]
fn a_secret_that_can_be_none_is_refused() {
    for auth in [
        ClientAuth::basic("id", "hunter2\n"),
        ClientAuth::basic_unencoded("id", "hunter2\n"),
        ClientAuth::post("id", "hunter2\n"),
    ] {
        let message = refusal(&auth);
        assert!(message.contains("trim it"), "{message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
    // rule 8: a confidential client authenticates; left out, this would say it has no secret.
    assert!(refusal(&ClientAuth::post("id", "")).contains("empty"));
    // Some servers have clients whose password is empty.
    assert_eq!(header(&ClientAuth::basic("id", "")), "Basic aWQ6");
}

#[test]
fn an_id_that_basic_cannot_carry_unencoded_is_refused() {
    for id in ["a:b", "a\n", ""] {
        assert!(
            ClientAuth::basic_unencoded(id, "x").check(None).is_err(),
            "{id:?}"
        );
    }
    assert!(ClientAuth::basic("a:b", "x").check(None).is_ok());
    assert!(ClientAuth::basic("", "x").check(None).is_err());
    assert!(ClientAuth::anonymous().check(None).is_ok());
}

// RFC 6749 appendix A.1
#[test]
fn an_id_with_a_line_break_is_none() {
    for auth in [
        ClientAuth::basic("id\n", "s"),
        ClientAuth::basic_unencoded("id\n", "s"),
        ClientAuth::post("id\n", "s"),
        ClientAuth::none("id\n"),
        ClientAuth::tls_by_transport("id\n"),
        #[cfg(feature = "jwt")]
        ClientAuth::client_secret_jwt("id\n", "s"),
    ] {
        let refused = auth.check(Some("https://as.example")).unwrap_err();
        assert!(refused.to_string().contains("trim it"), "{refused}");
    }
}

#[test]
fn a_provider_without_a_secret_is_a_passing_failure() {
    let auth = ClientAuth::post("id", Secret::provided_by(|| Err("vault is sealed".into())));
    assert!(refusal(&auth).contains("vault is sealed"));
}

#[test]
fn every_form_of_the_secret_is_known_to_the_redactor() {
    let echo = "p:q p%3Aq aWQ6cCUzQXE= aWQ6cDpx";
    for (auth, left) in [
        (ClientAuth::basic("id", "p:q"), "aWQ6cDpx"),
        (ClientAuth::basic_unencoded("id", "p:q"), "aWQ6cCUzQXE="),
        (ClientAuth::post("id", "p:q"), "aWQ6cCUzQXE= aWQ6cDpx"),
    ] {
        let redactor = auth
            .authenticate(&mut TokenRequest::of([]), None, SystemTime::UNIX_EPOCH)
            .unwrap_or_else(|_| panic!("refused"));
        let shown = redactor.clean(echo).replace("[redacted]", "");
        assert_eq!(shown.trim(), left, "{auth:?}");
    }
}
