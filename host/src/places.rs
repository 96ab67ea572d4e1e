//! Where files go when nobody says where: compiled code and control sockets.

use std::env;
use std::net::SocketAddr;
use std::path::PathBuf;

use rustix::process::geteuid;

/// What control sockets are called.
pub(crate) const SOCKET_SUFFIX: &str = ".sock";

/// The user's cache directory, or the one that systemd made for the service (`CacheDirectory=`).
pub(crate) fn cache_dir() -> Option<PathBuf> {
    if let Some(dir) = given_by_systemd("CACHE_DIRECTORY") {
        return Some(dir);
    }
    if let Some(dir) = absolute("XDG_CACHE_HOME") {
        return Some(dir.join("daylily"));
    }
    let home = env::home_dir().filter(|home| home.is_absolute())?;
    let caches = if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" };
    Some(home.join(caches).join("daylily"))
}

/// The directory for the control sockets of servers that are started by this user.
fn control_dir() -> PathBuf {
    given_by_systemd("RUNTIME_DIRECTORY").unwrap_or_else(|| user_dirs().swap_remove(0))
}

/// The control socket of the server that was started by this user and listens first at `address`.
pub(crate) fn control_socket(address: &SocketAddr) -> PathBuf {
    control_dir().join(format!("{address}{SOCKET_SUFFIX}"))
}

/// Where to look for the control sockets of servers that this user may talk to.
pub(crate) fn control_dirs() -> Vec<PathBuf> {
    user_dirs()
}

/// At least one; the first is the one to use. Others are looked into as well, because a user who logs in
/// has an `XDG_RUNTIME_DIR` that the same user's services may not have.
fn user_dirs() -> Vec<PathBuf> {
    let shared = env::temp_dir().join(format!("daylily-{}", geteuid().as_raw()));
    let system = PathBuf::from("/run/daylily");
    let own = absolute("XDG_RUNTIME_DIR").map(|dir| dir.join("daylily"));
    if geteuid().is_root() {
        return vec![system, shared];
    }
    own.into_iter().chain([shared, system]).collect()
}

/// systemd names several as a list with colons; the first is ours.
fn given_by_systemd(variable: &str) -> Option<PathBuf> {
    let list = env::var_os(variable)?;
    env::split_paths(&list).next().filter(|dir| dir.is_absolute())
}

fn absolute(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).map(PathBuf::from).filter(|dir| dir.is_absolute())
}
