//! A store as a worker uses it: operations for the storage process, over one connection for all guests of the worker.
//!
//! A connection is made at the first operation, and again at the first one after it broke. While the storage process is
//! started again, operations wait for it.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use daylily_core::config::Store;
use daylily_core::log_target;
use daylily_core::units::format_duration;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use super::connection::{self, READ_BYTES, Received};
use super::limits::{self, TooLong};
use super::message::{self, Answer, Operation, Request, Response, StoreError};
use crate::ipc::doorbell;
use crate::observe::log::OncePerSecond;
use crate::sys::lock::lock;

/// Operations that the storage process has not taken yet. With more, it hangs, and further ones fail at once.
const MAX_UNSENT_BYTES: usize = 16 << 20;

/// How often an operation is sent, if the storage process ends before it has received it; one that changes nothing, also
/// if it ends afterwards.
const MAX_TRIES: u32 = 3;

/// A store of a worker.
pub(crate) struct StoreClient {
    store: Store,
    doorbell: StdUnixStream,
    connection: Mutex<Option<Arc<Connection>>>,
    report: OncePerSecond,
}

/// Why an operation has failed, as the guest is told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("the operation took longer than store_timeout = {}; a write may have been applied, or may still be", format_duration(*.0))]
    TimedOut(Duration),
    #[error("the storage process ended; a write may have been applied")]
    Lost,
    #[error("the store cannot be reached")]
    Unreachable,
    #[error(transparent)]
    TooLong(#[from] TooLong),
}

impl CallError {
    /// Whether the log has to have it: not if the guest is to blame, nor if the storage process has logged the outage.
    fn is_news(&self) -> bool {
        match self {
            Self::Store(error) => {
                use StoreError::{
                    AnswerTooLarge, KeyTooLongForServer, Negative, NotANumber, Overflow, TooLongForServer, Unavailable,
                };
                let is_of_guest = matches!(
                    error,
                    NotANumber | Overflow | Negative | AnswerTooLarge | KeyTooLongForServer | TooLongForServer
                );
                !is_of_guest && *error != Unavailable
            }
            Self::TooLong(_) => false,
            Self::TimedOut(_) | Self::Lost | Self::Unreachable => true,
        }
    }
}

impl StoreClient {
    pub(crate) fn new(store: Store, doorbell: StdUnixStream) -> Self {
        Self { store, doorbell, connection: Mutex::new(None), report: OncePerSecond::new() }
    }

    pub(crate) fn name(&self) -> &str {
        &self.store.name
    }

    pub(crate) fn max_value_bytes(&self) -> usize {
        usize::try_from(self.store.max_value_bytes).unwrap_or(usize::MAX)
    }

    /// Does an operation. Cancel safe; an operation that was sent may be done nevertheless.
    ///
    /// # Errors
    ///
    /// If it is refused, fails, or takes longer than `within`.
    pub(crate) async fn call(&self, operation: Operation, within: Duration) -> Result<Answer, CallError> {
        let result = match limits::check(&self.store, &operation) {
            Ok(()) => {
                let until_ns = message::now_ns().saturating_add(u64::try_from(within.as_nanos()).unwrap_or(u64::MAX));
                match timeout(within, self.send(&operation, until_ns)).await {
                    Ok(result) => result,
                    Err(_) => Err(CallError::TimedOut(within)),
                }
            }
            Err(error) => Err(error.into()),
        };
        if let Err(error) = &result
            && error.is_news()
            && self.report.is_news()
        {
            tracing::warn!(target: log_target::STORAGE, "store `{}`: an operation failed: {error}", self.store.name);
        }
        result
    }

    async fn send(&self, operation: &Operation, until_ns: u64) -> Result<Answer, CallError> {
        for _ in 0..MAX_TRIES {
            let connection = self.connection().map_err(|_| CallError::Unreachable)?;
            match connection.call(operation, until_ns).await {
                Err(Broken::Unsent) => {}
                Err(Broken::Sent) if operation.is_read() => {}
                Err(Broken::Sent) => return Err(CallError::Lost),
                Err(Broken::Busy) => return Err(StoreError::Busy.into()),
                Ok(result) => return Ok(result?),
            }
        }
        Err(CallError::Unreachable)
    }

    /// The connection, or a new one if it is broken.
    fn connection(&self) -> io::Result<Arc<Connection>> {
        let mut current = lock(&self.connection);
        if let Some(connection) = current.as_ref().filter(|connection| !lock(&connection.state).is_broken) {
            return Ok(Arc::clone(connection));
        }
        let stream = doorbell::ring(&self.doorbell)?;
        stream.set_nonblocking(true)?;
        let connection = Arc::new(Connection {
            stream: UnixStream::from_std(stream)?,
            state: Mutex::default(),
            has_unsent: Notify::new(),
        });
        tokio::spawn(drive(Arc::clone(&connection)));
        Ok(Arc::clone(current.insert(connection)))
    }
}

