//! Default directories: of compiled code, of stores and of control sockets. Which directories are safe.

use std::env;
use std::fs::DirBuilder;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, Stat};
use rustix::io::Errno;
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

/// The directory for stores that systemd made for the service (`StateDirectory=`).
pub(crate) fn service_state_dir() -> Option<PathBuf> {
    given_by_systemd("STATE_DIRECTORY")
}

/// The directory for the stores of all of the user's applications.
pub(crate) fn state_dir() -> Option<PathBuf> {
    if let Some(dir) = absolute("XDG_STATE_HOME") {
        return Some(dir.join("daylily"));
    }
    let home = env::home_dir().filter(|home| home.is_absolute())?;
    let states = if cfg!(target_os = "macos") { "Library/Application Support" } else { ".local/state" };
    Some(home.join(states).join("daylily"))
}

/// Why a directory cannot be used for what only this user may write.
pub(crate) enum NotPrivate {
    Unusable(io::Error),
    Unsafe { reason: String, remedy: &'static str },
}

/// Opens a directory that no other user can write to, and creates it if it does not exist.
///
/// # Errors
///
/// If it cannot be opened or created, or if another user can write to it.
pub(crate) fn open_private(path: &Path) -> Result<OwnedFd, NotPrivate> {
    let unusable = |error: Errno| NotPrivate::Unusable(error.into());
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(NotPrivate::Unusable)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(path, flags, Mode::empty()).map_err(unusable)?;
    match not_ours_alone(&rustix::fs::fstat(&dir).map_err(unusable)?) {
        Some((reason, remedy)) => Err(NotPrivate::Unsafe { reason, remedy }),
        None => Ok(dir),
    }
}

/// Why another user could write to this file or directory, and the remedy.
pub(crate) fn not_ours_alone(stat: &Stat) -> Option<(String, &'static str)> {
    let us = geteuid().as_raw();
    if stat.st_uid != us {
        return Some((format!("it belongs to user {}, not to user {us}", stat.st_uid), "change its owner (chown)"));
    }
    let mode = stat.st_mode & 0o7777;
    (mode & 0o022 != 0)
        .then(|| (format!("others can write to it (mode {mode:o})"), "remove that permission (chmod go-w)"))
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
