//! Opens files below a directory, and nothing outside of it.
//!
//! The kernel resolves the whole path (`openat2` with `RESOLVE_BENEATH`), so no link leads out of the directory, also not
//! one that is made at that moment. Where the kernel has no `openat2`, or forbids it, cap-std resolves the path.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use daylily_core::error_response::ErrorResponse;
use daylily_core::excerpt::Excerpt;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;
use tokio::time::timeout;

use super::name::Name;
use crate::wasi::file_threads::RouteFiles;

/// A device is opened without waiting, too, and found not to be a file afterwards.
const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// `RESOLVE_CACHED`: fails instead of waiting for a disk.
const RESOLVE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS).union(ResolveFlags::CACHED);

/// The directory of a route's files, and the threads in which calls are made that may wait for a disk.
pub(super) struct Root {
    dir: Arc<Dir>,
    threads: Arc<RouteFiles>,
    patience: Duration,
}

/// What a name stands for.
pub(super) enum Found {
    File(OpenFile),
    Directory,
    /// Nothing that may be served.
    Nothing,
}

/// A regular file.
pub(super) struct OpenFile {
    pub(super) file: Arc<File>,
    pub(super) length: u64,
    pub(super) modified: SystemTime,
}

/// A call that waited for a disk has failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum SlowError {
    #[error("{0}")]
    Failed(#[from] io::Error),
    #[error("the file system did not answer within {0:?}")]
    TimedOut(Duration),
}

impl Root {
    /// Opens the directory. Calls that wait for a disk fail after `patience`. Blocks.
    ///
    /// # Errors
    ///
    /// When it cannot be opened, or is no directory.
    pub(super) fn open(dir: &Path, threads: Arc<RouteFiles>, patience: Duration) -> io::Result<Self> {
        let dir = Dir::open_ambient_dir(dir, cap_std::ambient_authority())?;
        Ok(Self { dir: Arc::new(dir), threads, patience })
    }

    /// Whether there is a file at a path from the configuration. Blocks.
    pub(super) fn has_file(&self, path: &str) -> bool {
        self.dir.metadata(path).is_ok_and(|found| found.is_file())
    }

    /// Opens what has this name. Cancel safe.
    ///
    /// # Errors
    ///
    /// `Internal` when the system has no descriptors or memory left, or the file system fails or does not answer.
    pub(super) async fn find(&self, name: &Name) -> Result<Found, ErrorResponse> {
        let opened = match openat2(&self.dir, name.path(), FLAGS, Mode::empty(), RESOLVE) {
            Ok(file) => Ok(File::from(file)),
            // It is not in the kernel's cache, or the kernel has no such call.
            Err(Errno::AGAIN | Errno::NOSYS | Errno::INVAL | Errno::PERM) => self.open_slowly(name).await,
            Err(error) => Err(SlowError::Failed(error.into())),
        };
        let found = opened.and_then(|file| Ok(Found::of(file)?));
        found.or_else(|error| match error {
            SlowError::Failed(error) if is_not_there(&error) => Ok(Found::Nothing),
            error => Err(ErrorResponse::Internal {
                detail: Excerpt::display(format_args!("failed to open a file: {error}")),
            }),
        })
    }

    async fn open_slowly(&self, name: &Name) -> Result<File, SlowError> {
        let (dir, path) = (Arc::clone(&self.dir), name.path().to_owned());
        let open = move || {
            let mut options = OpenOptions::new();
            options.read(true).custom_flags((FLAGS - OFlags::RDONLY).bits().cast_signed());
            dir.open_with(path, &options).map(cap_std::fs::File::into_std)
        };
        Ok(slowly(&self.threads, self.patience, open).await??)
    }

    pub(super) fn threads(&self) -> (&Arc<RouteFiles>, Duration) {
        (&self.threads, self.patience)
    }
}

/// Runs a call that may wait for a disk, in one of `threads`.
pub(super) async fn slowly<T: Send + 'static>(
    threads: &Arc<RouteFiles>,
    patience: Duration,
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<T, SlowError> {
    match timeout(patience, threads.run(call)).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(SlowError::TimedOut(patience)),
    }
}

impl Found {
    fn of(file: File) -> io::Result<Self> {
        let status = fstat(file.as_fd())?;
        Ok(match FileType::from_raw_mode(status.st_mode) {
            FileType::RegularFile => Self::File(OpenFile {
                length: u64::try_from(status.st_size).unwrap_or(0),
                modified: modified(&status),
                file: Arc::new(file),
            }),
            FileType::Directory => Self::Directory,
            _ => Self::Nothing,
        })
    }
}

fn modified(status: &rustix::fs::Stat) -> SystemTime {
    let (seconds, nanoseconds) = (status.st_mtime, u32::try_from(status.st_mtime_nsec).unwrap_or(0));
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let epoch = SystemTime::UNIX_EPOCH;
    let second = if seconds < 0 { epoch.checked_sub(whole) } else { epoch.checked_add(whole) };
    second.unwrap_or(epoch) + Duration::from_nanos(nanoseconds.into())
}

/// Whether an error says that there is no such file for clients: none, not reachable, or outside of the directory.
fn is_not_there(error: &io::Error) -> bool {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(error) => matches!(
            error,
            Errno::NOENT
                | Errno::NOTDIR
                | Errno::LOOP
                | Errno::XDEV
                | Errno::ACCESS
                | Errno::NAMETOOLONG
                | Errno::NXIO
                | Errno::NODEV
                | Errno::ILSEQ
        ),
        // cap-std's own error for a path that leads out of the directory.
        None => error.kind() == io::ErrorKind::PermissionDenied,
    }
}
