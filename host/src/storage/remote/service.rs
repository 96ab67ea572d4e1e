//! One store on a server, served by a thread of its own to all workers. Operations are done at the same time, and their
//! order is that in which the server does them.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use daylily_core::config::{Store, StoreServer};
use rustix::event::PollFlags;
use tokio::io::Interest;
use tokio::net::UnixStream as Readiness;
use tokio::task::{JoinSet, LocalSet, spawn_local};

use super::Server;
use super::link::{CONNECT_TIMEOUT, Link};
use crate::ipc::doorbell;
use crate::storage::connection::{Connection, READ_BYTES, Received, Ticket, Waiting};
use crate::storage::events::Events;
use crate::storage::message::{Answer, StoreError};
use crate::sys::runtime;

/// Operations of one worker that are done at the same time. Each may have an answer of some MiB.
const MAX_IN_FLIGHT: usize = 128;

/// A store and its workers.
pub(crate) struct Remote {
    store: Store,
    server: StoreServer,
    doorbell: UnixStream,
    events: Events,
}

/// An operation that is done, for the worker that waits for it.
type Done = (Ticket, Result<Answer, StoreError>);

impl Remote {
    /// Connects to the server of a store that requires it, for the first process of a generation.
    ///
    /// # Errors
    ///
    /// If that server cannot be reached.
    pub(crate) fn open(
        store: Store,
        server: StoreServer,
        doorbell: UnixStream,
        events: Events,
        is_first: bool,
    ) -> Result<Self, String> {
        if server.is_required && is_first {
            let connect = async {
                let server = Server::new(&store, &server);
                Ok::<_, io::Error>(server.connect_within(CONNECT_TIMEOUT).await.map(drop))
            };
            let connected = runtime::run(connect).map_err(|error| error.to_string())?;
            connected.map_err(|why| format!("{server} cannot be reached: {why}; it is `required`"))?;
        }
        Ok(Self { store, server, doorbell, events })
    }

    /// Serves until there is no worker, and no process that could start one.
    pub(crate) fn run(self) -> io::Result<()> {
        runtime::run(async { LocalSet::new().run_until(self.serve()).await })
    }

    async fn serve(self) -> io::Result<()> {
        let link = Rc::new(Link::new(&self.store, &self.server, self.events));
        let kept = Rc::clone(&link);
        let keeping = spawn_local(async move { kept.keep().await });
        let ready = readiness(&self.doorbell)?;
        let (mut workers, mut number) = (JoinSet::new(), 0);
        loop {
            ready.readable().await?;
            let take = || doorbell::answer(&self.doorbell)?.ok_or_else(|| ErrorKind::WouldBlock.into());
            match ready.try_io(Interest::READABLE, take) {
                Ok(stream) => {
                    workers.spawn_local(serve_worker(Connection::new(number, stream), Rc::clone(&link)));
                    number += 1;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => break,
                Err(error) => return Err(error),
            }
            while workers.try_join_next().is_some() {}
        }
        while workers.join_next().await.is_some() {}
        keeping.abort();
        Ok(())
    }
}

/// Does the operations of one worker until it has ended, and what it has begun until then.
async fn serve_worker(mut connection: Connection, link: Rc<Link>) {
    let Ok(ready) = readiness(connection.stream()) else { return };
    let mut buffer = vec![0; READ_BYTES];
    let (mut waiting, mut operations) = (VecDeque::new(), JoinSet::new());
    while !connection.is_closed() {
        begin(&mut waiting, &mut operations, &connection, &link);
        let is_all = connection.send();
        // Then the next thing to happen is the end of an operation.
        let is_full = is_all && operations.len() >= MAX_IN_FLIGHT;
        tokio::select! {
            Some(done) = operations.join_next(), if !operations.is_empty() => {
                answer(&mut connection, done.ok());
                while let Some(done) = operations.try_join_next() {
                    answer(&mut connection, done.ok());
                }
            }
            is_ready = exchange(&ready, &mut connection, &mut buffer, &mut waiting), if !is_full => {
                if !is_ready {
                    break;
                }
            }
        }
    }
    // What has arrived is done, as if the worker were there.
    while begin(&mut waiting, &mut operations, &connection, &link) {
        let _ = operations.join_next().await;
    }
}

/// Begins as many operations as may be in flight. Returns whether any are.
fn begin(
    waiting: &mut VecDeque<Waiting>,
    operations: &mut JoinSet<Done>,
    connection: &Connection,
    link: &Rc<Link>,
) -> bool {
    while operations.len() < MAX_IN_FLIGHT && (connection.is_closed() || !connection.is_unread()) {
        let Some(Waiting { ticket, operation, until_ns }) = waiting.pop_front() else { break };
        let link = Rc::clone(link);
        operations.spawn_local(async move { (ticket, link.call(operation, until_ns).await) });
    }
    !operations.is_empty()
}

fn answer(connection: &mut Connection, done: Option<Done>) {
    if let Some((ticket, result)) = done {
        connection.answer(&ticket, result);
    }
}

/// Receives what the worker has sent, and sends what it takes. Waits until either is possible. Returns false if the
/// connection cannot be used. Cancel safe.
async fn exchange(
    ready: &Readiness,
    connection: &mut Connection,
    buffer: &mut [u8],
    waiting: &mut VecDeque<Waiting>,
) -> bool {
    let awaited = connection.awaited();
    let interest = match (awaited.contains(PollFlags::IN), awaited.contains(PollFlags::OUT)) {
        (true, true) => Interest::READABLE | Interest::WRITABLE,
        (_, false) => Interest::READABLE,
        (false, true) => Interest::WRITABLE,
    };
    let Ok(state) = ready.ready(interest).await else { return false };
    // What is not possible after all is waited for again.
    let done = |is_done: bool| if is_done { Ok(()) } else { Err(ErrorKind::WouldBlock.into()) };
    if state.is_writable() {
        let _ = ready.try_io(Interest::WRITABLE, || done(connection.send()));
    }
    if state.is_readable() {
        let _ = ready.try_io(Interest::READABLE, || done(connection.receive(buffer, waiting) == Received::MaybeMore));
    }
    true
}

/// Says when a socket is ready, which is then used without it.
fn readiness(socket: &UnixStream) -> io::Result<Readiness> {
    let socket = socket.try_clone()?;
    socket.set_nonblocking(true)?;
    Readiness::from_std(socket)
}
