//! Where a log goes: standard output, standard error or a file. The access log and daylily's own log use it.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use daylily_core::config::AccessLogTarget;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Access, FileType, FlockOperation, OFlags, flock, fstat, stat};
use rustix::io::Errno;
use rustix::net::SendFlags;

/// The permissions of a new file: other users may not read paths and addresses.
const FILE_MODE: u32 = 0o640;

/// Checks whether [`open`] would open a file. Creates nothing.
///
/// # Errors
///
/// When it would fail.
pub(crate) fn check(path: &Path) -> io::Result<()> {
    if path.exists() {
        return open(path, true).map(drop);
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok(rustix::fs::access(dir, Access::WRITE_OK | Access::EXEC_OK)?)
}

/// Opens a log file for appending, and creates it if it does not exist. If it ends with an incomplete line, ends that
/// line, unless other processes write to the file as well (`is_shared`).
///
/// # Errors
///
/// When it cannot be opened, or is a directory, a named pipe or a socket.
fn open(path: &Path, is_shared: bool) -> io::Result<File> {
    if let Ok(metadata) = path.metadata() {
        let kind = metadata.file_type();
        if kind.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory"));
        }
        if kind.is_fifo() || kind.is_socket() {
            return Err(io::Error::other("it is a pipe or a socket; redirect stdout or stderr to it instead"));
        }
    }
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(FILE_MODE).open(path)?;
    // A process that was killed may have left the beginning of a line.
    if !is_shared && amid_line(&file).is_some() {
        file.write_all(b"\n")?;
    }
    Ok(file)
}

/// The length of a file that does not end with the end of a line.
fn amid_line(file: &File) -> Option<u64> {
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let mut last = [b'\n'];
    file.read_exact_at(&mut last, length.checked_sub(1)?).ok()?;
    (last != [b'\n']).then_some(length)
}

/// How often is looked whether the path of a log still leads to the file that is written.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How long a write waits for the reader of a pipe.
const WRITE_PATIENCE: Duration = Duration::from_millis(200);

/// Bytes that are written to a pipe at once (POSIX; Linux's `PIPE_BUF`).
const PIPE_BUF: usize = 4096;

/// Writes whole lines.
pub(crate) struct Sink {
    target: AccessLogTarget,
    /// Other processes write to the same file.
    is_shared: bool,
    file: Option<File>,
    /// When the path was last found to lead to the file.
    checked: Option<Instant>,
    /// The pipe that standard output or standard error is, opened once more, so that writing to it does not block.
    pipe: Option<File>,
    /// The rest of a line that was written in part.
    rest: Vec<u8>,
}

impl Sink {
    pub(crate) fn new(target: AccessLogTarget) -> Self {
        Self { target, is_shared: false, file: None, checked: None, pipe: None, rest: Vec::new() }
    }

    /// For a file that other processes write to as well: see [`Self::amid_line_of_others`].
    pub(crate) fn shared(target: AccessLogTarget) -> Self {
        Self { is_shared: true, ..Self::new(target) }
    }

    /// Reopens the file at the next write, in case it has been moved away. The rest of a line belongs to the old one.
    pub(crate) fn reopen(&mut self) {
        if !self.rest.is_empty() {
            let _ = self.write(&[]);
            self.rest.clear();
        }
        self.file = None;
    }

    /// The length of the file, if it ends with a line that another process has begun and not finished: it is being
    /// written just now, or the disk is full and took a part of it, or the process was killed.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened.
    pub(crate) fn amid_line_of_others(&mut self) -> io::Result<Option<u64>> {
        if !self.rest.is_empty() || !matches!(self.target, AccessLogTarget::File(_)) {
            return Ok(None);
        }
        Ok(amid_line(self.file()?))
    }

