//! The attacking clients. Each function runs until the attack is over, and returns the number of attempts.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::http::local;

/// Time-out of reads and writes, after which a client checks whether the attack is over.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Interval between two checks of stalled connections.
const WATCH_EVERY: Duration = Duration::from_millis(200);

/// Delay after a connection that was not accepted.
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// Each client sends `head`, and then `piece` repeatedly.
pub(super) fn stream(port: u16, clients: u32, head: &[u8], piece: &[u8], over: &AtomicBool) -> u64 {
    side_by_side(clients, over, |began| {
        let Some(mut stream) = connect(port) else { return };
        began.fetch_add(1, Ordering::Relaxed);
        let mut is_open = stream.write_all(head).is_ok();
        while is_open && !over.load(Ordering::SeqCst) {
            is_open = stream.write_all(piece).is_ok();
        }
    })
}

/// Each client repeatedly sends `request` and reads the response to its end.
pub(super) fn ask(port: u16, clients: u32, request: &[u8], over: &AtomicBool) -> u64 {
    side_by_side(clients, over, |began| {
        let Some(mut stream) = connect(port) else { return };
        began.fetch_add(1, Ordering::Relaxed);
        let mut buffer = [0; 16 << 10];
        let mut is_open = stream.write_all(request).is_ok();
        while is_open && !over.load(Ordering::SeqCst) {
            is_open = match stream.read(&mut buffer) {
                Ok(read) => read > 0,
                Err(error) => is_slow(&error),
            };
        }
    })
}

/// How long connections are kept.
#[derive(Clone, Copy)]
pub(super) enum Hold {
    /// Until a response arrives.
    UntilAnswered,
    /// Until a response arrives; one byte is sent at this interval.
    Dripping(Duration),
    /// For this time, without reading the response.
    For(Duration),
}

struct Held {
    stream: TcpStream,
    opened: Instant,
    dripped: Instant,
}

/// Keeps `clients` connections open that send `request` and read nothing. One that has ended is replaced.
pub(super) fn hold(port: u16, clients: usize, request: &[u8], how: Hold, over: &AtomicBool) -> u64 {
    let mut began = 0;
    let mut all: Vec<Held> = Vec::with_capacity(clients);
    while !over.load(Ordering::SeqCst) {
        all.retain_mut(|held| held.goes_on(how));
        while all.len() < clients && !over.load(Ordering::SeqCst) {
            let Some(mut stream) = connect(port) else { break };
            if stream.write_all(request).is_ok() && stream.set_nonblocking(true).is_ok() {
                all.push(Held { stream, opened: Instant::now(), dripped: Instant::now() });
                began += 1;
            }
        }
        thread::sleep(WATCH_EVERY);
    }
    began
}

impl Held {
    fn goes_on(&mut self, how: Hold) -> bool {
        match how {
            Hold::UntilAnswered => self.is_silent(),
            Hold::Dripping(every) if self.dripped.elapsed() >= every => {
                self.dripped = Instant::now();
                self.stream.write_all(b"x").is_ok()
            }
            Hold::Dripping(_) => self.is_silent(),
            Hold::For(time) => self.opened.elapsed() < time,
        }
    }

    /// Whether it is open and nothing has arrived.
    fn is_silent(&self) -> bool {
        self.stream.peek(&mut [0]).is_err_and(|error| is_slow(&error))
    }
}

/// Calls `once` repeatedly in `clients` threads, until the attack is over.
fn side_by_side(clients: u32, over: &AtomicBool, once: impl Fn(&AtomicU64) + Sync) -> u64 {
    let began = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    once(&began);
                }
            });
        }
    });
    began.into_inner()
}

fn connect(port: u16) -> Option<TcpStream> {
    let stream = TcpStream::connect_timeout(&local(port), LOOK_EVERY).ok();
    let stream = stream.filter(|stream| {
        stream.set_read_timeout(Some(LOOK_EVERY)).is_ok() && stream.set_write_timeout(Some(LOOK_EVERY)).is_ok()
    });
    if stream.is_none() {
        thread::sleep(RETRY_AFTER);
    }
    stream
}

fn is_slow(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
