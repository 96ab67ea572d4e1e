//! Notifications to systemd (`Type=notify`). Without systemd, these functions do nothing.

use daylily_core::log_target;
use sd_notify::NotifyState;
use tokio::time::Interval;

/// Reports that all workers accept connections, after a start or a reload.
pub(crate) fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Reports that a reload has begun (`Type=notify-reload` also requires the time, MONOTONIC_USEC=).
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(_) => notify(&[NotifyState::Reloading]),
    }
}

pub(crate) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Reports that process `pid` is the service's main process from now on.
pub(crate) fn succeeded_by(pid: u32) {
    notify(&[NotifyState::MainPid(pid), NotifyState::Ready]);
}

/// systemd's watchdog, where it is enabled (WatchdogSec=): notified at half its timeout.
pub(crate) struct Watchdog(Option<Interval>);

impl Watchdog {
    /// Must be called within a tokio runtime.
    pub(crate) fn new() -> Self {
        let every = sd_notify::watchdog_enabled().map(|limit| limit / 2).filter(|every| !every.is_zero());
        Self(every.map(tokio::time::interval))
    }

    /// Resolves when the next notification is due. Cancel safe.
    pub(crate) async fn due(&mut self) {
        match &mut self.0 {
            Some(interval) => drop(interval.tick().await),
            None => std::future::pending().await,
        }
    }

    pub(crate) fn feed() {
        notify(&[NotifyState::Watchdog]);
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(target: log_target::SUPERVISOR, "failed to notify systemd: {error}; is NOTIFY_SOCKET right?");
    }
}