    /// Ends a line that another process has left unfinished. Returns false if that process lives and will finish it: it
    /// holds the lock of the file.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub(crate) fn end_line_of_others(&mut self) -> io::Result<bool> {
        let file = self.file()?;
        // Without locks, a process that has not finished its line in time is taken to have ended.
        if flock(&*file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            return Ok(false);
        }
        let ended = file.write_all(b"\n");
        let _ = flock(&*file, FlockOperation::Unlock);
        ended.map(|()| true)
    }

    /// Holds the lock of a shared file while the rest of a line is not written.
    fn note_rest(&mut self) {
        let is_done = self.rest.is_empty();
        let operation = if is_done { FlockOperation::Unlock } else { FlockOperation::NonBlockingLockExclusive };
        if let Some(file) = self.file.as_ref().filter(|_| self.is_shared) {
            let _ = flock(file, operation);
        }
    }

    /// Reopens the file if its path leads elsewhere: it was moved away or removed, and no process has said so, as after
    /// an upgrade, when `daylily reopen` reaches the new supervisor only.
    fn follow_path(&mut self) {
        let (AccessLogTarget::File(path), Some(file)) = (&self.target, &self.file) else { return };
        let now = Instant::now();
        if !self.rest.is_empty() || self.checked.is_some_and(|checked| now - checked < CHECK_INTERVAL) {
            return;
        }
        self.checked = Some(now);
        let is_same = match (stat(path), fstat(file)) {
            (Ok(there), Ok(ours)) => (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino),
            (Err(error), _) => error != Errno::NOENT,
            (_, Err(_)) => true,
        };
        if !is_same {
            self.file = None;
        }
    }

    fn file(&mut self) -> io::Result<&mut File> {
        match (&mut self.file, &self.target) {
            (Some(file), _) => Ok(file),
            (none, AccessLogTarget::File(path)) => Ok(none.insert(open(path, self.is_shared)?)),
            (None, _) => Err(io::Error::other("it is no file")),
        }
    }

    /// Writes lines. Returns how many bytes of them are taken care of: all, or, with the error, whole lines and the
    /// beginning of one whose rest is written first next time.
    pub(crate) fn write(&mut self, lines: &[u8]) -> (usize, io::Result<()>) {
        self.follow_path();
        let had_rest = !self.rest.is_empty();
        let written = self.write_lines(lines);
        if had_rest || !self.rest.is_empty() {
            self.note_rest();
        }
        written
    }

    fn write_lines(&mut self, lines: &[u8]) -> (usize, io::Result<()>) {
        let rest = std::mem::take(&mut self.rest);
        let (written, result) = self.write_some(&rest);
        if written < rest.len() {
            self.rest = rest.get(written..).unwrap_or_default().to_vec();
            return (0, result);
        }
        let (written, result) = self.write_some(lines);
        let is_between_lines = written == 0 || lines.get(written - 1) == Some(&b'\n');
        if is_between_lines {
            return (written, result);
        }
        let left = lines.get(written..).unwrap_or_default();
        let end = left.iter().position(|byte| *byte == b'\n').map_or(left.len(), |at| at + 1);
        self.rest = left.get(..end).unwrap_or_default().to_vec();
        (written + end, result)
    }

    fn write_some(&mut self, bytes: &[u8]) -> (usize, io::Result<()>) {
        let mut written = 0;
        while let Some(left) = bytes.get(written..).filter(|left| !left.is_empty()) {
            match self.write_once(left) {
                Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (written, Err(error)),
            }
        }
        (written, Ok(()))
    }

    /// One write(2), past the buffers of the standard library.
    fn write_once(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &self.target {
            AccessLogTarget::Stdout => write_in_time(io::stdout().as_fd(), &mut self.pipe, bytes),
            AccessLogTarget::Stderr => write_in_time(io::stderr().as_fd(), &mut self.pipe, bytes),
            AccessLogTarget::File(_) => self.file()?.write(bytes),
        }
    }
}

