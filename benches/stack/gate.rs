//! Whether the layer's share of a client's CPU time is as small as it must be.

use std::process::ExitCode;

use crate::{
    rounds::Round,
    spread::Spread,
    table,
    variants::{CONSTANT, LAYER},
};

/// Whatever is sent, and by however many callers at a time.
pub fn check(measured: &[Vec<Round>]) -> ExitCode {
    let rounds = measured.iter().flat_map(|rounds| table::calm(rounds));
    let ratios = rounds.filter_map(|round| {
        let (layer, constant) = (round[LAYER].cpu?, round[CONSTANT].cpu?);
        Some(layer.as_secs_f64() / constant.as_secs_f64())
    });
    let name = "whole hyper-util stack, client CPU";
    let Some(ratio) = Spread::of(ratios) else {
        println!(
            "{name:<64} {:>8} {LIMIT:8.3} ok (not seen: no CPU times here)",
            "-"
        );
        return ExitCode::SUCCESS;
    };
    // A tenth of tolerance, as the other ratios have it, would be thrice what is allowed here. It fails
    // where it is surely more, not where a noisy machine can't tell.
    let word = if ratio.sure.0 <= LIMIT { "ok" } else { "FAIL" };
    println!(
        "{name:<64} {:8.3} {LIMIT:8.3} {word}, {:.3} to {:.3}",
        ratio.median, ratio.sure.0, ratio.sure.1
    );
    ExitCode::from(u8::from(word == "FAIL"))
}

const LIMIT: f64 = 1.03;
