//! Tokens where other processes find them: [`TokenSource::shared`](crate::TokenSource::shared) takes
//! any of these.
//!
//! ```text
//! Shared ──▶ TokenStore ─┬─ Memory   one process: for tests
//!                        ├─ File     one machine: a locked file (feature `file`)
//!                        └─ Redis    a fleet (feature `redis`)
//! ```
//!
//! A store knows keys, records and leases, and nothing of what a record says.

#[cfg(feature = "file")]
mod file;
mod memory;
#[cfg(feature = "redis")]
mod redis;
#[cfg(any(feature = "file", feature = "redis"))]
mod seal;

#[cfg(feature = "file")]
#[cfg_attr(docsrs, doc(cfg(feature = "file")))]
pub use self::file::File;
pub use self::memory::Memory;
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use self::redis::{InvalidRedisUrl, Redis};
#[cfg(any(feature = "file", feature = "redis"))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "file", feature = "redis"))))]
pub use self::seal::{EncryptionKey, InvalidKey};
pub use crate::source::{Lease, Leased, Record, StoreError, StoreKey, TokenStore, Written};
