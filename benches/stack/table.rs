//! What comes out, for people to read.

use crate::{
    rounds::{Plan, Round, Turn},
    spread::Spread,
    variants::{CONSTANT, Shape},
};

pub fn print(plan: &Plan, shapes: &[Shape], measured: &[Vec<Round>]) {
    println!(
        "The layer beside a constant header, in percent: more CPU time per call of the client's\n\
         thread, and more calls per second; turns of about {} ms. Medians of the ratios in the same\n\
         round, in which range they are at 19 to 1, and where half of the rounds lie.\n\
         The constant header again is 0.0 in truth: what it shows is the noise.",
        plan.turn.as_millis(),
    );
    for (shape, rounds) in shapes.iter().zip(measured) {
        print_shape(shape, rounds);
    }
    if measured
        .iter()
        .flatten()
        .flatten()
        .any(|turn| turn.cpu.is_none())
    {
        println!("\nNo CPU times here: /proc/thread-self/schedstat isn't there to be read.");
    }
}

fn print_shape(shape: &Shape, rounds: &[Round]) {
    let calm = calm(rounds);
    println!(
        "\n{}, {} at a time; the calmest {} of {} rounds\n{:<22} {:>8}  {:^31}  {:>8}  {:^31}",
        shape.name,
        shape.callers,
        calm.len(),
        rounds.len(),
        "",
        "CPU, µs",
        "more      range        half",
        "calls/s",
        "more      range        half",
    );
    for (index, variant) in shape.variants.iter().enumerate() {
        println!(
            "{:<22} {}  {}",
            variant.name,
            columns(&calm, index, 2, |turn| {
                Some(turn.cpu?.as_secs_f64() * 1e6 / turn.calls as f64)
            }),
            columns(&calm, index, 0, |turn| {
                Some(turn.calls as f64 / turn.wall.as_secs_f64())
            }),
        );
    }
}

/// A figure as it is, and beside the constant header's.
fn columns(
    rounds: &[&Round],
    of: usize,
    decimals: usize,
    figure: impl Fn(&Turn) -> Option<f64>,
) -> String {
    let all = rounds.iter().filter_map(|round| figure(&round[of]));
    let Some(all) = Spread::of(all) else {
        return format!("{:>8}  {:31}", "?", "");
    };
    let ratios = rounds.iter().filter_map(|round| {
        let ratio = figure(&round[of])? / figure(&round[CONSTANT])?;
        Some((ratio - 1.0) * 100.0)
    });
    let beside = match Spread::of(ratios) {
        Some(more) if of != CONSTANT => format!(
            "{:+5.1}  {:+5.1} to {:+5.1}  {:+5.1} to {:+5.1}",
            more.median, more.sure.0, more.sure.1, more.quartiles.0, more.quartiles.1
        ),
        _ => String::new(),
    };
    format!("{:8.decimals$}  {beside:31}", all.median)
}

/// The rounds in which nobody else took the CPUs for long. A machine that is never calm still has
/// its calmer half.
pub fn calm(rounds: &[Round]) -> Vec<&Round> {
    let unrest = |round: &Round| {
        let turns = round.iter().map(|turn| turn.disturbed);
        turns.fold(0.0, f64::max)
    };
    let mut sorted: Vec<_> = rounds.iter().collect();
    sorted.sort_by(|a, b| unrest(a).total_cmp(&unrest(b)));
    let calm = sorted.partition_point(|round| unrest(round) < MOST_UNREST);
    sorted.truncate(calm.max(rounds.len().div_ceil(2)));
    sorted
}

/// Of a turn's wall time.
const MOST_UNREST: f64 = 0.1;
