//! The files of Unix sockets: made at a start, kept over reloads and upgrades, removed at a stop.
//!
//! Only one server can have a path. Of two that start at the same time, one waits for the other: from checking the path
//! until it listens, each holds a lock (`flock`) on the directory. Otherwise one could take the other's socket for that
//! of a server that has ended.

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rustix::fs::{Access, FlockOperation, access, flock};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with, sockopt};
use serde::{Deserialize, Serialize};

use super::address::Address;
use super::listen::{self, Refused};

/// How long to wait for another server that starts in the same directory, and how often to look.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const LOCK_RETRY: Duration = Duration::from_millis(10);

/// The file of a listening Unix socket. Dropping it removes the file, if it still leads to this socket and belongs to
/// this process.
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Unset until the socket has been bound.
    id: OnceLock<FileId>,
    /// This process removes the file. Set to false when another process serves on the same socket.
    is_ours: AtomicBool,
}

/// Identifies a file as long as it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

/// A socket that is not bound yet. It can be passed to workers: what happens to it later happens to their copies.
///
/// # Errors
///
/// When the system has no descriptors or memory left.
pub(crate) fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// Checks that a socket can be bound to `path`, without changing anything.
///
/// # Errors
///
/// When another server listens there, the path leads to something else than a socket, or the directory does not exist
/// or cannot be written to.
pub(crate) fn check(path: &Path) -> Result<(), Refused> {
    if !cfg!(target_os = "linux") {
        // A response to HTTP/1.0 that was cut would look complete there (net/unix_stream.rs).
        let error = io::Error::new(ErrorKind::Unsupported, "Unix sockets are only supported on Linux");
        return Err(refused(path, error, "listen on an address and a port"));
    }
    let dir = directory(path);
    let unusable = |error: Errno| {
        let error = io::Error::from(error);
        let remedy = match error.kind() {
            ErrorKind::NotFound => "create it; for a service of systemd, RuntimeDirectory= does",
            ErrorKind::PermissionDenied => "give this user permission to read and write it, or choose another path",
            _ => "choose another path",
        };
        let error = io::Error::new(error.kind(), format!("its directory {}: {error}", dir.display()));
        refused(path, error, remedy)
    };
    if fs::metadata(dir).is_ok_and(|dir| !dir.is_dir()) {
        return Err(unusable(Errno::NOTDIR));
    }
    access(dir, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK).map_err(unusable)?;
    left_behind(path).map(drop)
}

