//! Requests whose guests wait for their clients, and which of them give up their place when other requests wait
//! for one.
//!
//! A client that begins a body and sends no more, or reads no more of its response, keeps its guest waiting. On its
//! own that costs little. But its request is in progress, and when all places are taken in this way, no other client
//! is answered. So while requests wait for a place, those that owe most give theirs up.
//!
//! What counts is a debt: it grows with the time that the guest waits for the client, and shrinks with every byte.
//! A clock that any byte resets would be satisfied by one byte now and then.

use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use slab::Slab;
use tokio::time::Instant;

use crate::lock::lock;

/// How long a guest may have waited for its client before its request gives up its place to one that waits.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// The rate at which a client makes up for the time that its guest has waited. (Kestrel's
/// `MinRequestBodyDataRate` is the same.)
const MIN_BYTES_PER_S: u64 = 240;

/// How long a guest that is to stop waiting may take to look, on a busy machine. One that has not looked by then
/// began to wait and has turned to something else.
const REACTION: Duration = Duration::from_millis(500);

/// The waits of one route's requests. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub(crate) struct Stalls(Arc<Mutex<Slab<Arc<Stall>>>>);

/// One direction of one request: how long its guest has waited for the client in all.
#[derive(Default)]
struct Stall(Mutex<State>);

#[derive(Default)]
struct State {
    /// Waited before `since`, and not made up for.
    debt: Duration,
    /// The guest waits now.
    since: Option<Instant>,
    /// Polls the guest that waits.
    waker: Option<Waker>,
    /// Since when the request is to give up its place.
    asked: Option<Instant>,
}

/// A wait that is on its route's list until this is dropped.
pub(crate) struct Wait {
    stalls: Stalls,
    key: usize,
    stall: Arc<Stall>,
}

/// What is to be done about a wait.
enum Due {
    Nothing,
    /// It was asked to give way, and is about to.
    Asked,
    /// It may be asked to: so long has its guest waited.
    Owes(Duration),
}

impl Stalls {
    pub(crate) fn enlist(&self) -> Wait {
        let stall = Arc::new(Stall::default());
        let key = lock(&self.0).insert(Arc::clone(&stall));
        Wait { stalls: self.clone(), key, stall }
    }
}

/// Asks as many of the requests in `routes` to give way as are `wanted`, those first that owe most; says how many
/// it has asked.
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
                // The guest does not wait for it.
                *state = State::default();
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
    /// The guest waits for the client `now`, and the task of `context` polls it: whether its request is to give up
    /// its place instead.
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

    /// The client has sent or taken `bytes`, and the guest goes on; whether it has made up for all of the wait.
    pub(crate) fn end(&self, bytes: usize, now: Instant) -> bool {
        let state = &mut *lock(&self.stall.0);
        let waited = state.since.map(|since| now - since).unwrap_or_default();
        let made_up = Duration::from_millis((bytes as u64).saturating_mul(1000) / MIN_BYTES_PER_S);
        *state = State { debt: (state.debt + waited).saturating_sub(made_up), ..State::default() };
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

    /// A route's requests, at a time that the test sets.
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

        /// Whether the guest may go on waiting.
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
        /// Whether a request gives way within a minute whose client sends so many bytes at such intervals.
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
        // What was sent before buys no time.
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
