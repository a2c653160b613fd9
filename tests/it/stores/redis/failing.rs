//! A Redis that isn't there, or was not for a while.

use std::{net::TcpListener, time::Duration};

use tokio::{task::JoinSet, time::Instant};
use tower_oauth::store::{Redis, TokenStore, Written};

use super::{all_fail, each_operation, key, lease, read, record, server::Server, until, write};

#[tokio::test]
async fn one_that_is_down_is_named_and_works_once_it_is_up() {
    let Some(mut server) = Server::stopped(&[]) else {
        return;
    };
    let store = server.store();
    let path = server.folder().to_str().unwrap().to_owned();
    for _ in 0..2 {
        all_fail(&store, true, &["can't be reached", &path]).await;
    }
    server.run().await;
    for outcome in each_operation(&store).await {
        outcome.unwrap();
    }
}

#[tokio::test]
async fn one_that_was_killed_keeps_what_it_confirmed_and_is_used_again() {
    let Some(mut server) = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]).await
    else {
        return;
    };
    let store = server.store();
    let lease = lease(&store, "one", Duration::from_secs(600)).await;
    let fence = Some(lease.fence());
    // Writers that it is killed under: each says what was confirmed last.
    let mut writers = JoinSet::new();
    for name in ["a", "b", "c"] {
        let store = server.store().prefix(name);
        writers.spawn(async move {
            let mut confirmed = None;
            loop {
                let next = confirmed.map_or(1, |last| last + 1);
                let record = record(next, "text");
                match store
                    .compare_and_set(&key(), confirmed, &record, None)
                    .await
                {
                    Ok(written) => assert_eq!(written, Written::Done),
                    Err(error) => return (store, confirmed, error),
                }
                confirmed = Some(next);
            }
        });
    }
    let written = write(&store, None, (1, "kept"), fence);
    assert_eq!(written.await.unwrap(), Written::Done);
    for name in ["a", "b", "c"] {
        let moving = server.store().prefix(name);
        until(async || read(&moving).await.unwrap().filter(|(last, _)| *last > 20)).await;
    }
    server.kill();
    let writers = writers.join_all().await;
    let error = store.read(&key()).await.unwrap_err();
    assert!(error.is_transient(), "{error}");

    server.run().await;
    assert_eq!(read(&store).await.unwrap(), Some((1, "kept".to_owned())));
    assert!(
        store
            .renew(&key(), &lease, Duration::from_secs(1))
            .await
            .unwrap()
    );
    for (store, confirmed, error) in writers {
        assert!(error.is_transient(), "{error}");
        let kept = read(&store).await.unwrap().unwrap().0;
        // The one that was on its way may have come or not.
        assert!(kept == confirmed.unwrap() || kept == confirmed.unwrap() + 1);
    }
}

#[tokio::test]
async fn a_connection_that_ended_while_nobody_used_it_fails_nobody() {
    let Some(mut server) = Server::start(&["--appendonly", "yes"]).await else {
        return;
    };
    let store = server.store();
    let written = write(&store, None, (1, "text"), None);
    assert_eq!(written.await.unwrap(), Written::Done);
    server.kill();
    server.run().await;
    // The end of the connection has long been there to be heard.
    let written = write(&store, Some(1), (2, "text"), None);
    assert_eq!(written.await.unwrap(), Written::Done);
}

#[tokio::test]
async fn one_that_hangs_holds_up_nobody_for_long_and_works_when_it_goes_on() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let (met, unmet) = (server.store(), server.store());
    assert_eq!(read(&met).await.unwrap(), None);
    server.freeze();
    let late = ["didn't answer in time"];
    tokio::join!(all_fail(&met, true, &late), all_fail(&unmet, true, &late));
    server.thaw();
    for store in [met, unmet] {
        read(&store).await.unwrap();
    }
}

#[tokio::test]
async fn many_who_ask_one_that_hangs_are_held_up_no_longer_than_one() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = server.store();
    server.freeze();
    let mut asking = JoinSet::new();
    for _ in 0..20 {
        let store = store.clone();
        asking.spawn(async move { store.read(&key()).await.unwrap_err() });
    }
    let start = Instant::now();
    for error in asking.join_all().await {
        assert!(error.is_transient(), "{error}");
        assert!(
            error.to_string().contains("didn't answer in time"),
            "{error}"
        );
    }
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn an_address_where_nobody_answers_is_an_error_in_time() {
    // The system takes connections for it, and nobody takes them from the system.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap();
    // RFC 5737 §3: nobody has this one. What the system says of it isn't everywhere the same.
    for host in [silent.to_string(), "192.0.2.1:6379".to_owned()] {
        for scheme in ["redis", "rediss"] {
            let store = Redis::new(&format!("{scheme}://:hunter2@{host}")).unwrap();
            let error = store.read(&key()).await.unwrap_err();
            assert!(
                error.is_transient() && error.to_string().contains(&host),
                "{error}"
            );
        }
    }
    let store = Redis::new(&format!("redis://{silent}")).unwrap();
    all_fail(&store, true, &["127.0.0.1"]).await;
}

#[tokio::test]
async fn the_end_of_a_runtime_ends_its_connection_and_no_others_work() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = server.store();
    let elsewhere = store.clone();
    let other = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(read(&elsewhere)).unwrap()
    });
    let seen = tokio::task::spawn_blocking(|| other.join().unwrap()).await;
    assert_eq!(seen.unwrap(), None);
    assert_eq!(read(&store).await.unwrap(), None);
}
