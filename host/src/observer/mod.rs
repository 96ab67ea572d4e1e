//! The observer process: reads the journals of all workers and writes the access log, passes on the lines that they write
//! to daylily's own log, and serves the admin listener. It parses untrusted input, so no other process depends on it:
//! if it ends, the supervisor starts another, which continues after the last line that was written.
//!
//! It outlives a supervisor that has died, until the last worker has ended and its journal is written.

mod access_log;
mod admin;
pub(crate) mod collected;
mod line;
pub(crate) mod message;
pub(crate) mod metrics;
mod relay;
mod writing;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use daylily_core::log_target;
use rustix::event::{PollFd, PollFlags};

use self::access_log::{AccessLogWriter, Written};
use self::admin::Admin;
use self::collected::Collected;
use self::message::{FILES, Message, Settings};
use self::relay::Relay;
use crate::ipc::child;
use crate::observe::journal::WorkerFacts;
use crate::observe::log;
use crate::observe::metrics::{BlockCounts, WorkerMetrics};
use crate::sys::limits;

/// The id of this process's own log lines; no journal has it.
const OWN_LINES: u64 = message::HEARTBEAT;

/// How long records wait to be written together with others.
const BATCH_DELAY: Duration = Duration::from_millis(200);

/// How long the log lines of a worker that has ended may wait before the supervisor is told that its journal is done. They
/// stay in their socket for as long as this process runs.
const RELAY_PATIENCE: Duration = Duration::from_secs(30);

/// How long the log may take to be written after the supervisor and all workers have ended.
pub(crate) const LAST_LINES: Duration = Duration::from_secs(2);

/// Runs an observer to its end.
pub(crate) fn main() -> ExitCode {
    let (supervisor, (settings, own)) = match child::begin(c"daylily-observer", "observer", first_settings) {
        Ok(begun) => begun,
        Err(code) => return code,
    };
    child::abort_on_panic();
    match start(supervisor, settings, own) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "the observer cannot run: {error}");
            ExitCode::FAILURE
        }
    }
}

fn first_settings(supervisor: &UnixStream) -> io::Result<(Settings, Arc<WorkerMetrics>)> {
    let (message, files) = message::receive(supervisor)?;
    match (message, files.as_slice()) {
        (Message::Settings(settings), [own]) => {
            Ok((*settings, WorkerMetrics::open(own.as_fd(), BlockCounts::default())?))
        }
        _ => Err(io::Error::other("the first message has no settings")),
    }
}

fn start(supervisor: UnixStream, settings: Settings, own: Arc<WorkerMetrics>) -> io::Result<()> {
    limits::raise_descriptors();
    let relay = Relay::start(settings.log.to.clone())?;
    // Its own lines take the same way, so that only one thread writes.
    let (socket, source) = log::socket()?;
    relay.add(OWN_LINES, source);
    let log = log::start_through(socket, settings.log.clone())?;
    run(supervisor, settings, own, &log, &relay)?;
    drop(log);
    relay.finish();
    Ok(())
}

