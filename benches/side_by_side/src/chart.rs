//! The chart of the README: drawn from the figures of this run, for light and dark pages.

use std::fmt::Write;

use crate::{
    columns::{Column, Columns, FLOOR},
    machine,
};

/// One case's two bars.
struct Row<'a> {
    name: &'a str,
    does: &'a str,
    alone: f64,
    together: f64,
}

pub fn draw(columns: &Columns) -> String {
    let [alone, near, far] = ["rec6", "2T near", "2T far"].map(|name| columns.column(name));
    // Where the CPUs stayed together, that is what there is to show.
    let seen = !far.ratio(FLOOR, FLOOR).is_nan();
    let (together, how) = match seen {
        true => (far, "two threads, their CPUs apart"),
        false => (near, "two threads, their CPUs together"),
    };
    let rows = rows(columns, alone, together);
    let most = rows
        .iter()
        .map(|row| row.alone.max(row.together))
        .fold(1.0, f64::max);
    let height = TOP + ROW * rows.len() + BOTTOM;
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" aria-label="Time per request beside a constant header">
<style>
text {{ font: 13px system-ui, sans-serif; fill: #1f2328 }} .small {{ font-size: 11px; fill: #59636e }} .title {{ font-size: 15px; font-weight: 600 }}
.alone {{ fill: #8fb7e8 }} .together {{ fill: #c9d1d9 }} .ours.alone {{ fill: #0969da }} .ours.together {{ fill: #54aeff }} .line {{ stroke: #59636e; stroke-dasharray: 3 3 }}
@media (prefers-color-scheme: dark) {{
text {{ fill: #e6edf3 }} .small {{ fill: #9198a1 }}
.alone {{ fill: #33567f }} .together {{ fill: #3d444d }} .ours.alone {{ fill: #4493f8 }} .ours.together {{ fill: #1f6feb }} .line {{ stroke: #9198a1 }}
}}
</style>
<text class="title" x="12" y="24">Time per request with a token at hand, in times of a constant header</text>
<rect class="ours alone" x="12" y="38" width="12" height="10"/><text class="small" x="30" y="47">one thread</text>
<rect class="ours together" x="112" y="38" width="12" height="10"/><text class="small" x="130" y="47">{how}</text>
"#
    );
    let scale = BARS as f64 / most;
    for (nth, row) in rows.iter().enumerate() {
        row.draw(&mut svg, TOP + ROW * nth, scale);
    }
    let one = LEFT as f64 + scale;
    let (from, to) = (TOP - 6, height - BOTTOM + 2);
    let _ = writeln!(
        svg,
        r#"<line class="line" x1="{one:.1}" x2="{one:.1}" y1="{from}" y2="{to}"/>"#
    );
    let floor = alone.nanoseconds(FLOOR);
    for (nth, line) in [
        format!("GET with six headers over a service that does nothing; a constant header takes {floor:.0} ns. Medians of paired rounds."),
        format!("{}; tower-oauth {}.", machine::line(), machine::crate_version()),
        format!("{}.", machine::peers()),
        "cargo run --release --manifest-path benches/side_by_side/Cargo.toml -- --svg FILE".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        let y = height - BOTTOM + 24 + 17 * nth;
        let _ = writeln!(svg, r#"<text class="small" x="12" y="{y}">{}</text>"#, escaped(line));
    }
    svg.push_str("</svg>\n");
    svg
}

/// Those that can send such a request, the fastest first.
fn rows<'a>(columns: &'a Columns, alone: &Column, together: &Column) -> Vec<Row<'a>> {
    let cases = columns.cases.iter().enumerate();
    let rows = cases.map(|(nth, case)| Row {
        name: case.name,
        does: case.does,
        alone: alone.ratio(nth, FLOOR),
        together: together.ratio(nth, FLOOR),
    });
    let is_shown = |row: &Row<'_>| !row.alone.is_nan() && !row.name.ends_with("again");
    let mut rows: Vec<_> = rows.filter(is_shown).collect();
    rows.sort_by(|a, b| a.alone.total_cmp(&b.alone));
    rows
}

impl Row<'_> {
    fn draw(&self, svg: &mut String, y: usize, scale: f64) {
        let ours = if self.name.starts_with("tower-oauth") {
            "ours "
        } else {
            ""
        };
        let (name, does) = (escaped(self.name), escaped(self.does));
        let (x, first, second) = (LEFT - 10, y + 12, y + 25);
        let _ = writeln!(
            svg,
            r#"<text x="{x}" y="{first}" text-anchor="end">{name}</text>"#
        );
        let _ = writeln!(
            svg,
            r#"<text class="small" x="{x}" y="{second}" text-anchor="end">{does}</text>"#
        );
        for (class, ratio, y) in [
            ("alone", self.alone, y + 2),
            ("together", self.together, y + 15),
        ] {
            if ratio.is_nan() {
                continue;
            }
            let (width, end, base) = (ratio * scale, LEFT as f64 + ratio * scale + 6.0, y + 9);
            let _ = writeln!(
                svg,
                r#"<rect class="{ours}{class}" x="{LEFT}" y="{y}" width="{width:.1}" height="11"/>"#
            );
            let _ = writeln!(
                svg,
                r#"<text class="small" x="{end:.1}" y="{base}">{ratio:.2}</text>"#
            );
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

const WIDTH: usize = 820;
const LEFT: usize = 250;
const BARS: usize = WIDTH - LEFT - 60;
const TOP: usize = 66;
const ROW: usize = 34;
const BOTTOM: usize = 83;
