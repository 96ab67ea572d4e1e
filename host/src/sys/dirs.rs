//! Default directories: of compiled code and of control sockets.

use std::env;
use std::path::PathBuf;

use rustix::process::geteuid;

/// The end of the file names of control sockets.
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

/// The directory for the control sockets of this user's servers.
fn control_dir() -> PathBuf {
    given_by_systemd("RUNTIME_DIRECTORY").unwrap_or_else(|| user_dirs().swap_remove(0))
}

/// The default control socket of this user's server with this name.
pub(crate) fn control_socket(server: &str) -> PathBuf {
    control_dir().join(format!("{server}{SOCKET_SUFFIX}"))
}

/// The directories to search for control sockets of servers that this user may control.
pub(crate) fn control_dirs() -> Vec<PathBuf> {
    user_dirs()
}

/// At least one directory; the first is the one to use. The others are searched as well, because a user who logs in has
/// an `XDG_RUNTIME_DIR` that the same user's services may not have.
fn user_dirs() -> Vec<PathBuf> {
    let shared = env::temp_dir().join(format!("daylily-{}", geteuid().as_raw()));
    let system = PathBuf::from("/run/daylily");
    let own = absolute("XDG_RUNTIME_DIR").map(|dir| dir.join("daylily"));
    if geteuid().is_root() {
        return vec![system, shared];
    }
    own.into_iter().chain([shared, system]).collect()
}

/// systemd separates several directories by colons; the first one is used.
fn given_by_systemd(variable: &str) -> Option<PathBuf> {
    let list = env::var_os(variable)?;
    env::split_paths(&list).next().filter(|dir| dir.is_absolute())
}

fn absolute(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).map(PathBuf::from).filter(|dir| dir.is_absolute())
}
