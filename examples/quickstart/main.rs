//! What the layer promises, shown on real sockets: an authorization server and an API on loopback,
//! and many callers with one token.
//!
//! ```sh
//! cargo run --example quickstart
//! ```
//!
//! Takes about 16 seconds, and exits with 1 if a promise was broken. `hyper_client.rs` is the
//! example to copy from; here the parts to look at are `callers.rs` and the four acts below.
#![allow(
    unreachable_pub,
    missing_docs,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a program that measures and prints, not the library"
)]

mod api;
mod authorization_server;
mod callers;
mod machine;
mod report;

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use tokio::{
    sync::Barrier,
    time::{sleep, timeout},
};
use tower_oauth::{BoxError, CacheState, TokenCache};

use self::{
    api::Api,
    authorization_server::{AuthorizationServer, Settings},
    callers::{Client, source},
    machine::Lateness,
    report::{Report, milliseconds},
};

const HOUR: Duration = Duration::from_secs(60 * 60);
/// If the machine was later than this, a broken promise of act b isn't held against the layer.
const TOO_LATE: Duration = Duration::from_millis(50);

#[tokio::main]
async fn main() -> Result<ExitCode, BoxError> {
    let server = AuthorizationServer::start().await?;
    let api = Api::start(Arc::clone(&server)).await?;
    println!(
        "Authorization server on {}, API on {}.",
        server.address, api.address
    );
    let mut report = Report::new(Arc::clone(&server), Arc::clone(&api));
    match timeout(Duration::from_secs(60), acts(&server, &api, &mut report)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => report.broken(format!("the last act ended early: {error}")),
        Err(_) => report.broken("the last act was still waiting after a minute".into()),
    }
    Ok(report.close())
}

async fn acts(
    server: &AuthorizationServer,
    api: &Api,
    report: &mut Report,
) -> Result<(), BoxError> {
    cold_start(server, api, report).await?;
    renewals(server, api, report).await?;
    revocation(server, api, report).await?;
    outage(server, api, report).await
}

/// Many callers and no token: one of them fetches it for all.
async fn cold_start(
    server: &AuthorizationServer,
    api: &Api,
    report: &mut Report,
) -> Result<(), BoxError> {
    report.title("a. Cold start: 100 callers at once, and no token yet.");
    server.set(Settings {
        lifetime: HOUR,
        latency: Duration::from_millis(300),
        down: false,
    });
    let client = Client::new(api, TokenCache::from(source(server)?))?;
    let before = report.before();
    report.say("100 requests start; a token request takes 300 ms");
    let seen = client.at_once(100).await;
    let row = report.act("a. cold start", &before, &seen);
    let (tokens, answered) = (row.token_requests, seen.len() - row.errors);
    report.say(format_args!("{answered} × 200, {tokens} token request"));
    let otherwise = format!("there were {tokens}");
    report.promise(
        "one token request serves all callers",
        tokens == 1,
        &otherwise,
    );
    Ok(())
}

/// Short-lived tokens under steady traffic: each is renewed while the one before is still good.
async fn renewals(
    server: &AuthorizationServer,
    api: &Api,
    report: &mut Report,
) -> Result<(), BoxError> {
    report.title("b. Renewals: 10,000 requests with tokens that live 5 seconds.");
    server.set(Settings {
        lifetime: Duration::from_secs(5),
        latency: Duration::from_millis(200),
        down: false,
    });
    // By default these tokens would leave the cache half a second before their end. Server and
    // client are one process here, so a tenth of a second will do; the rest is for busy machines.
    let cache = TokenCache::builder(source(server)?)
        .expiry_margin(Duration::from_millis(100))
        .build();
    cache.ready().await?;
    let client = Client::new(api, cache)?;
    let (before, start) = (report.before(), Instant::now());
    report.say("10 requests each 9.5 ms; a token request takes 200 ms");
    let lateness = Lateness::measure();
    let period = Duration::from_micros(9500);
    let seen = client.paced(10, period, |requests| requests < 10_000).await;
    let late = lateness.worst();
    report.act("b. renewals", &before, &seen);

    let renewals = server.served_since(start);
    let mut all_went_on = true;
    for (from, to) in &renewals {
        // Whoever waits for a token can't be answered before it has been issued.
        let within = seen
            .iter()
            .filter(|seen| seen.from >= *from && seen.to <= *to)
            .count();
        let text = format_args!("a renewal begins; {within} requests start and end within it");
        report.say_of(*from, text);
        all_went_on &= within > 0;
    }
    let waited = seen.iter().filter(|seen| {
        let through = |(from, to): &(Instant, Instant)| seen.from <= *from && seen.to >= *to;
        !seen.found_token || renewals.iter().any(through)
    });
    let waited = waited.count();
    let slowest = seen.iter().map(|seen| seen.to - seen.from).max();
    let slowest = milliseconds(slowest.unwrap_or_default());
    report.say(format_args!(
        "{waited} requests waited for a token; the slowest took {slowest}"
    ));
    let count = renewals.len();
    let kept = count >= 2 && all_went_on && waited == 0;
    if !kept && late > TOO_LATE {
        let late = milliseconds(late);
        report.not_judged(&format!("this machine is busy, tasks woke up {late} late"));
        return Ok(());
    }
    let otherwise = format!("there were {count} renewals");
    report.promise(
        "a token in use is renewed before its end",
        count >= 2,
        &otherwise,
    );
    let otherwise = "none was answered during a renewal";
    report.promise(
        "requests go on while the token is renewed",
        all_went_on,
        otherwise,
    );
    let otherwise = format!("{waited} did");
    report.promise("no caller waits for a renewal", waited == 0, &otherwise);
    Ok(())
}

