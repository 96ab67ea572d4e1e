//! The observer process, as its supervisor sees it: started before the workers, and again whenever it has ended. What
//! it has not written by then is in the journals, whose descriptors are kept.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daylily_core::config::Config;
use daylily_core::log_target;
use daylily_core::process_role::ProcessRole;
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::admin::AdminListener;
use super::journals::{Dropped, JournalFiles, Journals, MAX_ENDED_BYTES};
use super::process::{command, spawn, workers};
use crate::observe::journal;
use crate::observe::journal::WorkerFacts;
use crate::observe::log;
use crate::observe::metrics::{self, BlockNames, MetricsReader, Sums};
use crate::observe::server_page::ServerPage;
use crate::observer::LAST_LINES;
use crate::observer::message::{self, ADMIN_LEFT, HEARTBEAT, Message, Settings};
use crate::sys::lock::lock;
use crate::sys::{cpu_time, limits};
use crate::worker::setup::WorkerJournal;

/// The first argument of the observer's command line; only daylily itself starts it.
pub(crate) const OBSERVER: &str = "observer";

/// The delay before an observer that ended is started again.
const RESTART_DELAY: Duration = Duration::from_secs(1);

/// How long the observer may send nothing before it is killed: it has a heartbeat each second.
const SILENCE: Duration = Duration::from_secs(10);

/// How long the observer may take to stop serving the admin listener, and to end if it does not.
const LEAVE_PATIENCE: Duration = Duration::from_secs(1);

/// The observer of one supervisor. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Observer(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Notified when the observer is to be ended and started again.
    stuck: Notify,
    page: Arc<ServerPage>,
    /// Notified when the observer does not serve the admin listener any more: it says so, or has ended.
    admin_left: Notify,
    /// Notified when no observer is needed any more, once everything is written.
    closing: Notify,
}

struct State {
    settings: Settings,
    admin: AdminListener,
    /// None while no observer runs.
    channel: Option<StdUnixStream>,
    /// What the observer that runs keeps of itself.
    own: Option<OwnedFd>,
    journals: Journals,
    /// The observer does not take messages or write what it should, and is about to be ended.
    is_stuck: bool,
    /// The observer, or the next one, is to end once everything is written.
    is_closing: bool,
}

impl Observer {
    /// [`Self::start`] for a configuration.
    ///
    /// # Errors
    ///
    /// When the process cannot be started.
    pub(crate) fn of(config: &Config, page: Arc<ServerPage>) -> io::Result<(Self, Running)> {
        Self::start(Settings::of(config, workers(config.workers)), page)
    }

    /// Starts the observer, and keeps one running until [`Running::finish`].
    ///
    /// # Errors
    ///
    /// When the process cannot be started.
    fn start(settings: Settings, page: Arc<ServerPage>) -> io::Result<(Self, Running)> {
        let (admin, journals) = (AdminListener::default(), Journals::default());
        let state = State { settings, admin, channel: None, own: None, journals, is_stuck: false, is_closing: false };
        let (stuck, admin_left, closing) = (Notify::new(), Notify::new(), Notify::new());
        let observer = Self(Arc::new(Shared { state: Mutex::new(state), stuck, page, admin_left, closing }));
        let first = observer.spawn()?;
        let keeping = tokio::spawn(keep(observer.clone(), first));
        tokio::spawn(Arc::clone(&observer.0.page).keep_beating());
        Ok((observer.clone(), Running { observer, keeping: Some(keeping) }))
    }

    /// The journal for a worker that is about to start.
    ///
    /// # Errors
    ///
    /// When there is no memory or no descriptor left.
    pub(crate) fn journal(&self, facts: WorkerFacts) -> io::Result<WorkerJournal> {
        let journal = journal::create()?;
        let metrics = metrics::create(&facts.blocks)?;
        let (alive, workers) = pipe_with(PipeFlags::CLOEXEC)?;
        let (log_of_worker, log) = log::socket()?;
        let for_worker = WorkerJournal {
            journal: journal.try_clone()?,
            metrics: metrics.try_clone()?,
            alive: workers,
            log: log_of_worker,
        };
        let mut state = lock(&self.0.state);
        let state = &mut *state;
        self.bound_journals(state);
        let id = state.journals.add(JournalFiles { facts, journal, metrics, alive, log });
        if let Some(files) = state.journals.get(id) {
            let message = Message::Journals(vec![(id, files.facts.clone())]);
            let is_taken = send(state.channel.as_ref(), state.is_stuck, &message, &files.descriptors());
            self.note_stuck_unless(is_taken, &mut state.is_stuck);
        }
        Ok(for_worker)
    }

