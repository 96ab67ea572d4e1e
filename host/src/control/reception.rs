//! Which sockets a worker accepts on: its own, and those of workers that are not there now.

use std::collections::HashMap;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use tokio::net;
use tokio::task::JoinHandle;

use crate::serve::{accept, listen};
use crate::worker::Worker;

/// How long a client has to complete a handshake that has begun when a socket is about to close.
const HANDSHAKE: Duration = Duration::from_millis(100);

/// A listening socket, and whose it is.
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    /// The workers that accept on it, when all are there.
    pub(crate) owners: Vec<u32>,
    /// systemd has it too, and keeps it open.
    pub(crate) is_lent: bool,
}

/// The accept loops of one worker.
pub(super) struct Reception {
    worker: Arc<Worker>,
    number: u32,
    listeners: Vec<Listener>,
    /// By the place of their listener.
    loops: HashMap<u32, JoinHandle<()>>,
}

impl Reception {
    /// For worker `number`. It is closed until [`Reception::cover`] is called.
    pub(super) fn new(worker: Arc<Worker>, number: u32, listeners: Vec<Listener>) -> Self {
        Self { worker, number, listeners, loops: HashMap::new() }
    }

    /// Accepts on the worker's own sockets, on those of `workers` as well, and on no others any more. No
    /// connection is lost by that: one that was not accepted waits for whoever accepts next.
    ///
    /// # Errors
    ///
    /// When the event loop has no room for one of their sockets.
    pub(super) fn cover(&mut self, workers: &[u32]) -> io::Result<()> {
        let is_ours =
            |listener: &Listener| listener.owners.iter().any(|owner| *owner == self.number || workers.contains(owner));
        for (at, listener) in (0..).zip(&self.listeners) {
            if !is_ours(listener) {
                self.loops.remove(&at).inspect(JoinHandle::abort);
            } else if !self.loops.contains_key(&at) {
                let listener = net::TcpListener::from_std(listener.socket.try_clone()?)?;
                self.loops.insert(at, tokio::spawn(accept::run(listener, Arc::clone(&self.worker))));
            }
        }
        Ok(())
    }

    /// The sockets that nobody has but us and the other workers, by their places.
    pub(super) fn own_sockets(&self) -> Vec<u32> {
        (0..).zip(&self.listeners).filter(|(_, listener)| !listener.is_lent).map(|(at, _)| at).collect()
    }

    /// Stops accepting, but on the sockets in `closing`, which nobody else accepts on. The worker drains
    /// already.
    pub(super) fn leave(&mut self, closing: &[u32]) {
        self.loops.retain(|at, accepting| {
            let closes = closing.contains(at);
            if !closes {
                accepting.abort();
            }
            closes
        });
        let mut places = 0..;
        self.listeners.retain(|_| places.next().is_some_and(|at| self.loops.contains_key(&at)));
    }

    /// Closes the sockets that it has not left, when it has taken what is in their backlogs: the kernel
    /// resets what stays there.
    pub(super) async fn close(self) {
        if self.listeners.is_empty() {
            return;
        }
        for listener in &self.listeners {
            listen::refuse_handshakes(&listener.socket);
        }
        tokio::time::sleep(HANDSHAKE).await;
        self.loops.values().for_each(JoinHandle::abort);
        for listener in &self.listeners {
            accept::empty_backlog(&listener.socket, &self.worker);
        }
    }
}
