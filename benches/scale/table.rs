//! Numbers for people.

use std::time::Duration;

/// A line of right-aligned cells; the first is wide, for its name.
pub fn line<const N: usize>(name: &str, cells: [String; N]) {
    print!("{name:<44}");
    for cell in cells {
        print!("{cell:>14}");
    }
    println!();
}

pub fn head<const N: usize>(name: &str, cells: [&str; N]) {
    println!();
    line(name, cells.map(str::to_owned));
}

/// With a comma at every third digit.
pub fn count(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub fn nanos(nanos: f64) -> String {
    match nanos {
        ..1e4 => format!("{nanos:.0} ns"),
        ..1e7 => format!("{:.1} µs", nanos / 1e3),
        _ => format!("{:.1} ms", nanos / 1e6),
    }
}

pub fn ratio(ratio: f64) -> String {
    format!("× {ratio:.2}")
}

pub fn each(time: Duration, of: usize) -> f64 {
    time.as_nanos() as f64 / of as f64
}

pub fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}
