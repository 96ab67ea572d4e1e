//! The admin listener: health checks, metrics and the state of the server, for orchestrators, load balancers and operators. It
//! changes nothing. It runs in a thread of its own, so that a client and the access log never wait for each other.
//!
//! The socket belongs to the supervisor: while no observer runs, clients wait in its backlog.

mod connection;
mod health;
mod io;
mod routes;

use std::convert::Infallible;
use std::io::Result as IoResult;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use daylily_core::log_target;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::connection::{Latest, serve};
use super::collected::Collected;
use super::message::{self, AdminSettings};
use crate::net::listener::Listener;
use crate::observe::log::OncePerSecond;
use crate::observe::server_page::PageReader;
use crate::sys::runtime;

/// Maximum number of connections. For one more, the connection that has been without a request for the longest time is
/// closed, so that clients that send nothing keep no health check out.
const MAX_CONNECTIONS: usize = 64;

/// Pages of metrics that are made or being read at a time: each may have several megabytes.
const MAX_SCRAPES: usize = 4;

/// How long connections may still be used when their listener closes or another process accepts on it.
const FAREWELL: Duration = Duration::from_millis(300);

/// How long a listener that closes still accepts.
const LAST_ACCEPTS: Duration = Duration::from_millis(100);

/// How long to wait before the next `accept` after one failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What handlers know.
struct Server {
    settings: AdminSettings,
    page: Arc<PageReader>,
    collected: Arc<Collected>,
    /// Permits for [`MAX_SCRAPES`] pages of metrics.
    scrapes: Arc<Semaphore>,
    /// Whether the supervisor runs.
    is_alive: Arc<AtomicBool>,
    /// Responses close their connections.
    is_closing: AtomicBool,
}

/// What the thread is told.
enum Command {
    /// Listens on this socket from now on, or on none.
    Set(Option<(AdminSettings, OwnedFd)>, OwnedFd),
    /// Another process accepts on the socket from now on. Confirmed when nothing more is sent on any connection.
    Leave(UnixStream),
    /// The supervisor has ended.
    Orphaned,
}

/// The thread of the admin listener, as the rest of the observer sees it.
#[derive(Clone)]
pub(super) struct Admin(UnboundedSender<Command>);

impl Admin {
    /// # Errors
    ///
    /// When the thread cannot be started.
    pub(super) fn start(collected: Arc<Collected>) -> IoResult<Self> {
        let (sender, commands) = unbounded_channel();
        std::thread::Builder::new().name("admin".into()).spawn(move || {
            let Err(error) = runtime::run(run(commands, collected));
            tracing::error!(target: log_target::ADMIN, "the admin listener cannot run: {error}");
        })?;
        Ok(Self(sender))
    }

    /// Listens as the supervisor says from now on. `files` are the server page and, if it listens, the socket.
    pub(super) fn set(&self, settings: Option<AdminSettings>, files: Vec<OwnedFd>) {
        let mut files = files.into_iter();
        let Some(page) = files.next() else { return };
        let _ = self.0.send(Command::Set(settings.zip(files.next()), page));
    }

    /// Stops accepting, because another process does, and then tells the supervisor.
    pub(super) fn leave(&self, supervisor: &UnixStream) {
        match supervisor.try_clone() {
            Ok(supervisor) => drop(self.0.send(Command::Leave(supervisor))),
            // The supervisor then ends this process.
            Err(error) => tracing::error!(target: log_target::ADMIN, "failed to duplicate a descriptor: {error}"),
        }
    }

    pub(super) fn note_orphaned(&self) {
        let _ = self.0.send(Command::Orphaned);
    }
}

