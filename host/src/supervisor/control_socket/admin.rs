//! The control socket: how `daylily status`, `reload`, `reopen` and `stop` reach the supervisor.
//!
//! Only the same user and root can use it: the directory and the socket exclude other users by their modes, and the
//! user id of each peer is checked.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use daylily_core::config::Config;
use daylily_core::log_target;
use rustix::process::geteuid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::client;
use super::report::{Command, Reply};
use crate::failure::Failure;
use crate::net::address::Address;
use crate::sys::dirs;

/// Limits of commands: how many at a time, how long one may be, and how long it may take to arrive. The time is short,
/// so that silent clients do not keep others waiting.
const MAX_CLIENTS: usize = 16;
const MAX_COMMAND_BYTES: u64 = 4096;
const COMMAND_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a client may take to read its reply.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum length of a Unix socket's path, in bytes (`sun_path` without the terminating NUL).
const MAX_PATH_BYTES: usize = 107;

/// A command, and the channel for its reply.
pub(crate) struct Request {
    pub(crate) command: Command,
    pub(crate) reply: oneshot::Sender<Reply>,
}

/// A control socket. Dropping it removes its path, unless another socket has the path by then.
pub(crate) struct ControlSocket {
    path: PathBuf,
    /// Its path until it is published.
    new: PathBuf,
    inode: u64,
    pub(crate) requests: mpsc::Receiver<Request>,
    clients: Arc<Semaphore>,
    accepting: JoinHandle<()>,
}

impl ControlSocket {
    /// Opens a socket that is to be published at `path`. There it replaces a socket on which no process listens or,
    /// with `succeeds`, the predecessor's.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the directory is not safe, another server listens there, or a system call fails.
    pub(crate) fn open(path: &Path, succeeds: bool) -> Result<Self, Failure> {
        let refused = |reason: String| Failure::Control { path: path.display().to_string(), reason };
        check_directory(path).map_err(refused)?;
        if !succeeds && client::answers(path) {
            return Err(refused("another daylily server listens there".to_owned()));
        }
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let new = PathBuf::from(new);
        let (listener, inode) = bind(path, &new).map_err(|error| refused(error.to_string()))?;
        let (sender, requests) = mpsc::channel(MAX_CLIENTS);
        let clients = Arc::new(Semaphore::new(MAX_CLIENTS));
        let accepting = tokio::spawn(accept(listener, sender, Arc::clone(&clients)));
        Ok(Self { path: path.to_owned(), new, inode, requests, clients, accepting })
    }

    /// Opens the configured socket; or, without one, the default socket of the server whose first listening address is
    /// `address`. A default socket that cannot be opened is only a warning, because everything else works without it.
    ///
    /// # Errors
    ///
    /// When the configured one cannot be opened.
    pub(crate) fn of(config: &Config, address: Option<&Address>, succeeds: bool) -> Result<Option<Self>, Failure> {
        if let Some(path) = &config.control {
            return Self::open(path, succeeds).map(Some);
        }
        let Some(address) = address else { return Ok(None) };
        match Self::open(&dirs::control_socket(&address.server_name()), succeeds) {
            Ok(control) => Ok(Some(control)),
            Err(failure) => {
                tracing::warn!(
                    target: log_target::CONTROL,
                    "{failure}; until then, daylily status, reload and stop do not reach this server, signals do"
                );
                Ok(None)
            }
        }
    }

