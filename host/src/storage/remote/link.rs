//! The connection of one store to its server: made again whenever it has ended, and shared by all operations.
//!
//! While there is none, operations fail at once. An operation that was sent is answered, or fails when its connection
//! ends: it is not sent again.

use std::cell::Cell;
use std::time::Duration;

use daylily_core::config::{Store, StoreServer};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{Connection, Ended, Failure, Server};
use crate::storage::events::Events;
use crate::storage::message::{Answer, Operation, StoreError, now_ns};
use crate::sys::random::random;

/// How long a server may take until it has answered on a new connection.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a server may be silent while operations wait for it. Then it hangs, or has gone without a word.
const SILENCE: Duration = Duration::from_secs(3);

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
    /// Since when the server has said nothing, while operations wait for it.
    silent_since: Cell<Option<Instant>>,
    has_begun: Notify,
    report_at: Cell<Option<Instant>>,
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
            link.silent_since.set(Some(Instant::now()));
            link.has_begun.notify_one();
        }
        Self(link)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let left = self.0.in_flight.get() - 1;
        self.0.in_flight.set(left);
        self.0.silent_since.set((left > 0).then(Instant::now));
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
            silent_since: Cell::new(None),
            has_begun: Notify::new(),
            report_at: Cell::new(None),
        }
    }

    /// Does an operation, if it can be begun before `until_ns`.
    pub(super) async fn call(&self, operation: Operation, until_ns: u64) -> Result<Answer, StoreError> {
        let mut state = self.state.subscribe();
        let settled = state.wait_for(|state| !matches!(state, State::New)).await.map(|state| (*state).clone());
        let Ok(State::Up(connection, number)) = settled else { return Err(StoreError::Unavailable) };
        if until_ns <= now_ns() {
            return Err(StoreError::Expired);
        }
        let in_flight = InFlight::begin(self);
        let is_over = |state: &State| !matches!(state, State::Up(_, current) if *current == number);
        let result = tokio::select! {
            biased;
            result = self.server.run(&connection, operation) => result,
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
        let now = Instant::now();
        if self.report_at.get().is_none_or(|at| at <= now) {
            self.report_at.set(Some(now + REPORT_INTERVAL));
            self.events.error(&self.store, &reason);
        }
    }

    /// Connects, and connects again whenever the connection has ended. Never returns.
    pub(super) async fn keep(&self) {
        let (mut delay, mut number) = (FIRST_DELAY, 0);
        let (mut is_first, mut is_reported, mut report_at) = (true, false, Instant::now());
        loop {
            let why = match timeout(CONNECT_TIMEOUT, self.server.connect()).await {
                Ok(Ok((connection, ended))) => {
                    if is_reported {
                        self.events.info(&self.store, &format!("{} can be used again", self.url));
                        is_reported = false;
                    }
                    (is_first, number) = (false, number + 1);
                    self.state.send_replace(State::Up(connection, number));
                    let began = Instant::now();
                    let why = self.watch(ended).await;
                    if began.elapsed() >= LASTING {
                        delay = FIRST_DELAY;
                    }
                    why.to_owned()
                }
                Ok(Err(reason)) => reason,
                Err(_) => format!("no answer within {CONNECT_TIMEOUT:?}"),
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
    async fn watch(&self, ended: Ended) -> &'static str {
        tokio::select! {
            () = ended => "the connection was closed",
            () = self.silence() => "it does not answer",
        }
    }

    async fn silence(&self) {
        loop {
            match self.silent_since.get() {
                None => self.has_begun.notified().await,
                Some(since) if since.elapsed() >= SILENCE => return,
                Some(since) => sleep_until(since + SILENCE).await,
            }
        }
    }
}

/// At random, by up to a half.
fn shortened(delay: Duration) -> Duration {
    delay.mul_f64(1.0 - f64::from(random()) / f64::from(u32::MAX) / 2.0)
}
