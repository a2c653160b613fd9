//! Tokens where other processes find them: [`TokenSource::shared`](crate::TokenSource::shared) takes
//! any of these.
//!
//! ```text
//! Shared ──▶ TokenStore ──▶ Memory   one process: for tests
//! ```
//!
//! A store knows keys, records and leases, and nothing of what a record says.

mod memory;

pub use self::memory::Memory;
pub use crate::source::{Lease, Leased, Record, StoreError, StoreKey, TokenStore, Written};