/// Writes to a descriptor that other processes have, too, and that must therefore stay blocking. A write to a pipe that is
/// no longer than `PIPE_BUF` is not mixed with those of others (pipe(7)). They may fill it between poll(2) and the
/// write, so a pipe is opened once more, without blocking; to a socket, bytes are sent without blocking.
fn write_in_time(fd: BorrowedFd<'_>, pipe: &mut Option<File>, bytes: &[u8]) -> io::Result<usize> {
    let kind = FileType::from_raw_mode(fstat(fd)?.st_mode);
    if kind == FileType::RegularFile {
        return Ok(rustix::io::write(fd, bytes)?);
    }
    let patience = Timespec { tv_sec: 0, tv_nsec: WRITE_PATIENCE.subsec_nanos().into() };
    if rustix::event::poll(&mut [PollFd::new(&fd, PollFlags::OUT)], Some(&patience))? == 0 {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "no process reads it"));
    }
    let piece = bytes.get(..PIPE_BUF).unwrap_or(bytes);
    let whole = piece.iter().rposition(|byte| *byte == b'\n').map_or(piece.len(), |end| end + 1);
    let piece = piece.get(..whole).unwrap_or(piece);
    let written = match kind {
        FileType::Socket => rustix::net::send(fd, piece, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
        FileType::Fifo => match pipe.take().or_else(|| open_again(fd)) {
            Some(file) => rustix::io::write(&*pipe.insert(file), piece),
            None => rustix::io::write(fd, piece),
        },
        _ => rustix::io::write(fd, piece),
    };
    Ok(written?)
}

/// The same pipe, so that writing does not block.
fn open_again(fd: BorrowedFd<'_>) -> Option<File> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    OpenOptions::new().write(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path).ok()
}

impl fmt::Display for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            AccessLogTarget::Stdout => f.write_str("standard output"),
            AccessLogTarget::Stderr => f.write_str("standard error"),
            AccessLogTarget::File(path) => write!(f, "{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_are_opened() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(open(dir.path(), false).is_err());
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
            .expect("a pipe");
        assert!(open(&pipe, false).expect_err("a pipe").to_string().contains("stdout"));
        let new = dir.path().join("new");
        check(&new).expect("it can be made");
        assert!(!new.exists());
        open(&new, false).expect("a new file");
        check(&new).expect("it is there");
        assert!(check(&dir.path().join("no/file")).is_err());
        open(Path::new("/dev/null"), false).expect("a device");
    }

    /// A pipe that is not read fails in time, and takes whole lines before that.
    #[test]
    fn a_pipe_that_is_not_read_fails_in_time() {
        let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
        let line = [[b'x'; 99].as_slice(), b"\n"].concat();
        let lines = line.repeat(1_000);
        let (mut written, mut pipe) = (0, None);
        let error = loop {
            match write_in_time(writer.as_fd(), &mut pipe, lines.get(written..).expect("more than a pipe holds")) {
                Ok(count) => written += count,
                Err(error) => break error,
            }
        };
        assert_eq!((error.kind(), written % line.len()), (io::ErrorKind::TimedOut, 0));
        drop(reader);
    }

    /// A full disk takes a part of a line: its rest comes first once there is room.
    #[test]
    fn lines_stay_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        let mut sink = Sink::new(AccessLogTarget::File(path.clone()));
        sink.rest = b"st\n".to_vec();
        let (taken, result) = sink.write(b"second\nthird\n");
        assert!(result.is_ok());
        assert_eq!(taken, 13);
        assert_eq!(std::fs::read(&path).expect("the log"), b"st\nsecond\nthird\n");
        sink.reopen();
        std::fs::rename(&path, dir.path().join("log.1")).expect("a new name");
        assert_eq!(sink.write(b"fourth\n").0, 7);
        assert_eq!(std::fs::read(&path).expect("the log"), b"fourth\n");
        // What was left of a line has an end.
        let path = dir.path().join("cut");
        std::fs::write(&path, "beginning").expect("a file");
        let mut sink = Sink::new(AccessLogTarget::File(path.clone()));
        assert!(sink.write(b"line\n").1.is_ok());
        assert_eq!(std::fs::read(&path).expect("the log"), b"beginning\nline\n");
        // `/dev/full` takes nothing.
        let mut sink = Sink::new(AccessLogTarget::File("/dev/full".into()));
        let (taken, result) = sink.write(b"first\n");
        assert_eq!((taken, result.map_err(|error| error.kind())), (0, Err(io::ErrorKind::StorageFull)));
    }
}
