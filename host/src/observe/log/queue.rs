//! Log lines on their way to stderr. They wait in memory, up to a number of bytes, until a thread writes them, so that
//! a reader that is slow or stopped neither blocks the event loop nor makes the process grow.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

use crate::sys::lock::lock;

/// Maximum bytes of lines that wait to be written; further lines are dropped and counted.
pub(crate) const MAX_WAITING_BYTES: usize = 4 << 20;

/// Bytes that a waiting line counts in addition to its text: its entry in the queue and its allocation.
const LINE_OVERHEAD_BYTES: usize = 64;

/// Maximum length of a line. Each text in a line is cut where it enters; this catches texts that are not.
const MAX_LINE_BYTES: usize = 64 << 10;

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
    /// Notified when there are lines to write.
    more: Condvar,
    /// Notified when all lines are written.
    done: Condvar,
}

#[derive(Default)]
struct Lines {
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
    dropped: u64,
    /// The writer thread waits for lines.
    is_idle: bool,
    is_closed: bool,
}

/// Dropping it writes the waiting lines, for up to [`LAST_LINES`].
pub(crate) struct Guard(Queue);

/// Starts the thread that writes to `out`. After lines were dropped and there is room again, it calls `say_dropped`
/// with their number; lines that this logs are queued beyond the limit.
///
/// # Errors
///
/// When the thread cannot be started.
pub(crate) fn start(out: impl Write + Send + 'static, say_dropped: fn(u64)) -> io::Result<(Queue, Guard)> {
    let shared = Shared { lines: Mutex::default(), more: Condvar::new(), done: Condvar::new() };
    let queue = Queue(Arc::new(shared));
    let writer = Arc::clone(&queue.0);
    thread::Builder::new().name("log".into()).spawn(move || writer.write(out, say_dropped))?;
    Ok((queue.clone(), Guard(queue)))
}

impl Queue {
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
    fn write(&self, mut out: impl Write, say_dropped: fn(u64)) {
        WRITES.set(true);
        while let Some((line, dropped)) = self.next() {
            if dropped > 0 {
                say_dropped(dropped);
            }
            // A line that cannot be written is lost: there is no other place to report it.
            let _ = out.write_all(&line).and_then(|()| out.flush());
        }
    }

    /// The next line, and the number of dropped lines once there is room again; None at the end.
    fn next(&self) -> Option<(Vec<u8>, u64)> {
        let mut lines = lock(&self.lines);
        loop {
            if let Some(line) = lines.waiting.pop_front() {
                lines.bytes -= line.len() + LINE_OVERHEAD_BYTES;
                // Report only when half of the queue is free, not with every line while more are dropped.
                let goes_on = lines.bytes < MAX_WAITING_BYTES / 2;
                return Some((line, if goes_on { std::mem::take(&mut lines.dropped) } else { 0 }));
            }
            self.done.notify_all();
            if lines.is_closed {
                return None;
            }
            lines.is_idle = true;
            lines = self.more.wait(lines).unwrap_or_else(PoisonError::into_inner);
            lines.is_idle = false;
        }
    }

    fn is_at_work(lines: &mut Lines) -> bool {
        !lines.waiting.is_empty() || !lines.is_idle
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
        let shared = &self.0.0;
        let lines: MutexGuard<'_, Lines> = lock(&shared.lines);
        let waited = shared.done.wait_timeout_while(lines, LAST_LINES, Shared::is_at_work);
        let (mut lines, _) = waited.unwrap_or_else(PoisonError::into_inner);
        lines.is_closed = true;
        shared.more.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A writer that blocks until `go` is sent.
    struct Slow {
        go: mpsc::Receiver<()>,
        is_going: bool,
        written: mpsc::Sender<String>,
    }

    impl Write for Slow {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.is_going = self.is_going || self.go.recv().is_ok();
            let _ = self.written.send(String::from_utf8_lossy(line).into_owned());
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn slow() -> (Queue, Guard, mpsc::Sender<()>, mpsc::Receiver<String>) {
        let (go, gone) = mpsc::channel();
        let (written, lines) = mpsc::channel();
        let slow = Slow { go: gone, is_going: false, written };
        let (queue, guard) = start(slow, |_| {}).expect("a thread");
        (queue, guard, go, lines)
    }

    #[test]
    fn unread_lines_take_no_more_than_the_limit_and_are_counted_when_dropped() {
        let (mut queue, guard, go, lines) = slow();
        let line = vec![b'x'; 10_000];
        for _ in 0..1_000 {
            queue.write_all(&line).expect("it takes everything");
        }
        let (bytes, dropped) = {
            let lines = lock(&queue.0.lines);
            let held: usize = lines.waiting.iter().map(|line| line.capacity() + LINE_OVERHEAD_BYTES).sum();
            assert_eq!(held, lines.bytes);
            (held, lines.dropped)
        };
        assert!(bytes <= MAX_WAITING_BYTES && bytes > MAX_WAITING_BYTES - 20_000, "{bytes} bytes wait");
        go.send(()).expect("the thread");
        drop(guard);
        let written = lines.iter().count() as u64;
        assert_eq!(written + dropped, 1_000, "{written} written, {dropped} dropped");
    }

    /// The writer thread reports the count, once, when there is room again.
    #[test]
    fn the_number_of_dropped_lines_is_said_once() {
        static SAID: Mutex<Vec<u64>> = Mutex::new(Vec::new());
        let (go, gone) = mpsc::channel();
        let (written, lines) = mpsc::channel();
        let slow = Slow { go: gone, is_going: false, written };
        let (mut queue, guard) = start(slow, |lines| lock(&SAID).push(lines)).expect("a thread");
        let line = vec![b'x'; 10_000];
        for _ in 0..1_000 {
            queue.write_all(&line).expect("it takes everything");
        }
        go.send(()).expect("the thread");
        drop(guard);
        let written = lines.iter().count() as u64;
        assert_eq!(*lock(&SAID), [1_000 - written]);
    }

    #[test]
    fn a_line_that_is_too_long_is_cut() {
        let (mut queue, guard, go, lines) = slow();
        go.send(()).expect("the thread");
        queue.write_all(&vec![b'x'; 10 << 20]).expect("it takes everything");
        queue.write_all(b"short\n").expect("it takes everything");
        drop(guard);
        let lines: Vec<String> = lines.iter().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].ends_with("… (10420224 bytes left out)\n") && lines[0].len() < MAX_LINE_BYTES + 50);
        assert_eq!(lines[1], "short\n");
    }
}
