//! A well-behaved client, and its latencies.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::http::Client;

/// Pause between two requests.
const PAUSE: Duration = Duration::from_millis(10);

/// The minimum latency that a failed request counts as.
const UNANSWERED: Duration = Duration::from_secs(10);

/// What the client measured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Seen {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// Requests without the expected response.
    pub(crate) failed: u64,
}

/// Requests Hello World for `time`, over one connection as long as it stays open.
pub(crate) fn measure(port: u16, time: Duration) -> Result<Seen> {
    let (mut times, mut failed) = (Vec::new(), 0);
    let mut client = None;
    let end = Instant::now() + time;
    while Instant::now() < end {
        let begun = Instant::now();
        match ask(&mut client, port) {
            Ok(()) => times.push(begun.elapsed()),
            Err(_) => {
                client = None;
                failed += 1;
                times.push(begun.elapsed().max(UNANSWERED));
            }
        }
        std::thread::sleep(PAUSE);
    }
    ensure!(!times.is_empty(), "the healthy client sent no request");
    times.sort_unstable();
    Ok(Seen { p50: percentile(&times, 50), p99: percentile(&times, 99), failed })
}

fn ask(client: &mut Option<Client>, port: u16) -> Result<()> {
    let client = match client {
        Some(client) => client,
        None => client.insert(Client::connect(port)?),
    };
    client.get("/").map(drop)
}

/// The percentile of sorted times, by nearest rank.
fn percentile(times: &[Duration], percent: usize) -> Duration {
    let at = (times.len() * percent).div_ceil(100).max(1) - 1;
    times.get(at).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::percentile;
    use std::time::Duration;

    #[test]
    fn percentiles_are_of_those_seen() {
        let times: Vec<_> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!([50, 99, 100].map(|percent| percentile(&times, percent).as_millis()), [100, 198, 200]);
        assert_eq!(percentile(&times[..1], 99).as_millis(), 1);
    }
}
