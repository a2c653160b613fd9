//! What a token costs a request: tower-oauth beside a constant header, what people write, and its
//! peers, in one process, taking turns.
//!
//! ```sh
//! cargo run --release --manifest-path benches/side_by_side/Cargo.toml             # a table
//! cargo run --release --manifest-path benches/side_by_side/Cargo.toml -- --gate   # does it reach what it must?
//! cargo run --release --manifest-path benches/side_by_side/Cargo.toml -- --svg FILE
//! ```

mod alloc;
mod case;
mod chart;
mod columns;
mod floor;
mod gate;
mod handwritten;
mod lane;
mod machine;
mod measure;
mod ours;
mod peers;
mod shape;
mod table;

use std::{env, fs, process::ExitCode};

use case::Case;
use columns::Columns;

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let after = |option: &str| {
        let at = arguments.iter().position(|argument| argument == option)?;
        Some(
            arguments
                .get(at + 1)
                .map(String::as_str)
                .unwrap_or_default(),
        )
    };
    let columns = Columns::measured(cases());
    if after("--gate").is_some() {
        return gate::check(&columns);
    }
    table::print(&columns);
    if let Some(file) = after("--svg") {
        fs::write(file, chart::draw(&columns)).expect("a file that can be written");
    }
    ExitCode::SUCCESS
}

/// The first is what all others are held against.
fn cases() -> Vec<Case> {
    // Some peers, and our cache, have tasks; none has anything to do while requests are sent.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let runtime: &'static _ = Box::leak(Box::new(runtime));
    let mut cases = vec![
        floor::constant("constant header"),
        floor::constant("constant header, again"),
        floor::raw(),
    ];
    cases.extend(ours::cases(runtime));
    cases.extend(handwritten::cases());
    cases.extend(peers::cases(runtime));
    cases
}
