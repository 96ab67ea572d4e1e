//! Which sockets a worker accepts on: its own, and those of workers that are not there now.

use std::collections::HashMap;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use tokio::task::{AbortHandle, JoinSet};

use crate::serve::accept;
use crate::worker::Worker;

/// A listening socket, and whose it is.
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    /// The workers that accept on it, when all are there.
    pub(crate) owners: Vec<u32>,
}

/// The accept loops of one worker.
pub(super) struct Reception {
    worker: Arc<Worker>,
    number: u32,
    listeners: Vec<Listener>,
    loops: JoinSet<()>,
    /// The accept loops for others, by their index in `listeners`.
    covered: HashMap<usize, AbortHandle>,
}

impl Reception {
    /// Accepts on the sockets of worker `number`.
    ///
    /// # Errors
    ///
    /// When the event loop has no room for them.
    pub(super) fn open(worker: Arc<Worker>, number: u32, listeners: Vec<Listener>) -> io::Result<Self> {
        let mut reception = Self { worker, number, listeners, loops: JoinSet::new(), covered: HashMap::new() };
        for at in reception.belonging_to(&[number]) {
            reception.accept(at)?;
        }
        Ok(reception)
    }

    /// Accepts for `workers` as well, and for no others any more. No connection is lost by that: one that
    /// was not accepted waits for whoever accepts next.
    ///
    /// # Errors
    ///
    /// When the event loop has no room for one of their sockets.
    pub(super) fn cover(&mut self, workers: &[u32]) -> io::Result<()> {
        let own = self.belonging_to(&[self.number]);
        let mut wanted = self.belonging_to(workers);
        wanted.retain(|at| !own.contains(at));
        self.covered.retain(|at, accepting| {
            let stays = wanted.contains(at);
            if !stays {
                accepting.abort();
            }
            stays
        });
        for at in wanted {
            if !self.covered.contains_key(&at)
                && let Some(accepting) = self.accept(at)?
            {
                self.covered.insert(at, accepting);
            }
        }
        Ok(())
    }

    /// Closes all sockets, once the drain has begun, and waits until what was in their backlogs has been
    /// taken over where the drain says so.
    pub(super) async fn close(mut self) {
        self.listeners.clear();
        while self.loops.join_next().await.is_some() {}
    }

    fn belonging_to(&self, workers: &[u32]) -> Vec<usize> {
        let is_theirs = |listener: &Listener| listener.owners.iter().any(|owner| workers.contains(owner));
        self.listeners.iter().enumerate().filter(|(_, listener)| is_theirs(listener)).map(|(at, _)| at).collect()
    }

    fn accept(&mut self, at: usize) -> io::Result<Option<AbortHandle>> {
        let Some(listener) = self.listeners.get(at) else { return Ok(None) };
        let listener = tokio::net::TcpListener::from_std(listener.socket.try_clone()?)?;
        Ok(Some(self.loops.spawn(accept::run(listener, Arc::clone(&self.worker)))))
    }
}
