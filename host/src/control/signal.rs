//! Signals to the supervisor.

use std::io::{self, IsTerminal};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

/// Signals to stop that come so soon after the first are the same one: wrappers (`timeout`, `tini -g`, `npm`) signal
/// their child, and then its group, which it is in.
const SAME_STOP: Duration = Duration::from_millis(250);

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// SIGTERM, SIGINT; SIGHUP where it says that the terminal is gone.
    Stop,
    /// SIGHUP.
    Reload,
    /// SIGUSR2.
    Upgrade,
}

pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    upgrade: Signal,
    /// Whether this was started from a terminal, whose end is told by SIGHUP as well.
    had_terminal: bool,
    /// The latest stop that was told.
    stop: Option<Instant>,
}

impl Signals {
    /// From now on, none of them ends the process by itself. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the system does not let them be handled.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            upgrade: signal(SignalKind::user_defined2())?,
            had_terminal: io::stderr().is_terminal(),
            stop: None,
        })
    }

    /// The next one; a stop that comes twice within [`SAME_STOP`] is one. Cancel safe.
    pub(super) async fn next(&mut self) -> Asked {
        loop {
            let asked = self.any().await;
            if asked != Asked::Stop {
                return asked;
            }
            if self.stop.is_none_or(|stop| stop.elapsed() >= SAME_STOP) {
                self.note_stop();
                return asked;
            }
        }
    }

    /// A stop was asked for in another way.
    pub(super) fn note_stop(&mut self) {
        self.stop = Some(Instant::now());
    }

    async fn any(&mut self) -> Asked {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hangup.recv() => if self.had_terminal && !io::stderr().is_terminal() { Asked::Stop } else { Asked::Reload },
            _ = self.upgrade.recv() => Asked::Upgrade,
        }
    }
}
