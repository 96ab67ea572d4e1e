//! Uses CPU time: `/loop` without end, `/after-head` without end after the response head, `/ms?n=N` for N milliseconds
//! before it responds with `done`.

use kit::wasi::clocks::monotonic_clock::now;
use kit::{Answer, IncomingRequest, ResponseOutparam};

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let target = kit::target(&request);
    match target.path() {
        "/loop" => burn(),
        "/after-head" => {
            let answer = Answer::start(out, 200, &[("content-type", "text/plain")]);
            let _ = answer.write(b"partial");
            burn()
        }
        _ => {
            let until = now() + target.number("n").unwrap_or(0) * 1_000_000;
            while now() < until {}
            kit::text(out, "done\n");
        }
    }
}

fn burn() -> ! {
    loop {
        std::hint::black_box(0);
    }
}

kit::serve!(handle);
