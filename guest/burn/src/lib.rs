//! Uses the processor: `/loop` for ever, `/after-head` for ever once the answer has begun, `/ms?n=N` for
//! that many milliseconds, and then answers `done`.

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
