//! The watchdog of a guest: ends it at its deadline, when its client or the guest that called it has left, and when the
//! drain cuts off requests.

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

/// When a guest must have ended.
#[derive(Clone, Copy)]
pub(crate) struct Deadline {
    at: Instant,
    /// The limit that the guest has.
    wall_time: Duration,
}

impl Deadline {
    /// Of a guest that begins `now`. It may be earlier than its limit says.
    pub(crate) fn new(now: Instant, wall_time: Duration, not_after: Option<Instant>) -> Self {
        let own = now + wall_time;
        Self { at: not_after.map_or(own, |not_after| not_after.min(own)), wall_time }
    }
}

/// Watches `call`, which begins `now`. Its outcome is recorded in the exchange before its store is dropped.
pub(crate) fn watch(
    call: Call,
    now: Instant,
    deadline: Deadline,
    requester: Requester,
    exchange: Arc<Exchange>,
    drain: Drain,
    pulse: Pulse,
) -> (Watched, tokio::sync::oneshot::Receiver<GuestResponse>) {
    let Call { run, head, meter, .. } = call;
    exchange.begin_call(&meter, now);
    let Deadline { at: deadline, wall_time } = deadline;
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
            if !(exchange.is_delivered() && may_outlive(&requester, &exchange)) && requester.is_gone() {
                break CallOutcome::ClientGone;
            }
        };
        // Record the outcome before dropping the store.
        exchange.end(outcome, None);
        drop(run);
    };
    (Box::pin(watched), head)
}

/// Whether a guest may work on after its response when its requester has left. Those of a client's request may, and so
/// may those that follow in its chain, unless the client has left before it had the whole response. A guest that another
/// one has called may not.
fn may_outlive(requester: &Requester, exchange: &Exchange) -> bool {
    !requester.is_guest() || exchange.whole().is_some_and(|whole| !whole.is_call() && !whole.is_abandoned())
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