impl SocketFile {
    /// For a path at which nothing was bound yet.
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), id: OnceLock::new(), is_ours: AtomicBool::new(true) }
    }

    /// The file of a predecessor, which removes it until [`SocketFile::claim`].
    pub(crate) fn inherited(path: &Path, id: FileId) -> Self {
        Self { path: path.to_owned(), id: OnceLock::from(id), is_ours: AtomicBool::new(false) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// None until the socket has been bound.
    pub(crate) fn id(&self) -> Option<FileId> {
        self.id.get().copied()
    }

    /// Whether the path leads to this socket, or the socket has not been bound yet.
    pub(crate) fn is_in_place(&self) -> bool {
        self.id().is_none_or(|id| fs::symlink_metadata(&self.path).is_ok_and(|file| FileId::of(&file) == id))
    }

    /// Binds `socket` to the path with this mode, and lets the kernel accept connections for it. A socket at the path on
    /// which no process listens is replaced. Does nothing if the socket is bound already. Blocks for up to
    /// [`LOCK_PATIENCE`].
    ///
    /// # Errors
    ///
    /// As for [`check`], and when another process keeps the directory locked.
    pub(crate) fn publish(&self, socket: &OwnedFd, mode: u32) -> Result<(), Refused> {
        if self.id().is_some() {
            return Ok(());
        }
        let failed = |error: io::Error| refused(&self.path, error, "choose another path");
        let _lock = lock(&self.path)?;
        if let Some(left) = left_behind(&self.path)?
            && fs::symlink_metadata(&self.path).is_ok_and(|file| FileId::of(&file) == left)
        {
            fs::remove_file(&self.path).map_err(failed)?;
        }
        let address = SocketAddrUnix::new(&self.path).map_err(io::Error::from).map_err(failed)?;
        rustix::net::bind(socket, &address).map_err(io::Error::from).map_err(failed)?;
        let file = fs::symlink_metadata(&self.path).map_err(failed)?;
        let _ = self.id.set(FileId::of(&file));
        // No client can connect with the mode that the file was made with, because the socket does not listen yet.
        fs::set_permissions(&self.path, Permissions::from_mode(mode)).map_err(failed)?;
        listen::listen(socket).map_err(failed)
    }

    /// Gives the file this mode, if it has another one.
    ///
    /// # Errors
    ///
    /// When the mode cannot be changed.
    pub(crate) fn set_mode(&self, mode: u32) -> Result<(), Refused> {
        let is_set = |file: Metadata| file.mode() & 0o777 == mode;
        if fs::symlink_metadata(&self.path).is_ok_and(is_set) {
            return Ok(());
        }
        let failed = |error| refused(&self.path, error, "remove `?mode=`, or restart daylily as the owner of the file");
        fs::set_permissions(&self.path, Permissions::from_mode(mode)).map_err(failed)
    }

    /// This process serves alone on the socket: it removes the file in the end.
    pub(crate) fn claim(&self) {
        self.is_ours.store(true, Relaxed);
    }

    /// Another process serves on the socket: it removes the file in the end.
    pub(crate) fn release(&self) {
        self.is_ours.store(false, Relaxed);
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // No other daylily replaces the file meanwhile: the socket still listens, so it looks in use.
        if self.is_ours.load(Relaxed) && self.id().is_some() && self.is_in_place() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl FileId {
    fn of(file: &Metadata) -> Self {
        Self { device: file.dev(), inode: file.ino() }
    }
}

/// The socket at `path` that a server has left behind, if there is one.
///
/// # Errors
///
/// When a process listens on it, that cannot be found out, or the path leads to something else.
fn left_behind(path: &Path) -> Result<Option<FileId>, Refused> {
    let file = match fs::symlink_metadata(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refused(path, error, "choose another path")),
    };
    if !file.file_type().is_socket() {
        let error = io::Error::new(ErrorKind::AlreadyExists, "the path exists and is not a socket");
        return Err(refused(path, error, "remove that file, or choose another path"));
    }
    let in_use = |what: &str| {
        let error = io::Error::new(ErrorKind::AddrInUse, what);
        refused(path, error, "stop that server, or choose another path with --listen")
    };
    let system = |error: Errno| refused(path, error.into(), "choose another path");
    let client = socket().map_err(|error| refused(path, error, "raise the limit of open files (ulimit -n)"))?;
    let address = SocketAddrUnix::new(path).map_err(system)?;
    match rustix::net::connect(&client, &address) {
        Err(Errno::CONNREFUSED) => Ok(Some(FileId::of(&file))),
        // The server removed it just now.
        Err(Errno::NOENT) => Ok(None),
        Ok(()) => Err(in_use(&match listener_of(&client) {
            Some(pid) => format!("process {pid} listens there"),
            None => "another server listens there".to_owned(),
        })),
        // Its backlog is full.
        Err(Errno::AGAIN) => Err(in_use("another server listens there")),
        Err(Errno::PROTOTYPE) => Err(in_use("another program has a socket of another type there")),
        Err(error @ (Errno::ACCESS | Errno::PERM)) => {
            let error =
                io::Error::new(ErrorKind::PermissionDenied, format!("a socket is there, {}", io::Error::from(error)));
            Err(refused(path, error, "remove it if no server listens there, or choose another path"))
        }
        Err(error) => Err(system(error)),
    }
}

/// The process that listened first on the socket that `client` is connected to.
#[cfg(target_os = "linux")]
fn listener_of(client: &OwnedFd) -> Option<i32> {
    sockopt::socket_peercred(client).ok().map(|process| process.pid.as_raw_nonzero().get())
}

#[cfg(not(target_os = "linux"))]
fn listener_of(_client: &OwnedFd) -> Option<i32> {
    None
}

/// Locks the directory of `path` until the result is dropped. No file is made for it, so none is left behind.
fn lock(path: &Path) -> Result<File, Refused> {
    let dir = directory(path);
    let failed = |error| refused(path, error, "choose another path");
    let file = File::open(dir).map_err(failed)?;
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < deadline => std::thread::sleep(LOCK_RETRY),
            Err(Errno::WOULDBLOCK) => {
                let error = io::Error::other(format!("another process keeps its directory {} locked", dir.display()));
                return Err(refused(path, error, "end that process, or choose another path"));
            }
            Err(error) => return Err(failed(error.into())),
        }
    }
}

