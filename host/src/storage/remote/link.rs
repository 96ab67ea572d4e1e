//! The connection of one store to its server: made again whenever it has ended, and shared by all operations.
//!
//! While there is none, operations fail at once. An operation that was sent is answered, or fails when its connection
//! ends: it is not sent again.

use std::cell::Cell;
use std::time::Duration;

use daylily_core::config::{Store, StoreServer};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::{Connection, Ended, Failure, Server, Until};
use crate::storage::events::Events;
use crate::storage::message::{Answer, Operation, StoreError};
use crate::sys::pace::Pace;
use crate::sys::random::random;

/// How long a server may take until it has answered on a new connection.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a server may be silent while operations wait for it: not a byte comes. Then it hangs, or has gone without a
/// word.
const SILENCE: Duration = Duration::from_secs(3);

/// How often it is looked whether bytes have come, while operations wait.
const LISTEN_INTERVAL: Duration = Duration::from_millis(250);

/// The interval between two tries to connect, from the first to the longest. Each is shortened by chance, by up to a
/// half, so that many servers do not try at the same moment.
const FIRST_DELAY: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_millis(500);

/// A connection that lasts for less is followed by another try with a longer delay.
const LASTING: Duration = Duration::from_secs(5);

/// An outage is reported at most once in this time, in case the server closes each connection.
const OUTAGE_INTERVAL: Duration = Duration::from_secs(10);

/// What the server refuses is reported at most once in this time: each operation may have such an error.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// A store and its server.
pub(super) struct Link {
    server: Server,
    store: String,
    url: String,
    events: Events,
    state: watch::Sender<State>,
    in_flight: Cell<usize>,
    /// Since when operations wait for the server, without an interval in which none did.
    waiting_since: Cell<Option<Instant>>,
    has_begun: Notify,
    reports: Pace,
}

/// Whether there is a connection.
#[derive(Clone)]
enum State {
    /// Not yet: the first try is in progress.
    New,
    /// With its number.
    Up(Connection, u64),
    Down,
}

/// An operation that was sent.
struct InFlight<'a>(&'a Link);

impl<'a> InFlight<'a> {
    fn begin(link: &'a Link) -> Self {
        if link.in_flight.replace(link.in_flight.get() + 1) == 0 {
            link.waiting_since.set(Some(Instant::now()));
            link.has_begun.notify_one();
        }
        Self(link)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let left = self.0.in_flight.get() - 1;
        self.0.in_flight.set(left);
        // The end of one says nothing about the server: maybe nothing was sent for it.
        if left == 0 {
            self.0.waiting_since.set(None);
        }
    }
}

impl Link {
    pub(super) fn new(store: &Store, server: &StoreServer, events: Events) -> Self {
        Self {
            server: Server::new(store, server),
            store: store.name.clone(),
            url: server.to_string(),
            events,
            state: watch::Sender::new(State::New),
            in_flight: Cell::new(0),
            waiting_since: Cell::new(None),
            has_begun: Notify::new(),
            reports: Pace::new(REPORT_INTERVAL),
        }
    }

    /// Does an operation. Nothing of it is sent after `until_ns`.
    pub(super) async fn call(&self, operation: Operation, until_ns: u64) -> Result<Answer, StoreError> {
        let mut state = self.state.subscribe();
        let settled = state.wait_for(|state| !matches!(state, State::New)).await.map(|state| (*state).clone());
        let Ok(State::Up(connection, number)) = settled else { return Err(StoreError::Unavailable) };
        let in_flight = InFlight::begin(self);
        let is_over = |state: &State| !matches!(state, State::Up(_, current) if *current == number);
        let result = tokio::select! {
            biased;
            result = self.server.run(&connection, operation, Until(until_ns)) => result,
            _ = state.wait_for(is_over) => Err(Failure::Lost),
        };
        drop(in_flight);
        result.map_err(|failure| match failure {
            Failure::Operation(error) => error,
            Failure::Lost => StoreError::Disconnected,
            Failure::Server(reason) => {
                self.report(&reason);
                StoreError::Failed
            }
        })
    }

    fn report(&self, reason: &str) {
        if self.reports.allows(Instant::now()) {
            self.events.error(&self.store, &reason);
        }
    }

