//! Passes on the lines of daylily's own log: each worker has one end of a socket that it writes its lines to, and a thread
//! of this process reads all of them and writes them to standard error or a file.
//!
//! Bytes are taken out of a socket only when they have been written, so the next observer finds what this one has not
//! written. What cannot be written stays in the sockets, and in the queues of the workers.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use daylily_core::config::LogTo;
use daylily_core::log_target;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::RecvFlags;

use crate::observe::log::out::LogOut;
use crate::observe::log::queue::MAX_LINE_BYTES;
use crate::sys::lock::lock;

/// Bytes that are read from one worker at once: the longest line, and the note that it was cut.
const BATCH_BYTES: usize = 2 * MAX_LINE_BYTES;

/// How long to wait for the end of a line whose beginning is there: its worker is writing it. Each further wait is twice as
/// long, up to the second time, because a worker may be stopped in the middle of a line.
const INCOMPLETE_DELAYS: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(256)];

/// How long the lines of a process that has ended wait for a log that cannot be written.
const ENDED_PATIENCE: Duration = Duration::from_secs(10);

/// The thread. Dropping this lets it run on.
pub(super) struct Relay {
    orders: mpsc::Sender<Order>,
    /// The ids of the processes whose lines are not all written.
    ids: Arc<Mutex<BTreeSet<u64>>>,
    /// Anything that is written to it wakes the thread.
    wake: UnixStream,
    thread: JoinHandle<()>,
}

enum Order {
    /// Reads lines from there, until the other end is closed.
    Source(u64, OwnedFd),
    /// Writes there from now on, after reopening a file.
    Place(LogTo),
    /// Ends when all other ends are closed, and everything is written.
    Finish,
}

impl Relay {
    /// # Errors
    ///
    /// When the thread cannot be started.
    pub(super) fn start(to: LogTo) -> io::Result<Self> {
        let (orders, received) = mpsc::channel();
        let ids: Arc<Mutex<BTreeSet<u64>>> = Arc::default();
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let thread = Thread {
            orders: received,
            ids: Arc::clone(&ids),
            woken,
            out: LogOut::new(to),
            sources: Vec::new(),
            is_finishing: false,
            incomplete_delay: Duration::ZERO,
            dropped: 0,
            batch: vec![0; BATCH_BYTES + 1],
        };
        let thread = std::thread::Builder::new().name("relay".into()).spawn(move || thread.run())?;
        Ok(Self { orders, ids, wake, thread })
    }

    /// Reads lines from a socket until its other end is closed.
    pub(super) fn add(&self, id: u64, source: OwnedFd) {
        lock(&self.ids).insert(id);
        self.order(Order::Source(id, source));
    }

    /// Whether there may be lines of a process that are not written.
    pub(super) fn has(&self, id: u64) -> bool {
        lock(&self.ids).contains(&id)
    }

    pub(super) fn set(&self, to: LogTo) {
        self.order(Order::Place(to));
    }

    /// Waits until all processes that write lines have ended, and everything is written.
    pub(super) fn finish(self) {
        self.order(Order::Finish);
        let _ = self.thread.join();
    }

    fn order(&self, order: Order) {
        let _ = self.orders.send(order);
        // Ignore errors: if there is no room, the thread is about to wake up.
        let _ = (&self.wake).write(&[0]);
    }
}

struct Thread {
    orders: mpsc::Receiver<Order>,
    ids: Arc<Mutex<BTreeSet<u64>>>,
    woken: UnixStream,
    out: LogOut,
    sources: Vec<Source>,
    is_finishing: bool,
    /// How long the last wait for the end of a line was.
    incomplete_delay: Duration,
    /// Lines of processes that have ended, and that could not be written in time.
    dropped: u64,
    /// Room for lines, and for the end of one that has none.
    batch: Vec<u8>,
}

/// The lines of one process.
struct Source {
    id: u64,
    socket: OwnedFd,
    /// When the other end was found to be closed: no more comes.
    ended: Option<Instant>,
    /// The other end is in the middle of a line.
    is_incomplete: bool,
    is_done: bool,
}

impl Thread {
    fn run(mut self) {
        while !(self.is_finishing && self.sources.is_empty() && !self.out.is_waiting()) {
            if let Err(error) = self.wait() {
                // The kernel is out of memory: try again later.
                tracing::error!(target: log_target::LOG, "failed to wait for log lines: {error}");
                std::thread::sleep(self.out.delay());
            }
            self.take_orders();
            self.pass_on();
            for source in self.sources.extract_if(.., |source| source.is_done) {
                lock(&self.ids).remove(&source.id);
            }
        }
    }

