//! Servers that nobody here wrote: what they say to this client, and what they say about it.
//!
//! `.ci/peers` installs them. Without them these tests say "skipped"; with `REQUIRE_PEERS=1` they
//! fail.

mod assertions;
mod certificates;
mod combinations;
mod discovering;
mod grpc_calls;
mod grpc_many_calls;
mod grpc_server;
mod many_callers;
mod process;
mod refusals;
mod refused_logins;
mod revoking;
mod rotating;
mod scripted_users;
mod server;
