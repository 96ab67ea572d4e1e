//! Where a log goes: standard output, standard error or a file. The access log and daylily's own log use it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use daylily_core::config::LogTo;
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
    // A process that was killed may have left the beginning of a line. One that lives has the lock while it writes, such
    // as the observer of a predecessor.
    if !is_shared && amid_line(&file).is_some() {
        end_line(&mut file)?;
    }
    Ok(file)
}

/// Ends a line that another process has begun. Returns false if that process lives and may finish it.
fn end_line(file: &mut File) -> io::Result<bool> {
    // Without locks, a process that has not finished its line in time is taken to have ended.
    if flock(&*file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
        return Ok(false);
    }
    // It may have been finished meanwhile.
    let ended = if amid_line(file).is_some() { file.write_all(b"\n") } else { Ok(()) };
    let _ = flock(&*file, FlockOperation::Unlock);
    ended.map(|()| true)
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
    target: LogTo,
    /// Other processes write to the same file.
    is_shared: bool,
    file: Option<File>,
    /// When the path was last found to lead to the file.
    checked: Option<Instant>,
    /// The pipe that standard output or standard error is, opened once more, so that writing to it does not block.
    pipe: Option<File>,
    /// A line that was written in part.
    begun: Option<BegunLine>,
}

/// A whole line, of which only the beginning was written.
struct BegunLine {
    line: Vec<u8>,
    written: usize,
}

impl Sink {
    pub(crate) fn new(target: LogTo) -> Self {
        Self { target, is_shared: false, file: None, checked: None, pipe: None, begun: None }
    }

    /// For a file that other processes write to as well: see [`Self::amid_line_of_others`].
    pub(crate) fn shared(target: LogTo) -> Self {
        Self { is_shared: true, ..Self::new(target) }
    }

    /// Writes to another place from now on. A file is reopened at the next write, also if it is the same: it may have been
    /// moved away. A line whose rest the place before does not take is written whole to the next one.
    pub(crate) fn set(&mut self, target: LogTo) {
        if self.begun.is_some() {
            let _ = self.write(&[]);
        }
        if let Some(begun) = &mut self.begun {
            begun.written = 0;
        }
        // Closing the file releases its lock.
        (self.target, self.file) = (target, None);
    }

    /// Whether a line was written in part.
    pub(crate) fn is_amid_line(&self) -> bool {
        self.begun.is_some()
    }

    /// The length of the file, if it ends with a line that another process has begun and not finished: it is being
    /// written just now, or the disk is full and took a part of it, or the process was killed.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened.
    pub(crate) fn amid_line_of_others(&mut self) -> io::Result<Option<u64>> {
        if self.begun.is_some() || !matches!(self.target, LogTo::File(_)) {
            return Ok(None);
        }
        Ok(amid_line(self.file()?))
    }

