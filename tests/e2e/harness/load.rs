//! Clients that keep a server busy, and the results of all their requests.

use std::io::{self, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;

use super::client::connect_unix;
use super::{Framing, PATIENCE, Request, Stop, Wire, eventually};

/// After this many requests a client closes its connection, so that new connections are made all the time.
const REQUESTS_OF_ONE_CONNECTION: u64 = 20;

/// Clients in threads of their own. Each sends the same request again and again, over one connection until the server
/// sends `connection: close` or closes it, and then over a new one.
pub struct Load {
    clients: Vec<JoinHandle<Outcome>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stopping: AtomicBool,
    answered: AtomicU64,
    refused: AtomicU64,
}

/// The results of all clients.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Complete responses with status 200.
    pub answered: u64,
    /// The statuses of complete responses with another status.
    pub wrong: Vec<u16>,
    /// Requests that were sent, or could not be sent completely, on a connection that then ended without a byte of a
    /// response; and how it ended.
    pub unanswered: Vec<Stop>,
    /// Responses that ended early.
    pub truncated: u64,
    /// Connections that were not accepted.
    pub refused: u64,
}

/// The result of one request.
enum Fate {
    Answered { status: u16, closes: bool },
    Unanswered(Stop),
    Truncated,
}

impl Load {
    pub fn start(address: SocketAddr, clients: usize, request: &Request) -> Self {
        let connect = move || {
            let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
            stream.set_nodelay(true).expect("no delay");
            Ok(stream)
        };
        Self::over(connect, clients, request)
    }

    /// Clients of the Unix socket at `path`.
    pub fn start_unix(path: &Path, clients: usize, request: &Request) -> Self {
        let path = path.to_owned();
        Self::over(move || connect_unix(&path), clients, request)
    }

    fn over(
        connect: impl Fn() -> io::Result<TcpStream> + Clone + Send + 'static,
        clients: usize,
        request: &Request,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let clients = (0..clients).map(|_| {
            let (connect, shared, bytes) = (connect.clone(), shared.clone(), request.bytes());
            std::thread::spawn(move || client(connect, &bytes, &shared))
        });
        Self { clients: clients.collect(), shared: shared.clone() }
    }

    /// Waits until `more` further requests have been answered.
    #[track_caller]
    pub fn expect_more(&self, more: u64) {
        let wanted = self.shared.answered.load(SeqCst) + more;
        let came = eventually(PATIENCE, || self.shared.answered.load(SeqCst) >= wanted);
        assert!(came, "{} of {wanted} requests were answered", self.shared.answered.load(SeqCst));
    }

    /// Waits until a connection has not been accepted.
    #[track_caller]
    pub fn expect_refused(&self) {
        assert!(eventually(PATIENCE, || self.shared.refused.load(SeqCst) > 0), "all connections were accepted");
    }

    /// Lets each client finish the request that it has sent. Returns the results of all clients.
    pub fn end(mut self) -> Outcome {
        self.shared.stopping.store(true, SeqCst);
        let mut all = Outcome::default();
        for client in self.clients.drain(..) {
            let one = client.join().expect("a client that does not fail");
            all.answered += one.answered;
            all.wrong.extend(one.wrong);
            all.unanswered.extend(one.unanswered);
            all.truncated += one.truncated;
            all.refused += one.refused;
        }
        all
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // After a failed test, the clients must stop.
        self.shared.stopping.store(true, SeqCst);
    }
}

impl Outcome {
    /// The number of requests that were sent and got no complete response with status 200.
    pub fn failed(&self) -> u64 {
        self.unanswered.len() as u64 + self.truncated + self.wrong.len() as u64
    }

    /// Fails unless every request was answered, and at least one was sent.
    #[track_caller]
    pub fn expect_no_failure(&self) {
        assert!(self.failed() == 0 && self.refused == 0 && self.answered > 0, "{self:?}");
    }
}

fn client(connect: impl Fn() -> io::Result<TcpStream>, request: &[u8], shared: &Shared) -> Outcome {
    let mut outcome = Outcome::default();
    while !shared.stopping.load(SeqCst) {
        let stream = match connect() {
            Ok(stream) => stream,
            Err(error) => {
                // A Unix socket that is closed has no file any more.
                assert!(matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound), "{error}");
                outcome.refused += 1;
                shared.refused.fetch_add(1, SeqCst);
                std::thread::sleep(Duration::from_millis(2));
                continue;
            }
        };
        stream.set_write_timeout(Some(PATIENCE)).expect("a write time-out");
        let socket = stream.try_clone().expect("a second handle");
        talk(&mut Wire::new(stream, socket), request, shared, &mut outcome);
    }
    outcome
}

/// Sends requests over one connection until it ends.
fn talk(wire: &mut Wire<TcpStream>, request: &[u8], shared: &Shared, outcome: &mut Outcome) {
    for _ in 0..REQUESTS_OF_ONE_CONNECTION {
        if shared.stopping.load(SeqCst) {
            return;
        }
        match exchange(wire, request) {
            Fate::Answered { status: 200, closes } => {
                outcome.answered += 1;
                shared.answered.fetch_add(1, SeqCst);
                if closes {
                    return;
                }
            }
            Fate::Answered { status, .. } => return outcome.wrong.push(status),
            Fate::Unanswered(stop) => return outcome.unanswered.push(stop),
            Fate::Truncated => return outcome.truncated += 1,
        }
    }
}

fn exchange(wire: &mut Wire<TcpStream>, request: &[u8]) -> Fate {
    wire.within(PATIENCE);
    if wire.stream().write_all(request).is_err() {
        return Fate::Unanswered(Stop::Reset);
    }
    if let Err(stop) = wire.fill() {
        return Fate::Unanswered(stop);
    }
    let Ok(head) = wire.head() else { return Fate::Truncated };
    let status = head.start.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let closes = head.values("connection").iter().any(|value| value.eq_ignore_ascii_case("close"));
    let framing = head.framing().unwrap_or(Framing::Close);
    match wire.body(framing, &mut |_| {}) {
        Ok(_) => Fate::Answered { status, closes },
        Err(_) => Fate::Truncated,
    }
}
