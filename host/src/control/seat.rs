//! A worker's seat: somebody is always to sit there, until the generation drains.

use std::io;
use std::pin::pin;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daylily_core::restart::Restarts;
use daylily_core::units::format_duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::account::Totals;
use super::looks::Looks;
use super::order::{End, Order};
use super::process::{Event, Launch, StartError, WorkerProcess};
use super::retire::{retire, say_drained};
use super::scoreboard::{Counts, Slot};
use super::worker::LAST_WORDS;
use crate::lock::lock;

/// A worker whose event loop has not turned for so long does not accept either; others do it until it
/// turns again, or has been replaced.
const COVERED_AFTER: Duration = Duration::from_secs(1);

/// What the seats of a generation are told, all at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Serve,
    End(End),
    Kill,
}

/// Who sits there, for `daylily status`.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) pid: Option<u32>,
    pub(super) state: State,
    pub(super) since: Option<Instant>,
    pub(super) restarts: u64,
    pub(super) hangs: u64,
    /// How often it was replaced because its file calls did not return.
    pub(super) blocked: u64,
    pub(super) counts: Counts,
    pub(super) blocked_calls: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    Starting,
    Ready,
    /// It died, and is not replaced at once because it has died again and again.
    Waiting,
    Draining,
    Ended,
}

/// One seat, shared between the task that keeps it and those who look at it.
pub(super) struct Seat {
    worker: u32,
    launch: Arc<Launch>,
    seen: Mutex<Seen>,
    /// Whoever sits here accepts no more, and nobody else will.
    has_closed: watch::Sender<bool>,
    /// The counters of the process, while there is one.
    slot: Mutex<Option<&'static Slot>>,
}

/// How a process left its seat.
enum Left {
    /// It was told to.
    Drained,
    Died(io::Result<ExitStatus>),
    /// Its event loop did not turn any more, and it was killed.
    Hung,
    /// It serves, but for file calls, and another is to take its place.
    Blocked,
}

impl Seat {
    pub(super) fn new(worker: u32, launch: Arc<Launch>) -> Arc<Self> {
        Arc::new(Self {
            worker,
            launch,
            seen: Mutex::default(),
            has_closed: watch::Sender::new(false),
            slot: Mutex::default(),
        })
    }

    pub(super) fn worker(&self) -> u32 {
        self.worker
    }

    /// Resolves when nothing is accepted here any more. Cancel safe.
    pub(super) async fn closed(&self) {
        // The sender is in `self`.
        let _ = self.has_closed.subscribe().wait_for(|has_closed| *has_closed).await;
    }

    /// Nobody sits here any more, and nobody will.
    pub(super) fn is_gone(&self) -> bool {
        lock(&self.seen).state == State::Ended
    }

    /// How often somebody had to be replaced here.
    pub(super) fn deaths(&self) -> Totals {
        let seen = lock(&self.seen);
        Totals { restarts: seen.restarts, hangs: seen.hangs, blocked: seen.blocked, ..Totals::default() }
    }

    pub(super) fn seen(&self) -> Seen {
        let slot = *lock(&self.slot);
        let counts = slot.map(Slot::counts).unwrap_or_default();
        Seen { counts, blocked_calls: slot.map_or(0, Slot::blocked_calls), ..lock(&self.seen).clone() }
    }

    /// Keeps the seat taken, first by `process`, until `wishes` says otherwise. Cancel safe: the process
    /// is killed.
    pub(super) async fn keep(self: Arc<Self>, mut process: WorkerProcess, mut wishes: watch::Receiver<Wish>) {
        let mut restarts = Restarts::default();
        // Those that finish what they have while another has their place.
        let mut retiring = JoinSet::new();
        loop {
            self.sits(&process);
            let left = self.watch_over(&mut process, &mut wishes).await;
            if let Left::Blocked = left {
                if let Some(next) = self.relieve(&process, &mut wishes).await {
                    let old = std::mem::replace(&mut process, next);
                    retiring.spawn(retire(Arc::clone(&self.launch), self.worker, old, wishes.clone()));
                }
                continue;
            }
            let lost = process.slot().counts().requests_in_progress();
            let lived = process.ready_at.elapsed();
            let pid = process.pid;
            self.leaves();
            drop(process);
            if let Left::Drained = left {
                self.has_closed.send_replace(true);
                while retiring.join_next().await.is_some() {}
                return;
            }
            let delay = restarts.died(Some(lived), random());
            self.say(pid, &left, lost, lived, &restarts, delay);
            match self.replace(&mut restarts, delay, &mut wishes).await {
                Some(next) => process = next,
                None => {
                    self.has_closed.send_replace(true);
                    self.note(State::Ended);
                    while retiring.join_next().await.is_some() {}
                    return;
                }
            }
        }
    }

