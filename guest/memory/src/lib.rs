//! `/grow?mib=N` allocates and touches N MiB of memory, and responds with `ok N`. `/forever` allocates until memory is
//! exhausted, and traps.

use std::hint::black_box;

use kit::{IncomingRequest, ResponseOutparam};

fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let target = kit::target(&request);
    let mib = match target.path() {
        "/forever" => u64::MAX,
        _ => target.number("mib").unwrap_or(0),
    };
    for _ in 0..mib {
        black_box(vec![1_u8; 1 << 20]).leak();
    }
    kit::text(out, &format!("ok {mib}\n"));
}

kit::serve!(handle);
