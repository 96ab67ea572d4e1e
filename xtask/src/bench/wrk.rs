//! Runs wrk, the load generator.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process;

/// The parameters of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load<'a> {
    pub(crate) port: u16,
    pub(crate) path: &'a str,
    pub(crate) connections: u32,
    pub(crate) seconds: u32,
    pub(crate) script: Option<&'a Path>,
}

/// The results of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Seen {
    pub(crate) requests: u64,
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// Connections that failed, and responses that timed out.
    pub(crate) errors: u64,
}

/// Fails when wrk is not installed; the error says how to install it.
pub(crate) fn ensure_there() -> Result<()> {
    if process::find("wrk").is_none() {
        bail!("wrk, the load generator, is not on the path; install it (Debian, Ubuntu: apt-get install wrk)");
    }
    Ok(())
}

/// Runs wrk with one thread, and parses its output.
pub(crate) fn run(load: Load<'_>, log: &Path) -> Result<Seen> {
    let Load { port, path, connections, seconds, script } = load;
    let mut command = Command::new("wrk");
    command.args(["-t1", "--latency", "--timeout", "10s"]);
    command.arg(format!("-c{connections}")).arg(format!("-d{seconds}"));
    if let Some(script) = script {
        command.arg("-s").arg(script);
    }
    command.arg(format!("http://127.0.0.1:{port}{path}"));
    let text = process::run(command, Duration::from_secs(u64::from(seconds) + 60), log)?;
    parse(&text).with_context(|| format!("failed to read what wrk wrote: {text}"))?.checked(&text)
}

impl Seen {
    fn checked(self, text: &str) -> Result<Self> {
        if let Some(line) = text.lines().find(|line| line.contains("Non-2xx")) {
            bail!("not every answer was a success: {}", line.trim());
        }
        if self.requests == 0 {
            bail!("no request was answered");
        }
        Ok(self)
    }
}

fn parse(text: &str) -> Option<Seen> {
    let mut seen = Seen::default();
    for line in text.lines().map(str::trim) {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("50%") => seen.p50_us = micros(words.next()?)?,
            Some("99%") => seen.p99_us = micros(words.next()?)?,
            Some("Requests/sec:") => seen.per_second = words.next()?.parse().ok()?,
            Some("Socket") => {
                seen.errors = words.filter_map(|word| word.trim_end_matches(',').parse::<u64>().ok()).sum();
            }
            Some(count) if words.next() == Some("requests") => seen.requests = count.parse().ok()?,
            _ => {}
        }
    }
    (seen.per_second > 0.0 || seen.requests == 0).then_some(seen)
}

fn micros(text: &str) -> Option<f64> {
    let (number, factor) = [("us", 1.0), ("ms", 1e3), ("s", 1e6), ("m", 6e7)]
        .iter()
        .find_map(|(unit, factor)| text.strip_suffix(unit).map(|number| (number, factor)))?;
    Some(number.parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::{Seen, micros, parse};

    #[test]
    fn the_output_of_wrk_is_read() {
        let text = "\
Running 4s test @ http://127.0.0.1:3000/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.42ms    1.02ms  20.80ms   92.81%
    Req/Sec    67.89k     1.40k   69.50k    80.00%
  Latency Distribution
     50%  412.00us
     75%    1.57ms
     90%    2.12ms
     99%    6.20ms
  271572 requests in 4.00s, 34.19MB read
  Socket errors: connect 1, read 2, write 0, timeout 3
Requests/sec:  67893.42
Transfer/sec:      8.55MB
";
        let want = Seen { requests: 271_572, per_second: 67_893.42, p50_us: 412.0, p99_us: 6_200.0, errors: 6 };
        assert_eq!(parse(text), Some(want));
        assert!(want.checked("  Non-2xx or 3xx responses: 12").is_err());
    }

    #[test]
    fn times_have_units() {
        assert_eq!(
            [micros("5.00us"), micros("1.50ms"), micros("2.00s"), micros("5")],
            [Some(5.0), Some(1500.0), Some(2e6), None]
        );
    }
}
