//! Where processes find each other's tokens: what each store promises, and what only one does.

mod contract;
#[cfg(feature = "file")]
mod file;
#[cfg(all(feature = "file", unix))]
mod many_processes;
mod memory;
#[cfg(all(unix, feature = "redis"))]
mod redis;
