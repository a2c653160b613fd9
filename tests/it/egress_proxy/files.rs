//! The file that says where requests go: what is wrong with it is told by its key, without secrets.

use super::{
    example::{Config, Proxy},
    stand::ports,
};

#[test]
fn the_sample_is_a_good_one() {
    let sample = include_str!("../../../examples/egress_proxy/egress_proxy.toml");
    let config = Config::parse(sample).unwrap();
    let names: Vec<_> = config.upstream.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["kubernetes", "ledger.internal", "payments.internal"]
    );
    assert_eq!(config.upstream["payments.internal"].replay_limit, 65536);
    // With 9 s to give the tokens back and 1 s for the admin address, less than 30 s.
    assert_eq!(config.drain, 15);
    let without = sample.replace("\ndrain = 15\n", "\n");
    assert_ne!(without, sample);
    assert_eq!(Config::parse(&without).unwrap().drain, 15);
}

#[tokio::test]
async fn the_sample_starts() {
    let sample = include_str!("../../../examples/egress_proxy/egress_proxy.toml");
    let sample = sample.replace(":8080\"", ":0\"").replace(":8081\"", ":0\"");
    let proxy = Proxy::start(Config::parse(&sample).unwrap()).await.unwrap();
    assert!(proxy.stop().await);
}

#[tokio::test]
async fn what_is_wrong_is_told_by_its_key() {
    let good = [
        "origin = \"https://api.example.com\"",
        "token_endpoint = \"https://auth.example.com/token\"",
        "client_id = \"c\"",
        "client_secret_file = \"/run/secret\"",
    ];
    said(&upstream("a", &good))
        .await
        .expect("nothing is wrong with it");

    // A line that takes the place of one of the good ones, and what is said of it.
    for (line, parts) in [
        ("origin = 7", &["line 4", "origin", "string"][..]),
        (
            "origin = \"api.example.com\"",
            &["origin", "https://api.example.com"],
        ),
        (
            "origin = \"https://u:hunter2@api.example.com\"",
            &["origin", "leave them out"],
        ),
        (
            "origin = \"https://api.example.com/v1\"",
            &["origin", "path"],
        ),
        (
            "origin = \"http://api.example.com\"",
            &["origin", "https:", "allow_plaintext"],
        ),
        (
            "token_endpoint = \"http://auth.example.com/token\"",
            &["token endpoint", "https"],
        ),
        (
            "token_endpoint = \"auth.example.com\"",
            &["token endpoint", "https://"],
        ),
        ("client_id = \"\"", &["client id"]),
        // It may be the secret itself.
        (
            "client_secret_env = \"hunter2\"",
            &["client_secret_env", "environment variable"],
        ),
        (
            "client_secret = \"hunter2\"",
            &["line 7", "client_secret", "client_secret_file"],
        ),
        (
            "client_secret_file = [\"hunter2\"]",
            &["line 7", "client_secret_file", "string"],
        ),
        (
            "client_secret_file = hunter2",
            &["line 7", "client_secret_file"],
        ),
    ] {
        // By the first letters of its key: `client_se` is all three.
        let key = &line[..line.find(" =").unwrap().min(9)];
        let instead = |good: &&'static str| if good.starts_with(key) { line } else { good };
        let lines: Vec<_> = good.iter().map(instead).collect();
        assert_ne!(lines, good, "{line}");
        tells(&upstream("a", &lines), parts).await;
    }

    // A line that is one too many.
    for (line, parts) in [
        (
            "issuer = \"https://auth.example.com\"",
            &["token_file", "issuer", "token_endpoint"][..],
        ),
        (
            "token_file = \"/run/token\"",
            &["token_file", "issuer", "token_endpoint"],
        ),
        (
            "client_secret_env = \"PATH\"",
            &["client_secret_file", "client_secret_env"],
        ),
        ("auth = \"hunter\"", &["line 8", "auth", "basic", "post"]),
        ("replay_limit = \"64 KiB\"", &["line 8", "replay_limit"]),
        ("replay_limit = -1", &["line 8", "replay_limit"]),
        ("timeout = \"1 s\"", &["line 8", "timeout"]),
        ("http2 = 2", &["line 8", "http2"]),
        ("retries = 3", &["line 8", "retries", "replay_limit"]),
    ] {
        let lines = [&good[..], &[line]].concat();
        tells(&upstream("a", &lines), parts).await;
    }

    // A line that is missing.
    for (missing, parts) in [
        (0, &["line 3: missing", "origin"][..]),
        (1, &["issuer", "token_endpoint"]),
        (2, &["client_id"]),
        (3, &["client_secret_file", "client_secret_env"]),
    ] {
        let mut lines = good.to_vec();
        lines.remove(missing);
        tells(&upstream("a", &lines), parts).await;
    }

    let without = upstream("a", &good).replace(&ports(), "");
    tells(&without, &["line 1: missing", "listen"]).await;
    let same = upstream("A.internal", &good).replace(&ports(), "");
    let same = upstream("a.internal", &good) + &same;
    tells(&same, &["a.internal", "already"]).await;
    for name in ["a:80", "a/b", "http://a", "a b", "", "u@a"] {
        tells(&upstream(name, &good), &["upstream", "host"]).await;
    }
    tells(&ports(), &["upstream"]).await;
    tells(
        &format!("upstream = 7\n{}", ports()),
        &["line 1", "upstream"],
    )
    .await;
    let open = upstream("a", &good).replacen("127.0.0.1:0", "0.0.0.0:0", 1);
    tells(&open, &["listen", "loopback"]).await;
    let nowhere = upstream("a", &good).replacen("127.0.0.1:0", "localhost", 1);
    tells(&nowhere, &["line 1", "listen"]).await;
    tells(
        &format!("drains = 1\n{}", upstream("a", &good)),
        &["drains", "drain"],
    )
    .await;
    tells("listen = \"hunter2", &["line 1"]).await;
}

fn upstream(name: &str, lines: &[&str]) -> String {
    format!("{}[upstream.{name:?}]\n{}\n", ports(), lines.join("\n"))
}

async fn tells(file: &str, parts: &[&str]) {
    let Err(problem) = said(file).await else {
        panic!("nothing is wrong with\n{file}");
    };
    for part in parts {
        assert!(
            problem.contains(part),
            "{part:?} isn't in {problem:?}, of\n{file}"
        );
    }
    assert!(!problem.contains("hunter2"), "{problem}");
    assert!(!problem.contains('\n'), "{problem}");
}

async fn said(file: &str) -> Result<(), String> {
    let config = Config::parse(file)?;
    let started = Proxy::start(config).await;
    started.map(drop).map_err(|error| error.to_string())
}
