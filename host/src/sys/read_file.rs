//! Reads files that users provide. Each has a type, a size limit and a time limit, so that a named pipe, an endless
//! device or a file system that does not respond is an error and does not block.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use daylily_core::units::{format_duration, format_size};
use rustix::fs::{FileType, Mode, OFlags};

/// Maximum size of a configuration file.
pub(crate) const MAX_CONFIG_BYTES: u64 = 4 << 20;

/// Maximum size of a component.
pub(crate) const MAX_COMPONENT_BYTES: u64 = 512 << 20;

/// Maximum size of the file of trusted certificates that `SSL_CERT_FILE` names.
pub(crate) const MAX_CERTIFICATES_BYTES: u64 = 16 << 20;

/// Maximum size of the file with the token of the admin listener. A token has to fit into the head of a request.
pub(crate) const MAX_TOKEN_BYTES: u64 = 4 << 10;

/// Maximum time to read one file. Only a network file system needs more than a moment.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// Maximum number of threads that wait for a file system, which may never respond.
const MAX_BLOCKED: usize = 16;

/// The number of these threads.
static BLOCKED: AtomicUsize = AtomicUsize::new(0);

/// Reads a whole regular file. Blocks for [`TIME_LIMIT`] at most.
///
/// # Errors
///
/// When it cannot be opened or read, is not a regular file, is larger than `max_bytes` or takes too long.
pub(crate) fn read_file(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let path = path.to_owned();
    within(TIME_LIMIT, &BLOCKED, move || {
        let (file, size) = open(&path, max_bytes)?;
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        // The file may have grown since it was opened.
        file.take(max_bytes + 1).read_to_end(&mut bytes)?;
        within_limit(bytes.len() as u64, max_bytes)?;
        Ok(bytes)
    })
}

/// Reads a whole regular file of text. Blocks as [`read_file`] does.
///
/// # Errors
///
/// As [`read_file`], and when it is not valid UTF-8.
pub(crate) fn read_text(path: &Path, max_bytes: u64) -> io::Result<String> {
    let bytes = read_file(path, max_bytes)?;
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not valid UTF-8"))
}

/// Checks what [`read_file`] checks before it reads: for files that a library reads.
///
/// # Errors
///
/// As [`read_file`].
pub(crate) fn check_file(path: &Path, max_bytes: u64) -> io::Result<()> {
    let path = path.to_owned();
    within(TIME_LIMIT, &BLOCKED, move || open(&path, max_bytes).map(drop))
}

/// Opens a regular file and returns its size. Opening a named pipe or a device never blocks.
fn open(path: &Path, max_bytes: u64) -> io::Result<(File, u64)> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        // open(2) fails with this for a socket.
        Err(rustix::io::Errno::NXIO) => return Err(not_regular(FileType::Socket)),
        // And with this for a regular file with a lease, which its holder is about to release.
        Err(rustix::io::Errno::AGAIN) => rustix::fs::open(path, flags - OFlags::NONBLOCK, Mode::empty())?,
        opened => opened?,
    };
    let stat = rustix::fs::fstat(&file)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind != FileType::RegularFile {
        return Err(not_regular(kind));
    }
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    within_limit(size, max_bytes)?;
    Ok((File::from(file), size))
}

fn within_limit(bytes: u64, max_bytes: u64) -> io::Result<()> {
    if bytes <= max_bytes {
        return Ok(());
    }
    Err(io::Error::other(format!("it is larger than {}", format_size(max_bytes))))
}

fn not_regular(kind: FileType) -> io::Error {
    let kind = match kind {
        FileType::Directory => "a directory",
        FileType::Fifo => "a named pipe (FIFO)",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        _ => "something else",
    };
    io::Error::other(format!("it is {kind}, not a regular file"))
}

/// Runs `work` in a thread and returns its result, if it ends within `limit`. Otherwise the thread is abandoned: a
/// system call that does not return cannot be cancelled.
fn within<T: Send + 'static>(
    limit: Duration,
    blocked: &'static AtomicUsize,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let place = BlockedThread::take(blocked)?;
    let (sender, receiver) = sync_channel(1);
    std::thread::Builder::new().name("read-file".into()).spawn(move || {
        let outcome = work();
        drop(place);
        let _ = sender.send(outcome);
    })?;
    match receiver.recv_timeout(limit) {
        Ok(outcome) => outcome,
        Err(RecvTimeoutError::Timeout) => {
            let reason = format!("its file system did not respond for {}", format_duration(limit));
            Err(io::Error::new(io::ErrorKind::TimedOut, reason))
        }
        Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("the thread that read it ended")),
    }
}

/// The right to run one of these threads, given back on drop.
struct BlockedThread(&'static AtomicUsize);

impl BlockedThread {
    fn take(count: &'static AtomicUsize) -> io::Result<Self> {
        let place = Self(count);
        if count.fetch_add(1, Relaxed) < MAX_BLOCKED {
            return Ok(place);
        }
        Err(io::Error::other(format!("{MAX_BLOCKED} other files are still being read")))
    }
}

impl Drop for BlockedThread {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn reads_regular_files_up_to_the_limit() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("file"), b"12345").expect("a file");
        std::os::unix::fs::symlink("file", path("link")).expect("a link");
        rustix::fs::mknodat(rustix::fs::CWD, path("fifo"), FileType::Fifo, Mode::RUSR, 0).expect("a FIFO");
        let _socket = UnixListener::bind(path("socket")).expect("a socket");
        let check = |path: PathBuf, max_bytes, expected: Result<&[u8], &str>| {
            let seen = read_file(&path, max_bytes).map_err(|error| error.to_string());
            match (&seen, expected) {
                (Err(seen), Err(expected)) => assert!(seen.contains(expected), "{path:?}: {seen}"),
                _ => assert_eq!(seen.as_deref().ok(), expected.ok(), "{path:?}: {seen:?}"),
            }
            assert_eq!(check_file(&path, max_bytes).is_ok(), expected.is_ok(), "{path:?}");
        };
        check(path("file"), 5, Ok(b"12345"));
        check(path("link"), 5, Ok(b"12345"));
        check(path("file"), 4, Err("it is larger than 4"));
        check(path("none"), 5, Err("No such file"));
        check(path(""), 5, Err("it is a directory, not a regular file"));
        check(path("fifo"), 5, Err("it is a named pipe (FIFO)"));
        check(path("socket"), 5, Err("it is a socket"));
        check("/dev/zero".into(), 5, Err("it is a device"));
        // Its size is reported as 0.
        check("/proc/version".into(), 1 << 20, Ok(&std::fs::read("/proc/version").expect("a file")));
    }

    #[test]
    fn work_that_does_not_end_is_left_and_counted() {
        static OTHERS: AtomicUsize = AtomicUsize::new(0);
        let limit = Duration::from_millis(10);
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let ended = std::sync::Arc::new(std::sync::Mutex::new(ended));
        let mut errors = Vec::new();
        for _ in 0..=MAX_BLOCKED {
            let ended = std::sync::Arc::clone(&ended);
            let work = move || {
                let _ = crate::sys::lock::lock(&ended).recv();
                Ok(())
            };
            errors.push(within(limit, &OTHERS, work).expect_err("it does not end").to_string());
        }
        assert_eq!(errors.first().map(String::as_str), Some("its file system did not respond for 10ms"));
        assert_eq!(errors.last().map(String::as_str), Some("16 other files are still being read"));
        drop(end);
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while within(Duration::from_secs(10), &OTHERS, || Ok(())).is_err() {
            assert!(std::time::Instant::now() < deadline, "the places are not given back");
        }
    }
}