/// Never returns: after the last command, connections are still open, until the process ends.
async fn run(mut commands: UnboundedReceiver<Command>, collected: Arc<Collected>) -> IoResult<Infallible> {
    let is_alive = Arc::new(AtomicBool::new(true));
    let scrapes = Arc::new(Semaphore::new(MAX_SCRAPES));
    let mut page = None;
    let mut listening: Option<Listening> = None;
    while let Some(command) = commands.recv().await {
        match command {
            Command::Set(wanted, file) => {
                if page.is_none() {
                    page = PageReader::open(file.as_fd()).map(Arc::new).inspect_err(failed).ok();
                }
                let next = match (wanted, &page) {
                    (Some((settings, socket)), Some(page)) => {
                        let (page, is_alive) = (Arc::clone(page), Arc::clone(&is_alive));
                        let (collected, is_closing) = (Arc::clone(&collected), AtomicBool::new(false));
                        let scrapes = Arc::clone(&scrapes);
                        let server = Server { settings, page, collected, scrapes, is_alive, is_closing };
                        Listening::begin(socket, server).inspect_err(failed).ok()
                    }
                    _ => None,
                };
                if let Some(former) = listening.take() {
                    let goes_on = next.as_ref().is_some_and(|next| next.socket == former.socket);
                    former.end(if goes_on { Duration::ZERO } else { LAST_ACCEPTS });
                }
                listening = next;
            }
            Command::Leave(supervisor) => {
                if let Some(former) = listening.take() {
                    let _ = former.end(Duration::ZERO).await;
                }
                let _ = message::tell_admin_left(&supervisor);
            }
            Command::Orphaned => {
                is_alive.store(false, Relaxed);
                if let Some(former) = listening.take() {
                    former.end(LAST_ACCEPTS);
                }
            }
        }
    }
    std::future::pending().await
}

fn failed(error: &std::io::Error) {
    tracing::error!(target: log_target::ADMIN, "the admin listener cannot be used: {error}");
}

/// A socket on which connections are accepted, and these connections.
struct Listening {
    /// Identifies the socket.
    socket: u64,
    /// Ends it; the value is how long it still accepts.
    end: oneshot::Sender<Duration>,
    task: JoinHandle<()>,
}

impl Listening {
    fn begin(socket: OwnedFd, server: Server) -> IoResult<Self> {
        let inode = rustix::fs::fstat(&socket)?.st_ino;
        let listener = Listener::new(socket)?;
        let (end, ended) = oneshot::channel();
        let task = tokio::spawn(accept(listener, Arc::new(server), ended));
        Ok(Self { socket: inode, end, task })
    }

    /// Resolves when no connection is left. It ends also if that is not waited for.
    fn end(self, accepts_for: Duration) -> JoinHandle<()> {
        let _ = self.end.send(accepts_for);
        self.task
    }
}

/// A connection, as the accept loop sees it.
struct Client {
    task: AbortHandle,
    latest: Arc<Latest>,
}

/// Accepts connections until `ended` is sent, and then waits for the open connections, for [`FAREWELL`] at most.
async fn accept(listener: Listener, server: Arc<Server>, mut ended: oneshot::Receiver<Duration>) {
    let mut tasks = JoinSet::new();
    let mut clients: Vec<Client> = Vec::new();
    let mut until = None;
    let failures = OncePerSecond::new();
    {
        let accepting = match listener.accepting() {
            Ok(accepting) => accepting,
            Err(error) => return failed(&error),
        };
        drop(listener);
        loop {
            let stream = tokio::select! {
                biased;
                accepts_for = &mut ended, if until.is_none() => {
                    server.is_closing.store(true, Relaxed);
                    until = Some(Instant::now() + accepts_for.unwrap_or_default());
                    continue;
                }
                () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => break,
                accepted = accepting.accept() => accepted,
            };
            while tasks.try_join_next().is_some() {}
            match stream {
                Ok(stream) => {
                    make_room(&mut clients);
                    let latest = Arc::new(Latest::now());
                    let task = tasks.spawn(serve(stream, Arc::clone(&server), Arc::clone(&latest)));
                    clients.push(Client { task, latest });
                }
                Err(error) => {
                    if failures.is_news() {
                        tracing::warn!(
                            target: log_target::ADMIN,
                            "failed to accept a connection of the admin listener: {error} (logged once a second)"
                        );
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    let _ = timeout(FAREWELL, async { while tasks.join_next().await.is_some() {} }).await;
    tasks.shutdown().await;
}

/// Ends the connection that has been without a request for the longest time, if there are too many.
fn make_room(clients: &mut Vec<Client>) {
    clients.retain(|client| !client.task.is_finished());
    if clients.len() < MAX_CONNECTIONS {
        return;
    }
    let longest = clients.iter().enumerate().min_by_key(|(_, client)| client.latest.get());
    if let Some((at, _)) = longest {
        clients.swap_remove(at).task.abort();
    }
}