    /// Whether its path still leads to it. It may have been removed by hand, or by a program that cleans /tmp.
    pub(crate) fn is_in_place(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode)
    }

    /// Opens and publishes another socket at the same path.
    ///
    /// # Errors
    ///
    /// As for [`ControlSocket::open`].
    pub(crate) fn recreate(&self) -> Result<Self, Failure> {
        let recreated = Self::open(&self.path, false)?;
        recreated.publish()?;
        Ok(recreated)
    }

    /// Moves it to its path, atomically, in place of another socket there.
    ///
    /// # Errors
    ///
    /// When it cannot be renamed.
    pub(crate) fn publish(&self) -> Result<(), Failure> {
        let refused =
            |error: io::Error| Failure::Control { path: self.path.display().to_string(), reason: error.to_string() };
        fs::rename(&self.new, &self.path).map_err(refused)
    }

    /// Stops accepting, and leaves its path to a successor. Clients that are refused meanwhile try again.
    pub(crate) async fn hand_over(mut self) {
        self.inode = 0;
        self.accepting.abort();
        let _ = (&mut self.accepting).await;
    }

    /// Waits until the replies have been sent, for up to 1 s.
    pub(crate) async fn finish(&self) {
        let all = u32::try_from(MAX_CLIENTS).unwrap_or(u32::MAX);
        let _ = tokio::time::timeout(Duration::from_secs(1), self.clients.acquire_many(all)).await;
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        self.accepting.abort();
        for path in [&self.path, &self.new] {
            if fs::symlink_metadata(path).is_ok_and(|file| file.ino() == self.inode) {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// Binds at a temporary path and sets the mode there, so that the final path never leads to a socket that is not ready.
fn bind(path: &Path, new: &Path) -> io::Result<(UnixListener, u64)> {
    if new.as_os_str().len() > MAX_PATH_BYTES {
        return Err(io::Error::other(format!("the path is longer than {} bytes", MAX_PATH_BYTES - ".new".len())));
    }
    if fs::symlink_metadata(path).is_ok_and(|file| !file.file_type().is_socket()) {
        return Err(io::Error::other("the path exists and is not a socket"));
    }
    let _ = fs::remove_file(new);
    let listener = StdUnixListener::bind(new)?;
    listener.set_nonblocking(true)?;
    fs::set_permissions(new, Permissions::from_mode(0o600))?;
    let inode = fs::symlink_metadata(new)?.ino();
    Ok((UnixListener::from_std(listener)?, inode))
}

/// Checks that no other user can replace the socket in its directory.
fn check_directory(path: &Path) -> Result<(), String> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let stat = fs::metadata(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let (us, mode) = (geteuid().as_raw(), stat.mode() & 0o7777);
    // In a directory with the sticky bit, such as /tmp, other users cannot remove our files.
    let writable = mode & 0o022 != 0 && mode & 0o1000 == 0;
    if stat.uid() != us && stat.uid() != 0 {
        return Err(format!("its directory belongs to user {}, not to user {us}", stat.uid()));
    }
    if writable {
        return Err(format!("others can write to its directory (mode {mode:o}); remove that permission (chmod go-w)"));
    }
    Ok(())
}

async fn accept(listener: UnixListener, requests: mpsc::Sender<Request>, clients: Arc<Semaphore>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let Ok(permit) = Arc::clone(&clients).acquire_owned().await else { return };
                let requests = requests.clone();
                tokio::spawn(async move {
                    if let Err(error) = answer(stream, &requests).await {
                        tracing::debug!(target: log_target::CONTROL, "a command on the control socket failed: {error}");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::error!(target: log_target::CONTROL, "failed to accept on the control socket: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(mut stream: UnixStream, requests: &mpsc::Sender<Request>) -> io::Result<()> {
    let (peer, us) = (stream.peer_cred()?.uid(), geteuid().as_raw());
    if peer != us && peer != 0 {
        tracing::warn!(
            target: log_target::CONTROL,
            "refused user {peer} on the control socket; only user {us} and root may connect"
        );
        let reason = format!("this server belongs to user {us}, and you are user {peer}");
        return send(&mut stream, &Reply::Failed { reason, exit_code: 77 }).await;
    }
    let mut line = String::new();
    let mut reader = BufReader::new((&mut stream).take(MAX_COMMAND_BYTES));
    tokio::time::timeout(COMMAND_TIMEOUT, reader.read_line(&mut line)).await??;
    let reply = match serde_json::from_str(&line) {
        Ok(command) => ask(command, requests).await?,
        Err(error) => Reply::Failed { reason: format!("not a command: {error}"), exit_code: 2 },
    };
    send(&mut stream, &reply).await?;
    if matches!(reply, Reply::Stopped { .. }) {
        // Keeps the connection open until this process has ended, which the client waits for.
        std::mem::forget(stream);
    }
    Ok(())
}

async fn send(stream: &mut UnixStream, reply: &Reply) -> io::Result<()> {
    let mut text = serde_json::to_vec(reply)?;
    text.push(b'\n');
    tokio::time::timeout(ANSWER_TIMEOUT, stream.write_all(&text)).await?
}

async fn ask(command: Command, requests: &mpsc::Sender<Request>) -> io::Result<Reply> {
    let (reply, answer) = oneshot::channel();
    let gone = || io::Error::other("the supervisor is shutting down");
    requests.send(Request { command, reply }).await.map_err(|_| gone())?;
    answer.await.map_err(|_| gone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(path: &Path, succeeds: bool) -> Result<ControlSocket, Failure> {
        let socket = ControlSocket::open(path, succeeds)?;
        socket.publish()?;
        Ok(socket)
    }

    #[tokio::test]
    async fn opens_only_where_no_other_user_can_replace_it() {
        let dir = tempfile::tempdir().expect("a directory");
        for (mode, safe) in [(0o700, true), (0o755, true), (0o1777, true), (0o777, false), (0o770, false)] {
            fs::set_permissions(dir.path(), Permissions::from_mode(mode)).expect("a mode");
            let opened = published(&dir.path().join("control.sock"), false);
            assert_eq!(opened.is_ok(), safe, "{mode:o}");
        }
    }

    #[tokio::test]
    async fn a_socket_that_is_in_use_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("deeper/control.sock");
        let first = published(&path, false).expect("a socket");
        let mode = fs::metadata(&path).expect("the socket").mode() & 0o777;
        assert_eq!(mode, 0o600);
        let refused = published(&path, false).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(refused.contains("another daylily"), "{refused}");
        let successor = published(&path, true).expect("a socket");
        drop(first);
        assert!(path.exists(), "the first one removed its successor's socket");
        drop(ControlSocket::open(&path, true).expect("one that is not published"));
        assert!(path.exists(), "one that was not published removed the socket");
        assert_eq!(fs::read_dir(dir.path().join("deeper")).expect("the directory").count(), 1);
        drop(successor);
        assert!(!path.exists());
        // A socket that a killed server has left behind is replaced.
        drop(StdUnixListener::bind(&path).expect("a socket"));
        assert!(published(&path, false).is_ok());
        fs::write(&path, "something else").expect("a file");
        assert!(published(&path, false).is_err());
        assert!(path.exists(), "a file that is no socket was removed");
    }
}
