//! Cases other than many small requests: large bodies, idle connections, routes, starts.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::outcome::{Outcome, figure, median, ratio};
use super::servers::{Serve, Server};
use super::wrk::{self, Load};
use super::{Run, interleave};
use crate::http::Client;

/// Time for the memory of connections that have just ended to be given back.
const SETTLE: Duration = Duration::from_millis(300);

pub(crate) fn echo(run: &Run<'_>, bytes: u64, times: u32) -> Result<Option<Outcome>> {
    let serve = run.bench.guest("echo");
    let times = if run.quick { times.div_ceil(4) } else { times };
    let mib = bytes as f64 / f64::from(1 << 20) * f64::from(times);
    let samples = interleave(run, &run.servers, |server| {
        let up = run.bench.up(server, &serve, &run.bench.cache(), "/")?;
        let mut client = Client::connect(up.port)?;
        let mut post = || {
            let echoed = client.post("/echo", bytes).with_context(|| server.title(run.bench))?;
            ensure!(echoed == bytes, "{} sent {echoed} bytes of {bytes} back", server.title(run.bench));
            Ok(())
        };
        post()?;
        let (begun, before) = (Instant::now(), up.process.cpu());
        for _ in 0..times {
            post()?;
        }
        let took = begun.elapsed();
        let cpu_us = up.process.cpu().saturating_sub(before).as_secs_f64() * 1e6 / mib;
        let rate = mib * f64::from(1 << 20) / 1e6 / took.as_secs_f64();
        run.say(&format!("{}: {} MB/s", server.title(run.bench), figure(rate)));
        Ok((rate, cpu_us, up.process.pss_kib() as f64 / 1024.0))
    })?;
    let mut outcome = Outcome {
        text: format!(
            "{times} requests, one after another on one connection, {} MiB each; the client reads the response while \
             it writes the request.",
            bytes >> 20
        ),
        head: ["server", "MB/s", "CPU µs/MiB", "to the first", "memory MiB"].map(String::from).to_vec(),
        ..Outcome::default()
    };
    let floor = samples.first().map_or(f64::NAN, |(_, samples)| median(samples.iter().map(|s| s.1)));
    for (server, samples) in &samples {
        let cpu_us = median(samples.iter().map(|s| s.1));
        outcome.rows.push(vec![
            server.title(run.bench),
            figure(median(samples.iter().map(|s| s.0))),
            figure(cpu_us),
            ratio(cpu_us, floor),
            figure(median(samples.iter().map(|s| s.2))),
        ]);
    }
    Ok(Some(outcome))
}

/// How long connections are idle before memory is measured: longer than daylily waits before they rest.
const IDLE: Duration = Duration::from_secs(3);

pub(crate) fn idle(run: &Run<'_>, connections: u32) -> Result<Option<Outcome>> {
    let serve = run.bench.guest("hello");
    let samples = interleave(run, &run.servers, |server| {
        let up = run.bench.up(server, &serve, &run.bench.cache(), "/")?;
        // Warm up: memory that the first load allocates must not count for the connections.
        let load = Load { port: up.port, path: "/", connections: 32, seconds: 1, script: None };
        wrk::run(load, &run.bench.scratch("wrk"))?;
        thread::sleep(SETTLE);
        let before = up.process.pss_kib();
        let mut open = Vec::new();
        for _ in 0..connections {
            let mut client = Client::connect(up.port)?;
            client.get("/").with_context(|| server.title(run.bench))?;
            open.push(client);
        }
        thread::sleep(IDLE);
        let after = up.process.pss_kib();
        let each = (after as f64 - before as f64) / f64::from(connections);
        run.say(&format!("{}: {} KiB", server.title(run.bench), figure(each)));
        Ok((before as f64 / 1024.0, after as f64 / 1024.0, each))
    })?;
    let mut outcome = Outcome {
        text: format!(
            "Memory before and with {connections} open connections, each after one request. It does not include the \
             kernel's memory for a socket."
        ),
        head: ["server", "before MiB", "with them MiB", "KiB/connection"].map(String::from).to_vec(),
        ..Outcome::default()
    };
    for (server, samples) in &samples {
        let mid = |of: fn(&(f64, f64, f64)) -> f64| figure(median(samples.iter().map(of)));
        outcome.rows.push(vec![server.title(run.bench), mid(|s| s.0), mid(|s| s.1), mid(|s| s.2)]);
    }
    Ok(Some(outcome))
}

