//! CPU time for each request of a file, of the whole process tree, interleaved.

use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};

use super::servers::{Server, Servers};
use crate::http::Client;

pub(super) const FILES: &[(&str, usize)] = &[("1KiB.bin", 1 << 10), ("1MiB.bin", 1 << 20)];

const CLIENTS: u64 = 4;

/// Interleaved measurements of each server.
const ROUNDS: usize = 7;

/// Bytes that each measurement moves at least, and requests that it has at most.
const BYTES: u64 = 1 << 30;
const REQUESTS: u64 = 40_000;

pub(super) fn run(servers: &Servers) -> Result<()> {
    for (name, bytes) in FILES {
        let requests = (BYTES / *bytes as u64).clamp(CLIENTS, REQUESTS) / CLIENTS;
        let mut ratios = Vec::new();
        for _ in 0..ROUNDS {
            let ours = cpu(&servers.daylily, name, *bytes, requests)?;
            let theirs = cpu(&servers.nginx, name, *bytes, requests)?;
            ensure!(theirs > Duration::ZERO, "nginx used no CPU time");
            let each = |time: Duration| time.as_secs_f64() * 1e6 / (requests * CLIENTS) as f64;
            crate::say(&format!("  {name}: daylily {:.1} us, nginx {:.1} us\n", each(ours), each(theirs)))?;
            ratios.push(ours.as_secs_f64() / theirs.as_secs_f64());
        }
        ratios.sort_by(f64::total_cmp);
        let median = ratios.get(ROUNDS / 2).copied().unwrap_or(0.0);
        crate::say(&format!("{name}: {median:.2} times nginx's CPU time (median of {ROUNDS})\n"))?;
    }
    Ok(())
}

/// CPU time of a server for `requests` of each of [`CLIENTS`].
fn cpu(server: &Server, name: &str, bytes: usize, requests: u64) -> Result<Duration> {
    let before = server.process.cpu();
    let path = format!("/{name}");
    thread::scope(|scope| {
        let clients: Vec<_> =
            (0..CLIENTS).map(|_| scope.spawn(|| client(server.port, &path, bytes, requests))).collect();
        clients.into_iter().try_for_each(|client| client.join().map_err(|_| anyhow!("a client panicked"))?)
    })?;
    Ok(server.process.cpu() - before)
}

fn client(port: u16, path: &str, bytes: usize, requests: u64) -> Result<()> {
    let mut client = Client::connect(port)?;
    for number in 0..requests {
        // nginx closes a connection after 1,000 requests.
        if number % 1_000 == 0 {
            client = Client::connect(port)?;
        }
        let read = client.get(path)?;
        ensure!(read == bytes as u64, "{read} bytes of {bytes}");
    }
    Ok(())
}
