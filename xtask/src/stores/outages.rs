//! What requests without a store notice of one that does nothing, while others use it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::setup::{STORE_TIMEOUT, Setup, Store};
use crate::bench::outcome::{Outcome, median};
use crate::healthy;
use crate::http::Client;

/// The limits.
const TIMES: f64 = 1.2;
const LONGER: Duration = Duration::from_secs(1);

/// Clients that increment a counter in the store, and the pause of each after a response.
const CLIENTS: usize = 16;
const PAUSE: Duration = Duration::from_millis(20);

/// How long the store works and how long it does not, in turn, and how often.
const TIME: Duration = Duration::from_secs(10);
const ROUNDS: usize = 3;

/// What the clients of the store have seen.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    requests: u64,
    longest: Duration,
}

/// Returns what is above a limit.
pub(super) fn run(setup: &Setup) -> Result<Vec<String>> {
    let mut missed = Vec::new();
    let head = ["stopped", "p99 before", "p99 during", "ratio", "increments", "longest", "deaths", ""];
    let mut table = Outcome { head: head.map(String::from).to_vec(), ..Outcome::default() };
    for store in Store::ALL {
        let deaths = setup.server.deaths()?;
        let (load, [before, during]) = measure(setup, store).with_context(|| store.name())?;
        let deaths = setup.server.deaths()? - deaths;
        let mut faults = Vec::new();
        if during > before * TIMES {
            faults.push("p99");
        }
        if load.longest > STORE_TIMEOUT + LONGER {
            faults.push("longest");
        }
        if deaths > 0 {
            faults.push("deaths");
        }
        let verdict = if faults.is_empty() { "ok".into() } else { format!("missed: {}", faults.join(", ")) };
        if !faults.is_empty() {
            missed.push(format!("the outage of {}", store.name()));
        }
        let ms = |seconds: f64| format!("{:.2} ms", seconds * 1e3);
        let ratio = format!("{:.2}", during / before);
        let longest = ms(load.longest.as_secs_f64());
        let requests = load.requests.to_string();
        table.rows.push(vec![
            store.name().into(),
            ms(before),
            ms(during),
            ratio,
            requests,
            longest,
            deaths.to_string(),
            verdict,
        ]);
    }
    crate::say(&format!("Requests without a store, beside {CLIENTS} clients of one:\n\n{}\n", table.markdown()))?;
    Ok(missed)
}

/// The 99th percentile while the store works and while it does not, in seconds: the medians of the rounds.
fn measure(setup: &Setup, store: Store) -> Result<(Load, [f64; 2])> {
    let (over, port) = (AtomicBool::new(false), setup.server.port);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| increment(port, store, &over))).collect();
        let seen = rounds(setup, store);
        over.store(true, Ordering::SeqCst);
        let mut load = Load::default();
        for client in clients {
            let seen = client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
            load.requests += seen.requests;
            load.longest = load.longest.max(seen.longest);
        }
        Ok((load, seen?))
    })
}

fn rounds(setup: &Setup, store: Store) -> Result<[f64; 2]> {
    let (mut before, mut during) = (Vec::new(), Vec::new());
    let p99 = || -> Result<f64> {
        let seen = healthy::measure(setup.server.port, TIME)?;
        ensure!(seen.failed == 0, "{} requests without a store failed", seen.failed);
        Ok(seen.p99.as_secs_f64())
    };
    for _ in 0..ROUNDS {
        before.push(p99()?);
        let _stopped = setup.stop(store)?;
        during.push(p99()?);
    }
    Ok([median(before), median(during)])
}

/// Increments until it is over; an operation that fails has status 200, too.
fn increment(port: u16, store: Store, over: &AtomicBool) -> Result<Load> {
    let target = format!("/increment?store={}&key=n", store.name());
    let (mut client, mut load) = (Client::connect(port)?, Load::default());
    while !over.load(Ordering::SeqCst) {
        let begun = Instant::now();
        client.get(&target)?;
        load.longest = load.longest.max(begun.elapsed());
        load.requests += 1;
        thread::sleep(PAUSE);
    }
    Ok(load)
}
