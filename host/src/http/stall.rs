//! Tracks requests whose guests wait for their clients, and selects those that must give up their permit when other
//! requests wait for one.
//!
//! A client that begins a body and stops sending, or stops reading its response, keeps its guest waiting. That costs
//! little by itself. But the request keeps its permit, and when such requests hold all permits, no other client gets a
//! response. So while requests wait for a permit, those with the greatest debt give theirs up.
//!
//! The debt grows with the time that the guest waits for the client, and shrinks with every byte. It is not a timer
//! that any byte resets, because a client could satisfy that with one byte now and then.

use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use slab::Slab;
use tokio::time::Instant;

use crate::sys::lock::lock;

/// The debt above which a request must give up its permit when other requests wait for one.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// The rate at which bytes reduce the debt. (Kestrel's `MinRequestBodyDataRate` has the same default.)
const MIN_BYTES_PER_S: u64 = 240;

/// How long a guest that was asked to give way may take to poll its body again, on a busy machine. A guest that has not
/// polled by then no longer waits for its client.
const REACTION: Duration = Duration::from_millis(500);

/// The waits of one route's requests. Cheap to clone; all clones share one list.
#[derive(Clone, Default)]
pub(crate) struct Stalls(Arc<Mutex<Slab<Arc<Stall>>>>);

/// One direction of one request: how long its guest has waited for the client.
#[derive(Default)]
struct Stall(Mutex<StallState>);

#[derive(Default)]
struct StallState {
    /// Waiting time before `since`, less what bytes have paid off.
    debt: Duration,
    /// When the current wait began; None if the guest does not wait.
    since: Option<Instant>,
    /// Wakes the task that polls the waiting guest.
    waker: Option<Waker>,
    /// When the request was asked to give up its permit.
    asked: Option<Instant>,
}

/// An entry in its route's list, removed on drop.
pub(crate) struct Wait {
    stalls: Stalls,
    key: usize,
    stall: Arc<Stall>,
}

/// Whether a wait can be asked to give way.
enum Due {
    Nothing,
    /// It has been asked, and is expected to give way.
    Asked,
    /// It can be asked: its debt is this large.
    Owes(Duration),
}

impl Stalls {
    pub(crate) fn enlist(&self) -> Wait {
        let stall = Arc::new(Stall::default());
        let key = lock(&self.0).insert(Arc::clone(&stall));
        Wait { stalls: self.clone(), key, stall }
    }
}

/// Asks up to `wanted` requests in `routes` to give way, those with the greatest debt first. Requests that were asked
/// before and have not given way yet count towards `wanted`. Returns the number of requests newly asked.
pub(crate) fn ask_to_give_way<'a>(routes: impl Iterator<Item = &'a Stalls>, wanted: usize, now: Instant) -> usize {
    let mut owing = Vec::new();
    let mut asked = 0;
    for stalls in routes {
        for (_, stall) in &*lock(&stalls.0) {
            match stall.due(now) {
                Due::Nothing => {}
                Due::Asked => asked += 1,
                Due::Owes(debt) => owing.push((debt, Arc::clone(stall))),
            }
        }
    }
    owing.sort_unstable_by_key(|(debt, _)| std::cmp::Reverse(*debt));
    owing.truncate(wanted.saturating_sub(asked));
    for (_, stall) in &owing {
        stall.ask(now);
    }
    owing.len()
}

impl Stall {
    fn due(&self, now: Instant) -> Due {
        let state = &mut *lock(&self.0);
        match state.asked {
            Some(asked) if now - asked < REACTION => return Due::Asked,
            Some(_) => {
                // The guest has not polled since it was asked, so it does not wait for this client.
                *state = StallState::default();
                return Due::Nothing;
            }
            None => {}
        }
        match state.since {
            Some(since) if state.debt + (now - since) > PATIENCE => Due::Owes(state.debt + (now - since)),
            _ => Due::Nothing,
        }
    }

    fn ask(&self, now: Instant) {
        let state = &mut *lock(&self.0);
        state.asked = Some(now);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }
}

