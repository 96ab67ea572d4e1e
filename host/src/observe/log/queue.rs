//! Log lines on their way out of this process. They wait in memory, up to a number of bytes, until a thread writes them,
//! so that a reader that is slow or stopped, or a full disk, neither blocks the event loop nor makes the process grow.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use daylily_core::config::LogTo;
use tracing_subscriber::fmt::MakeWriter;

use super::out::Output;
use crate::observe::sink::Sink;
use crate::sys::lock::lock;

/// Maximum bytes of lines that wait to be written; further lines are dropped and counted.
pub(crate) const MAX_WAITING_BYTES: usize = 4 << 20;

/// Bytes that a waiting line counts in addition to its text: its entry in the queue and its allocation.
const LINE_OVERHEAD_BYTES: usize = 64;

/// Maximum length of a line. Each text in a line is cut where it enters; this catches texts that are not.
pub(crate) const MAX_LINE_BYTES: usize = 64 << 10;

/// How long waiting lines are written at the end of the process.
const LAST_LINES: Duration = Duration::from_secs(1);

thread_local! {
    /// Whether this is the writer thread.
    static WRITES: Cell<bool> = const { Cell::new(false) };
}

/// The sending side of the queue. Cheap to clone; all clones are one queue.
#[derive(Clone)]
pub(crate) struct Queue(Arc<Shared>);

struct Shared {
    lines: Mutex<Lines>,
    /// Notified when there are lines to write, another place to write them to, or the end.
    more: Condvar,
    /// Notified when all lines are written.
    done: Condvar,
}

#[derive(Default)]
struct Lines {
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
    dropped: u64,
    /// Where lines go from now on.
    to: Option<LogTo>,
    /// The writer thread waits for lines.
    is_idle: bool,
    is_closed: bool,
}

impl Lines {
    /// How many lines would be lost now: those that wait, with the one that is being written, and those dropped that no
    /// line has reported.
    fn lost(&self) -> u64 {
        self.dropped + self.waiting.len() as u64 + u64::from(!self.is_idle)
    }
}

/// Dropping it writes the waiting lines, for up to [`LAST_LINES`]. If that is not enough, standard error is told how many
/// are lost.
pub(crate) struct Guard(Queue);

/// What the writer thread does next.
enum Next {
    /// Writes this line, and before it the number of dropped ones, once there is room again.
    Line(Vec<u8>, u64),
    Place(LogTo),
    End,
}

/// Starts the thread that writes to `out`. After lines were dropped and there is room again, it calls `say_dropped`
/// with their number; lines that this logs are queued beyond the limit.
///
/// # Errors
///
/// When the thread cannot be started.
pub(super) fn start(out: Output, say_dropped: fn(u64)) -> io::Result<(Queue, Guard)> {
    let shared = Shared { lines: Mutex::default(), more: Condvar::new(), done: Condvar::new() };
    let queue = Queue(Arc::new(shared));
    let writer = Arc::clone(&queue.0);
    thread::Builder::new().name("log".into()).spawn(move || writer.write(out, say_dropped))?;
    Ok((queue.clone(), Guard(queue)))
}

impl Queue {
    /// Lines that have not been written yet, and those to come, go there. The file is reopened, also if it is the same.
    pub(super) fn set(&self, to: LogTo) {
        lock(&self.0.lines).to = Some(to);
        self.0.more.notify_one();
    }

    fn push(&self, line: &[u8]) {
        let mut lines = lock(&self.0.lines);
        let cost = line.len().min(MAX_LINE_BYTES) + LINE_OVERHEAD_BYTES;
        if lines.bytes + cost > MAX_WAITING_BYTES && !WRITES.get() {
            lines.dropped = lines.dropped.saturating_add(1);
            return;
        }
        let line = bounded(line);
        lines.bytes += line.len() + LINE_OVERHEAD_BYTES;
        lines.waiting.push_back(line);
        if lines.is_idle {
            self.0.more.notify_one();
        }
    }
}

