//! The clients: each repeats the requests of one route, and counts how they ended.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use super::Counts;
use crate::http::{Client, ClosedWhileIdle};

/// A route, and the clients of it.
pub(super) struct Kind {
    pub(super) host: &'static str,
    /// The guest; empty for requests that no route is found for.
    pub(super) package: &'static str,
    /// Further lines of the route's configuration.
    pub(super) keys: &'static str,
    /// Targets, with the outcome of such a request. `ORIGIN` is the port of the origin.
    requests: &'static [(&'static str, &'static str)],
    /// The length of a request's body.
    body: usize,
    pub(super) clients: usize,
    pause: Duration,
}

/// The route whose durations are compared: its guest waits for 100 ms.
pub(super) const MEASURED: &str = "wait";

const NO_KEYS: &str = "";
const OFTEN: Duration = Duration::from_millis(10);
const SELDOM: Duration = Duration::from_millis(40);

const fn kind(host: &'static str, package: &'static str, requests: &'static [(&'static str, &'static str)]) -> Kind {
    Kind { host, package, keys: NO_KEYS, requests, body: 0, clients: 1, pause: SELDOM }
}

pub(super) const KINDS: &[Kind] = &[
    Kind { pause: OFTEN, clients: 2, ..kind("hello.test", "hello", &[("/", "ok")]) },
    Kind { body: 10_000, ..kind("echo.test", "echo", &[("/", "ok")]) },
    Kind { pause: OFTEN, clients: 4, ..kind("wait.test", "stream", &[("/silent?ms=100", "ok")]) },
    // More clients than permits, so that one of them waits in the queue.
    Kind {
        keys: "max_concurrency = 1",
        clients: 4,
        pause: OFTEN,
        ..kind("queue.test", "stream", &[("/silent?ms=20", "ok")])
    },
    Kind {
        keys: "allow_http = [\"http://127.0.0.1:*\"]",
        ..kind(
            "outgoing.test",
            "outgoing",
            // Nothing listens on port 1.
            &[("/?url=http://127.0.0.1:ORIGIN/", "ok"), ("/?url=http://127.0.0.1:1/", "ok")],
        )
    },
    kind(
        "trap.test",
        "trap",
        &[("/before", "trap"), ("/exit", "exit"), ("/none", "no_response"), ("/error", "guest_error")],
    ),
    Kind { keys: "cpu_time = \"20ms\"", ..kind("burn.test", "burn", &[("/loop", "cpu_limit")]) },
    Kind { keys: "wall_time = \"50ms\"", ..kind("slow.test", "stream", &[("/silent?ms=9999", "wall_limit")]) },
    Kind { keys: "max_memory = \"4MiB\"", ..kind("memory.test", "memory", &[("/forever", "memory_limit")]) },
    kind("nowhere.test", "", &[("/", "no_route")]),
    kind("not a host", "", &[("/", "malformed")]),
];

impl Kind {
    /// The name of the route.
    pub(super) fn route(&self) -> &'static str {
        self.host.trim_end_matches(".test")
    }

    /// Each request, with its outcome.
    fn requests(&self, origin: u16) -> Vec<(Vec<u8>, &'static str)> {
        let request = |target: &str| {
            let (target, host, body) = (target.replace("ORIGIN", &origin.to_string()), self.host, self.body);
            let method = if body > 0 { "POST" } else { "GET" };
            let head = format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {body}\r\n\r\n");
            [head.into_bytes(), vec![b'0'; body]].concat()
        };
        self.requests.iter().map(|(target, outcome)| (request(target), *outcome)).collect()
    }
}

/// What clients saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Responses by outcome.
    pub(super) counts: Counts,
    /// Requests without a response, of which the server may or may not have read the head, and what happened to them.
    pub(super) unanswered: Vec<String>,
    /// Requests that were sent again on a new connection, because the server closed the idle one at that moment.
    pub(super) raced: u64,
    /// Of the requests to [`MEASURED`].
    pub(super) durations: Vec<Duration>,
    /// Responses with a status that their outcome does not have.
    pub(super) surprises: Vec<String>,
}

impl Seen {
    pub(super) fn add(&mut self, other: Self) {
        for (outcome, count) in other.counts {
            *self.counts.entry(outcome).or_default() += count;
        }
        self.unanswered.extend(other.unanswered);
        self.raced += other.raced;
        self.durations.extend(other.durations);
        self.surprises.extend(other.surprises);
    }