    /// Bounds the memory of journals whose workers have ended. An observer that has left so many of them also keeps them
    /// in its memory, so it is ended.
    fn bound_journals(&self, state: &mut State) {
        let Dropped { journals, records } = state.journals.drop_oldest(MAX_ENDED_BYTES);
        if journals > 0 {
            tracing::error!(
                target: log_target::SUPERVISOR,
                "the observer has not written the records of workers that ended long ago; {journals} journals were \
                 dropped, and {records} requests have no line in the access log"
            );
            self.note_stuck_unless(false, &mut state.is_stuck);
        }
    }

    /// Changes the settings; log files are reopened.
    pub(crate) fn set(&self, settings: Settings) {
        let mut state = lock(&self.0.state);
        state.settings = settings;
        let message = Message::Settings(Box::new(state.settings.clone()));
        self.send(&mut state, &message, &[]);
    }

    /// Reopens the log files.
    pub(crate) fn reopen(&self) {
        let settings = lock(&self.0.state).settings.clone();
        self.set(settings);
    }

    /// The observer is done with a journal, and its worker has ended.
    fn end(&self, id: u64) {
        // What it could not write, it has counted itself.
        lock(&self.0.state).journals.end(id, 0);
    }

    /// What all processes have counted up to now, for the successor.
    pub(crate) fn sums(&self) -> Sums {
        let state = lock(&self.0.state);
        let mut sums = state.journals.sums();
        sums.add(&state.own_sums());
        sums.add(&Sums::of_cpu_ns(ProcessRole::Supervisor, cpu_time::of_this_process_ns()));
        sums
    }

    /// Adds what the predecessor has counted.
    pub(crate) fn add(&self, counted: &Sums) {
        let mut state = lock(&self.0.state);
        state.journals.add_ended(counted);
        self.send(&mut state, &Message::Counted(counted.clone()), &[]);
    }

    /// Changes the admin listener.
    pub(crate) fn set_admin(&self, admin: AdminListener) {
        let mut state = lock(&self.0.state);
        state.admin = admin.clone();
        let (message, files) = admin.message(&self.0.page);
        self.send(&mut state, &message, &files);
    }

    /// Stops serving the admin listener, and returns when nothing more is sent to its clients. An observer that does not
    /// confirm that in time is ended.
    pub(crate) async fn leave_admin(&self) {
        let mut left = pin!(self.0.admin_left.notified());
        left.as_mut().enable();
        {
            let mut state = lock(&self.0.state);
            let admin = std::mem::take(&mut state.admin);
            if admin.address().is_none() || state.channel.is_none() {
                return;
            }
            self.send(&mut state, &Message::LeaveAdmin, &[]);
        }
        if timeout(LEAVE_PATIENCE, left.as_mut()).await.is_err() {
            self.kill();
            let _ = timeout(LEAVE_PATIENCE, left).await;
        }
    }

    /// Ends a process that does not do what it should; the next one goes on, unless the channel is closed.
    fn kill(&self) {
        lock(&self.0.state).is_stuck = true;
        self.0.stuck.notify_one();
    }

