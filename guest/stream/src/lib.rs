//! `/silent?ms=P` responds with `done` after P milliseconds. `/?chunks=N&size=BYTES&pause_ms=P` responds with N pieces
//! of that size, and pauses before each.

use kit::{Answer, IncomingRequest, ResponseOutparam};

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let target = kit::target(&request);
    if target.path() == "/silent" {
        kit::pause(target.number("ms").unwrap_or(0));
        return kit::text(out, "done\n");
    }
    let piece = vec![b'x'; target.number("size").unwrap_or(1) as usize];
    let answer = Answer::start(out, 200, &[("content-type", "text/plain")]);
    for _ in 0..target.number("chunks").unwrap_or(1) {
        if let Some(ms) = target.number("pause_ms") {
            kit::pause(ms);
        }
        if !answer.write(&piece) {
            return;
        }
    }
    answer.finish(None);
}

kit::serve!(handle);
