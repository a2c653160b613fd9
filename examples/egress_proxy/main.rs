//! The sidecar of a mesh: forwards requests to the upstreams that a TOML file names, each with an
//! access token of its own.
//!
//! ```text
//! cargo run --example egress_proxy -- examples/egress_proxy/egress_proxy.toml
//! curl -H 'Host: payments.internal' http://127.0.0.1:8080/accounts
//! http_proxy=http://127.0.0.1:8080 curl http://payments.internal/accounts
//! curl http://127.0.0.1:8081/readyz
//! ```
//!
//! It speaks HTTP/1.1 and HTTP/2 (by prior knowledge) on one port, and streams bodies both ways. It
//! ends at SIGTERM or ctrl-c, when the requests under way have ended.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program"
)]

mod config;
mod forward;
mod health;
mod hop;
mod problem;
mod routing;
mod server;
mod tokens;

use std::{env, io, net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use tokio::{signal, task::JoinSet};
use tower_oauth::BoxError;

pub use self::config::Config;
use self::{
    routing::Routes,
    server::{Handler, Server},
};

const USAGE: &str = "usage: egress_proxy FILE\n\
                     FILE says in TOML where requests go, and where the tokens for them come from; \
                     examples/egress_proxy/egress_proxy.toml is one";

#[tokio::main]
async fn main() -> ExitCode {
    match run(env::args().nth(1)).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(file: Option<String>) -> Result<bool, BoxError> {
    let config = Config::read(&file.ok_or(USAGE)?)?;
    // Who reads the address may tell the program to end at once.
    let told_to_end = told_to_end()?;
    let proxy = Proxy::start(config).await?;
    let (requests, admin) = (proxy.address(), proxy.admin());
    println!("egress_proxy: requests at http://{requests}, /healthz and /readyz at http://{admin}");
    told_to_end.await?;
    Ok(proxy.stop().await)
}

/// The proxy, running.
pub struct Proxy {
    routes: Arc<Routes>,
    requests: Server,
    admin: Server,
    drain: Duration,
}

impl Proxy {
    pub async fn start(config: Config) -> Result<Self, BoxError> {
        let routes = Arc::new(Routes::new(config.upstream)?);
        for (name, upstream) in &routes.0 {
            tokio::spawn(health::log(name.clone(), upstream.cache.watch()));
        }
        let forwarding = Arc::clone(&routes);
        let requests: Handler = Arc::new(move |request| {
            let routes = Arc::clone(&forwarding);
            Box::pin(async move { routes.answer(request).await })
        });
        let requests = Server::start(config.listen, requests).await?;
        let (watched, ending) = (Arc::clone(&routes), requests.ending.subscribe());
        let admin: Handler = Arc::new(move |request| {
            let ending = *ending.borrow();
            Box::pin(health::answer(request, Arc::clone(&watched), ending))
        });
        Ok(Self {
            routes,
            requests,
            admin: Server::start(config.admin, admin).await?,
            drain: Duration::from_secs(config.drain),
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.requests.address
    }

    pub fn admin(&self) -> SocketAddr {
        self.admin.address
    }

    /// Accepts no more connections, lets the requests under way end, and then gives the tokens
    /// back. False if something had to be cut off.
    pub async fn stop(mut self) -> bool {
        let ended = self.requests.stop(self.drain).await;
        if !ended {
            let drain = self.drain;
            eprintln!("requests that were still under way after {drain:?} were cut off");
        }
        let mut closing = JoinSet::new();
        for (name, upstream) in &self.routes.0 {
            let (name, cache) = (name.clone(), upstream.cache.clone());
            closing.spawn(async move { (name, cache.close().await) });
        }
        for (name, closed) in closing.join_all().await {
            if let Err(error) = closed {
                eprintln!("the token for {name}: {error}");
            }
        }
        // Whoever looks after the process sees it drain up to here.
        self.admin.stop(Duration::from_secs(1)).await;
        ended
    }
}

/// Signals count from the call on, not only when it is waited for them.
#[cfg(unix)]
fn told_to_end() -> io::Result<impl Future<Output = io::Result<()>>> {
    let mut terminate = signal::unix::signal(signal::unix::SignalKind::terminate())?;
    let mut interrupt = signal::unix::signal(signal::unix::SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    })
}

#[cfg(not(unix))]
fn told_to_end() -> io::Result<impl Future<Output = io::Result<()>>> {
    Ok(signal::ctrl_c())
}
