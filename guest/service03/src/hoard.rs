//! Makes the host keep what the path names, `count` times.

use query::Target;

use crate::wasi::http::types::Fields;
use crate::wit_stream;

pub fn keep(path: &str, target: &Target) -> String {
    let count = 0..target.number("count").unwrap_or(0);
    let names = target.number("names").unwrap_or(0);
    match path {
        "/fields" => drop(count.map(|_| fields(names)).collect::<Vec<_>>()),
        "/streams" => drop(count.map(|_| wit_stream::new::<u8>()).collect::<Vec<_>>()),
        // Dropped one after the other.
        _ => count.for_each(|_| drop(fields(names))),
    }
    "ok\n".into()
}

fn fields(names: u64) -> Fields {
    let fields = Fields::new();
    for number in 0..names {
        // The host keeps nothing for a field that it rejects.
        let _ = fields.append(&format!("n{number}"), b"1");
    }
    fields
}