fn bounded(line: &[u8]) -> Vec<u8> {
    match line.get(..MAX_LINE_BYTES) {
        Some(kept) if kept.len() < line.len() => {
            let left_out = line.len() - kept.len();
            [kept, format!("… ({left_out} bytes left out)\n").as_bytes()].concat()
        }
        _ => line.to_vec(),
    }
}

impl Shared {
    fn write(&self, mut out: Output, say_dropped: fn(u64)) {
        WRITES.set(true);
        loop {
            match self.next() {
                Next::Line(line, dropped) => {
                    if dropped > 0 {
                        say_dropped(dropped);
                    }
                    self.write_line(&mut out, &line);
                }
                Next::Place(to) => out.set(to),
                Next::End => return,
            }
        }
    }

    /// Writes a line. While it cannot be written, it is tried again, until the end.
    fn write_line(&self, out: &mut Output, line: &[u8]) {
        let mut left = line;
        loop {
            left = left.get(out.write(left)..).unwrap_or_default();
            if !out.is_waiting() {
                return;
            }
            let lines = lock(&self.lines);
            let may_wait = |lines: &mut Lines| lines.to.is_none() && !lines.is_closed;
            let waited = self.more.wait_timeout_while(lines, out.delay(), may_wait);
            let (mut lines, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if lines.is_closed {
                return;
            }
            if let Some(to) = lines.to.take() {
                out.set(to);
            }
        }
    }

    fn next(&self) -> Next {
        let mut lines = lock(&self.lines);
        loop {
            if let Some(to) = lines.to.take() {
                return Next::Place(to);
            }
            if let Some(line) = lines.waiting.pop_front() {
                lines.bytes -= line.len() + LINE_OVERHEAD_BYTES;
                // Report only when half of the queue is free, not with every line while more are dropped.
                let goes_on = lines.bytes < MAX_WAITING_BYTES / 2;
                return Next::Line(line, if goes_on { std::mem::take(&mut lines.dropped) } else { 0 });
            }
            self.done.notify_all();
            if lines.is_closed {
                return Next::End;
            }
            lines.is_idle = true;
            lines = self.more.wait(lines).unwrap_or_else(PoisonError::into_inner);
            lines.is_idle = false;
        }
    }

    /// Ends the thread, once the waiting lines are written or have waited for [`LAST_LINES`]. Returns how many are lost.
    fn end(&self) -> u64 {
        let waited = self.done.wait_timeout_while(lock(&self.lines), LAST_LINES, Self::is_at_work);
        let (mut lines, _) = waited.unwrap_or_else(PoisonError::into_inner);
        lines.is_closed = true;
        self.more.notify_one();
        lines.lost()
    }

    fn is_at_work(lines: &mut Lines) -> bool {
        !lines.waiting.is_empty() || !lines.is_idle || lines.to.is_some()
    }
}

impl Write for Queue {
    /// Takes a whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let lost = self.0.0.end();
        if lost > 0 {
            // The log itself cannot be written.
            let (process, why) = (std::process::id(), "they could not be written in time");
            let line = format!("log lines lost at the end of process {process}: {lost}; {why}\n");
            let _ = Sink::new(LogTo::Stderr).write(line.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::net::UnixStream;

    use super::super::out::LogOut;
    use super::*;

    /// A queue, and the other end of what it writes to, which has room for less than 1 MiB.
    fn blocked(say_dropped: fn(u64)) -> (Queue, Guard, UnixStream) {
        let (socket, reader) = UnixStream::pair().expect("a pair");
        let (queue, guard) = start(Output::Observer { socket, then: LogTo::Stderr }, say_dropped).expect("a thread");
        (queue, guard, reader)
    }

    fn lines_until_end(reader: UnixStream) -> Vec<String> {
        BufReader::new(reader).lines().map_while(Result::ok).collect()
    }

    /// Everything that is written while the guard is dropped.
    fn lines(guard: Guard, reader: UnixStream) -> Vec<String> {
        let reading = thread::spawn(move || lines_until_end(reader));
        drop(guard);
        reading.join().expect("a reader")
    }

    fn push_many(queue: &mut Queue) {
        let line = [[b'x'; 9_999].as_slice(), b"\n"].concat();
        for _ in 0..1_000 {
            queue.write_all(&line).expect("it takes everything");
        }
    }

    #[test]
    fn unread_lines_take_no_more_than_the_limit_and_are_counted_when_dropped() {
        let (mut queue, guard, reader) = blocked(|_| {});
        push_many(&mut queue);
        let (bytes, dropped) = {
            let lines = lock(&queue.0.lines);
            let held: usize = lines.waiting.iter().map(|line| line.capacity() + LINE_OVERHEAD_BYTES).sum();
            assert_eq!(held, lines.bytes);
            (held, lines.dropped)
        };
        assert!(bytes <= MAX_WAITING_BYTES && bytes > MAX_WAITING_BYTES - 20_000, "{bytes} bytes wait");
        let written = lines(guard, reader).len() as u64;
        assert_eq!(written + dropped, 1_000, "{written} written, {dropped} dropped");
    }

    #[test]
    fn lines_that_the_end_cuts_off_are_counted() {
        let (mut queue, guard, reader) = blocked(|_| {});
        push_many(&mut queue);
        // Some fit into the socket.
        assert!((900..1_000).contains(&guard.0.0.end()));
        drop((guard, lines_until_end(reader)));
        let (mut queue, guard, reader) = blocked(|_| {});
        let reading = thread::spawn(move || lines_until_end(reader));
        queue.write_all(b"line\n").expect("it takes everything");
        assert_eq!(guard.0.0.end(), 0);
        drop((queue, guard));
        assert_eq!(reading.join().expect("a reader"), ["line"]);
    }

    /// The writer thread reports the count, once, when there is room again.
    #[test]
    fn the_number_of_dropped_lines_is_said_once() {
        static SAID: Mutex<Vec<u64>> = Mutex::new(Vec::new());
        let (mut queue, guard, reader) = blocked(|lines| lock(&SAID).push(lines));
        push_many(&mut queue);
        let written = lines(guard, reader).len() as u64;
        assert_eq!(*lock(&SAID), [1_000 - written]);
    }

    #[test]
    fn a_line_that_is_too_long_is_cut() {
        let (mut queue, guard, reader) = blocked(|_| {});
        queue.write_all(&vec![b'x'; 10 << 20]).expect("it takes everything");
        queue.write_all(b"short\n").expect("it takes everything");
        let lines = lines(guard, reader);
        assert_eq!(lines.len(), 2);
        assert!(lines[0].ends_with("… (10420224 bytes left out)") && lines[0].len() < MAX_LINE_BYTES + 50);
        assert_eq!(lines[1], "short");
    }

    /// Lines that wait for a file that cannot be written go to the next one, and the end does not wait for ever.
    #[test]
    fn lines_that_wait_go_to_another_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        let full = LogOut::new(LogTo::File("/dev/full".into()));
        let (mut queue, guard) = start(Output::Own(full), |_| {}).expect("a thread");
        queue.write_all(b"one\n").expect("it takes everything");
        queue.write_all(b"two\n").expect("it takes everything");
        queue.set(LogTo::File(path.clone()));
        queue.write_all(b"three\n").expect("it takes everything");
        drop(guard);
        assert_eq!(std::fs::read_to_string(&path).expect("the log"), "one\ntwo\nthree\n");
        let full = LogOut::new(LogTo::File("/dev/full".into()));
        let (mut queue, guard) = start(Output::Own(full), |_| {}).expect("a thread");
        queue.write_all(b"one\n").expect("it takes everything");
        drop(guard);
        assert!(lock(&queue.0.lines).is_closed);
    }
}
