//! The sockets that systemd passes.

use std::io;
use std::os::fd::OwnedFd;

use daylily_core::config::Listen;
use rustix::net::{SocketType, sockopt};

use crate::net::address::Address;
use crate::net::listen::ListenError;

/// The sockets that systemd passed to this process, with their names.
///
/// # Errors
///
/// When one of them is not a listening TCP or Unix socket.
pub(super) fn sockets() -> Result<Vec<(String, OwnedFd)>, ListenError> {
    if !is_for_this_process() {
        return Ok(Vec::new());
    }
    let refused = |name: Option<&str>, error: io::Error| ListenError {
        address: Listen::Systemd(name.map(str::to_owned)).to_string(),
        error,
        at: None,
        remedy: "pass TCP or Unix sockets (ListenStream= with an address or a path, Accept=no)".into(),
    };
    let passed = sd_notify::listen_fds_with_names().map_err(|error| refused(None, error))?;
    passed
        .map(|(number, name)| {
            let socket = adopt(number);
            check_listener(&socket).map_err(|error| refused(Some(&name), error))?;
            Ok((name, socket))
        })
        .collect()
}

#[expect(unsafe_code, reason = "systemd passes descriptors by number only")]
fn adopt(number: std::os::fd::RawFd) -> OwnedFd {
    use std::os::fd::FromRawFd;
    // SAFETY: `LISTEN_PID` and `LISTEN_FDS` say that this descriptor was opened for this process, and this is called
    // once, at start, before other code could own it.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Whether systemd passed sockets to this process. The parent process may have received sockets itself and left the
/// variables in the environment (sd_listen_fds(3)).
fn is_for_this_process() -> bool {
    std::env::var("LISTEN_PID").is_ok_and(|pid| pid.parse() == Ok(std::process::id()))
}

fn check_listener(socket: &OwnedFd) -> io::Result<()> {
    let kind = sockopt::socket_type(socket)?;
    let address = Address::of(socket);
    if kind != SocketType::STREAM || address.is_err() || !sockopt::socket_acceptconn(socket)? {
        return Err(io::Error::other("it is not a listening TCP or Unix socket"));
    }
    // Non-blocking, because workers share it, and their event loops must not wait in `accept`.
    Ok(rustix::io::ioctl_fionbio(socket, true)?)
}