/// The token is revoked while it is in use: one renewal for all who were refused.
async fn revocation(
    server: &AuthorizationServer,
    api: &Api,
    report: &mut Report,
) -> Result<(), BoxError> {
    report.title("c. Revocation: the token is revoked with 200 requests in flight.");
    server.set(Settings {
        lifetime: HOUR,
        latency: Duration::from_millis(100),
        down: false,
    });
    let cache = TokenCache::from(source(server)?);
    cache.ready().await?;
    let client = Client::new(api, cache)?;
    let before = report.before();
    // All requests are in the API's hands, and so is the turn of this act.
    let barrier = Arc::new(Barrier::new(201));
    api.hold(Some(Arc::clone(&barrier)));
    let (seen, ()) = tokio::join!(client.at_once(200), async {
        barrier.wait().await;
        report.say("the API holds 200 requests; their token is revoked, and they go on");
        server.revoke_all();
        api.hold(None);
        barrier.wait().await;
    });
    let row = report.act("c. revocation", &before, &seen);
    let (tokens, refusals, errors) = (row.token_requests, row.api.refusals, row.errors);
    report.say(format_args!(
        "{refusals} × 401, {tokens} token request, {} × 200",
        seen.len() - errors
    ));
    let otherwise = format!("it refused {refusals}");
    report.promise("the API refuses all 200", refusals == 200, &otherwise);
    let otherwise = format!("there were {tokens}");
    report.promise(
        "one token request serves all who were refused",
        tokens == 1,
        &otherwise,
    );
    Ok(())
}

/// The authorization server is down when the token is to be renewed: the token stays in use.
async fn outage(
    server: &AuthorizationServer,
    api: &Api,
    report: &mut Report,
) -> Result<(), BoxError> {
    report.title("d. Outage: the authorization server is down for 3 seconds.");
    let mut settings = Settings {
        lifetime: HOUR,
        latency: Duration::from_millis(100),
        down: false,
    };
    server.set(settings);
    // To spare the reader an hour: while the token is on its way, the cache's wall clock goes 58
    // minutes ahead.
    let ahead = Arc::new(AtomicU64::new(0));
    let offset = Arc::clone(&ahead);
    let cache = TokenCache::builder(source(server)?)
        .wall_clock(move || SystemTime::now() + Duration::from_secs(60 * offset.load(Relaxed)))
        .build();
    let asked = server.token_requests();
    let (ready, ()) = tokio::join!(cache.ready(), async {
        server.more_token_requests_than(asked).await;
        ahead.store(58, Relaxed);
    });
    ready?;
    settings.down = true;
    server.set(settings);
    report.say("a token for an hour is 58 minutes old; token requests are answered 503 now");

    let client = Client::new(api, cache.clone())?;
    let before = report.before();
    let recovered = AtomicBool::new(false);
    let mut states = cache.watch();
    let traffic = client.paced(20, Duration::from_millis(50), |_| !recovered.load(Relaxed));
    let (seen, failing) = tokio::join!(traffic, async {
        let down = Instant::now();
        let is_failing = |state: &CacheState| matches!(state, CacheState::Failing { .. });
        let _ = states.wait_for(is_failing).await;
        if let CacheState::Failing { error, .. } = cache.state() {
            report.say(format_args!("the cache is Failing, as\n{:13}{error}", ""));
        }
        sleep(Duration::from_secs(3).saturating_sub(down.elapsed())).await;
        let failing = is_failing(&cache.state());
        settings.down = false;
        server.set(settings);
        ahead.store(0, Relaxed);
        let attempts = server.token_requests() - before.token_requests;
        report.say(format_args!(
            "after {attempts} token requests in vain it is up again, and the clock is right again"
        ));
        let is_valid = |state: &CacheState| matches!(state, CacheState::Valid);
        let _ = states.wait_for(is_valid).await;
        report.say("the cache is Valid");
        recovered.store(true, Relaxed);
        failing
    });
    report.act("d. outage", &before, &seen);
    let waited = seen.iter().filter(|seen| !seen.found_token).count();
    report.say(format_args!(
        "{} requests meanwhile; {waited} waited for a token",
        seen.len()
    ));
    report.promise("the cache says that it is failing", failing, "it did not");
    let otherwise = format!("{waited} requests found none");
    report.promise(
        "a failed renewal leaves the token in use",
        waited == 0,
        &otherwise,
    );
    Ok(())
}
