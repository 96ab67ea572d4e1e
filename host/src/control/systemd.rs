//! What systemd is told (`Type=notify`); without systemd, nothing happens.

use sd_notify::NotifyState;
use tokio::time::Interval;

/// All workers accept connections, at first or after a reload.
pub(super) fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// A reload has begun (`Type=notify-reload` wants to know since when).
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(_) => notify(&[NotifyState::Reloading]),
    }
}

pub(super) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// From now on, another process is the service.
pub(super) fn succeeded_by(pid: u32) {
    notify(&[NotifyState::MainPid(pid), NotifyState::Ready]);
}

/// systemd's watchdog, where it is on: it wants to hear twice in the time that it waits.
pub(super) struct Watchdog(Option<Interval>);

impl Watchdog {
    /// Must be called within a tokio runtime.
    pub(super) fn new() -> Self {
        let every = sd_notify::watchdog_enabled().map(|limit| limit / 2).filter(|every| !every.is_zero());
        Self(every.map(tokio::time::interval))
    }

    /// Resolves when it is time. Cancel safe.
    pub(super) async fn due(&mut self) {
        match &mut self.0 {
            Some(interval) => drop(interval.tick().await),
            None => std::future::pending().await,
        }
    }

    pub(super) fn feed() {
        notify(&[NotifyState::Watchdog]);
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("failed to notify systemd: {error}; is NOTIFY_SOCKET right?");
    }
}
