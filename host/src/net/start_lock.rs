//! One server of a user at a time begins to listen.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::thread;
use std::time::{Duration, Instant};

use daylily_core::log_target;
use rustix::process::geteuid;

/// How long to wait for another server. It takes milliseconds, so a longer wait means that another user's process keeps
/// the name, which must not keep this server from starting.
const PATIENCE: Duration = Duration::from_secs(2);

/// Delay between attempts.
const RETRY: Duration = Duration::from_millis(5);

/// Held while a server checks its addresses and begins to listen at them. Two servers of one user that did so at the
/// same time would each find an address free, and the kernel would let them share it (`SO_REUSEPORT`).
///
/// It is the name of an abstract Unix socket, which the kernel gives to one process of a network namespace at a time,
/// and takes back when that process ends.
pub(super) struct StartLock {
    _name: Option<UnixListener>,
}

impl StartLock {
    /// Waits for other servers for up to [`PATIENCE`], and then goes on without the lock. Blocks.
    pub(super) fn acquire() -> Self {
        Self::acquire_named(&format!("daylily-listen-{}", geteuid().as_raw()), PATIENCE)
    }

    fn acquire_named(name: &str, patience: Duration) -> Self {
        let deadline = Instant::now() + patience;
        loop {
            match SocketAddr::from_abstract_name(name).and_then(|name| UnixListener::bind_addr(&name)) {
                Ok(name) => return Self { _name: Some(name) },
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                    thread::sleep(RETRY);
                }
                Err(error) => {
                    tracing::warn!(
                        target: log_target::SUPERVISOR,
                        "listening without the lock that keeps two servers from sharing an address, \
                         the abstract socket `{name}`: {error}"
                    );
                    return Self { _name: None };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_not_for_ever() {
        let name = format!("daylily-test-{}", std::process::id());
        let acquire = |patience| StartLock::acquire_named(&name, patience);
        let first = acquire(Duration::ZERO);
        assert!(first._name.is_some());
        assert!(acquire(RETRY)._name.is_none(), "two have the lock");
        drop(first);
        assert!(acquire(Duration::ZERO)._name.is_some(), "the lock was not released");
    }
}