    /// Connects, and connects again whenever the connection has ended. Never returns.
    pub(super) async fn keep(&self) {
        let (mut delay, mut number) = (FIRST_DELAY, 0);
        let (mut is_first, mut is_reported, mut report_at) = (true, false, Instant::now());
        loop {
            let why = match self.server.connect_within(CONNECT_TIMEOUT).await {
                Ok((connection, ended)) => {
                    if is_reported {
                        self.events.info(&self.store, &format!("{} can be used again", self.url));
                        is_reported = false;
                    }
                    (is_first, number) = (false, number + 1);
                    self.state.send_replace(State::Up(connection.clone(), number));
                    let began = Instant::now();
                    let why = self.watch(&connection, ended).await;
                    if began.elapsed() >= LASTING {
                        delay = FIRST_DELAY;
                    }
                    why.to_owned()
                }
                Err(reason) => reason,
            };
            self.state.send_replace(State::Down);
            if !is_reported && Instant::now() >= report_at {
                let text = format!("{} cannot be reached: {why}; operations fail until it can", self.url);
                match is_first {
                    true => self.events.warn(&self.store, &text),
                    false => self.events.error(&self.store, &text),
                }
                (is_reported, report_at) = (true, Instant::now() + OUTAGE_INTERVAL);
            }
            is_first = false;
            sleep(shortened(delay)).await;
            delay = LONGEST_DELAY.min(delay * 2);
        }
    }

    /// Waits until the connection has ended or the server is silent. Returns what has happened.
    async fn watch(&self, connection: &Connection, ended: Ended) -> &'static str {
        tokio::select! {
            () = ended => "the connection was closed",
            () = self.silence(connection) => "it does not answer",
        }
    }

    /// Waits until operations have waited for [`SILENCE`] and not a byte has come in this time.
    async fn silence(&self, connection: &Connection) {
        let (mut received, mut heard_at) = (connection.received(), Instant::now());
        loop {
            let Some(since) = self.waiting_since.get() else {
                self.has_begun.notified().await;
                continue;
            };
            let now = connection.received();
            if now != received {
                (received, heard_at) = (now, Instant::now());
            }
            let end = since.max(heard_at) + SILENCE;
            if end <= Instant::now() {
                return;
            }
            sleep_until(end.min(Instant::now() + LISTEN_INTERVAL)).await;
        }
    }
}

/// At random, by up to a half.
fn shortened(delay: Duration) -> Duration {
    delay.mul_f64(1.0 - f64::from(random()) / f64::from(u32::MAX) / 2.0)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;
    use std::rc::Rc;
    use std::thread;

    use tokio::task::{LocalSet, spawn_local};

    use super::*;
    use crate::storage::message::now_ns;
    use crate::storage::testing::store;
    use crate::sys::runtime;

    /// Speaks as much of Redis as a link needs. What it is asked for is answered by `answer`.
    fn server(answer: fn(&mut TcpStream)) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let place = listener.local_addr().expect("an address");
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || {
                    let mut buffer = [0; 4_096];
                    while let Ok(received @ 1..) = stream.read(&mut buffer) {
                        match String::from_utf8_lossy(&buffer[..received]).contains("PING") {
                            true => stream.write_all(b"+PONG\r\n").expect("a client"),
                            false => answer(&mut stream),
                        }
                    }
                });
            }
        });
        format!("redis://{place}")
    }

    /// Does something with a link to it.
    fn with_link<F: Future<Output = ()>>(url: &str, test: impl FnOnce(Rc<Link>) -> F) {
        let store = store(&format!("backend = '{url}'"));
        let (supervisor, _other) = UnixStream::pair().expect("a pair");
        let server = store.server().expect("a server");
        let link = Rc::new(Link::new(&store, server, Events::new(supervisor)));
        let run = async {
            let kept = Rc::clone(&link);
            spawn_local(async move { kept.keep().await });
            test(Rc::clone(&link)).await;
            Ok::<_, std::io::Error>(())
        };
        runtime::run(async { LocalSet::new().run_until(run).await }).expect("an event loop");
    }

    fn later() -> u64 {
        now_ns() + 60_000_000_000
    }

    fn get() -> Operation {
        Operation::Get(vec!["a".to_owned()])
    }

    /// Its answer takes longer than a server may be silent, but some of it comes all the time.
    #[test]
    fn a_slow_server_is_not_silent() {
        let url = server(|stream| {
            for part in ["*1\r\n", "$4\r", "\n", "sl", "ow", "\r\n"] {
                stream.write_all(part.as_bytes()).expect("a client");
                thread::sleep(SILENCE / 4);
            }
        });
        with_link(&url, |link| async move {
            let found = link.call(get(), later()).await;
            assert_eq!(found, Ok(Answer::Values(vec![Some("slow".into())])));
        });
    }

    /// What is answered without the server says nothing about it.
    #[test]
    fn a_silent_server_is_given_up_whatever_else_is_done() {
        let url = server(|_| {});
        with_link(&url, |link| async move {
            let began = Instant::now();
            let other = Rc::clone(&link);
            let waiting = spawn_local(async move { other.call(get(), later()).await });
            while !waiting.is_finished() && began.elapsed() < SILENCE * 3 {
                let _ = link.call(Operation::Delete(Vec::new()), later()).await;
                sleep(LISTEN_INTERVAL / 4).await;
            }
            assert!(began.elapsed() < SILENCE + LISTEN_INTERVAL * 4, "{:?}", began.elapsed());
            assert_eq!(waiting.await.expect("an end"), Err(StoreError::Disconnected));
        });
    }
}
