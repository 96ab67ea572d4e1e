//! A worker's accept loops: on its own sockets, and on those of absent workers.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::http::accept;
use crate::http::server::Worker;
use crate::net::listener::Listener;
use crate::net::sockets::Assignment;

/// How long clients have to complete TCP handshakes that have begun when a socket is about to close.
const HANDSHAKE: Duration = Duration::from_millis(100);

/// A listening socket, and the workers that it belongs to.
pub(crate) struct AssignedListener {
    pub(crate) socket: Listener,
    pub(crate) assignment: Assignment,
}

/// The accept loops of one worker.
pub(crate) struct AcceptLoops {
    worker: Arc<Worker>,
    number: u32,
    listeners: Vec<AssignedListener>,
    /// By the index of their listener.
    loops: HashMap<u32, JoinHandle<()>>,
}

impl AcceptLoops {
    /// For worker `number`. Nothing is accepted until [`AcceptLoops::accept_for`] is called.
    pub(crate) fn new(worker: Arc<Worker>, number: u32, listeners: Vec<AssignedListener>) -> Self {
        Self { worker, number, listeners, loops: HashMap::new() }
    }

    /// Accepts on the worker's own sockets and on those of the workers in `absent`, and stops accepting on all others.
    /// No connection is lost by that: one that was not accepted stays in the backlog until another worker accepts it.
    ///
    /// # Errors
    ///
    /// When a socket cannot be duplicated, or the event loop cannot register it.
    pub(crate) fn accept_for(&mut self, absent: &[u32]) -> io::Result<()> {
        let is_ours = |listener: &AssignedListener| {
            listener.assignment.owners.iter().any(|owner| *owner == self.number || absent.contains(owner))
        };
        for (at, listener) in (0..).zip(&self.listeners) {
            if !is_ours(listener) {
                self.loops.remove(&at).inspect(JoinHandle::abort);
            } else if !self.loops.contains_key(&at) {
                let accepting = listener.socket.accepting()?;
                let accepting = accept::run(accepting, listener.assignment.name, Arc::clone(&self.worker));
                self.loops.insert(at, tokio::spawn(accepting));
            }
        }
        Ok(())
    }

    /// The indexes of the sockets that only daylily's own processes have open, and systemd does not.
    pub(crate) fn own_sockets(&self) -> Vec<u32> {
        (0..).zip(&self.listeners).filter(|(_, listener)| !listener.assignment.is_lent).map(|(at, _)| at).collect()
    }

    /// Stops accepting, except on the sockets in `closing`, which no other process accepts on. The worker is draining
    /// already.
    pub(crate) fn stop_accepting(&mut self, closing: &[u32]) {
        self.loops.retain(|at, accepting| {
            let closes = closing.contains(at);
            if !closes {
                accepting.abort();
            }
            closes
        });
        let mut indexes = 0..;
        self.listeners.retain(|_| indexes.next().is_some_and(|at| self.loops.contains_key(&at)));
    }

    /// Empties the backlogs of the sockets that [`AcceptLoops::stop_accepting`] has kept, and closes them: the kernel
    /// resets connections that are still in a backlog at the close.
    pub(crate) async fn close(self) {
        if self.listeners.is_empty() {
            return;
        }
        for listener in &self.listeners {
            listener.socket.refuse_clients();
        }
        tokio::time::sleep(HANDSHAKE).await;
        self.loops.values().for_each(JoinHandle::abort);
        for listener in &self.listeners {
            accept::empty_backlog(&listener.socket, listener.assignment.name, &self.worker);
        }
    }
}
