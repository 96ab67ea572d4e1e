//! Where a process writes lines of the log: standard error or a file, or the observer, which writes them there.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use daylily_core::config::LogTo;

use crate::observe::sink::Sink;

/// How long to wait before lines are written again that could not be written.
const RETRY_DELAY: Duration = Duration::from_millis(200);

/// The same, while another process is in the middle of a line.
const AMID_LINE_DELAY: Duration = Duration::from_millis(5);

/// How long another process may take to finish a line. Afterwards it has ended, unless it holds the lock of the file, and
/// the line stays as it is. It is longer than [`RETRY_DELAY`], after which a process that lives tries again.
const AMID_LINE_PATIENCE: Duration = Duration::from_secs(1);

/// Standard error or a file. Several processes write to it, each of them whole lines.
pub(crate) struct LogOut {
    to: LogTo,
    sink: Sink,
    /// The last call has left something to be written later.
    is_waiting: bool,
    /// Standard error has been told that the file cannot be written.
    has_reported: bool,
    /// The length of the file that ends in the middle of another process's line, and since when.
    amid_line: Option<(u64, Instant)>,
}

impl LogOut {
    pub(crate) fn new(to: LogTo) -> Self {
        let sink = Sink::shared(to.clone());
        Self { to, sink, is_waiting: false, has_reported: false, amid_line: None }
    }

    /// Writes to another place from now on; a file is reopened, also if it is the same.
    pub(crate) fn set(&mut self, to: LogTo) {
        self.sink.set(to.clone());
        self.to = to;
        // The sink may have a line that is to be written again.
        (self.is_waiting, self.has_reported, self.amid_line) = (self.sink.is_amid_line(), false, None);
    }

    /// Writes lines. Returns how many bytes of them are taken care of: written, lost because there is no standard error,
    /// or kept to be written with the next call.
    pub(crate) fn write(&mut self, lines: &[u8]) -> usize {
        let (taken, result) = match self.end_line_of_others() {
            Ok(true) => self.sink.write(lines),
            Ok(false) => {
                self.is_waiting = true;
                return 0;
            }
            Err(error) => (0, Err(error)),
        };
        match result {
            Ok(()) => {
                self.is_waiting = false;
                self.has_reported &= lines.is_empty();
                taken
            }
            // There is no other place to report that standard error is closed, or its reader has ended.
            Err(error) if self.to == LogTo::Stderr && !may_pass(&error) => {
                self.is_waiting = false;
                lines.len()
            }
            Err(error) => {
                self.is_waiting = true;
                self.report(&error);
                taken
            }
        }
    }

    /// Whether the last call has left lines, or the rest of one, that are to be written later.
    pub(crate) fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    /// When to try again.
    pub(crate) fn delay(&self) -> Duration {
        let is_patient = |(_, since): &(u64, Instant)| since.elapsed() < AMID_LINE_PATIENCE;
        if self.amid_line.as_ref().is_some_and(is_patient) { AMID_LINE_DELAY } else { RETRY_DELAY }
    }

    /// Waits, across calls, until other processes have finished their lines. Returns whether they have, or never will.
    fn end_line_of_others(&mut self) -> io::Result<bool> {
        let Some(length) = self.sink.amid_line_of_others()? else {
            self.amid_line = None;
            return Ok(true);
        };
        match self.amid_line {
            Some((before, since)) if before == length => {
                if since.elapsed() < AMID_LINE_PATIENCE || !self.sink.end_line_of_others()? {
                    return Ok(false);
                }
                self.amid_line = None;
                Ok(true)
            }
            _ => {
                self.amid_line = Some((length, Instant::now()));
                Ok(false)
            }
        }
    }

    /// Says on standard error, once, that the file cannot be written.
    fn report(&mut self, error: &io::Error) {
        if self.to == LogTo::Stderr || std::mem::replace(&mut self.has_reported, true) {
            return;
        }
        let line =
            format!("failed to write the log to {}: {error}; lines wait for as long as there is room\n", self.to);
        let _ = Sink::new(LogTo::Stderr).write(line.as_bytes());
    }
}

