//! *Client authentication*: certificates in the TLS handshake (RFC 8705), and the roots that are
//! trusted.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use http::Response;
use rcgen::PKCS_ED25519;
use tokio::net::TcpListener;
use tower_oauth::{
    AccessToken, BoxError, ClientAuth, ClientCertificate, ClientCredentials, Demand, EndpointError,
    Secret, TokenEndpoint, TokenEndpointBuilder, TokenError, TokenSource,
};

use crate::support::{
    raw::answer,
    tls::{Authority, Pair, Seen, TlsServer, pem},
};

const TOKEN: &[u8] = br#"{"access_token":"a","token_type":"Bearer"}"#;

fn certificate(pair: &Pair) -> ClientCertificate {
    ClientCertificate::from_pem(pair.certificate_pem(), pair.key_pem())
}

fn at(server: &TlsServer, authority: &Authority, client_auth: ClientAuth) -> TokenEndpointBuilder {
    TokenEndpoint::builder(server.url("/token"))
        .root_certificates(authority.pem())
        .client_auth(client_auth)
}

async fn token(builder: TokenEndpointBuilder) -> Result<AccessToken, TokenError> {
    let source = ClientCredentials::new(builder.build().unwrap());
    source.token(Demand::default()).await
}

/// The certificates that clients showed, connection by connection.
fn shown(server: &TlsServer) -> Vec<Option<Vec<u8>>> {
    let seen = server.seen().into_iter();
    seen.map(|seen| match seen {
        Seen::Request { certificate, .. } => certificate,
        Seen::Nothing => panic!("a handshake failed"),
    })
    .collect()
}

// rule 64
#[tokio::test]
async fn the_certificate_is_shown_and_the_id_is_sent() {
    let authority = Authority::new();
    let server = TlsServer::for_clients_of(&authority, answer(200, &[], TOKEN));
    let pair = authority.sign("client");
    let auth = ClientAuth::tls("the id", certificate(&pair));
    token(at(&server, &authority, auth)).await.unwrap();
    let seen = server.seen();
    let [Seen::Request { certificate, bytes }] = &*seen else {
        panic!("{seen:?}");
    };
    assert_eq!(*certificate, Some(pair.certificate));
    let (head, form) = bytes.split_once("\r\n\r\n").unwrap();
    assert_eq!(form, "grant_type=client_credentials&client_id=the+id");
    assert!(!head.to_lowercase().contains("authorization"), "{head}");
}

// rule 65
#[tokio::test]
async fn a_rotated_certificate_is_shown_at_the_next_token_request() {
    let authority = Authority::new();
    let server = TlsServer::for_clients_of(&authority, answer(200, &[], TOKEN));
    let pairs = [(); 3].map(|()| authority.sign("client"));
    let current = Arc::new(Mutex::new(pairs[0].clone()));
    let read = |part: fn(&Pair) -> String| {
        let current = Arc::clone(&current);
        Secret::provided_by(move || Ok(part(&current.lock().unwrap())))
    };
    let certificate = ClientCertificate::from_pem(read(Pair::certificate_pem), read(Pair::key_pem));
    let auth = ClientAuth::tls("id", certificate);
    let source = ClientCredentials::new(at(&server, &authority, auth).build().unwrap());
    for pair in &pairs {
        *current.lock().unwrap() = pair.clone();
        source.token(Demand::default()).await.unwrap();
    }
    let expected = pairs.map(|pair| Some(pair.certificate));
    assert_eq!(shown(&server), expected);
}

#[tokio::test]
async fn keys_come_in_several_forms_and_files() {
    let authority = Authority::new();
    let server = TlsServer::for_clients_of(&authority, answer(200, &[], TOKEN));
    let pair = authority.sign("client");
    let both = [pair.key_pem(), pair.certificate_pem(), authority.pem()].concat();
    // RFC 5958 §2: the key of RFC 5915, which SEC1 names, is what PKCS#8 wraps.
    let wrapped = pair
        .key
        .windows(3)
        .position(|bytes| bytes == [4, 0x6d, 0x30]);
    let sec1 = pem("EC PRIVATE KEY", &pair.key[wrapped.unwrap() + 2..]);
    let edwards = authority.sign_for("client", &PKCS_ED25519);
    for (certificate, key) in [
        (both.clone(), both),
        (pair.certificate_pem(), sec1),
        (
            format!(
                "subject=CN\r\n{}",
                edwards.certificate_pem().replace('\n', "\r\n")
            ),
            edwards.key_pem(),
        ),
    ] {
        let auth = ClientAuth::tls("id", ClientCertificate::from_pem(certificate, key));
        token(at(&server, &authority, auth)).await.unwrap();
    }
    let expected = [&pair, &pair, &edwards].map(|pair| Some(pair.certificate.clone()));
    assert_eq!(shown(&server), expected);
}