    /// Ends a line that another process has left unfinished. Returns false if that process lives and may finish it: it
    /// holds the lock of the file.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub(crate) fn end_line_of_others(&mut self) -> io::Result<bool> {
        end_line(self.file()?)
    }

    /// Holds the lock of the file, beside others that write to it, or releases it.
    fn lock(&self, operation: FlockOperation) {
        if let Some(file) = &self.file {
            let _ = flock(file, operation);
        }
    }

    /// Reopens the file if its path leads elsewhere: it was moved away or removed, and no process has said so, as after
    /// an upgrade, when `daylily reopen` reaches the new supervisor only.
    fn follow_path(&mut self) {
        let (LogTo::File(path), Some(file)) = (&self.target, &self.file) else { return };
        let now = Instant::now();
        if self.begun.is_some() || self.checked.is_some_and(|checked| now - checked < CHECK_INTERVAL) {
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
            (none, LogTo::File(path)) => Ok(none.insert(open(path, self.is_shared)?)),
            (None, _) => Err(io::Error::other("it is no file")),
        }
    }

    /// Writes lines. Returns how many bytes of them are taken care of: all, or, with the error, whole lines and the
    /// beginning of one whose rest is written first next time.
    pub(crate) fn write(&mut self, lines: &[u8]) -> (usize, io::Result<()>) {
        self.follow_path();
        let has_more = !lines.is_empty() || self.begun.is_some();
        if has_more && matches!(self.target, LogTo::File(_)) {
            if let Err(error) = self.file() {
                return (0, Err(error));
            }
            // The length of a file may increase page by page, and another process could take a part of these lines for
            // what a process left that was killed.
            self.lock(FlockOperation::NonBlockingLockShared);
        }
        let written = self.write_lines(lines);
        if self.begun.is_none() {
            self.lock(FlockOperation::Unlock);
        }
        written
    }

    fn write_lines(&mut self, lines: &[u8]) -> (usize, io::Result<()>) {
        if let Some(mut begun) = self.begun.take() {
            let (written, result) = self.write_some(begun.line.get(begun.written..).unwrap_or_default());
            begun.written += written;
            if begun.written < begun.line.len() {
                self.begun = Some(begun);
                return (0, result);
            }
        }
        let (written, result) = self.write_some(lines);
        let (whole, left) = lines.split_at_checked(written).unwrap_or((lines, &[]));
        let start = whole.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        if start == written {
            return (written, result);
        }
        let end = written + left.iter().position(|byte| *byte == b'\n').map_or(left.len(), |at| at + 1);
        let line = lines.get(start..end).unwrap_or_default().to_vec();
        self.begun = Some(BegunLine { line, written: written - start });
        (end, result)
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
            LogTo::Stdout => write_in_time(io::stdout().as_fd(), &mut self.pipe, bytes),
            LogTo::Stderr => write_in_time(io::stderr().as_fd(), &mut self.pipe, bytes),
            LogTo::File(_) => self.file()?.write(bytes),
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
        let mut sink = Sink::new(LogTo::File(path.clone()));
        sink.begun = Some(BegunLine { line: b"first\n".to_vec(), written: 3 });
        let (taken, result) = sink.write(b"second\nthird\n");
        assert!(result.is_ok());
        assert_eq!(taken, 13);
        assert_eq!(std::fs::read(&path).expect("the log"), b"st\nsecond\nthird\n");
        std::fs::rename(&path, dir.path().join("log.1")).expect("a new name");
        sink.set(LogTo::File(path.clone()));
        assert_eq!(sink.write(b"fourth\n").0, 7);
        assert_eq!(std::fs::read(&path).expect("the log"), b"fourth\n");
        // What was left of a line has an end.
        let path = dir.path().join("cut");
        std::fs::write(&path, "beginning").expect("a file");
        let mut sink = Sink::new(LogTo::File(path.clone()));
        assert!(sink.write(b"line\n").1.is_ok());
        assert_eq!(std::fs::read(&path).expect("the log"), b"beginning\nline\n");
        // The lock of a process that writes is held for as long as it is in the middle of a line.
        let path = dir.path().join("locked");
        std::fs::write(&path, "beginning").expect("a file");
        let other = File::open(&path).expect("a file");
        flock(&other, FlockOperation::LockShared).expect("a lock");
        let mut sink = Sink::new(LogTo::File(path.clone()));
        assert!(sink.write(b"line\n").1.is_ok());
        assert_eq!(std::fs::read(&path).expect("the log"), b"beginningline\n");
        // `/dev/full` takes nothing.
        let mut sink = Sink::new(LogTo::File("/dev/full".into()));
        let (taken, result) = sink.write(b"first\n");
        assert_eq!((taken, result.map_err(|error| error.kind())), (0, Err(io::ErrorKind::StorageFull)));
    }

    /// A line that the file before took a part of is whole in the next file.
    #[test]
    fn a_line_that_was_begun_moves_on_whole() {
        fn check(before: &str, expected: [&[u8]; 2]) {
            let dir = tempfile::tempdir().expect("a directory");
            let (path, next) = (dir.path().join("log"), dir.path().join("next"));
            std::fs::write(&path, "fi").expect("a file");
            let before = if before.is_empty() { path.clone() } else { before.into() };
            let mut sink = Sink::shared(LogTo::File(before));
            sink.begun = Some(BegunLine { line: b"first\n".to_vec(), written: 2 });
            sink.set(LogTo::File(next.clone()));
            assert!(sink.write(b"second\n").1.is_ok());
            assert_eq!([path, next].map(|path| std::fs::read(path).expect("a log")), expected);
        }
        check("", [b"first\n", b"second\n"]);
        check("/dev/full", [b"fi", b"first\nsecond\n"]);
    }
}
