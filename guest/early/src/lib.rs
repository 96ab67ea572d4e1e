//! Responds with `early` without reading the request. `/late?ms=P` runs for P more milliseconds after its response is
//! complete, and then prints that on stderr.

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