/// The directory of an absolute path.
fn directory(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

fn refused(path: &Path, error: io::Error, remedy: &'static str) -> Refused {
    Refused { at: Some(Address::Unix(path.to_owned())), error, remedy: remedy.into() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use super::*;

    fn open(path: &Path) -> Result<(SocketFile, OwnedFd), String> {
        let said = |refused: Refused| format!("{}; {}", refused.error, refused.remedy);
        check(path).map_err(said)?;
        let (file, socket) = (SocketFile::new(path), socket().expect("a socket"));
        file.publish(&socket, 0o600).map_err(said)?;
        Ok((file, socket))
    }

    #[test]
    fn a_path_belongs_to_one_server() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.sock");
        let (first, socket) = open(&path).expect("a free path");
        assert_eq!(fs::symlink_metadata(&path).expect("a file").mode() & 0o777, 0o600);
        let error = open(&path).err().unwrap_or_default();
        assert!(error.contains(&format!("process {} listens there", std::process::id())), "{error}");
        assert!(UnixStream::connect(&path).is_ok(), "the first one does not listen any more");
        // Left behind, as by a process that was killed.
        first.release();
        drop((first, socket));
        assert!(path.exists());
        let (second, _socket) = open(&path).expect("a path that nothing listens at");
        drop(second);
        assert!(!path.exists(), "it is not removed");
    }

    #[test]
    fn what_is_not_ours_is_never_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.sock");
        let check = |make: &dyn Fn(), part: &str| {
            make();
            let error = open(&path).err().unwrap_or_default();
            assert!(error.contains(part), "{part}: {error}");
            assert!(path.symlink_metadata().is_ok(), "{part}: it was removed");
            let _ = fs::remove_file(&path);
            let _ = fs::remove_dir(&path);
        };
        check(&|| fs::write(&path, "text").expect("a file"), "is not a socket");
        check(&|| fs::create_dir(&path).expect("a directory"), "is not a socket");
        check(&|| std::os::unix::fs::symlink("/nowhere", &path).expect("a link"), "is not a socket");
        let _datagrams = OnceLock::new();
        check(&|| drop(_datagrams.set(UnixDatagram::bind(&path).expect("a socket"))), "socket of another type");

        let (file, _socket) = open(&path).expect("a free path");
        fs::remove_file(&path).expect("the socket");
        assert!(!file.is_in_place());
        let _another = UnixListener::bind(&path).expect("a socket");
        drop(file);
        assert!(path.exists(), "another server's socket was removed");
    }

    #[test]
    fn of_two_that_start_at_once_one_gets_the_path() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.sock");
        for _ in 0..20 {
            drop(UnixListener::bind(&path).expect("a socket that is left behind"));
            let start = std::sync::Barrier::new(4);
            let starts = || {
                start.wait();
                open(&path)
            };
            let opened: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(starts)).collect();
                threads.into_iter().filter_map(|thread| thread.join().expect("a result").ok()).collect()
            });
            assert_eq!(opened.len(), 1);
            assert!(UnixStream::connect(&path).is_ok(), "the one that has the path does not listen there");
        }
    }

    #[test]
    fn a_directory_that_cannot_be_used_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let missing = dir.path().join("missing/a.sock");
        let error = open(&missing).err().unwrap_or_default();
        assert!(error.contains("missing: No such file") && error.contains("RuntimeDirectory="), "{error}");
        let file = dir.path().join("file");
        fs::write(&file, "").expect("a file");
        let error = open(&file.join("a.sock")).err().unwrap_or_default();
        assert!(error.contains("Not a directory"), "{error}");
    }
}
