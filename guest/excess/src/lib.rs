//! Makes the host keep or write a lot: `/error?kib=N` returns an error code with a text of N KiB, `/lines?count=N`
//! prints N lines of one character, and `/fields?sets=N&names=M` keeps N sets of M header fields each and responds with
//! the number of sets that it got.

use std::io::Write as _;

use kit::wasi::http::types::ErrorCode;
use kit::{Fields, IncomingRequest, ResponseOutparam};

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let target = kit::target(&request);
    let number = |name| target.number(name).unwrap_or(1) as usize;
    match target.path() {
        "/error" => {
            let text = "x".repeat(number("kib") << 10);
            ResponseOutparam::set(out, Err(ErrorCode::InternalError(Some(text))));
        }
        "/lines" => {
            // The host may refuse to accept more.
            let _ = std::io::stdout().write_all("x\n".repeat(number("count")).as_bytes());
            kit::text(out, "done\n");
        }
        _ => {
            let mut all = Vec::new();
            for _ in 0..number("sets") {
                let set = Fields::new();
                let is_full = (0..number("names")).all(|name| set.append(&format!("n{name}"), b"").is_ok());
                if !is_full {
                    break;
                }
                all.push(set);
            }
            kit::text(out, &format!("{} sets\n", all.len()));
        }
    }
}

kit::serve!(handle);