pub(crate) fn start(run: &Run<'_>, warm: u32, cold: u32) -> Result<Option<Outcome>> {
    let (warm, cold) = if run.quick { (5, 2) } else { (warm, cold) };
    let serve = run.bench.guest("hello");
    let of = |server: Server, is_warm: bool| -> Result<f64> {
        let cache = if is_warm { run.bench.cache() } else { run.bench.scratch("cold") };
        Ok(run.bench.up(server, &serve, &cache, "/")?.start.as_secs_f64() * 1e3)
    };
    let run_warm = Run { rounds: warm, ..run.clone() };
    let warm_ms = interleave(&run_warm, &run.servers, |server| of(server, true))?;
    let compiling: Vec<Server> =
        run.servers.iter().copied().filter(|server| matches!(server, Server::All | Server::Fresh)).collect();
    let run_cold = Run { rounds: cold, ..run.clone() };
    let cold_ms = interleave(&run_cold, &compiling, |server| of(server, false))?;
    let mut outcome = Outcome {
        text: format!(
            "The time from `exec` to the end of the first response, with Hello World of wasi:http 0.2. Warm (medians \
             of {warm}): the compiled component is in the cache, which daylily and `wasmtime serve` have by default. \
             Cold (medians of {cold}): the cache is empty."
        ),
        head: ["server", "warm ms", "to the first", "cold ms"].map(String::from).to_vec(),
        ..Outcome::default()
    };
    let floor = warm_ms.first().map_or(f64::NAN, |(_, ms)| median(ms.iter().copied()));
    for (server, ms) in &warm_ms {
        let warm_ms = median(ms.iter().copied());
        let cold_ms =
            cold_ms.iter().find(|(other, _)| other == server).map_or(f64::NAN, |(_, ms)| median(ms.iter().copied()));
        outcome.rows.push(vec![server.title(run.bench), figure(warm_ms), ratio(warm_ms, floor), figure(cold_ms)]);
    }
    Ok(Some(outcome))
}

pub(crate) fn routes(run: &Run<'_>, counts: &[u32]) -> Result<Option<Outcome>> {
    let counts: Vec<u32> = counts.iter().copied().filter(|count| !run.quick || *count <= 100).collect();
    let hello = run.bench.guest("hello");
    let hello = fs::read(hello.path()).with_context(|| format!("failed to read {}", hello.path().display()))?;
    let dir = run.bench.scratch("routes");
    fs::create_dir(&dir)?;
    let mut prepared = Vec::new();
    for count in &counts {
        let config = dir.join(format!("{count}.toml"));
        let mut text = String::new();
        for number in 0..*count {
            let component = dir.join(format!("{number}.wasm"));
            fs::write(&component, distinct(&hello, number))?;
            text.push_str(&format!("[[route]]\npath = \"/{number}\"\ncomponent = \"{number}.wasm\"\n"));
        }
        fs::write(&config, text)?;
        let script = dir.join(format!("{count}.lua"));
        fs::write(
            &script,
            format!(
                "local n = 0\nfunction request()\n  n = (n + 1) % {count}\n  return wrk.format(\"GET\", \"/\" .. n)\nend\n"
            ),
        )?;
        // Fills the cache of compiled code.
        run.say(&format!("compiling what {count} routes need"));
        drop(run.bench.up(Server::All, &Serve::Config(config.clone()), &run.bench.cache(), "/0")?);
        prepared.push((*count, Serve::Config(config), script));
    }
    let samples = interleave(run, &counts, |count| {
        let (_, serve, script) =
            prepared.iter().find(|(of, _, _)| *of == count).context("a count without a configuration")?;
        let up = run.bench.up(Server::All, serve, &run.bench.cache(), "/0")?;
        let load = Load { port: up.port, path: "/0", connections: 32, seconds: run.seconds, script: Some(script) };
        let sample = super::load::measure(run, &up, load)?;
        run.say(&format!("{count} routes: {} µs", figure(sample.cpu_us)));
        Ok((sample.cpu_us, sample.pss_kib, up.start.as_secs_f64() * 1e3))
    })?;
    Ok(Some(routes_outcome(run, &samples)))
}

/// For each number of routes: CPU µs per request, memory in KiB, and the time of the start in ms.
type RouteSamples = Vec<(u32, Vec<(f64, f64, f64)>)>;

fn routes_outcome(run: &Run<'_>, samples: &RouteSamples) -> Outcome {
    let mut outcome = Outcome {
        text: format!(
            "{}. Each route has its own component: Hello World of wasi:http 0.2, changed so that its digest differs. \
             The requests go to all routes in turn. The start is measured with compiled code in the cache. \
             The memory of a component is the difference to the memory with one route.",
            Server::All.title(run.bench)
        ),
        head: ["routes", "CPU µs/request", "to the first", "memory MiB", "KiB/component", "start ms"]
            .map(String::from)
            .to_vec(),
        ..Outcome::default()
    };
    let medians = samples.iter().map(|(count, samples)| {
        let mid = |of: fn(&(f64, f64, f64)) -> f64| median(samples.iter().map(of));
        (*count, mid(|s| s.0), mid(|s| s.1), mid(|s| s.2))
    });
    let medians: Vec<_> = medians.collect();
    let Some(first) = medians.first().copied() else {
        return outcome;
    };
    for (count, cpu_us, pss_kib, start_ms) in medians {
        let more = f64::from(count) - f64::from(first.0);
        outcome.rows.push(vec![
            count.to_string(),
            figure(cpu_us),
            ratio(cpu_us, first.1),
            figure(pss_kib / 1024.0),
            figure((pss_kib - first.2) / more),
            figure(start_ms),
        ]);
    }
    outcome
}

/// The component with a custom section appended that makes its file unique.
fn distinct(component: &[u8], number: u32) -> Vec<u8> {
    let name = b"bench";
    let content = number.to_le_bytes();
    let mut out = component.to_vec();
    // The section's id and length, the length of its name, its name, its content.
    out.extend([0, u8::try_from(1 + name.len() + content.len()).unwrap_or(0), u8::try_from(name.len()).unwrap_or(0)]);
    out.extend(name);
    out.extend(content);
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_custom_section_is_added() {
        assert_eq!(super::distinct(b"x", 258), *b"x\0\x0a\x05bench\x02\x01\0\0");
    }
}
