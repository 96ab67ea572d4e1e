//! The observer process, as its supervisor sees it: started before the workers, and again whenever it has ended. What
//! it has not written by then is in the journals, whose descriptors are kept here.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daylily_core::log_target;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::Notify;

use super::orphans;
use super::process::{NOT_INHERITED, own_program};
use crate::observe::journal;
use crate::observe::journal::WorkerFacts;
use crate::observer::LAST_LINES;
use crate::observer::message::{self, Message, Settings};
use crate::sys::limits;
use crate::sys::lock::lock;
use crate::worker::setup::WorkerJournal;

/// The first argument of the observer's command line; only daylily itself starts it.
pub(crate) const OBSERVER: &str = "observer";

/// The delay before an observer that ended is started again.
const RESTART_DELAY: Duration = Duration::from_secs(1);

/// The observer of one supervisor. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Observer(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Notified when the observer is to be ended and started again.
    stuck: Notify,
}

struct State {
    settings: Settings,
    /// None while no observer runs.
    channel: Option<StdUnixStream>,
    /// Of workers that live, or whose records have not all been written.
    journals: BTreeMap<u64, JournalFiles>,
    last_id: u64,
    /// The observer did not take a message, and is about to be ended.
    is_stuck: bool,
}

struct JournalFiles {
    facts: WorkerFacts,
    journal: OwnedFd,
    alive: OwnedFd,
    log: OwnedFd,
}

impl Observer {
    /// Starts the observer, and keeps one running until [`Running::finish`].
    ///
    /// # Errors
    ///
    /// When the process cannot be started.
    pub(crate) fn start(settings: Settings) -> io::Result<(Self, Running)> {
        let state = State { settings, channel: None, journals: BTreeMap::new(), last_id: 0, is_stuck: false };
        let observer = Self(Arc::new(Shared { state: Mutex::new(state), stuck: Notify::new() }));
        let first = observer.spawn()?;
        let keeping = tokio::spawn(keep(observer.clone(), first));
        Ok((observer.clone(), Running { observer, keeping: Some(keeping) }))
    }

    /// The journal for a worker that is about to start.
    ///
    /// # Errors
    ///
    /// When there is no memory or no descriptor left.
    pub(crate) fn journal(&self, facts: WorkerFacts) -> io::Result<WorkerJournal> {
        let journal = journal::create()?;
        let (alive, workers) = pipe_with(PipeFlags::CLOEXEC)?;
        let (log, log_of_worker) = StdUnixStream::pair()?;
        let for_worker = WorkerJournal { journal: journal.try_clone()?, alive: workers, log: log_of_worker.into() };
        let mut state = lock(&self.0.state);
        state.last_id += 1;
        let (id, files) = (state.last_id, JournalFiles { facts, journal, alive, log: log.into() });
        let message = Message::Journals(vec![(id, files.facts.clone())]);
        self.send(&mut state, &message, &files.descriptors());
        state.journals.insert(id, files);
        Ok(for_worker)
    }

    /// Changes the settings; files are opened anew.
    pub(crate) fn set(&self, settings: Settings) {
        let mut state = lock(&self.0.state);
        state.settings = settings;
        let message = Message::Settings(state.settings.clone());
        self.send(&mut state, &message, &[]);
    }

    /// Opens the files of the logs anew.
    pub(crate) fn reopen(&self) {
        let settings = lock(&self.0.state).settings.clone();
        self.set(settings);
    }

    /// Sends a message. An observer that does not take it is ended, and the next one gets everything.
    fn send(&self, state: &mut State, message: &Message, files: &[BorrowedFd<'_>]) {
        let Some(channel) = state.channel.as_ref().filter(|_| !state.is_stuck) else { return };
        if message::send(channel, message, files).is_err() {
            state.is_stuck = true;
            self.0.stuck.notify_one();
        }
    }

    fn spawn(&self) -> io::Result<(Child, UnixStream)> {
        let (ours, theirs) = StdUnixStream::pair()?;
        let mut command = Command::new(own_program()?);
        command.arg0("daylily").arg(OBSERVER).stdin(OwnedFd::from(theirs)).stdout(Stdio::inherit());
        for variable in NOT_INHERITED {
            command.env_remove(variable);
        }
        let child = command.spawn().map_err(limits::without_proc)?;
        orphans::keep(&child);
        ours.set_nonblocking(true)?;
        let replies = UnixStream::from_std(ours.try_clone()?)?;
        let mut state = lock(&self.0.state);
        let state = &mut *state;
        let settings = Message::Settings(state.settings.clone());
        // One message for all: so many messages as there may be journals do not fit into the socket.
        let journals = state.journals.iter().map(|(id, files)| (*id, files.facts.clone())).collect();
        let files: Vec<_> = state.journals.values().flat_map(JournalFiles::descriptors).collect();
        message::send(&ours, &settings, &[])?;
        message::send(&ours, &Message::Journals(journals), &files)?;
        state.channel = Some(ours);
        state.is_stuck = false;
        Ok((child, replies))
    }
}

impl JournalFiles {
    fn descriptors(&self) -> [BorrowedFd<'_>; 3] {
        [self.journal.as_fd(), self.alive.as_fd(), self.log.as_fd()]
    }
}

/// The running observer, for the supervisor's end.
pub(crate) struct Running {
    observer: Observer,
    keeping: Option<tokio::task::JoinHandle<()>>,
}

impl Running {
    /// Lets the observer end once everything is written, for [`LAST_LINES`] at most. All workers have ended.
    pub(crate) async fn finish(mut self) {
        self.close();
        if let Some(keeping) = self.keeping.take() {
            let _ = tokio::time::timeout(LAST_LINES, keeping).await;
        }
    }

    fn close(&self) {
        if let Some(channel) = lock(&self.observer.0.state).channel.take() {
            let _ = channel.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.close();
    }
}

/// Keeps an observer running until its channel is closed from this side.
async fn keep(observer: Observer, mut running: (Child, UnixStream)) {
    loop {
        let (child, replies) = &mut running;
        let how = tokio::select! {
            status = ended(child) => status,
            () = hear(&observer, replies) => ended(child).await,
            () = observer.0.stuck.notified() => {
                if !lock(&observer.0.state).is_stuck {
                    // This was about the observer before.
                    continue;
                }
                let _ = child.kill().await;
                "it did not read its messages".to_owned()
            }
        };
        let was_closed = lock(&observer.0.state).channel.take().is_none();
        if was_closed {
            return;
        }
        tracing::error!(
            target: log_target::SUPERVISOR,
            "the observer ended ({how}); it is started again in {RESTART_DELAY:.1?}, and goes on where it was"
        );
        running = loop {
            tokio::time::sleep(RESTART_DELAY).await;
            match observer.spawn() {
                Ok(next) => break next,
                Err(error) => tracing::error!(
                    target: log_target::SUPERVISOR,
                    "the observer cannot be started: {error}{}; trying again in {RESTART_DELAY:.1?}", limits::hint(&error)
                ),
            }
        };
    }
}

/// Waits until the process has ended, and says how.
async fn ended(child: &mut Child) -> String {
    match child.wait().await {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    }
}

/// Closes the journals that the observer is done with, until it closes its channel.
async fn hear(observer: &Observer, replies: &mut UnixStream) {
    while let Ok(id) = replies.read_u64_le().await {
        lock(&observer.0.state).journals.remove(&id);
    }
}
