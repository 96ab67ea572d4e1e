//! What systemd is told (`Type=notify`); without systemd, nothing happens.

use std::time::Duration;

use sd_notify::NotifyState;

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

/// How often the watchdog wants to hear from this process: twice in the time that it waits.
pub(super) fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2).filter(|every| !every.is_zero())
}

pub(super) fn watchdog() {
    notify(&[NotifyState::Watchdog]);
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("failed to notify systemd: {error}; is NOTIFY_SOCKET right?");
    }
}