/// Whether standard error can be written to after such an error: the disk has room again, or the reader goes on.
fn may_pass(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(error.kind(), K::TimedOut | K::WouldBlock | K::StorageFull | K::QuotaExceeded | K::FileTooLarge)
}

/// What a process writes its own lines to.
pub(super) enum Output {
    Own(LogOut),
    /// The observer reads them from the other end. If no process has that, `then` is where they go.
    Observer {
        socket: UnixStream,
        then: LogTo,
    },
}

impl Output {
    /// As [`LogOut::write`]. Blocks while the observer does not read.
    pub(super) fn write(&mut self, lines: &[u8]) -> usize {
        if let Self::Observer { socket, then } = self {
            if (&*socket).write_all(lines).is_ok() {
                return lines.len();
            }
            // The supervisor keeps the other end for as long as it lives, so it and the observer have ended.
            *self = Self::Own(LogOut::new(then.clone()));
        }
        match self {
            Self::Own(out) => out.write(lines),
            Self::Observer { .. } => 0,
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self, Self::Own(out) if out.is_waiting())
    }

    pub(super) fn delay(&self) -> Duration {
        if let Self::Own(out) = self { out.delay() } else { RETRY_DELAY }
    }

    pub(super) fn set(&mut self, to: LogTo) {
        match self {
            Self::Own(out) => out.set(to),
            Self::Observer { then, .. } => *then = to,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Writes all lines, as the threads do that call [`LogOut::write`].
    fn write(out: &mut LogOut, mut lines: &[u8]) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            lines = &lines[out.write(lines)..];
            if !out.is_waiting() {
                assert!(lines.is_empty());
                return;
            }
            assert!(Instant::now() < deadline);
            std::thread::sleep(out.delay());
        }
    }

    #[test]
    fn a_line_that_another_process_began_has_an_end() {
        fn check(before: &[u8], then: &[u8], expected: &[u8]) {
            let dir = tempfile::tempdir().expect("a directory");
            let path = dir.path().join("log");
            fs::write(&path, before).expect("a file");
            let mut out = LogOut::new(LogTo::File(path.clone()));
            if !then.is_empty() {
                assert_eq!((out.write(b"line\n"), out.is_waiting()), (0, true), "it waits for the other process");
                fs::write(&path, [before, then].concat()).expect("a file");
            }
            write(&mut out, b"line\n");
            assert_eq!(fs::read(&path).expect("the log"), expected);
        }
        check(b"", b"", b"line\n");
        check(b"one\n", b"", b"one\nline\n");
        check(b"begun", b"", b"begun\nline\n");
        check(b"begun", b" and finished\n", b"begun and finished\nline\n");
    }

    /// What cannot be written waits, and a file can be reopened meanwhile.
    #[test]
    fn lines_wait_for_a_file_that_takes_them() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        std::os::unix::fs::symlink("/dev/full", &path).expect("a link");
        let mut out = LogOut::new(LogTo::File(path.clone()));
        assert_eq!((out.write(b"line\n"), out.is_waiting()), (0, true));
        fs::remove_file(&path).expect("a link");
        assert_eq!((out.write(b"line\n"), out.is_waiting()), (0, true), "it has the old file");
        out.set(LogTo::File(path.clone()));
        write(&mut out, b"line\n");
        assert_eq!(fs::read(&path).expect("the log"), b"line\n");
        let other = dir.path().join("other");
        out.set(LogTo::File(other.clone()));
        write(&mut out, b"next\n");
        assert_eq!(fs::read(&other).expect("the log"), b"next\n");
    }

    #[test]
    fn without_an_observer_lines_are_written_by_the_process_itself() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        let (socket, observer) = UnixStream::pair().expect("a pair");
        let mut output = Output::Observer { socket, then: LogTo::File(path.clone()) };
        assert_eq!(output.write(b"one\n"), 4);
        drop(observer);
        assert_eq!(output.write(b"two\n"), 4);
        assert_eq!(fs::read(&path).expect("the log"), b"two\n");
    }
}
