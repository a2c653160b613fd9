//! The table that people read.

use crate::{
    columns::{Columns, FLOOR, allocations},
    machine,
    shape::Kind,
};

pub fn print(columns: &Columns) {
    println!("{}", machine::line());
    println!(
        "ns per request, and in parentheses its ratio to the constant header in the same rounds"
    );
    print!("{:<40}", "");
    for column in &columns.columns {
        print!("{:>16}", column.name);
    }
    println!("{:>16}  does", "allocs added");
    let none = allocations(&columns.cases[FLOOR], Kind::Get6).unwrap_or_default();
    for (nth, case) in columns.cases.iter().enumerate() {
        print!("{:<40}", case.name);
        for column in &columns.columns {
            let (ns, ratio) = (column.nanoseconds(nth), column.ratio(nth, FLOOR));
            let cell = match ns.is_nan() {
                true => "-".to_owned(),
                false => format!("{ns:.0} ({ratio:.2})"),
            };
            print!("{cell:>16}");
        }
        let added = allocations(case, Kind::Get6).map(|count| count - none);
        let added = added.map_or_else(|| "-".to_owned(), |count| format!("{count:+.0}"));
        println!("{added:>16}  {}", case.does);
    }
}