fn run(
    supervisor: UnixStream,
    settings: Settings,
    own: Arc<WorkerMetrics>,
    log: &log::Log,
    relay: &Relay,
) -> io::Result<()> {
    let (sender, messages) = mpsc::channel();
    let from = supervisor.try_clone()?;
    let collected = Arc::new(Collected::new(settings.limits, own));
    let receiver = Receiver { sender, admin: Admin::start(Arc::clone(&collected))?, collected: Arc::clone(&collected) };
    std::thread::Builder::new().name("messages".into()).spawn(move || receiver.run(&from))?;
    let to = supervisor.try_clone()?;
    std::thread::Builder::new().name("heartbeat".into()).spawn(move || message::beat(&to))?;
    let mut writer = AccessLogWriter::new(settings.access_log)?;
    // Workers that have ended, and when their records were written.
    let mut waiting = BTreeMap::new();
    let mut is_alone = false;
    let mut delay = BATCH_DELAY;
    loop {
        match messages.recv_timeout(delay) {
            Ok((Message::Settings(settings), _)) => {
                log.set(&settings.log);
                relay.set(settings.log.to);
                writer.set(settings.access_log);
            }
            Ok((Message::Journals(journals), files)) => {
                let mut files = files.into_iter();
                for (id, facts) in journals {
                    add(&mut writer, relay, id, facts, files.by_ref().take(FILES).collect())?;
                }
            }
            // The thread that receives them has taken care of them.
            Ok((Message::Admin(_) | Message::LeaveAdmin | Message::Counted(_), _))
            | Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                if !is_alone {
                    is_alone = true;
                    end_in_time(writer.signs_of_life()?)?;
                }
                // The channel returns at once from now on.
                std::thread::sleep(delay.min(Duration::from_millis(20)));
            }
        }
        let Written { done, has_more } = writer.write();
        collected.note_cpu_time();
        // If there is more to write, only process messages that have already arrived, and continue.
        delay = if has_more { Duration::ZERO } else { BATCH_DELAY };
        for (id, lines_dropped) in done {
            collected.end(id, lines_dropped);
            waiting.insert(id, Instant::now());
        }
        // What is left of their log lines is in their sockets, which the supervisor keeps until then.
        let may_go = |id: &u64, since: &mut Instant| !relay.has(*id) || since.elapsed() >= RELAY_PATIENCE;
        for (id, _) in waiting.extract_if(.., may_go) {
            // Ignore errors: the supervisor may have ended.
            let _ = message::tell_done(&supervisor, id);
        }
        if is_alone && writer.is_done() {
            return Ok(());
        }
    }
}

/// Adds a worker that starts to the access log, and its lines to the log.
fn add(
    writer: &mut AccessLogWriter,
    relay: &Relay,
    id: u64,
    facts: WorkerFacts,
    files: Vec<OwnedFd>,
) -> io::Result<()> {
    let files = <[OwnedFd; FILES]>::try_from(files);
    let [journal, _, alive, log] = files.map_err(|_| io::Error::other("a descriptor is missing"))?;
    relay.add(id, log);
    writer.add(id, facts, &journal, alive)
}

/// The thread that receives messages. What concerns the admin listener and the metrics is done here, because the loop
/// that reads the journals may wait for the log, and in the order of the messages: the admin listener is told of its
/// socket after the metrics are complete.
struct Receiver {
    sender: mpsc::Sender<(Message, Vec<OwnedFd>)>,
    admin: Admin,
    collected: Arc<Collected>,
}

impl Receiver {
    /// Receives messages until the supervisor has ended. After any other error, this process ends, and the supervisor
    /// starts another.
    fn run(self, supervisor: &UnixStream) {
        loop {
            match message::receive(supervisor) {
                Ok((Message::Admin(settings), files)) => self.admin.set(settings, files),
                Ok((Message::LeaveAdmin, _)) => self.admin.leave(supervisor),
                Ok((Message::Counted(sums), _)) => self.collected.add(&sums),
                Ok((message, files)) => {
                    match &message {
                        Message::Settings(settings) => self.collected.set_limits(settings.limits.clone()),
                        Message::Journals(journals) => self.begin(journals, &files),
                        _ => {}
                    }
                    let _ = self.sender.send((message, files));
                }
                // A socket whose heartbeats were not read is reset when its process ends.
                Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                    return self.admin.note_orphaned();
                }
                Err(error) => {
                    tracing::error!(target: log_target::LOG, "the observer failed to receive a message: {error}");
                    std::process::exit(1);
                }
            }
        }
    }

    /// Workers start.
    fn begin(&self, journals: &[(u64, WorkerFacts)], files: &[OwnedFd]) {
        for ((id, facts), files) in journals.iter().zip(files.chunks_exact(FILES)) {
            let [_, metrics, ..] = files else { continue };
            if let Err(error) = self.collected.begin(*id, facts, metrics.as_fd()) {
                tracing::error!(
                    target: log_target::LOG,
                    "failed to read the metrics of a worker: {error}; its requests are in no metrics"
                );
            }
        }
    }
}

/// Ends the process [`LAST_LINES`] after the last worker, also when a write does not return.
fn end_in_time(alive: Vec<std::fs::File>) -> io::Result<()> {
    std::thread::Builder::new().name("end".into()).spawn(move || {
        for worker in alive {
            // Nothing is ever written to it: it only hangs up.
            let _ = rustix::event::poll(&mut [PollFd::new(&worker, PollFlags::IN)], None);
        }
        std::thread::sleep(LAST_LINES);
        std::process::exit(1);
    })?;
    Ok(())
}