/// A connection to the storage process, for one store.
struct Connection {
    stream: UnixStream,
    state: Mutex<ConnectionState>,
    has_unsent: Notify,
}

/// Why there is no answer.
enum Broken {
    /// The storage process has not received all of the operation.
    Unsent,
    /// It may have done it.
    Sent,
    /// It does not receive anything.
    Busy,
}

#[derive(Default)]
struct ConnectionState {
    next_id: u64,
    awaited: HashMap<u64, Call>,
    unsent: BytesMut,
    /// All bytes that were sent until now.
    sent: u64,
    is_broken: bool,
}

/// An operation that has no answer yet.
struct Call {
    /// Of all bytes of the connection, where those of the operation end.
    end: u64,
    answer: oneshot::Sender<Result<Result<Answer, StoreError>, Broken>>,
}

/// An operation whose answer is awaited.
struct Awaited<'a> {
    connection: &'a Connection,
    id: u64,
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        lock(&self.connection.state).awaited.remove(&self.id);
    }
}

impl Connection {
    async fn call(&self, operation: &Operation, until_ns: u64) -> Result<Result<Answer, StoreError>, Broken> {
        let (sender, answer) = oneshot::channel();
        let id = self.begin(operation, until_ns, sender)?;
        let awaited = Awaited { connection: self, id };
        let result = answer.await.unwrap_or(Err(Broken::Sent));
        drop(awaited);
        result
    }

    /// Has an operation sent, together with those of all guests that have their turn before [`drive`].
    fn begin(
        &self,
        operation: &Operation,
        until_ns: u64,
        answer: oneshot::Sender<Result<Result<Answer, StoreError>, Broken>>,
    ) -> Result<u64, Broken> {
        let mut state = lock(&self.state);
        if state.is_broken {
            return Err(Broken::Unsent);
        }
        if state.unsent.len() > MAX_UNSENT_BYTES {
            return Err(Broken::Busy);
        }
        let id = state.next_id;
        state.next_id += 1;
        let request = Request { id, until_ns, operation };
        message::encode(&request, &mut state.unsent).map_err(|_| Broken::Busy)?;
        let end = state.sent + state.unsent.len() as u64;
        state.awaited.insert(id, Call { end, answer });
        self.has_unsent.notify_one();
        Ok(id)
    }

    /// Sends what the socket takes.
    fn flush(&self, state: &mut ConnectionState) -> io::Result<()> {
        while !state.unsent.is_empty() {
            match self.stream.try_write(&state.unsent) {
                Ok(sent) => {
                    state.unsent.advance(sent);
                    state.sent += sent as u64;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Receives answers, if there are any.
    fn receive(&self, incoming: &mut Incoming) -> io::Result<()> {
        let Incoming { buffer, received } = incoming;
        let read = || match connection::receive(&self.stream, buffer, received)? {
            Received::MaybeMore => Ok(()),
            Received::All => Err(ErrorKind::WouldBlock.into()),
        };
        match self.stream.try_io(Interest::READABLE, read) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
        while let Some(Response { id, result }) = message::decode(received)? {
            // The guest may have stopped waiting.
            if let Some(call) = lock(&self.state).awaited.remove(&id) {
                let _ = call.answer.send(Ok(result));
            }
        }
        Ok(())
    }
}

/// What a connection receives.
struct Incoming {
    /// What is read from the socket goes through it.
    buffer: Vec<u8>,
    received: BytesMut,
}

impl ConnectionState {
    /// Nothing more is sent or received. Those who wait are told.
    fn break_off(&mut self) {
        self.is_broken = true;
        let mut awaited: Vec<_> = self.awaited.drain().map(|(_, call)| call).collect();
        // Those that are tried again are tried in their order.
        awaited.sort_by_key(|call| call.end);
        for Call { end, answer } in awaited {
            let _ = answer.send(Err(if end > self.sent { Broken::Unsent } else { Broken::Sent }));
        }
        self.unsent.clear();
    }
}

/// Sends and receives until the connection is broken.
async fn drive(connection: Arc<Connection>) {
    let mut incoming = Incoming { buffer: vec![0; READ_BYTES], received: BytesMut::new() };
    while let Ok(()) = step(&connection, &mut incoming).await {}
    lock(&connection.state).break_off();
}

async fn step(connection: &Connection, incoming: &mut Incoming) -> io::Result<()> {
    let has_unsent = !lock(&connection.state).unsent.is_empty();
    let interest = if has_unsent { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
    let ready = tokio::select! {
        ready = connection.stream.ready(interest) => ready?,
        () = connection.has_unsent.notified() => return connection.flush(&mut lock(&connection.state)),
    };
    if ready.is_writable() {
        connection.flush(&mut lock(&connection.state))?;
    }
    if ready.is_readable() || ready.is_read_closed() {
        connection.receive(incoming)?;
    }
    Ok(())
}
