//! Many processes share many logins, and some of them are killed in the middle of it.
//!
//! ```sh
//! cargo run --example fleet --all-features
//! cargo run --example fleet --all-features -- --help
//! ```
//!
//! ```text
//!                       ┌─ worker ─┐  tokens   ┌─ Redis, or a file ─┐
//!  main ──starts,───────┤  worker  ├──────────▶│ (killed, restarted)│
//!        kills, stops   └─ worker ─┘           └────────────────────┘
//!                          │    └──▶ API: is this token good at this moment?
//!                          └──▶ authorization server: each refresh token once, or the login is over
//! ```
//!
//! Tokens live a second (by a file three), so that there is always one to fetch. Takes about 20 seconds,
//! and exits with 1 if a promise was broken: a refresh token came twice, a login was ended, a request
//! failed though its worker had a good token in hand, or nobody knew what became of a refresh token
//! though whoever sent it wasn't killed or stopped, and the store was there. `worker.rs` is the part to
//! copy from.
#![allow(
    unreachable_pub,
    missing_docs,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that measures and prints, not the library"
)]

mod api;
mod authorization_server;
mod chaos;
mod lines;
mod log;
mod options;
mod processes;
mod redis;
mod report;
mod watched;
mod worker;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::sleep,
};
use tower_oauth::BoxError;

use self::{
    api::Api,
    authorization_server::AuthorizationServer,
    log::Log,
    options::{HELP, Options, Which},
    processes::{Processes, with},
    redis::Redis,
    report::Summary,
    worker::{Job, WORD, first_refresh_token},
};

/// How long a worker that is killed holds up the others by Redis; some answers take twice as long. By a
/// file the lease is longer than one that was stopped in the middle of a write can hold it up.
const LEASE: Duration = Duration::from_secs(2);
const LEASE_BY_FILE: Duration = Duration::from_secs(6);

fn main() -> ExitCode {
    let mut words = env::args().skip(1).peekable();
    let outcome = if words.next_if(|word| word == WORD).is_some() {
        worker::main(words).map(|()| ExitCode::SUCCESS)
    } else {
        parent(words)
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

#[tokio::main]
async fn parent(words: impl Iterator<Item = String>) -> Result<ExitCode, BoxError> {
    let Some(options) = Options::read(words)? else {
        println!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    };
    let folder = Folder::new()?;
    let mut redis = match options.store {
        Which::File => None,
        Which::Auto if Redis::lacks().is_some() => None,
        Which::Redis | Which::Auto => {
            if let Some(lack) = Redis::lacks() {
                return Err(format!("--store redis: {lack}").into());
            }
            Some(Redis::start(&folder.0).await?)
        }
    };
    // Longer ones would have to be waited for; shorter ones would be over before a disk has them.
    let lifetime = match &redis {
        Some(_) => Duration::from_secs(1),
        None => Duration::from_secs(3),
    };
    let server = AuthorizationServer::start(options.chaos, options.seed, lifetime).await?;
    let api = Api::start(Arc::clone(&server)).await?;
    let job = Job {
        token_url: server.url(),
        api: api.origin(),
        store: match &redis {
            Some(redis) => redis.url(),
            None => folder.0.join("tokens").display().to_string(),
        },
        folder: folder.0.clone(),
        logins: options.logins,
    };
    println!(
        "{} workers share {} logins by {}; seed {}.",
        options.workers, options.logins, job.store, options.seed
    );
    if let (None, Some(lack), Which::Auto) = (&redis, Redis::lacks(), options.store) {
        println!("By a file, as {lack}.");
    }
    for login in 0..options.logins {
        log_in(&server, &folder.0, login)?;
    }

    let (operator, wanted) = unbounded_channel();
    let log = Arc::new(Mutex::new(Log::new(Arc::clone(&server), operator)));
    let new_logins = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let processes = Processes::start(job, options.workers, Arc::clone(&log))?;
    let operator = operate(&server, &folder.0, wanted, &new_logins);
    let chaos = async {
        if options.chaos {
            return chaos::rage(&processes, redis.as_mut(), &log, options.seed).await;
        }
        std::future::pending().await
    };
    let outcome = tokio::select! {
        () = enough(&options, &server, begun) => Ok(()),
        error = chaos => Err(error),
        error = operator => Err(error),
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    let time = begun.elapsed();
    processes.close().await?;
    outcome?;
    Ok(with(&log, |log| {
        Summary {
            time,
            server: server.counts(),
            incidents: server.incidents(),
            api: api.counts(),
            new_logins: new_logins.load(Relaxed),
            log,
        }
        .print()
    }))
}

/// Returns when it has been going on for long enough.
async fn enough(options: &Options, server: &AuthorizationServer, begun: Instant) {
    let mut told = begun;
    loop {
        sleep(Duration::from_millis(50)).await;
        let authorization_server::Counts {
            rotations, reuses, ..
        } = server.counts();
        // There is nothing more to see once a login was ended.
        let over = reuses > 0 || options.time.is_some_and(|time| begun.elapsed() >= time);
        if over || options.rotations.is_some_and(|enough| rotations >= enough) {
            return;
        }
        if told.elapsed() > Duration::from_secs(10) {
            told = Instant::now();
            let seconds = begun.elapsed().as_secs();
            println!("{seconds:>6} s   {rotations} rotations");
        }
    }
}

/// Logs in again wherever that is asked for; ends only with an error.
async fn operate(
    server: &AuthorizationServer,
    folder: &Path,
    mut wanted: UnboundedReceiver<usize>,
    count: &AtomicU64,
) -> BoxError {
    while let Some(login) = wanted.recv().await {
        if let Err(error) = log_in(server, folder, login) {
            return error;
        }
        count.fetch_add(1, Relaxed);
    }
    "nobody asks the operator any more".into()
}

fn log_in(server: &AuthorizationServer, folder: &Path, login: usize) -> Result<(), BoxError> {
    let file = first_refresh_token(folder, login);
    let new = file.with_extension("new");
    fs::write(&new, server.log_in(login))?;
    Ok(fs::rename(new, file)?)
}

/// Removed when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, BoxError> {
        let name = format!("tower-oauth-fleet-{}", std::process::id());
        let folder = env::temp_dir().join(name);
        fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
