//! Cases in which wrk generates the load.

use std::fs;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result};

use super::cases::Guest;
use super::cpus::Cpus;
use super::outcome::{Outcome, figure, median, ratio};
use super::servers::{Serve, Server, Up};
use super::wrk::{self, Load, Seen};
use super::{Run, interleave};

/// The number of connections of an ordinary load.
const CONNECTIONS: u32 = 32;

/// One measurement of one server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) seen: Seen,
    pub(crate) cpu_us: f64,
    pub(crate) pss_kib: f64,
}

/// Runs wrk on a server that was started for it: a warm-up, and then `seconds` that are measured.
pub(crate) fn measure(run: &Run<'_>, up: &Up, load: Load<'_>) -> Result<Sample> {
    let log = run.bench.scratch("wrk");
    wrk::run(Load { seconds: 1, ..load }, &log)?;
    let before = up.process.cpu();
    let seen = wrk::run(load, &log)?;
    let used = up.process.cpu().saturating_sub(before);
    let cpu_us = used.as_secs_f64() * 1e6 / seen.requests as f64;
    Ok(Sample { seen, cpu_us, pss_kib: up.process.pss_kib() as f64 })
}

fn once(
    run: &Run<'_>,
    server: Server,
    serve: &Serve,
    path: &str,
    connections: u32,
    script: Option<&Path>,
) -> Result<Sample> {
    // The echo guest also responds to the GET that checks the start.
    let up = run.bench.up(server, serve, &run.bench.cache(), if script.is_some() { "/" } else { path })?;
    let load = Load { port: up.port, path, connections, seconds: run.seconds, script };
    let sample = measure(run, &up, load).with_context(|| server.title(run.bench))?;
    run.say(&format!(
        "{}: {} requests/s, {} µs",
        server.title(run.bench),
        figure(sample.seen.per_second),
        figure(sample.cpu_us)
    ));
    Ok(sample)
}

pub(crate) fn load(run: &Run<'_>, guest: Guest, path: &str, script: Option<&str>) -> Result<Option<Outcome>> {
    let serve = match guest {
        Guest::Package(package) => run.bench.guest(package),
        Guest::JavaScript => match &run.bench.javascript {
            Some(component) => Serve::Component(component.clone()),
            None => {
                run.say("left out; the reason is above");
                return Ok(None);
            }
        },
    };
    let script = script.map(|name| run.bench.script(name));
    let samples =
        interleave(run, &run.servers, |server| once(run, server, &serve, path, CONNECTIONS, script.as_deref()))?;
    let what = match guest {
        Guest::Package(_) => String::new(),
        Guest::JavaScript => {
            let bytes = fs::metadata(serve.path()).map_or(0, |file| file.len());
            format!(" The component has {:.1} MB, and contains a JavaScript engine.", bytes as f64 / 1e6)
        }
    };
    let mut outcome = Outcome {
        text: format!("Load: wrk with {CONNECTIONS} connections.{what}"),
        head: ["server", "requests/s", "p50 µs", "p99 µs", "CPU µs/request", "to the first", "memory MiB"]
            .map(String::from)
            .to_vec(),
        ..Outcome::default()
    };
    let floor = samples.first().map_or(f64::NAN, |(_, samples)| median(samples.iter().map(|s| s.cpu_us)));
    for (server, samples) in &samples {
        let mid = |of: fn(&Sample) -> f64| median(samples.iter().map(of));
        let (cpu_us, p99_us) = (mid(|s| s.cpu_us), mid(|s| s.seen.p99_us));
        let title = server.title(run.bench);
        outcome.rows.push(vec![
            title.clone(),
            figure(mid(|s| s.seen.per_second)),
            figure(mid(|s| s.seen.p50_us)),
            figure(p99_us),
            figure(cpu_us),
            ratio(cpu_us, floor),
            figure(mid(|s| s.pss_kib) / 1024.0),
        ]);
        outcome.cpu_us.push((title.clone(), cpu_us));
        outcome.p99_us.push((title, p99_us));
    }
    note_errors(&mut outcome, samples.iter().flat_map(|(_, samples)| samples));
    Ok(Some(outcome))
}

fn note_errors<'a>(outcome: &mut Outcome, samples: impl IntoIterator<Item = &'a Sample>) {
    let errors: u64 = samples.into_iter().map(|sample| sample.seen.errors).sum();
    if errors > 0 {
        outcome.text.push_str(&format!(" wrk counted {errors} errors on sockets in all rounds together."));
    }
}

