//! Starts the real `daylily`, sends requests over raw sockets and reads its log.

mod access_record;
mod agreement;
mod audit;
mod certificates;
mod cli;
mod client;
mod guests;
mod held_file;
mod load;
mod log;
mod message;
mod metrics_page;
mod proc;
mod server;
mod setup;
mod shared;
mod store_server;
mod supervised;
mod table;
mod terminal;
mod turn;
mod upstream;
mod wire;

use std::time::{Duration, Instant};

pub use access_record::count;
pub use certificates::Certificates;
pub use cli::{Finished, run, run_at, run_in};
pub use client::{Connection, Silence};
pub use guests::{as_component, built, core_modules, entire, guest, with_module};
pub use held_file::HeldFile;
pub use load::Load;
pub use log::Log;
pub use message::{Ending, Request, Response, chunk_bytes, is_request_id, without_ids};
pub use metrics_page::{Counts, MetricsPage};
pub use proc::Process;
pub use server::Daylily;
pub use setup::{Setup, binary, cache_dir, copy_program, route_to};
pub use shared::Shared;
pub use store_server::StoreServer;
pub use supervised::{Moved, Status, make_pipe};
pub use table::each;
pub use terminal::Terminal;
pub use turn::Turn;
pub use upstream::{Upstream, echo};
pub use wire::{Framing, Head, Stop, Wire};

/// The longest time of any single wait before the test fails: far more than a busy machine needs.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Calls `holds` for all of this time, for tests in which nothing must happen. Returns false as soon as it does.
pub fn always(during: Duration, mut holds: impl FnMut() -> bool) -> bool {
    !eventually(during, || !holds())
}

/// Calls `ask` until it returns true. Returns false if `within` has passed before.
pub fn eventually(within: Duration, mut ask: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + within;
    loop {
        if ask() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