#[tokio::test]
async fn a_certificate_that_the_server_does_not_take_is_the_operators_turn() {
    let authority = Authority::new();
    let server = TlsServer::for_clients_of(&authority, answer(200, &[], TOKEN));
    let from = |authority: Authority| certificate(&authority.sign("client"));
    for auth in [
        ClientAuth::tls("id", from(Authority::named("another"))),
        ClientAuth::tls("id", from(Authority::new())), // of the same name
        ClientAuth::basic("id", "s3cr3t"),
    ] {
        let error = token(at(&server, &authority, auth)).await.unwrap_err();
        assert!(!error.is_transient(), "{error}");
        let cause = error.get_ref().downcast_ref();
        assert!(
            matches!(cause, Some(EndpointError::CertificateRefused { .. })),
            "{error}"
        );
        assert!(error.to_string().contains("ClientAuth::tls"), "{error}");
    }
    let seen = server.saw(3).await;
    assert!(
        matches!(*seen, [Seen::Nothing, Seen::Nothing, Seen::Nothing]),
        "and it isn't tried again: {seen:?}"
    );
}

#[tokio::test]
async fn nothing_is_sent_without_a_certificate_and_its_key() {
    let authority = Authority::new();
    let server = TlsServer::start(&authority, answer(200, &[], TOKEN));
    let [one, other] = [(); 2].map(|()| authority.sign("client"));
    let says = |text: String| Secret::provided_by(move || Ok(text.clone()));
    let fails = || Secret::provided_by(|| Err(BoxError::from("vault is sealed")));
    for (certificate, key, part) in [
        (fails(), says(one.key_pem()), "vault is sealed"),
        (says(one.certificate_pem()), fails(), "vault is sealed"),
        // In the middle of a rotation.
        (
            says(one.certificate_pem()),
            says(other.key_pem()),
            "another certificate",
        ),
        (says(String::new()), says(one.key_pem()), "no certificate"),
        (
            says(one.certificate_pem()),
            says(String::new()),
            "no private key",
        ),
    ] {
        let auth = ClientAuth::tls("id", ClientCertificate::from_pem(certificate, key));
        let error = token(at(&server, &authority, auth)).await.unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
        assert!(error.is_transient(), "the next may be whole: {error}");
    }
    assert!(server.seen().is_empty());
}