pub(crate) fn connections(run: &Run<'_>, counts: &[u32]) -> Result<Option<Outcome>> {
    let serve = run.bench.guest("hello");
    let mut keys = Vec::new();
    for server in &run.servers {
        keys.extend(counts.iter().map(|count| (*server, *count)));
    }
    let samples = interleave(run, &keys, |(server, count)| once(run, server, &serve, "/", count, None))?;
    let mut outcome = Outcome {
        text: format!(
            "Hello World of wasi:http 0.2. CPU µs/request, and in parentheses its ratio to the figure at {CONNECTIONS} \
             connections."
        ),
        head: vec!["server".into()],
        ..Outcome::default()
    };
    outcome.head.extend(
        counts.iter().map(|count| if *count == 1 { "1 connection".into() } else { format!("{count} connections") }),
    );
    for server in &run.servers {
        let of = |count: u32| {
            let found = samples.iter().find(|(key, _)| *key == (*server, count));
            found.map_or(f64::NAN, |(_, samples)| median(samples.iter().map(|s| s.cpu_us)))
        };
        let mut row = vec![server.title(run.bench)];
        row.extend(
            counts.iter().map(|count| format!("{} ({})", figure(of(*count)), ratio(of(*count), of(CONNECTIONS)))),
        );
        outcome.rows.push(row);
    }
    note_errors(&mut outcome, samples.iter().flat_map(|(_, samples)| samples));
    Ok(Some(outcome))
}

pub(crate) fn beside(run: &Run<'_>, guest: &str, path: &str, what: &str) -> Result<Option<Outcome>> {
    let config = run.bench.scratch("beside.toml");
    let place = path.split_once('?').map_or(path, |(place, _)| place);
    let route = |path: &str, package: &str| {
        format!("[[route]]\npath = \"{path}\"\ncomponent = \"{}\"\n", run.bench.guest(package).path().display())
    };
    fs::write(&config, route("/", "hello") + &route(place, guest))?;
    let serve = Serve::Config(config);
    let half = CONNECTIONS / 2;
    let cpus = Cpus::new()?;
    let samples = interleave(run, &[false, true], |is_beside| {
        cpus.restrict_to_first()?;
        let up = run.bench.up(Server::One, &serve, &run.bench.cache(), "/");
        cpus.restrict_to_others()?;
        let up = up?;
        let load = Load { port: up.port, path: "/", connections: half, seconds: run.seconds, script: None };
        let (log, neighbour) = (run.bench.scratch("wrk"), run.bench.scratch("wrk"));
        let sample = thread::scope(|scope| {
            // Longer, so that this load is present during the whole measurement.
            let slow = Load { path, seconds: run.seconds + 3, ..load };
            let slow = is_beside.then(|| scope.spawn(move || wrk::run(slow, &neighbour)));
            wrk::run(Load { seconds: 1, ..load }, &log)?;
            let sample = wrk::run(load, &log);
            if let Some(slow) = slow {
                slow.join().map_err(|_| anyhow::anyhow!("the thread of the neighbour panicked"))??;
            }
            sample
        })?;
        run.say(&format!("{}: p99 {} µs", if is_beside { "beside" } else { "alone" }, figure(sample.p99_us)));
        Ok(sample)
    })?;
    let mut outcome = Outcome {
        text: format!(
            "Hello World with {half} connections, alone and while {half} more connections send requests to a guest \
             that {what}. One worker, with its own CPU. If the load generator shared that CPU, it would measure how \
             long the kernel makes it wait for the CPU."
        ),
        head: ["", "requests/s", "p50 µs", "p99 µs", "p99 to alone"].map(String::from).to_vec(),
        ..Outcome::default()
    };
    let alone = samples.first().map_or(f64::NAN, |(_, samples)| median(samples.iter().map(|s| s.p99_us)));
    for (is_beside, samples) in &samples {
        let mid = |of: fn(&Seen) -> f64| median(samples.iter().map(of));
        let p99_us = mid(|s| s.p99_us);
        outcome.rows.push(vec![
            if *is_beside { format!("beside a guest that {what}") } else { "alone".into() },
            figure(mid(|s| s.per_second)),
            figure(mid(|s| s.p50_us)),
            figure(p99_us),
            ratio(p99_us, alone),
        ]);
    }
    Ok(Some(outcome))
}
