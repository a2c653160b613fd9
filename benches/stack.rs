//! What the layer costs in a whole client: hyper-util over HTTP/1.1 and tonic over HTTP/2, through
//! loopback sockets, beside a constant header.
//!
//! ```sh
//! cargo bench --bench stack
//! cargo bench --bench stack -- --seconds 600   # surer
//! cargo bench --bench stack -- --gate          # does it cost too much?
//! ```
//!
//! The layer's share of a request is a few percent, less than what two runs of the very same program
//! differ by. So all variants live side by side in one
//! process, each takes a short turn in each round, in random order, and what counts is the ratio to
//! the constant header in the same round; its median over the rounds is what is reported. A second
//! constant header takes part like any other: by how far it is off 1.00, everything may be.
//!
//! Each turn has a client of its own, made and connected before it is measured. The runtime has a
//! timer, as nearly every program's: the first one costs about as much as all else that the layer does.
//!
//! The client is one thread, and the server another process, so that the client's CPU time can be
//! told from the server's.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::print_stdout,
    unreachable_pub,
    missing_docs,
    reason = "a bench may stop at the first surprise"
)]

#[path = "stack/caller.rs"]
mod caller;
#[path = "stack/constant.rs"]
mod constant;
#[path = "stack/cpu.rs"]
mod cpu;
#[path = "stack/gate.rs"]
mod gate;
#[path = "stack/own.rs"]
mod own;
#[path = "stack/rounds.rs"]
mod rounds;
#[path = "stack/server.rs"]
mod server;
#[path = "stack/spread.rs"]
mod spread;
#[path = "stack/table.rs"]
mod table;
#[path = "stack/variants.rs"]
mod variants;

#[allow(clippy::all, clippy::pedantic, reason = "made by a program")]
mod proto {
    include!("../examples/tonic_client/ledger.v1.rs");
}

use std::{env, process::ExitCode, time::Duration};

use tokio::{runtime::Builder, time::sleep};

use self::{rounds::Plan, server::Server};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let has = |wanted: &str| arguments.iter().any(|argument| argument == wanted);
    if has(server::ARGUMENT) {
        server::serve();
        return ExitCode::SUCCESS;
    }
    // `cargo bench` says so, `cargo test --benches` doesn't: it asks only whether all of this works.
    let plan = if has("--bench") {
        let mut from_there = arguments.iter().skip_while(|word| *word != "--seconds");
        let seconds = from_there.nth(1).map(|seconds| seconds.parse().unwrap());
        Plan::measure(seconds)
    } else {
        Plan::try_out()
    };

    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    // With no timer at all the runtime would wait without one wherever there is no layer.
    drop(runtime.spawn(async { sleep(Duration::from_secs(24 * 60 * 60)).await }));
    let server = Server::start();
    let mut shapes = variants::shapes(&server);
    // The limit is for hyper-util.
    shapes.retain(|shape| !has("--gate") || shape.name.starts_with("hyper-util"));
    let measured = rounds::run(&plan, &runtime, &server, &shapes);
    if has("--gate") {
        return gate::check(&measured);
    }
    table::print(&plan, &shapes, &measured);
    ExitCode::SUCCESS
}
