//! What the layer must reach, row by row.

use std::{
    mem,
    process::{Command, ExitCode},
};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use tower::Service;
use tower_oauth::{OAuth, ReplayBody};

use crate::{
    columns::{Columns, FLOOR, allocations},
    ours::{ADD_ONLY, WITH_REPLAY},
    shape::Kind,
};

/// Which way a row's figure must not go beyond its limit.
#[derive(Clone, Copy)]
enum Limit {
    AtMost(f64),
    AtLeast(f64),
}
use Limit::{AtLeast, AtMost};

/// Prints each row, and fails where one does.
pub fn check(columns: &Columns) -> ExitCode {
    let mut gate = Gate { failed: false };
    let (add_only, with_replay) = (columns.case(ADD_ONLY), columns.case(WITH_REPLAY));
    for (name, case, column, limit) in [
        ("add only, 1T, get6", add_only, "get6", 1.10),
        ("add only, 1T, rec6", add_only, "rec6", 1.35),
        ("with replay, 1T, get6", with_replay, "get6", 1.25),
        ("with replay, 1T, rec6", with_replay, "rec6", 2.0),
        ("with replay, 2T near, rec6", with_replay, "2T near", 1.5),
        (
            "with replay, 2T far, rec6",
            with_replay,
            "2T far",
            far(columns),
        ),
        (
            "with replay, clone per request",
            with_replay,
            "get6, cloned",
            1.25,
        ),
    ] {
        gate.ratio(
            name,
            columns.column(column).ratio(case, FLOOR),
            AtMost(limit),
        );
    }
    for (name, case, column, limit) in [
        ("cf-gears AutoRefresh over ours, rec6", GEARS, "rec6", 4.0),
        ("cf-gears AutoRefresh over ours, get6", GEARS, "get6", 2.0),
        (
            "RwLock by hand over ours, rec6",
            "by hand, RwLock",
            "rec6",
            2.5,
        ),
    ] {
        let peer = columns.case(case);
        gate.ratio(
            name,
            columns.column(column).ratio(peer, with_replay),
            AtLeast(limit),
        );
    }
    for (name, kind) in [("GET", Kind::Get6), ("one-frame POST", Kind::Post6)] {
        for ours in [ADD_ONLY, WITH_REPLAY] {
            let of = |case: usize| allocations(&columns.cases[case], kind).unwrap_or(f64::NAN);
            let added = of(columns.case(ours)) - of(FLOOR);
            gate.exact(&format!("allocations added, {name}, {ours}"), added, 0.0);
        }
    }
    gate.exact(
        "bytes of the future over hyper-util's client",
        future_size(),
        128.0,
    );
    gate.stack();
    ExitCode::from(u8::from(gate.failed))
}

/// What is allowed on one thread, in times of what the floor takes while its threads wait for each other:
/// 0.60 where that was first measured. A slower CPU has as far to go to the other, and more to do.
fn far(columns: &Columns) -> f64 {
    let floor = |column| columns.column(column).nanoseconds(FLOOR);
    let allowed = 2.0 * floor("rec6") / floor("2T far");
    allowed.max(0.60)
}

struct Gate {
    failed: bool,
}

impl Gate {
    /// A ratio may be off by a tenth: linking alone moves a request by a few nanoseconds.
    fn ratio(&mut self, name: &str, ratio: f64, limit: Limit) {
        let (beyond, limit) = match limit {
            AtMost(limit) => (ratio / limit, limit),
            AtLeast(limit) => (limit / ratio, limit),
        };
        let word = match beyond {
            // Where the host kept the two CPUs together, or apart, all the time, the other wasn't seen.
            beyond if beyond.is_nan() => "ok (not seen)",
            ..=1.0 => "ok",
            ..=TOLERANCE => "ok (beyond its limit by less than a tenth)",
            _ => "FAIL",
        };
        self.print(name, ratio, limit, word);
    }

    fn exact(&mut self, name: &str, figure: f64, limit: f64) {
        let word = if figure <= limit { "ok" } else { "FAIL" };
        self.print(name, figure, limit, word);
    }

    /// The whole stack is a bench of the crate itself, which says its row as it is printed here.
    fn stack(&mut self) {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
        let run = Command::new("cargo")
            .args(["bench", "--quiet", "--manifest-path", manifest])
            .args(["--bench", "stack", "--", "--gate", "--seconds", "60"])
            .output();
        match run {
            Ok(run) if run.status.success() => print!("{}", String::from_utf8_lossy(&run.stdout)),
            Ok(run) => {
                self.failed = true;
                print!("{}", String::from_utf8_lossy(&run.stdout));
                eprint!("{}", String::from_utf8_lossy(&run.stderr));
            }
            Err(error) => {
                self.failed = true;
                println!("whole hyper-util stack: cargo can't be run: {error} FAIL");
            }
        }
    }

    fn print(&mut self, name: &str, figure: f64, limit: f64, word: &str) {
        self.failed |= word == "FAIL";
        println!("{name:<64} {figure:8.3} {limit:8.3} {word}");
    }
}

const TOLERANCE: f64 = 1.10;

fn future_size() -> f64 {
    type Over<S> = <OAuth<S> as Service<Request<Full<Bytes>>>>::Future;
    mem::size_of::<Over<Client<HttpConnector, ReplayBody<Full<Bytes>>>>>() as f64
}

/// The only peer that also sends a refused request again.
const GEARS: &str = "cf-gears, AutoRefresh";