fn refusal(builder: TokenEndpointBuilder) -> String {
    match builder.build() {
        Ok(endpoint) => panic!("{endpoint:?} was built"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn texts_that_hold_no_certificate_or_key_are_refused_when_it_is_built() {
    let authority = Authority::new();
    let [one, other] = [(); 2].map(|()| authority.sign("client"));
    let secret = one.key_pem().lines().nth(1).unwrap()[48..].to_owned();
    let encrypted = one.key_pem().replace("PRIVATE", "ENCRYPTED PRIVATE");
    let cut = one
        .certificate_pem()
        .replace("-----END CERTIFICATE-----", "");
    let provided = || Secret::provided_by(|| panic!("it isn't asked when it is built"));
    let text = |text: &str| Secret::from(text);
    for (certificate, key, part) in [
        (text(""), text(&one.key_pem()), "no certificate"),
        (text(&one.key_pem()), provided(), "no certificate"),
        (text(&cut), text(&one.key_pem()), "PEM"),
        (
            text(&pem("CERTIFICATE", b"x")),
            text(&one.key_pem()),
            "first certificate",
        ),
        (
            text(&one.certificate_pem()),
            text("hunter2"),
            "no private key",
        ),
        (provided(), text(&encrypted), "isn't encrypted"),
        (
            text(&one.certificate_pem()),
            text(&pem("PRIVATE KEY", b"hunter2")),
            "of a kind",
        ),
        (
            text(&one.certificate_pem()),
            text(&other.key_pem()),
            "another certificate",
        ),
    ] {
        let auth = ClientAuth::tls("id", ClientCertificate::from_pem(certificate, key));
        let builder = TokenEndpoint::builder("https://as.example/token").client_auth(auth);
        let message = refusal(builder);
        assert!(message.contains(part), "{message}");
        assert!(message.contains("client certificate"), "{message}");
        assert!(!message.contains("hunter2") && !message.contains(&secret));
    }
}

#[test]
fn a_certificate_that_would_never_be_shown_is_refused() {
    let authority = Authority::new();
    let tls = || ClientAuth::tls("id", certificate(&authority.sign("client")));
    let by_transport = || ClientAuth::tls_by_transport("id");
    let own = || tower::service_fn(|_| async { Ok::<_, Infallible>(Response::new(String::new())) });
    let https = || TokenEndpoint::builder("https://as.example/token");
    let http = || TokenEndpoint::builder("http://127.0.0.1:1/token");
    let secure = || TokenEndpoint::builder("https://as.example/token");
    for (builder, part) in [
        (https().transport(own()).client_auth(tls()), "never show"),
        (http().client_auth(tls()), "plain http"),
        (
            secure()
                .client_auth(tls())
                .revocation_endpoint("http://127.0.0.1:1/revoke"),
            "revocation endpoint",
        ),
        (https().client_auth(by_transport()), "tls_by_transport"),
        (
            https()
                .transport(own())
                .root_certificates(authority.pem())
                .client_auth(by_transport()),
            "root_certificates",
        ),
    ] {
        let message = refusal(builder);
        assert!(message.contains(part), "{message}");
    }
    // The transport may have one, and so may a proxy on this machine.
    assert!(
        https()
            .transport(own())
            .client_auth(by_transport())
            .build()
            .is_ok()
    );
    assert!(http().client_auth(by_transport()).build().is_ok());
}

// rule 24
#[tokio::test]
async fn the_given_roots_are_trusted_and_no_other() {
    let authority = Authority::new();
    let server = TlsServer::start(&authority, answer(200, &[], TOKEN));
    let basic = || ClientAuth::basic("id", "s3cr3t");
    // With another one beside it.
    let both = [Authority::new().pem(), authority.pem()].concat();
    let trusting = at(&server, &authority, basic()).root_certificates(both);
    token(trusting).await.unwrap();
    assert_eq!(shown(&server), [None]);
    let other = at(&server, &Authority::new(), basic());
    // A server is who its certificate says.
    let other_name = server.url("/token").replace("localhost", "127.0.0.1");
    let other_name = TokenEndpoint::builder(other_name)
        .root_certificates(authority.pem())
        .client_auth(basic());
    for (builder, advice) in [
        (other, [".root_certificates(", ".transport("]),
        (other_name, ["not valid for name", "use a host name"]),
    ] {
        let error = token(builder).await.unwrap_err().to_string();
        for part in ["certificate", "nothing was sent"].iter().chain(&advice) {
            assert!(error.contains(part), "{error}");
        }
    }
    let seen = server.saw(3).await;
    assert!(matches!(*seen, [_, Seen::Nothing, Seen::Nothing]));
}

/// Else a refresh token would pass for one that may have been redeemed, and a login for lost.
#[tokio::test(start_paused = true)]
async fn a_timeout_before_there_is_a_connection_says_that_nothing_was_sent() {
    // The kernel takes connections, and nobody ever says anything.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let asked = async |scheme: &str| {
        let endpoint = TokenEndpoint::builder(format!("{scheme}://127.0.0.1:{port}/token"))
            .root_certificates(Authority::new().pem())
            .client_auth(ClientAuth::basic("id", "s3cr3t"));
        let error = token(endpoint).await.unwrap_err();
        assert!(error.is_transient());
        error
    };
    let error = asked("https").await;
    let error = error.get_ref().downcast_ref().unwrap();
    assert!(
        matches!(error, EndpointError::Unreachable { .. }),
        "{error}"
    );
    for part in ["no connection within 10s", "nothing was sent", ".timeout("] {
        assert!(error.to_string().contains(part), "{error}");
    }
    let error = asked("http").await;
    let error = error.get_ref().downcast_ref().unwrap();
    assert!(matches!(error, EndpointError::TimedOut { .. }), "{error}");
}

#[test]
fn roots_that_are_none_are_refused() {
    let pair = Authority::new().sign("x");
    for (text, part) in [
        (String::new(), "none in the text"),
        (pair.key_pem(), "none in the text"),
        (pem("CERTIFICATE", b"x"), "X.509"),
        (String::from("-----BEGIN CERTIFICATE-----\nAAAA"), "PEM"),
    ] {
        for url in ["https://as.example/token", "http://127.0.0.1/token"] {
            let builder = TokenEndpoint::builder(url).client_auth(ClientAuth::none("id"));
            let message = refusal(builder.root_certificates(&text));
            assert!(message.contains(part), "{message}");
            assert!(message.contains("root certificates"), "{message}");
        }
    }
}
