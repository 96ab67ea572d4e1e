//! Counts the requests it has received, in memory: always one, if no instance serves two requests.

use std::sync::atomic::{AtomicU64, Ordering};

use kit::{IncomingRequest, ResponseOutparam};

static COUNT: AtomicU64 = AtomicU64::new(0);

fn handle(_request: IncomingRequest, out: ResponseOutparam) {
    let count = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
    kit::text(out, &format!("count: {count}\n"));
}

kit::serve!(handle);