    pub(super) fn total(&self) -> u64 {
        self.counts.values().sum()
    }
}

/// Clients that run.
pub(super) struct Load {
    over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Seen>>,
    origin: JoinHandle<()>,
}

impl Load {
    pub(super) fn start(port: u16, origin: &TcpListener) -> Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let listener = origin.try_clone().context("the origin")?;
        let origin_port = listener.local_addr()?.port();
        let origin = thread::spawn({
            let over = over.clone();
            move || serve(&listener, &over)
        });
        let mut clients = Vec::new();
        for kind in KINDS {
            for _ in 0..kind.clients {
                let over = over.clone();
                clients.push(thread::spawn(move || client(kind, port, origin_port, &over)));
            }
        }
        Ok(Self { over, clients, origin })
    }

    /// Lets each client finish its request, and adds up what they saw.
    pub(super) fn end(self) -> Result<Seen> {
        self.over.store(true, Ordering::SeqCst);
        let mut all = Seen::default();
        for client in self.clients {
            all.add(client.join().map_err(|_| anyhow!("a client panicked"))?);
        }
        self.origin.join().map_err(|_| anyhow!("the origin panicked"))?;
        Ok(all)
    }
}

fn client(kind: &Kind, port: u16, origin: u16, over: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    let requests = kind.requests(origin);
    let mut connection = None;
    for (request, outcome) in requests.iter().cycle() {
        if over.load(Ordering::SeqCst) {
            break;
        }
        thread::sleep(kind.pause);
        let begun = Instant::now();
        let mut answer = ask(&mut connection, port, request);
        if answer.as_ref().is_err_and(anyhow::Error::is::<ClosedWhileIdle>) {
            // Clients repeat such a request (RFC 9112, section 9.3.1).
            seen.raced += 1;
            connection = None;
            answer = ask(&mut connection, port, request);
        }
        match answer {
            Ok(status) => {
                *seen.counts.entry((*outcome).to_owned()).or_default() += 1;
                let is_as_expected = if *outcome == "ok" { status == 200 } else { status >= 400 };
                if !is_as_expected {
                    seen.surprises.push(format!("{}: status {status} for a request of outcome {outcome}", kind.host));
                }
                if kind.route() == MEASURED {
                    seen.durations.push(begun.elapsed());
                }
            }
            Err(error) => {
                connection = None;
                seen.unanswered.push(format!("{}, after {:?}: {error:#}", kind.host, begun.elapsed()));
            }
        }
    }
    seen
}

/// Sends a request, if need be on a new connection, and returns the status of its response.
pub(super) fn ask(connection: &mut Option<Client>, port: u16, request: &[u8]) -> Result<u16> {
    let client = match connection {
        Some(client) => client,
        None => connection.insert(Client::connect(port)?),
    };
    let answer = client.exchange(request)?;
    if answer.closes {
        *connection = None;
    }
    Ok(answer.status)
}

/// An origin that answers one request for each connection.
fn serve(listener: &TcpListener, over: &AtomicBool) {
    if listener.set_nonblocking(true).is_err() {
        return;
    }
    while !over.load(Ordering::SeqCst) {
        let Ok((mut stream, _)) = listener.accept() else {
            thread::sleep(Duration::from_millis(2));
            continue;
        };
        let is_read = stream.set_nonblocking(false).is_ok()
            && stream.set_read_timeout(Some(Duration::from_secs(1))).is_ok()
            && stream.read(&mut [0; 4096]).is_ok();
        if is_read {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nok\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{KINDS, MEASURED};
    use daylily_core::request_outcome::RequestOutcome;

    #[test]
    fn kinds_are_routes_with_outcomes() {
        assert!(KINDS.iter().any(|kind| kind.route() == MEASURED));
        for kind in KINDS {
            assert!(kind.clients > 0 && KINDS.iter().filter(|other| other.host == kind.host).count() == 1);
            for (request, outcome) in kind.requests(80) {
                assert!(RequestOutcome::ALL.iter().any(|known| known.as_str() == outcome), "{outcome}");
                assert!(!request.is_empty());
            }
        }
    }
}
