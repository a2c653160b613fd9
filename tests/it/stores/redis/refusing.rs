//! A Redis that answers, but not as it should.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tower_oauth::store::{EncryptionKey, Redis, TokenStore};

use super::{
    all_fail, each_operation, key, lease, read,
    server::{Server, free_ports},
    until, write,
};

#[tokio::test]
async fn a_wrong_password_or_none_is_a_matter_of_the_url() {
    let Some(server) = Server::start(&["--requirepass", "s3cr3t"]).await else {
        return;
    };
    for url in [
        server.url(),
        server.url_as("default", "hunter2hunter2"),
        server.url_as("nobody", "s3cr3t"),
    ] {
        let store = Redis::new(&url).unwrap();
        all_fail(&store, false, &["check the user and password in the URL"]).await;
        let error = store.read(&key()).await.unwrap_err();
        let shown = format!("{store:?} {error} {error:?}");
        assert!(
            !shown.contains("hunter2") && !shown.contains("s3cr3t"),
            "{shown}"
        );
    }
    let store = Redis::new(&server.url_as("default", "s3cr3t")).unwrap();
    for outcome in each_operation(&store).await {
        outcome.unwrap();
    }
}

#[tokio::test]
async fn another_kind_of_value_is_named_and_left_alone() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = server.store();
    let [hash, leased] = server.keys(&key());
    for name in [&hash, &leased] {
        let _: i64 = server.ask(&["LPUSH", name, "somebody's"]).await;
    }
    all_fail(&store, false, &[&hash, "another kind of value"]).await;
    for name in [&hash, &leased] {
        let kind: String = server.ask(&["TYPE", name]).await;
        assert_eq!(kind, "list");
    }
}

#[tokio::test]
async fn what_is_no_record_is_an_error_and_not_none() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = server.store();
    let [hash, _] = server.keys(&key());
    for fields in [
        &["data", "hunter2"][..],
        &["generation", "1"],
        &["generation", "1", "data", "hunter2"],
        &["generation", "hunter2", "data", "plain1:", "keep_until", ""],
        &["generation", "1", "data", "hunter2", "keep_until", ""],
    ] {
        let _: () = server.ask(&["DEL", &hash]).await;
        let _: () = server.ask(&[&["HSET", &hash], fields].concat()).await;
        let error = store.read(&key()).await.unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!error.is_transient() && shown.contains(&hash), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
        let half = fields.len() == 2;
        let written = write(&store, None, (1, "text"), None).await;
        assert_eq!(written.is_err(), half, "{written:?}");
    }
    let _: () = server.ask(&["HSET", &hash, "fence", "high"]).await;
    // One that can't be read is lower than any.
    lease(&store, "one", Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_record_of_another_key_or_of_none_names_the_place_and_the_remedy() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let [hash, _] = server.keys(&key());
    let plain = server.store();
    let with = |byte| {
        server
            .store()
            .encrypted_with(EncryptionKey::from_bytes([byte; 32]))
    };
    let (one, two) = (with(1), with(2));
    write(&one, None, (1, "text"), None).await.unwrap();
    for store in [&plain, &two] {
        let error = read(store).await.unwrap_err();
        assert!(!error.is_transient(), "{error}");
        assert!(error.to_string().contains(&hash), "{error}");
    }
    assert_eq!(read(&one).await.unwrap(), Some((1, "text".to_owned())));
}

#[tokio::test]
async fn a_replica_says_that_the_primary_is_needed() {
    // It need not find its primary to refuse writes.
    let Some(replica) = Server::start(&["--replicaof", "127.0.0.1", "1"]).await else {
        return;
    };
    let store = replica.store();
    assert_eq!(read(&store).await.unwrap(), None);
    let lease = store.lease(&key(), "one", Duration::from_secs(1)).await;
    let written = write(&store, None, (1, "text"), None).await;
    for error in [lease.unwrap_err(), written.unwrap_err()] {
        let said = error.to_string();
        assert!(!error.is_transient(), "{said}");
        assert!(said.contains("give the URL of the primary"), "{said}");
    }
    let _: () = replica
        .ask(&["CONFIG", "SET", "replica-serve-stale-data", "no"])
        .await;
    let error = read(&store).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert!(error.to_string().contains("replication"), "{error}");
    let _: () = replica.ask(&["REPLICAOF", "NO", "ONE"]).await;
    for outcome in each_operation(&store).await {
        outcome.unwrap();
    }
}

#[tokio::test]
async fn in_a_cluster_both_keys_lie_in_one_slot() {
    let Some(mut server) = Server::stopped(&["--cluster-enabled", "yes"]) else {
        return;
    };
    let [port, bus] = free_ports();
    server.add(&["--port", &port, "--cluster-port", &bus]);
    server.run().await;
    let store = server.store();
    all_fail(&store, true, &["replication or cluster"]).await;
    let _: () = server
        .ask(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"])
        .await;
    until(async || read(&store).await.ok()).await;
    for outcome in each_operation(&store).await {
        outcome.unwrap();
    }
}

#[tokio::test]
async fn one_without_memory_or_disk_may_have_it_later() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = server.store();
    let write = async || write(&store, None, (1, "text"), None).await;
    let _: () = server.ask(&["CONFIG", "SET", "maxmemory", "1"]).await;
    for error in [
        write().await.unwrap_err(),
        store
            .lease(&key(), "one", Duration::from_secs(1))
            .await
            .unwrap_err(),
    ] {
        assert!(
            error.is_transient() && error.to_string().contains("maxmemory"),
            "{error}"
        );
    }
    let _: () = server.ask(&["CONFIG", "SET", "maxmemory", "0"]).await;
    assert_eq!(read(&store).await.unwrap(), None, "half a write");
    write().await.unwrap();
}

#[tokio::test]
async fn what_is_no_redis_is_told_from_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let store = Redis::new(&format!("redis://:hunter2@{address}")).unwrap();
    let error = store.read(&key()).await.unwrap_err();
    assert!(!error.is_transient(), "{error}");
    assert!(
        error.to_string().contains("doesn't answer as Redis does"),
        "{error}"
    );
    assert!(!error.to_string().contains("hunter2"), "{error}");
    serving.abort();
}

#[tokio::test]
async fn tls_to_a_closed_port_is_an_error_and_no_panic() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let store = Redis::new(&format!("rediss://:hunter2@{address}")).unwrap();
    all_fail(&store, true, &[&address.to_string(), "can't be reached"]).await;
}
