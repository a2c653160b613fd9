//! The example that forwards other programs' requests, called by curl. Without curl these tests say
//! "skipped"; with `REQUIRE_PEERS=1` they fail.

#[allow(dead_code, reason = "the example has a `main`")]
#[path = "../../../examples/egress_proxy/main.rs"]
mod example;

mod curl;
mod stand;
mod upstream;

mod answers;
mod ending;
mod failures;
mod files;
mod forwarding;
mod uploads;
