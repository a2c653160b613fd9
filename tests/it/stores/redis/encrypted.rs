//! `rediss://`: who is trusted.

use std::{env, fs, process::Command};

use tower_oauth::store::Redis;

use super::{
    all_fail, each_operation,
    server::{Server, free_ports},
};
use crate::support::tls::Authority;

/// Serves TLS as `localhost`, and where its authority's certificate lies.
async fn serving(authority: &Authority) -> Option<(Server, String, String)> {
    let pair = authority.sign("localhost");
    let mut server = Server::stopped(&[])?;
    let file = |name: &str, content: String| {
        let path = server.folder().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let certificate = file("certificate", pair.certificate_pem());
    let private = file("private", pair.key_pem());
    let root = file("root", authority.pem());
    let [port, _] = free_ports();
    server.add(&["--tls-port", &port, "--tls-auth-clients", "no"]);
    server.add(&["--tls-cert-file", &certificate]);
    server.add(&["--tls-key-file", &private]);
    server.add(&["--tls-ca-cert-file", &root]);
    server.run().await;
    Some((server, format!("localhost:{port}"), root))
}

#[tokio::test]
async fn a_certificate_that_nobody_trusts_is_refused_and_named() {
    let Some((_server, host, _)) = serving(&Authority::new()).await else {
        return;
    };
    let store = Redis::new(&format!("rediss://{host}")).unwrap();
    all_fail(&store, false, &["certificate that isn't trusted", &host]).await;
}

/// The system's certificates are those that a variable names; for that, this test starts itself again.
#[tokio::test]
async fn a_certificate_that_the_system_trusts_is_enough() {
    const URL: &str = "TOWER_OAUTH_TEST_REDISS";
    if let Ok(url) = env::var(URL) {
        let store = Redis::new(&url).unwrap();
        for outcome in each_operation(&store).await {
            outcome.unwrap();
        }
        return println!("all six by TLS");
    }
    let Some((_server, host, root)) = serving(&Authority::new()).await else {
        return;
    };
    let name = "a_certificate_that_the_system_trusts_is_enough";
    let mut again = Command::new(env::current_exe().unwrap());
    again.args([name, "--nocapture"]);
    again.env("SSL_CERT_FILE", root).env_remove("SSL_CERT_DIR");
    again.env(URL, format!("rediss://{host}"));
    let ran = tokio::task::spawn_blocking(move || again.output().unwrap()).await;
    let said = String::from_utf8(ran.unwrap().stdout).unwrap();
    assert!(said.contains("all six by TLS"), "{said}");
}
