//! The watchdog of a guest: ends it at its deadline, when its client or the guest that called it has left, and when the drain cuts off requests.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::call::Call;
use crate::engine::call_outcome::CallOutcome;
use crate::http::exchange::Exchange;
use crate::http::pulse::Pulse;
use crate::http::requester::Requester;
use crate::sys::drain::Drain;
use crate::wasi::http::GuestResponse;

/// A watched guest. Polling it runs the guest; it resolves once the exchange has an outcome. Dropping it ends the guest
/// at once.
pub(crate) type Watched = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Watches `call`, which begins `now`. Its outcome is recorded in the exchange before its store is dropped.
pub(crate) fn watch(
    call: Call,
    now: Instant,
    wall_time: Duration,
    requester: Requester,
    exchange: Arc<Exchange>,
    drain: Drain,
    pulse: Pulse,
) -> (Watched, tokio::sync::oneshot::Receiver<GuestResponse>) {
    let Call { run, head, meter, .. } = call;
    exchange.begin_call(&meter, now);
    let deadline = now + wall_time;
    let watched = async move {
        let (mut run, mut now) = (run, now);
        // Declared after `run`, so that it is dropped first if a panic unwinds.
        let _unended = Unended(&exchange);
        let outcome = loop {
            tokio::select! {
                biased;
                (outcome, ended_store) = &mut run => return exchange.end(outcome, Some(ended_store)),
                () = pulse.next(now, deadline) => {}
            }
            now = Instant::now();
            if now >= deadline {
                break CallOutcome::WallTime(wall_time);
            }
            if drain.is_cut() {
                break CallOutcome::ShutDown;
            }
            if !exchange.is_delivered() && requester.is_gone() {
                break CallOutcome::ClientGone;
            }
        };
        // Record the outcome before dropping the store.
        exchange.end(outcome, None);
        drop(run);
    };
    (Box::pin(watched), head)
}

/// Records an outcome when it is dropped, if there is none, so that no store is dropped without one.
struct Unended<'a>(&'a Exchange);

impl Drop for Unended<'_> {
    fn drop(&mut self) {
        if self.0.outcome().is_none() {
            self.0.end(CallOutcome::ClientGone, None);
        }
    }
}
