//! CPU time of operations under load. The servers' own is not counted, because it is the same.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use super::setup::{Setup, Store};
use crate::bench::outcome::{Outcome, figure, median};
use crate::http::{self, Client};

/// The limit: so many times the CPU time of a program without guests, and so many microseconds.
const TIMES: f64 = 1.3;
const MORE_US: f64 = 15.0;

/// Both are measured so often, in turn.
const ROUNDS: usize = 5;

/// Operations of the program in a round.
const OPERATIONS: u64 = 20_000;

/// Clients, and the requests of each with many operations in a round, and as many with [`FEW`]. With one client, most
/// of the time would be that of processes that fall asleep and are woken.
const CLIENTS: u32 = 16;
const REQUESTS: u32 = 5;
const MANY: u32 = 501;
const FEW: u32 = 1;

/// Returns what is above the limit.
pub(super) fn run(setup: &Setup) -> Result<Vec<String>> {
    let mut missed = Vec::new();
    let head = ["operation", "program", "guest", "guest / program", "limit", ""].map(String::from).to_vec();
    let mut table = Outcome { head, ..Outcome::default() };
    for store in Store::ALL {
        for operation in ["get", "set"] {
            let (mut program, mut guest) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                let ns = setup.without_guests(store, operation, OPERATIONS)?;
                program.push(ns.trim().parse::<f64>().with_context(|| format!("not a number: {ns}"))? / 1e3);
                guest.push(guest_us(setup, store, operation)?);
            }
            let (program, guest) = (median(program), median(guest));
            let limit = program * TIMES + MORE_US;
            let name = format!("{operation}, {}", store.name());
            let verdict = if guest <= limit { "ok" } else { "missed" };
            if guest > limit {
                missed.push(name.clone());
            }
            let us = |value| format!("{} µs", figure(value));
            table.rows.push(vec![name, us(program), us(guest), figure(guest / program), us(limit), verdict.into()]);
        }
    }
    crate::say(&format!(
        "CPU time of one operation beside {CLIENTS} clients, without the store's server:\n\n{}\n",
        table.markdown()
    ))?;
    Ok(missed)
}

/// The CPU time of one operation of a guest: the difference between requests with many operations and with few.
fn guest_us(setup: &Setup, store: Store, operation: &str) -> Result<f64> {
    let cpu = |count: u32| -> Result<Duration> {
        let target = format!("/often?store={}&op={operation}&key=k&bytes=100&count={count}", store.name());
        let done = http::fetch(setup.server.port, &target)?;
        ensure!(done == format!("{count} times"), "{target}: {done}");
        let before = setup.server.cpu();
        thread::scope(|scope| {
            let all = || -> Result<()> {
                let mut client = Client::connect(setup.server.port)?;
                (0..REQUESTS).try_for_each(|_| client.get(&target).map(drop))
            };
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(all)).collect();
            clients.into_iter().try_for_each(|client| client.join().map_err(|_| anyhow!("a client panicked"))?)
        })?;
        Ok(setup.server.cpu().saturating_sub(before))
    };
    let (few, many) = (cpu(FEW)?, cpu(MANY)?);
    Ok(many.saturating_sub(few).as_secs_f64() * 1e6 / f64::from(CLIENTS * REQUESTS * (MANY - FEW)))
}
