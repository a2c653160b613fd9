//! Scripted sources and servers.

pub mod api;
pub mod body;
#[cfg(feature = "https-client")]
pub mod canary;
pub mod case;
pub mod endpoint;
pub mod faulty_store;
#[cfg(feature = "https-client")]
pub mod grpc;
#[cfg(feature = "https-client")]
pub mod http1;
pub mod pipes;
pub mod probe;
#[cfg(feature = "https-client")]
pub mod raw;
#[cfg(feature = "https-client")]
pub mod refused_uploads;
pub mod rotating;
pub mod server;
#[cfg(feature = "https-client")]
pub mod servers;
#[cfg(feature = "https-client")]
pub mod sites;
#[cfg(feature = "https-client")]
pub mod sockets;
pub mod source;
#[cfg(feature = "https-client")]
pub mod tls;
pub mod upload;
pub mod well_known;
#[cfg(feature = "https-client")]
pub mod wire;

use std::{
    future::Future,
    time::{Duration, SystemTime},
};

/// Lets every task that can run do so, without moving the clock.
pub async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// Runs `future` to its end, on a runtime of its own with a paused clock.
pub fn paused<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(future)
}

pub const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A wall clock that goes with the paused one, from this date on.
pub fn wall_clock(date: &str) -> impl Fn() -> SystemTime + Clone + Send + Sync + 'static {
    let date = httpdate::parse_http_date(date).unwrap();
    let start = tokio::time::Instant::now();
    move || date + start.elapsed()
}
