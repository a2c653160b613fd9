//! The figures: of each case, for each kind of request and number of threads.

use crate::{
    alloc,
    case::Case,
    measure::{self, Round, median},
    shape::{Kind, Shape},
};

pub struct Columns {
    pub cases: Vec<Case>,
    pub columns: Vec<Column>,
}

pub struct Column {
    pub name: &'static str,
    rounds: Vec<Round>,
}

/// The case that is the floor: see `main`.
pub const FLOOR: usize = 0;

/// Two threads that write to one cache line wait for each other, for how long depends on where the host
/// runs the two CPUs, and that changes. A round was far where the floor took this many times as long
/// as on one thread.
const FAR: f64 = 2.0;

impl Columns {
    pub fn measured(cases: Vec<Case>) -> Self {
        let mut columns = Vec::new();
        for (name, kind, cloned) in [
            ("get6", Kind::Get6, false),
            ("rec6", Kind::Rec6, false),
            ("post6", Kind::Post6, false),
            ("get6, cloned", Kind::Get6, true),
            ("rec6, cloned", Kind::Rec6, true),
        ] {
            let rounds = measure::on_one_thread(&cases, Shape { kind, cloned });
            columns.push(Column { name, rounds });
        }
        let kind = Kind::Rec6;
        let rounds = measure::on_two_threads(
            &cases,
            Shape {
                kind,
                cloned: false,
            },
        );
        let alone = columns[1].nanoseconds(FLOOR);
        let is_near = |round: &Round| round.of(FLOOR).is_none_or(|floor| floor < FAR * alone);
        let (near, far) = rounds.into_iter().partition(is_near);
        for (name, rounds) in [("2T near", near), ("2T far", far)] {
            columns.push(Column { name, rounds });
        }
        Self { cases, columns }
    }

    pub fn case(&self, name: &str) -> usize {
        let at = self.cases.iter().position(|case| case.name == name);
        at.unwrap_or_else(|| panic!("no case is named {name}"))
    }

    pub fn column(&self, name: &str) -> &Column {
        let column = self.columns.iter().find(|column| column.name == name);
        column.unwrap_or_else(|| panic!("no column is named {name}"))
    }
}

impl Column {
    /// Per request; NaN where that can't be sent, or there was no such round.
    pub fn nanoseconds(&self, case: usize) -> f64 {
        median(self.rounds.iter().filter_map(|round| round.of(case)))
    }

    /// The middle of what the rounds say, each of both in the same round.
    pub fn ratio(&self, case: usize, to: usize) -> f64 {
        median(self.rounds.iter().filter_map(|round| round.ratio(case, to)))
    }
}

/// Allocations per request, the request's own included.
pub fn allocations(case: &Case, kind: Kind) -> Option<f64> {
    const REQUESTS: u32 = 1000;
    let mut lane = case.lane(Shape {
        kind,
        cloned: false,
    })?;
    lane.run(REQUESTS);
    Some(alloc::count(|| lane.run(REQUESTS)) as f64 / f64::from(REQUESTS))
}