    /// Waits until `process` has ended, has hung and was killed, or has drained because it was wished.
    async fn watch_over(&self, process: &mut WorkerProcess, wishes: &mut watch::Receiver<Wish>) -> Left {
        let limit = self.launch.prepared.config.server.hang_timeout;
        let mut looks = Looks::new(limit, process.slot());
        let mut absent = self.launch.absent.subscribe();
        absent.mark_changed();
        loop {
            tokio::select! {
                biased;
                event = process.event() => if let Event::Ended(status) = event {
                    return Left::Died(status);
                },
                wish = next_wish(wishes) => match wish {
                    Wish::Serve => {}
                    Wish::End(end) => return self.drain(process, end, wishes, looks).await,
                    Wish::Kill => return kill(process, Left::Drained).await,
                },
                Ok(()) = absent.changed() => {
                    let absent = absent.borrow_and_update().clone();
                    process.order(&Order::Cover(absent.into_iter().filter(|other| *other != self.worker).collect()));
                }
                silent = looks.silent() => {
                    if silent >= limit {
                        return kill(process, Left::Hung).await;
                    }
                    self.mark_absent(silent >= COVERED_AFTER);
                    if process.slot().blocked_routes() > 0 && self.launch.relief.allows(Instant::now()) {
                        return Left::Blocked;
                    }
                }
            }
        }
    }

    /// A new process in the place of one whose file calls do not return, which serves until then. None when the
    /// generation is to end, or there is no new process: the old one goes on.
    async fn relieve(&self, old: &WorkerProcess, wishes: &mut watch::Receiver<Wish>) -> Option<WorkerProcess> {
        let (worker, pid) = (self.worker, old.pid);
        let (calls, routes) = (old.slot().blocked_calls(), old.slot().blocked_routes());
        let started = tokio::select! {
            biased;
            _ = wishes.wait_for(|wish| *wish != Wish::Serve) => None,
            started = WorkerProcess::start(&self.launch, worker) => Some(started),
        };
        match started {
            None => {
                // For the one who watches over the old process.
                wishes.mark_changed();
                None
            }
            Some(Ok(next)) => {
                tracing::error!(
                    "worker {worker} (pid {pid}) has {calls} file calls that do not return, and no file threads left \
                     on {routes} of its routes; the process with pid {} replaces it",
                    next.pid
                );
                self.seen_mut(|seen| {
                    seen.restarts += 1;
                    seen.blocked += 1;
                });
                Some(next)
            }
            Some(Err(error)) => {
                tracing::error!("worker {worker} (pid {pid}) cannot be replaced: {error}; it keeps running");
                None
            }
        }
    }

    /// Tells `process` to drain and waits for its end, for as long as it may take.
    async fn drain(
        &self,
        process: &mut WorkerProcess,
        end: End,
        wishes: &mut watch::Receiver<Wish>,
        mut looks: Looks,
    ) -> Left {
        let server = &self.launch.prepared.config.server;
        self.note(State::Draining);
        process.order(&Order::End(end));
        let mut too_long = pin!(tokio::time::sleep(server.shutdown_timeout + 2 * LAST_WORDS));
        loop {
            tokio::select! {
                biased;
                event = process.event() => match event {
                    Event::Closed => drop(self.has_closed.send_replace(true)),
                    Event::Ended(status) => {
                        say_drained(&self.launch, self.worker, process, &status);
                        return Left::Drained;
                    }
                },
                wish = next_wish(wishes) => if wish == Wish::Kill {
                    return kill(process, Left::Drained).await;
                },
                () = &mut too_long => return kill(process, Left::Drained).await,
                silent = looks.silent() => if silent >= server.hang_timeout {
                    return kill(process, Left::Drained).await;
                }
            }
        }
    }