    /// Sends a message. An observer that does not take it is ended, and the next one gets everything.
    fn send(&self, state: &mut State, message: &Message, files: &[BorrowedFd<'_>]) {
        let is_taken = send(state.channel.as_ref(), state.is_stuck, message, files);
        self.note_stuck_unless(is_taken, &mut state.is_stuck);
    }

    fn note_stuck_unless(&self, is_well: bool, is_stuck: &mut bool) {
        if !is_well {
            *is_stuck = true;
            self.0.stuck.notify_one();
        }
    }

    fn spawn(&self) -> io::Result<(Child, UnixStream)> {
        let (ours, theirs) = StdUnixStream::pair()?;
        // It writes to the standard output, too.
        let mut child = spawn(command(&[OBSERVER], OwnedFd::from(theirs))?)?;
        match self.introduce(ours) {
            Ok(replies) => Ok((child, replies)),
            Err(error) => {
                // Two observers would read the same journals and log lines.
                let _ = child.start_kill();
                Err(error)
            }
        }
    }

    /// Tells an observer that starts everything.
    fn introduce(&self, ours: StdUnixStream) -> io::Result<UnixStream> {
        ours.set_nonblocking(true)?;
        let replies = UnixStream::from_std(ours.try_clone()?)?;
        let own = metrics::create(&BlockNames::default())?;
        let mut state = lock(&self.0.state);
        let state = &mut *state;
        let settings = Message::Settings(Box::new(state.settings.clone()));
        // One message for all: so many messages as there may be journals do not fit into the socket.
        let (journals, files) = (state.journals.facts(), state.journals.descriptors());
        message::send(&ours, &settings, &[own.as_fd()])?;
        message::send(&ours, &Message::Counted(state.journals.ended().clone()), &[])?;
        message::send(&ours, &Message::Journals(journals), &files)?;
        if state.admin.address().is_some() {
            let (message, files) = state.admin.message(&self.0.page);
            message::send(&ours, &message, &files)?;
        }
        state.channel = Some(ours);
        state.own = Some(own);
        state.is_stuck = false;
        if state.is_closing {
            state.close();
        }
        Ok(replies)
    }
}

impl State {
    /// What the observer that runs, or ran last, has counted of itself.
    fn own_sums(&self) -> Sums {
        let reader = self.own.as_ref().and_then(|own| MetricsReader::open(own.as_fd(), BlockNames::default()).ok());
        reader.map(|reader| reader.sums()).unwrap_or_default()
    }

    /// Lets the observer end once everything is written, and all that are started later.
    fn close(&mut self) {
        self.is_closing = true;
        if let Some(channel) = self.channel.take() {
            let _ = channel.shutdown(std::net::Shutdown::Both);
        }
    }

    /// The observer has ended. Returns whether its channel was closed from this side.
    fn note_ended(&mut self) -> bool {
        let own = self.own_sums();
        self.journals.add_ended(&own);
        self.own = None;
        self.channel.take().is_none()
    }
}

/// Sends a message, if an observer runs that takes messages. Returns false if it does not take this one.
fn send(channel: Option<&StdUnixStream>, is_stuck: bool, message: &Message, files: &[BorrowedFd<'_>]) -> bool {
    channel.filter(|_| !is_stuck).is_none_or(|channel| message::send(channel, message, files).is_ok())
}

/// The running observer, for the supervisor's end.
pub(crate) struct Running {
    observer: Observer,
    keeping: Option<tokio::task::JoinHandle<()>>,
}

impl Running {
    /// Lets the observer end once everything is written, and kills it after [`LAST_LINES`]. All workers have ended.
    pub(crate) async fn finish(mut self) {
        self.close();
        let Some(mut keeping) = self.keeping.take() else { return };
        if timeout(LAST_LINES, &mut keeping).await.is_err() {
            // It hangs, and would keep the socket of the admin listener.
            self.observer.kill();
            let _ = timeout(LEAVE_PATIENCE, keeping).await;
        }
    }

    fn close(&self) {
        lock(&self.observer.0.state).close();
        self.observer.0.closing.notify_one();
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
            () = hear_to_silence(&observer, replies) => {
                let _ = child.kill().await;
                format!("it did nothing for {SILENCE:?} and was killed")
            }
            () = observer.0.stuck.notified() => {
                if !lock(&observer.0.state).is_stuck {
                    // This was about the observer before.
                    continue;
                }
                let _ = child.kill().await;
                "it did not do its work".to_owned()
            }
        };
        let was_closed = lock(&observer.0.state).note_ended();
        observer.0.admin_left.notify_waiters();
        if was_closed {
            return;
        }
        tracing::error!(
            target: log_target::SUPERVISOR,
            "the observer ended ({how}); it is started again in {RESTART_DELAY:.1?}, and goes on where it was"
        );
        running = loop {
            // At the end of the supervisor, the next one writes what is left at once.
            let _ = timeout(RESTART_DELAY, observer.0.closing.notified()).await;
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

/// Closes the journals that the observer is done with. Resolves when it has sent nothing for [`SILENCE`].
async fn hear_to_silence(observer: &Observer, replies: &mut UnixStream) {
    loop {
        match timeout(SILENCE, replies.read_u64_le()).await {
            Ok(Ok(ADMIN_LEFT)) => observer.0.admin_left.notify_waiters(),
            Ok(Ok(HEARTBEAT)) => {}
            Ok(Ok(id)) => observer.end(id),
            // It has closed its channel, and is about to end.
            Ok(Err(_)) => std::future::pending().await,
            Err(_) => return,
        }
    }
}
