//! One store in a file, served by a thread of its own to all workers, so that a store that is slow delays no other.
//!
//! The thread waits for its connections and does what arrives. Writes that have arrived together are one transaction.
//! While another process has locked the file, operations wait here in the order of their arrival, and others' reads go
//! on.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use daylily_core::config::Store;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::connection::{Connection, READ_BYTES, Waiting};
use super::database::{Database, Failure, OpenError};
use super::events::Events;
use super::message::{Answer, StoreError, now_ns};
use crate::ipc::doorbell;
use crate::sys::pace::Pace;

/// Operations that write, in one transaction.
const MAX_BATCH: usize = 256;

/// The interval between two tries while the file is locked. SQLite has no queue for its lock, so a longer one would lose
/// to a process that locks it all the time.
const LOCKED_INTERVAL: Duration = Duration::from_millis(2);

/// The interval between two tries to open a file that could not be opened.
const REOPEN_INTERVAL: Duration = Duration::from_secs(5);

/// Errors of one store are reported at most once in this time: each operation may have one.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// How often entries that have expired are removed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// A store and its workers.
pub(super) struct Service {
    dir: PathBuf,
    store: Store,
    /// None while the file cannot be used.
    database: Option<Database>,
    /// Why the file could not be opened at first.
    failed: Option<String>,
    reopen_at: Instant,
    sweep_at: Instant,
    reports: Pace,
    /// What is read from a connection goes through it.
    buffer: Vec<u8>,
    doorbell: UnixStream,
    is_hung_up: bool,
    connections: Vec<Connection>,
    next_connection: u64,
    waiting: VecDeque<Waiting>,
    events: Events,
}

/// What can be read, or has ended.
struct Ready {
    /// For each connection.
    connections: Vec<bool>,
    doorbell: bool,
}

impl Service {
    /// Opens the store, for the first process of a generation or for another one.
    ///
    /// # Errors
    ///
    /// For the first process, if only the operator can change what prevents it. A file that is damaged is no error here:
    /// its operations are. So is anything else for a further process, because other stores go on.
    pub(super) fn open(
        dir: PathBuf,
        store: Store,
        doorbell: UnixStream,
        events: Events,
        is_first: bool,
    ) -> Result<Self, String> {
        let (database, failed) = match Database::open(&dir, &store) {
            Ok(database) => (Some(database), None),
            Err(OpenError::Refused(reason)) if is_first => return Err(reason),
            Err(error) => (None, Some(error.to_string())),
        };
        let now = Instant::now();
        Ok(Self {
            dir,
            store,
            database,
            failed,
            reopen_at: now + REOPEN_INTERVAL,
            sweep_at: now,
            reports: Pace::new(REPORT_INTERVAL),
            buffer: vec![0; READ_BYTES],
            doorbell,
            is_hung_up: false,
            connections: Vec::new(),
            next_connection: 0,
            waiting: VecDeque::new(),
            events,
        })
    }

    /// Serves until there is no worker, and no process that could start one.
    pub(super) fn run(mut self) -> io::Result<()> {
        if let Some(error) = self.failed.take() {
            self.events.error(&self.store.name, &error);
        }
        while !self.is_hung_up || !self.connections.is_empty() {
            let Ready { connections, doorbell } = self.wait()?;
            for (connection, is_ready) in self.connections.iter_mut().zip(connections) {
                if is_ready && connection.awaited().contains(PollFlags::IN) {
                    connection.receive(&mut self.buffer, &mut self.waiting);
                }
            }
            if doorbell {
                self.accept()?;
            }
            self.work();
            for connection in &mut self.connections {
                connection.send();
            }
            self.connections.retain(|connection| !connection.is_closed());
            self.tidy();
        }
        Ok(())
    }

