//! Signals to the supervisor.

use std::io::{self, IsTerminal};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

/// Signals to stop within this time after the first count as one: wrappers (`timeout`, `tini -g`, `npm`) signal their
/// child, and then its process group, which includes the child.
const SAME_STOP: Duration = Duration::from_millis(250);

/// What a signal requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// SIGTERM: a service manager stops the server. `is_urgent` for SIGINT, and for SIGHUP when the terminal was closed:
    /// a person stops it, and does not want to wait for load balancers.
    Stop { is_urgent: bool },
    /// SIGHUP.
    Reload,
    /// SIGUSR2.
    Upgrade,
}

impl Asked {
    pub(crate) fn is_stop(self) -> bool {
        matches!(self, Self::Stop { .. })
    }
}

pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    upgrade: Signal,
    /// Whether stderr was a terminal at start. SIGHUP then also reports that the terminal was closed.
    had_terminal: bool,
    /// The time of the latest stop.
    stop: Option<Instant>,
}

impl Signals {
    /// Installs the handlers, so that none of these signals ends the process by itself. Must be called within a tokio
    /// runtime.
    ///
    /// # Errors
    ///
    /// When a handler cannot be installed.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            upgrade: signal(SignalKind::user_defined2())?,
            had_terminal: io::stderr().is_terminal(),
            stop: None,
        })
    }

    /// The next request; several stops within [`SAME_STOP`] are one. Cancel safe.
    pub(crate) async fn next(&mut self) -> Asked {
        loop {
            let asked = self.any().await;
            if !asked.is_stop() {
                return asked;
            }
            if self.stop.is_none_or(|stop| stop.elapsed() >= SAME_STOP) {
                self.note_stop();
                return asked;
            }
        }
    }

    /// Records the time of a stop; also called for one that was not requested by a signal.
    pub(crate) fn note_stop(&mut self) {
        self.stop = Some(Instant::now());
    }

    async fn any(&mut self) -> Asked {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Asked::Stop { is_urgent: false },
            _ = self.interrupt.recv() => Asked::Stop { is_urgent: true },
            _ = self.hangup.recv() => if self.had_terminal && !io::stderr().is_terminal() {
                Asked::Stop { is_urgent: true }
            } else {
                Asked::Reload
            },
            _ = self.upgrade.recv() => Asked::Upgrade,
        }
    }
}