impl Wait {
    /// Records that the guest waits for the client at `now` and is polled by the task of `context`. Returns whether the
    /// request must give up its permit instead.
    pub(crate) fn has_to_give_way(&self, context: &Context<'_>, now: Instant) -> bool {
        let state = &mut *lock(&self.stall.0);
        if state.asked.is_some() {
            return true;
        }
        state.since.get_or_insert(now);
        if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            state.waker = Some(context.waker().clone());
        }
        false
    }

    /// Ends the wait: the client has sent or read `bytes`. Returns whether the debt is fully paid off.
    pub(crate) fn end(&self, bytes: usize, now: Instant) -> bool {
        let state = &mut *lock(&self.stall.0);
        let waited = state.since.map(|since| now - since).unwrap_or_default();
        let made_up = Duration::from_millis((bytes as u64).saturating_mul(1000) / MIN_BYTES_PER_S);
        *state = StallState { debt: (state.debt + waited).saturating_sub(made_up), ..StallState::default() };
        state.debt.is_zero()
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        lock(&self.stalls.0).try_remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One route's waits, with a clock that the test sets.
    struct Scene {
        stalls: Stalls,
        now: Instant,
    }

    impl Scene {
        fn new() -> Self {
            Self { stalls: Stalls::default(), now: Instant::now() }
        }

        fn pass(&mut self, time: Duration) {
            self.now += time;
        }

        /// Records a wait; returns whether the guest may go on waiting.
        fn waits(&self, wait: &Wait) -> bool {
            !wait.has_to_give_way(&Context::from_waker(Waker::noop()), self.now)
        }

        fn ask(&self, wanted: usize) -> usize {
            ask_to_give_way(std::iter::once(&self.stalls), wanted, self.now)
        }
    }

    #[test]
    fn those_that_owe_most_give_way_first_and_no_more_than_are_wanted() {
        let mut scene = Scene::new();
        let first = scene.stalls.enlist();
        assert!(scene.waits(&first));
        scene.pass(PATIENCE / 2);
        let second = scene.stalls.enlist();
        assert!(scene.waits(&second));
        scene.pass(PATIENCE * 2);
        assert_eq!(scene.ask(1), 1);
        assert!(!scene.waits(&first) && scene.waits(&second));
        assert_eq!(scene.ask(1), 0, "one is about to give way already");
        assert_eq!(scene.ask(2), 1);
        assert!(!scene.waits(&second));
        drop((first, second));
        assert!(lock(&scene.stalls.0).is_empty());
    }

    #[test]
    fn progress_is_a_rate() {
        /// Checks whether a request gives way within a minute if its client sends `bytes` every `every_ms`.
        fn check(bytes: usize, every_ms: u64, expected: bool) {
            let mut scene = Scene::new();
            let wait = scene.stalls.enlist();
            let end = scene.now + Duration::from_secs(60);
            let mut gives_way = false;
            while scene.now < end && !gives_way {
                assert!(scene.waits(&wait));
                scene.pass(Duration::from_millis(every_ms));
                gives_way = scene.ask(1) == 1;
                if !gives_way {
                    wait.end(bytes, scene.now);
                }
            }
            assert_eq!(gives_way, expected, "{bytes} bytes every {every_ms} ms");
        }
        check(1, 29_000, true);
        check(1, 900, true);
        check(1, 4, false);
        check(200, 900, true);
        check(240, 900, false);
        check(1 << 20, 900, false);
        // Bytes sent earlier do not pay for later waits.
        check(1 << 20, 1_100, true);
    }

    #[test]
    fn a_guest_that_has_turned_to_something_else_keeps_its_place() {
        let mut scene = Scene::new();
        let wait = scene.stalls.enlist();
        assert!(scene.waits(&wait));
        scene.pass(PATIENCE * 2);
        assert_eq!(scene.ask(1), 1);
        scene.pass(REACTION);
        assert_eq!(scene.ask(1), 0);
        scene.pass(PATIENCE * 2);
        assert_eq!(scene.ask(1), 0, "it does not wait");
        assert!(scene.waits(&wait), "it waits from now on");
        scene.pass(PATIENCE / 2);
        assert_eq!(scene.ask(1), 0);
        scene.pass(PATIENCE);
        assert_eq!(scene.ask(1), 1);
    }
}
