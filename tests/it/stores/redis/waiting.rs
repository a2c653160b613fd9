//! Who waits is told, and if that can't be, looks again.

use std::time::Duration;

use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};
use tower_oauth::store::{Redis, TokenStore, Written};

use super::{key, lease, read, server::Server, until, write};

/// Begins to wait; when this returns, Redis knows of it.
async fn waiting(server: &Server, store: &Redis, seen: Option<u64>) -> JoinHandle<()> {
    let store = store.clone();
    let waiting = tokio::spawn(async move { store.changed(&key(), seen).await });
    until(async || (subscriptions(server).await == 1).then_some(())).await;
    waiting
}

async fn subscriptions(server: &Server) -> u64 {
    let [record, _] = server.keys(&key());
    let (_, count): (String, u64) = server
        .ask(&["PUBSUB", "NUMSUB", &format!("{record}:changed")])
        .await;
    count
}

/// Those of the store: without the one that asks.
async fn connections(server: &Server) -> usize {
    let clients: String = server.ask(&["CLIENT", "LIST"]).await;
    clients
        .lines()
        .filter(|line| !line.contains("cmd=client"))
        .count()
}

async fn done(waiting: impl Future<Output = ()>) -> Duration {
    let start = Instant::now();
    timeout(Duration::from_secs(60), waiting).await.unwrap();
    start.elapsed()
}

#[tokio::test]
async fn a_message_alone_wakes_who_waits() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = server.store();
    let [record, _] = server.keys(&key());
    let channel = format!("{record}:changed");
    // Two seconds for each that isn't told: without messages it would be forty.
    let start = Instant::now();
    for _ in 0..20 {
        let waiting = waiting(&server, &store, None).await;
        assert!(!waiting.is_finished());
        let heard: i64 = server.ask(&["PUBLISH", &channel, ""]).await;
        assert_eq!(heard, 1);
        done(async { waiting.await.unwrap() }).await;
    }
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn a_record_and_a_lease_given_back_wake_others_and_a_lease_taken_does_not() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let (here, there) = (server.store(), server.store());
    let minute = Duration::from_secs(60);
    let start = Instant::now();
    for seen in [None, Some(1), Some(2), Some(3), Some(4)] {
        let sleeper = waiting(&server, &here, seen).await;
        let held = lease(&there, "there", minute).await;
        assert!(there.renew(&key(), &held, minute).await.unwrap());
        let none = write(&there, Some(7), (8, "text"), None).await;
        assert_eq!(none.unwrap(), Written::Changed);
        assert!(!sleeper.is_finished());
        let next = seen.unwrap_or(0) + 1;
        let written = write(&there, seen, (next, "text"), Some(held.fence())).await;
        assert_eq!(written.unwrap(), Written::Done);
        done(async { sleeper.await.unwrap() }).await;
        assert_eq!(read(&here).await.unwrap().unwrap().0, next);

        let sleeper = waiting(&server, &here, Some(next)).await;
        there.release(&key(), &held).await.unwrap();
        done(async { sleeper.await.unwrap() }).await;
    }
    // Two seconds for each that isn't told: a silent release or write would be ten.
    assert!(start.elapsed() < Duration::from_secs(9));
}

#[tokio::test]
async fn what_changed_before_one_waits_is_not_waited_for() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = server.store();
    write(&store, None, (1, "text"), None).await.unwrap();
    let start = Instant::now();
    for seen in [None, Some(0), Some(2)].into_iter().cycle().take(30) {
        done(store.changed(&key(), seen)).await;
    }
    // Two seconds each, if it were.
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn many_who_wait_need_one_connection_and_leave_nothing() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = server.store();
    let mut sleepers = Vec::new();
    for _ in 0..50 {
        sleepers.push(waiting(&server, &store, None).await);
    }
    assert_eq!(connections(&server).await, 1);
    let other = tower_oauth::store::StoreKey::named("other");
    let [record_name, _] = server.keys(&key());
    for sleeper in &sleepers {
        sleeper.abort();
    }
    for sleeper in sleepers {
        let _ = sleeper.await;
    }
    // Who waits next, for whatever, clears up behind those who went away.
    let waits = store.clone();
    let next = tokio::spawn(async move { waits.changed(&other, None).await });
    until(async || (subscriptions(&server).await == 0).then_some(())).await;
    let all: Vec<String> = server.ask(&["PUBSUB", "CHANNELS"]).await;
    assert!(
        all.len() <= 1 && !all.iter().any(|name| name.contains(&record_name)),
        "{all:?}"
    );
    next.abort();
    let _ = next.await;
    // And with the last clone goes the connection.
    drop(store);
    until(async || (connections(&server).await == 0).then_some(())).await;
}

#[tokio::test]
async fn who_waits_when_the_connection_is_killed_looks_again_and_is_told_by_the_next() {
    let Some(mut server) = Server::start(&[]).await else {
        return;
    };
    let store = server.store();
    for _ in 0..3 {
        let sleeper = waiting(&server, &store, None).await;
        let killed: i64 = server.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        assert_eq!(killed, 1);
        done(async { sleeper.await.unwrap() }).await;
    }
    let sleeper = waiting(&server, &store, None).await;
    write(&store, None, (1, "text"), None).await.unwrap();
    done(async { sleeper.await.unwrap() }).await;

    let sleeper = waiting(&server, &store, Some(1)).await;
    server.kill();
    done(async { sleeper.await.unwrap() }).await;
    let start = Instant::now();
    done(store.changed(&key(), Some(1))).await;
    // Nobody hammers on a door that is shut.
    assert!(start.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn a_frozen_server_lets_nobody_wait_for_ever() {
    let Some(server) = Server::start(&[]).await else {
        return;
    };
    let store = server.store();
    let sleeper = waiting(&server, &store, None).await;
    server.freeze();
    done(async { sleeper.await.unwrap() }).await;
    assert!(done(store.changed(&key(), None)).await < Duration::from_secs(10));
    server.thaw();
}