    /// A new process, after `delay`; None when the generation ends before there is one.
    async fn replace(
        &self,
        restarts: &mut Restarts,
        mut delay: Duration,
        wishes: &mut watch::Receiver<Wish>,
    ) -> Option<WorkerProcess> {
        loop {
            self.note(if delay.is_zero() { State::Starting } else { State::Waiting });
            let start = async {
                tokio::time::sleep(delay).await;
                self.note(State::Starting);
                WorkerProcess::start(&self.launch, self.worker).await
            };
            let started = tokio::select! {
                biased;
                _ = wishes.wait_for(|wish| *wish != Wish::Serve) => return None,
                started = start => started,
            };
            match started {
                Ok(process) => {
                    self.seen_mut(|seen| seen.restarts += 1);
                    return Some(process);
                }
                Err(error) => {
                    delay = restarts.died(None, random());
                    self.say_not_started(&error, delay);
                }
            }
        }
    }

    fn say(&self, pid: u32, left: &Left, lost: u64, lived: Duration, restarts: &Restarts, delay: Duration) {
        let worker = self.worker;
        let how = match left {
            Left::Hung => {
                self.seen_mut(|seen| seen.hangs += 1);
                let limit = format_duration(self.launch.prepared.config.server.hang_timeout);
                format!("did not respond for hang_timeout = {limit} and was killed")
            }
            Left::Died(Ok(status)) => format!("ended ({status})"),
            Left::Died(Err(error)) => format!("cannot be waited for ({error})"),
            Left::Drained | Left::Blocked => "drained".to_owned(),
        };
        let when =
            if delay.is_zero() { "it is replaced now".to_owned() } else { format!("it is replaced in {delay:.1?}") };
        let again = match restarts.quick_deaths() {
            0 | 1 => String::new(),
            deaths => format!(" ({deaths} quick crashes in a row)"),
        };
        tracing::error!(
            "worker {worker} (pid {pid}) {how} after {lived:.1?}, requests in progress: {lost}{again}; {when}"
        );
    }

    fn say_not_started(&self, error: &StartError, delay: Duration) {
        tracing::error!("worker {} cannot be replaced: {error}; trying again in {delay:.1?}", self.worker);
    }

    fn sits(&self, process: &WorkerProcess) {
        self.mark_absent(false);
        *lock(&self.slot) = Some(process.slot());
        self.seen_mut(|seen| {
            seen.pid = Some(process.pid);
            seen.state = State::Ready;
            seen.since = Some(process.ready_at);
        });
    }

    fn leaves(&self) {
        self.mark_absent(true);
        *lock(&self.slot) = None;
        self.seen_mut(|seen| {
            seen.pid = None;
            seen.state = State::Ended;
            seen.since = None;
        });
    }

    /// Whether the others are to accept on this worker's sockets.
    fn mark_absent(&self, is_absent: bool) {
        self.launch.absent.send_if_modified(|absent| {
            if is_absent { absent.insert(self.worker) } else { absent.remove(&self.worker) }
        });
    }

    fn note(&self, state: State) {
        self.seen_mut(|seen| seen.state = state);
    }

    fn seen_mut(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut lock(&self.seen));
    }
}

/// What is wished next; that there is nobody left to wish anything is the wish for an end. Cancel safe.
pub(super) async fn next_wish(wishes: &mut watch::Receiver<Wish>) -> Wish {
    match wishes.changed().await {
        Ok(()) => wishes.borrow_and_update().clone(),
        Err(_) => Wish::Kill,
    }
}

async fn kill(process: &mut WorkerProcess, left: Left) -> Left {
    // It fails only for a process that has gone already.
    let _ = process.kill().await;
    left
}

/// Some number, for jitter: workers that died together are not to come back together.
fn random() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    #[expect(clippy::cast_possible_truncation, reason = "any bits will do")]
    let bits = RandomState::new().hash_one(0_u8) as u32;
    bits
}