    /// Waits until there is something to do.
    fn wait(&self) -> io::Result<Ready> {
        let connections = self.connections.iter();
        let connections = connections.map(|connection| PollFd::new(connection.stream(), connection.awaited()));
        let doorbell = (!self.is_hung_up).then(|| PollFd::new(&self.doorbell, PollFlags::IN));
        let mut polled: Vec<PollFd<'_>> = connections.chain(doorbell).collect();
        let timeout = match self.waiting.is_empty() {
            true => self.sweep_at.saturating_duration_since(Instant::now()),
            false => LOCKED_INTERVAL,
        };
        match poll(&mut polled, Timespec::try_from(timeout).ok().as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut ready = polled.iter().map(|polled| !polled.revents().is_empty());
        let connections = ready.by_ref().take(self.connections.len()).collect();
        Ok(Ready { connections, doorbell: ready.next().unwrap_or(false) })
    }

    fn accept(&mut self) -> io::Result<()> {
        while !self.is_hung_up {
            match doorbell::answer(&self.doorbell) {
                Ok(Some(stream)) => {
                    self.connections.push(Connection::new(self.next_connection, stream));
                    self.next_connection += 1;
                }
                Ok(None) => break,
                Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                    self.is_hung_up = true;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Does the operations that have arrived, except those that have to wait for the lock of the file. Those of workers
    /// that have ended, too.
    fn work(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        self.reopen();
        let mut writes = Vec::new();
        for waiting in std::mem::take(&mut self.waiting) {
            if waiting.until_ns <= now_ns() {
                self.answer(waiting, Err(StoreError::Expired));
            } else if waiting.operation.is_read() && self.is_unread(waiting.ticket.connection) {
                self.waiting.push_back(waiting);
            } else if waiting.operation.is_read() {
                let read = self.database.as_ref().map(|database| database.read(&waiting.operation));
                match read.unwrap_or(Err(Failure::Operation(StoreError::Failed))) {
                    Ok(answer) => self.answer(waiting, Ok(answer)),
                    Err(failure) => self.fail(vec![waiting], failure),
                }
            } else {
                writes.push(waiting);
            }
        }
        let mut writes = writes.into_iter().peekable();
        while writes.peek().is_some() {
            let batch: Vec<_> = writes.by_ref().take(MAX_BATCH).collect();
            if !self.write(batch) {
                // The others would not get the lock either.
                self.waiting.extend(writes);
                return;
            }
        }
    }

    /// Writes in one transaction, except what has expired. Returns false if the file is locked.
    fn write(&mut self, batch: Vec<Waiting>) -> bool {
        let now_ns = now_ns();
        let (batch, expired): (Vec<_>, Vec<_>) = batch.into_iter().partition(|waiting| waiting.until_ns > now_ns);
        for waiting in expired {
            self.answer(waiting, Err(StoreError::Expired));
        }
        if batch.is_empty() {
            return true;
        }
        let operations = batch.iter().map(|waiting| &waiting.operation);
        let written = self.database.as_ref().map(|database| database.write(operations));
        match written.unwrap_or(Err(Failure::Operation(StoreError::Failed))) {
            Ok(results) => {
                for (waiting, result) in batch.into_iter().zip(results) {
                    self.answer(waiting, result);
                }
                true
            }
            // One of them may be too large for the store, which does not concern the others.
            Err(Failure::Operation(_)) if batch.len() > 1 => {
                let mut is_free = true;
                for waiting in batch {
                    match is_free {
                        true => is_free = self.write(vec![waiting]),
                        false => self.waiting.push_back(waiting),
                    }
                }
                is_free
            }
            Err(failure) => {
                let is_locked = matches!(failure, Failure::Locked);
                self.fail(batch, failure);
                !is_locked
            }
        }
    }

    /// Lets operations wait for the lock, or answers them with their error.
    fn fail(&mut self, batch: Vec<Waiting>, failure: Failure) {
        let error = match failure {
            Failure::Locked => return self.waiting.extend(batch),
            Failure::Operation(error) => error,
            Failure::Database(error) => {
                if self.reports.allows(tokio::time::Instant::now()) {
                    self.events.error(&self.store.name, &error);
                }
                StoreError::Failed
            }
        };
        for waiting in batch {
            self.answer(waiting, Err(error.clone()));
        }
    }

    /// Whether the worker has to read answers before it gets more.
    fn is_unread(&self, number: u64) -> bool {
        self.connections.iter().any(|connection| connection.number() == number && connection.is_unread())
    }

    fn answer(&mut self, Waiting { ticket, .. }: Waiting, result: Result<Answer, StoreError>) {
        let mut connections = self.connections.iter_mut();
        if let Some(connection) = connections.find(|connection| connection.number() == ticket.connection) {
            connection.answer(&ticket, result);
        }
    }

    fn reopen(&mut self) {
        if self.database.is_some() || Instant::now() < self.reopen_at {
            return;
        }
        self.reopen_at = Instant::now() + REOPEN_INTERVAL;
        if let Ok(database) = Database::open(&self.dir, &self.store) {
            self.database = Some(database);
            self.events.info(&self.store.name, &"the store can be used again");
        }
    }

    /// Removes entries that have expired, also those that were written when the store had another `ttl`.
    fn tidy(&mut self) {
        if Instant::now() < self.sweep_at {
            return;
        }
        // A file that is locked is tried again later; an error will be seen by an operation as well.
        let has_more = self.database.as_ref().is_some_and(|database| database.sweep().unwrap_or(false));
        self.sweep_at = Instant::now() + if has_more { Duration::ZERO } else { SWEEP_INTERVAL };
    }
}
