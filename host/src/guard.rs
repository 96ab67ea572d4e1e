//! What ends a guest from outside: its deadline, a client that left, and the end of the worker.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::engine::{Call, Ending, Head};
use crate::exchange::Exchange;
use crate::pulse;
use crate::serve::connection::Connection;
use crate::worker::Worker;

/// A guest at work, under watch. Polling it drives the guest; it resolves when the exchange has an
/// ending. Dropping it ends the guest at once.
pub(crate) type Watched = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Watches over `call`: its ending is in the exchange before its store is gone.
pub(crate) fn watch(
    call: Call,
    wall_time: Duration,
    connection: Connection,
    exchange: Arc<Exchange>,
    worker: &Worker,
) -> (Watched, tokio::sync::oneshot::Receiver<Head>) {
    let Call { run, head } = call;
    let deadline = Instant::now() + wall_time;
    let (drain, pulse) = (worker.drain.clone(), worker.pulse.clone());
    let watched = async move {
        let mut run = run;
        // Dropped before `run`, should anything unwind.
        let _unended = Unended(&exchange);
        let ending = loop {
            tokio::select! {
                biased;
                (ending, remains) = &mut run => return exchange.end(ending, Some(remains)),
                () = pulse.next(deadline) => {}
            }
            if Instant::now() >= deadline {
                break Ending::WallTime(wall_time);
            }
            if drain.is_cut() {
                break Ending::ShutDown;
            }
            if !exchange.is_delivered() && connection.is_gone() {
                break Ending::ClientGone;
            }
        };
        // First the word, then the deed.
        exchange.end(ending, None);
        drop(run);
    };
    (Box::pin(watched), head)
}

/// Sees to it that a store never goes before there is an ending.
struct Unended<'a>(&'a Exchange);

impl Drop for Unended<'_> {
    fn drop(&mut self) {
        if self.0.ending().is_none() {
            self.0.end(Ending::ClientGone, None);
        }
    }
}

/// Resolves when the client has left. Cancel safe.
pub(crate) async fn client_gone(connection: &Connection) {
    while !connection.is_gone() {
        tokio::time::sleep(pulse::PERIOD).await;
    }
}
