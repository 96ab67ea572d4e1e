//! The thread that writes the access log. A write(2) may not return, on a disk that hangs or to a terminal that is
//! stopped: then the log is late, and the rest of the observer goes on.

use std::io;
use std::sync::mpsc;
use std::time::Duration;

use daylily_core::config::LogTo;

use crate::observe::sink::Sink;

/// How long to wait for a write before it counts as one that failed. It may still return later.
const PATIENCE: Duration = Duration::from_millis(200);

/// The thread. Dropping this ends it after the write that it is in.
pub(super) struct Writing {
    orders: mpsc::Sender<Order>,
    written: mpsc::Receiver<(Vec<u8>, io::Result<()>)>,
    /// The thread has lines, and has not said what became of them.
    is_busy: bool,
}

enum Order {
    /// Writes these lines, and says which of them are left.
    Lines(Vec<u8>),
    /// Writes there from now on; a file is reopened, also if it is the same.
    Place(LogTo),
}

impl Writing {
    /// # Errors
    ///
    /// When the thread cannot be started.
    pub(super) fn start(sink: Sink) -> io::Result<Self> {
        let (orders, received) = mpsc::channel();
        let (sender, written) = mpsc::channel();
        std::thread::Builder::new().name("access log".into()).spawn(move || run(sink, &received, &sender))?;
        Ok(Self { orders, written, is_busy: false })
    }

    /// Whether lines are being written since a call of [`Self::write`] that did not wait for their end.
    pub(super) fn is_busy(&self) -> bool {
        self.is_busy
    }

    pub(super) fn set(&self, to: LogTo) {
        let _ = self.orders.send(Order::Place(to));
    }

    /// Writes lines, and leaves those that could not be written. While lines are being written, `lines` is empty: then a
    /// call waits for these, for [`PATIENCE`].
    ///
    /// # Errors
    ///
    /// When not all lines could be written, or are not written yet.
    pub(super) fn write(&mut self, lines: &mut Vec<u8>) -> io::Result<()> {
        let has_ended = || io::Error::other("the thread that writes it has ended");
        if !self.is_busy {
            self.orders.send(Order::Lines(std::mem::take(lines))).map_err(|_| has_ended())?;
            self.is_busy = true;
        }
        match self.written.recv_timeout(PATIENCE) {
            Ok((left, result)) => {
                self.is_busy = false;
                *lines = left;
                result
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                Err(io::Error::new(io::ErrorKind::TimedOut, "a write has not returned"))
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(has_ended()),
        }
    }
}

fn run(mut sink: Sink, orders: &mpsc::Receiver<Order>, written: &mpsc::Sender<(Vec<u8>, io::Result<()>)>) {
    while let Ok(order) = orders.recv() {
        match order {
            Order::Place(to) => sink.set(to),
            Order::Lines(mut lines) => {
                let (taken, result) = sink.write(&lines);
                lines.drain(..taken);
                if written.send((lines, result)).is_err() {
                    return;
                }
            }
        }
    }
}