    /// Waits for lines, or, while they cannot be written, until it is time to try again; in both cases also for orders.
    fn wait(&mut self) -> io::Result<()> {
        let is_waiting = self.out.is_waiting();
        let is_incomplete = self.sources.iter().any(|source| source.is_incomplete);
        let [shortest, longest] = INCOMPLETE_DELAYS;
        self.incomplete_delay =
            if is_incomplete { (2 * self.incomplete_delay).clamp(shortest, longest) } else { Duration::ZERO };
        let limit = if is_waiting { Some(self.out.delay()) } else { is_incomplete.then_some(self.incomplete_delay) };
        let mut waits = vec![PollFd::new(&self.woken, PollFlags::IN)];
        if !is_waiting {
            let complete = self.sources.iter().filter(|source| !source.is_incomplete);
            waits.extend(complete.map(|source| PollFd::new(&source.socket, PollFlags::IN)));
        }
        poll(&mut waits, limit)?;
        drop(waits);
        if is_waiting || is_incomplete {
            self.look_for_ends()?;
        }
        Ok(())
    }

    /// Finds out which processes have ended.
    fn look_for_ends(&mut self) -> io::Result<()> {
        let mut ends: Vec<_> =
            self.sources.iter().map(|source| PollFd::new(&source.socket, PollFlags::empty())).collect();
        poll(&mut ends, Some(Duration::ZERO))?;
        let have_ended: Vec<bool> = ends.iter().map(|end| end.revents().contains(PollFlags::HUP)).collect();
        for (source, _) in self.sources.iter_mut().zip(have_ended).filter(|(_, has_ended)| *has_ended) {
            source.ended.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    fn take_orders(&mut self) {
        while self.woken.read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
        loop {
            match self.orders.try_recv() {
                Ok(Order::Source(id, socket)) => {
                    self.sources.push(Source { id, socket, ended: None, is_incomplete: false, is_done: false });
                }
                Ok(Order::Place(to)) => self.out.set(to),
                Ok(Order::Finish) => self.is_finishing = true,
                Err(_) => return,
            }
        }
    }

    /// Writes one batch of each process, or as much as can be written.
    fn pass_on(&mut self) {
        if self.out.is_waiting() {
            // The rest of a line.
            self.out.write(&[]);
        }
        // Another one is first each time, so that one that never ends writing does not keep the others waiting.
        let turn = 1.min(self.sources.len());
        self.sources.rotate_left(turn);
        for source in &mut self.sources {
            let Some(length) = source.peek(&mut self.batch) else { continue };
            let has_end = length.checked_sub(1).and_then(|last| self.batch.get(last)) == Some(&b'\n');
            if !has_end && let Some(end) = self.batch.get_mut(length) {
                *end = b'\n';
            }
            let lines = self.batch.get(..length + usize::from(!has_end)).unwrap_or_default();
            let mut taken = self.out.write(lines).min(length);
            let gives_up = source.ended.is_some_and(|ended| ended.elapsed() >= ENDED_PATIENCE);
            if gives_up && taken < length {
                self.dropped += memchr::memchr_iter(b'\n', lines.get(taken..).unwrap_or_default()).count() as u64;
                taken = length;
            }
            source.take(taken, &mut self.batch);
            if self.out.is_waiting() && !gives_up {
                break;
            }
        }
        if self.dropped > 0 && !self.out.is_waiting() {
            let dropped = std::mem::take(&mut self.dropped);
            tracing::warn!(
                target: log_target::LOG,
                "log lines of ended processes dropped: {dropped}; the log could not be written"
            );
        }
    }
}

impl Source {
    /// Reads whole lines and leaves them in the socket. Returns their length, if there are any; the last line has no end
    /// if it will never have one.
    fn peek(&mut self, batch: &mut [u8]) -> Option<usize> {
        let room = batch.get_mut(..BATCH_BYTES)?;
        let read = match rustix::net::recv(&self.socket, room, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((read, _)) => read,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return None,
            Err(_) => 0,
        };
        self.is_incomplete = false;
        if read == 0 {
            self.is_done = true;
            return None;
        }
        match memchr::memrchr(b'\n', batch.get(..read)?) {
            Some(end) => Some(end + 1),
            None if read == BATCH_BYTES || self.ended.is_some() => Some(read),
            None => {
                self.is_incomplete = true;
                None
            }
        }
    }

    /// Takes bytes that [`Self::peek`] has read out of the socket.
    fn take(&self, mut count: usize, batch: &mut [u8]) {
        while let Some(room) = batch.get_mut(..count).filter(|room| !room.is_empty()) {
            match rustix::net::recv(&self.socket, room, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return,
                Ok((taken, _)) => count = count.saturating_sub(taken),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}

fn poll(waits: &mut [PollFd<'_>], limit: Option<Duration>) -> io::Result<()> {
    let limit = limit.map(|limit| Timespec { tv_sec: 0, tv_nsec: limit.subsec_nanos().into() });
    match rustix::event::poll(waits, limit.as_ref()) {
        Err(error) if error != rustix::io::Errno::INTR => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;

    fn log() -> (TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        (dir, path)
    }

    #[test]
    fn lines_of_several_processes_stay_whole_and_in_order() {
        const LINES: usize = 2_000;
        let (_dir, path) = log();
        let relay = Relay::start(LogTo::File(path.clone())).expect("a thread");
        let writers = ["a", "b", "c"].map(|name| {
            let (mut socket, source) = UnixStream::pair().expect("a pair");
            relay.add(1, source.into());
            std::thread::spawn(move || {
                for number in 0..LINES {
                    let line = format!("{name} {number} {}.\n", "x".repeat(number * 7 % 300));
                    // In two pieces, so that the other end finds half a line.
                    let (begin, end) = line.split_at(line.len() * (number % 5) / 5);
                    socket
                        .write_all(begin.as_bytes())
                        .and_then(|()| socket.write_all(end.as_bytes()))
                        .expect("a reader");
                }
            })
        });
        writers.into_iter().for_each(|writer| writer.join().expect("a writer"));
        relay.finish();
        let text = fs::read_to_string(&path).expect("the log");
        for name in ["a", "b", "c"] {
            let of = text.lines().filter_map(|line| line.strip_prefix(name)?.trim_start().strip_suffix('.'));
            let numbers: Vec<usize> =
                of.map(|rest| rest.split(' ').next().expect("a word").parse().expect("a number")).collect();
            assert_eq!(numbers, (0..LINES).collect::<Vec<_>>(), "{name}");
        }
        assert_eq!(text.lines().count(), 3 * LINES);
    }

    /// What a process has written before it ended.
    #[test]
    fn every_line_gets_an_end() {
        fn check(written: &[u8], expected: &[u8]) {
            let (_dir, path) = log();
            let relay = Relay::start(LogTo::File(path.clone())).expect("a thread");
            let (mut socket, source) = UnixStream::pair().expect("a pair");
            relay.add(2, source.into());
            socket.write_all(written).expect("a reader");
            drop(socket);
            relay.finish();
            assert_eq!(fs::read(&path).unwrap_or_default(), expected);
        }
        check(b"", b"");
        check(b"one\n", b"one\n");
        check(b"one\ntwo", b"one\ntwo\n");
        check(b"begun", b"begun\n");
        let huge = vec![b'x'; 3 * BATCH_BYTES / 2];
        let (first, second) = huge.split_at(BATCH_BYTES);
        check(&huge, &[first, b"\n", second, b"\n"].concat());
    }

    /// What cannot be written stays in the socket, where the next observer finds it.
    #[test]
    fn lines_that_were_not_written_are_left_for_the_next() {
        let (_dir, path) = log();
        let (mut socket, source) = UnixStream::pair().expect("a pair");
        let full = Relay::start(LogTo::File("/dev/full".into())).expect("a thread");
        full.add(3, source.try_clone().expect("a descriptor").into());
        socket.write_all(b"one\ntwo\n").expect("a reader");
        // It has tried once when it has read the next order, and then it waits.
        full.set(LogTo::File("/dev/full".into()));
        let next = Relay::start(LogTo::File(path.clone())).expect("a thread");
        next.add(4, source.into());
        socket.write_all(b"three\n").expect("a reader");
        drop(socket);
        next.finish();
        assert_eq!(fs::read_to_string(&path).expect("the log"), "one\ntwo\nthree\n");
        full.finish();
    }

    #[test]
    fn lines_wait_until_there_is_a_file_that_takes_them() {
        let (_dir, path) = log();
        let (mut socket, source) = UnixStream::pair().expect("a pair");
        let relay = Relay::start(LogTo::File("/dev/full".into())).expect("a thread");
        relay.add(5, source.into());
        socket.write_all(b"one\n").expect("a reader");
        relay.set(LogTo::File(path.clone()));
        socket.write_all(b"two\n").expect("a reader");
        drop(socket);
        relay.finish();
        assert_eq!(fs::read_to_string(&path).expect("the log"), "one\ntwo\n");
    }
}
