//! Signals to the supervisor.

use std::io::{self, IsTerminal};

use tokio::signal::unix::{Signal, SignalKind, signal};

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
        })
    }

    /// The next one. Cancel safe.
    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hangup.recv() => if self.had_terminal && !io::stderr().is_terminal() { Asked::Stop } else { Asked::Reload },
            _ = self.upgrade.recv() => Asked::Upgrade,
        }
    }
}
