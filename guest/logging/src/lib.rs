//! Logs through `wasi:logging` what the path names, and responds with `ok`.

use kit::wasi::logging::logging::{Level, log};
use kit::{IncomingRequest, ResponseOutparam};

const LEVELS: [Level; 6] = [Level::Trace, Level::Debug, Level::Info, Level::Warn, Level::Error, Level::Critical];

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let target = kit::target(&request);
    match target.path() {
        "/levels" => {
            for level in LEVELS {
                log(level, "shop", &format!("at {level:?}"));
            }
        }
        "/flood" => {
            for _ in 0..target.number("lines").unwrap_or(0) {
                log(Level::Info, "", &"x".repeat(79));
            }
        }
        // Lines that the log does not have, and one that it has.
        "/details" => {
            for _ in 0..target.number("lines").unwrap_or(0) {
                log(Level::Debug, "", &"x".repeat(79));
            }
            log(Level::Info, "", "after the details");
        }
        // Both take from one limit.
        "/stdout-first" => {
            println!("{}", "x".repeat(400));
            log(Level::Info, "", "logged after it");
        }
        "/control" => log(Level::Info, "a\x1b\" request=forged", "red \x1b[31m, line\nbreak, return \r, nul \0."),
        "/long" => log(Level::Info, &"c".repeat(100_000), &"m".repeat(100_000)),
        "/empty" => log(Level::Warn, "", ""),
        _ => {}
    }
    kit::text(out, "ok\n");
}

kit::serve!(handle);
