//! Answers `early` without having read the request. `/late?ms=P` works on for that long after its answer
//! is complete, and then says so on stderr.

use kit::{IncomingRequest, ResponseOutparam};

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let target = kit::target(&request);
    kit::text(out, "early\n");
    if target.path() == "/late" {
        kit::pause(target.number("ms").unwrap_or(0));
        eprintln!("late done");
    }
}

kit::serve!(handle);
