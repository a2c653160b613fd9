//! How the proxy is: for whoever looks after the process.

use std::{collections::BTreeMap, fmt::Write, sync::Arc, time::Duration};

use http::{Request, StatusCode};
use hyper::body::Incoming;
use tokio::{task::JoinSet, time::timeout};
use tower_oauth::{CacheState, CacheWatch, TokenCache};

use super::{problem::plain, routing::Routes, server::Answer};

pub async fn answer(request: Request<Incoming>, routes: Arc<Routes>, ending: bool) -> Answer {
    match request.uri().path() {
        "/healthz" => plain(StatusCode::OK, String::from("alive\n")),
        "/readyz" if ending => plain(StatusCode::SERVICE_UNAVAILABLE, String::from("ending\n")),
        "/readyz" => readiness(&routes).await,
        _ => plain(
            StatusCode::NOT_FOUND,
            String::from("there are /healthz and /readyz\n"),
        ),
    }
}

/// Says on stderr when an upstream's tokens fail, and when they are had again.
pub async fn log(name: String, mut watch: CacheWatch) {
    let mut failing = false;
    while let Some(state) = watch.changed().await {
        match state {
            CacheState::Failing { error, .. } => eprintln!("{name}: no token: {error}"),
            CacheState::Valid if failing => eprintln!("{name}: a token is at hand again"),
            CacheState::Valid => {}
            _ => continue,
        }
        failing = matches!(watch.current(), CacheState::Failing { .. });
    }
}

/// Ready is who has a token for each upstream. An idle cache lets its token go, and a failing one
/// gets better only if it is asked, so this asks: it costs nothing where there is a token.
async fn readiness(routes: &Routes) -> Answer {
    let mut asked = JoinSet::new();
    for (name, upstream) in &routes.0 {
        let (name, cache) = (name.clone(), upstream.cache.clone());
        asked.spawn(async move {
            let ready = timeout(Duration::from_secs(1), cache.ready()).await;
            (name, (matches!(ready, Ok(Ok(()))), state(&cache)))
        });
    }
    let states: BTreeMap<_, _> = asked.join_all().await.into_iter().collect();
    let mut text = String::new();
    for (name, (ready, state)) in &states {
        let ready = if *ready { "ready" } else { "not ready" };
        let _ = writeln!(text, "{name}: {ready}, {state}");
    }
    match states.values().all(|(ready, _)| *ready) {
        true => plain(StatusCode::OK, text),
        false => plain(StatusCode::SERVICE_UNAVAILABLE, text),
    }
}

/// No error of the cache shows a secret.
fn state(cache: &TokenCache) -> String {
    match cache.state() {
        CacheState::Empty => String::from("no token"),
        CacheState::Valid => String::from("a token is at hand"),
        CacheState::Renewing => String::from("a token is being fetched"),
        CacheState::Failing { since, error, .. } => {
            let seconds = since.elapsed().as_secs();
            format!("no token was had for {seconds} s: {error}")
        }
        CacheState::Closed => String::from("closed"),
        _ => String::from("unknown"),
    }
}
