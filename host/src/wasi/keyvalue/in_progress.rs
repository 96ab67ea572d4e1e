//! The memory of the operations that one instance has in progress: what is passed to the stores, and the answers, which
//! arrive whether the guest takes them or not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The share of `max_host_memory` that the answers of asynchronous operations may have until the guest takes them: a
/// quarter. Operations beyond it wait for those before them.
const ANSWERS_SHARE: u64 = 4;

/// What is charged for an operation besides its keys and values: its future and its timer.
pub(super) const OPERATION_BYTES: usize = 1 << 10;

/// All operations of one instance that have begun and are not finished.
pub(super) struct InProgress {
    passed_bytes: AtomicUsize,
    /// The largest possible answers of all of them, also of those that wait for room.
    answers_bytes: AtomicUsize,
    max_answers_bytes: usize,
    room: Arc<Semaphore>,
}

impl InProgress {
    pub(super) fn new(max_host_memory_bytes: u64) -> Arc<Self> {
        // As much as one operation can ask for as a number of permits.
        let max = u32::try_from(max_host_memory_bytes / ANSWERS_SHARE).unwrap_or(u32::MAX) as usize;
        Arc::new(Self {
            passed_bytes: AtomicUsize::new(0),
            answers_bytes: AtomicUsize::new(0),
            max_answers_bytes: max,
            room: Arc::new(Semaphore::new(max)),
        })
    }

    /// The memory that they have, with the answers that there is room for.
    pub(super) fn kept_bytes(&self) -> usize {
        self.passed_bytes.load(Relaxed) + self.answers_bytes.load(Relaxed).min(self.max_answers_bytes)
    }

    /// An answer of at most so many bytes, or of all the room that there is.
    pub(super) fn within_room(&self, answer_bytes: usize) -> usize {
        answer_bytes.min(self.max_answers_bytes)
    }

    /// By how much [`Self::kept_bytes`] grows with an operation.
    pub(super) fn growth(&self, passed_bytes: usize, answer_bytes: usize) -> usize {
        let answers = self.answers_bytes.load(Relaxed);
        passed_bytes + (answers + answer_bytes).min(self.max_answers_bytes) - answers.min(self.max_answers_bytes)
    }

    /// Counts an operation until it is finished or dropped.
    pub(super) fn begin(self: &Arc<Self>, passed_bytes: usize, answer_bytes: usize) -> Held {
        self.passed_bytes.fetch_add(passed_bytes, Relaxed);
        self.answers_bytes.fetch_add(answer_bytes, Relaxed);
        Held { of: Arc::clone(self), passed_bytes, answer_bytes, room: None }
    }
}

/// The memory of an operation in progress.
pub(super) struct Held {
    of: Arc<InProgress>,
    passed_bytes: usize,
    answer_bytes: usize,
    room: Option<OwnedSemaphorePermit>,
}

impl Held {
    /// Waits until there is room for the answer, besides those of the operations before.
    pub(super) async fn wait_for_room(&mut self) {
        let bytes = u32::try_from(self.of.within_room(self.answer_bytes)).unwrap_or(u32::MAX);
        if bytes > 0 {
            self.room = Arc::clone(&self.of.room).acquire_many_owned(bytes).await.ok();
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.of.passed_bytes.fetch_sub(self.passed_bytes, Relaxed);
        self.of.answers_bytes.fetch_sub(self.answer_bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn counts_what_there_is_room_for_until_it_is_dropped() {
        let all = InProgress::new(16 << 10);
        assert_eq!(all.growth(100, 3_000), 3_100);
        let first = all.begin(100, 3_000);
        // There is room for 4,096 bytes of answers.
        assert_eq!(all.growth(100, 3_000), 100 + 1_096);
        let second = all.begin(100, 3_000);
        assert_eq!(all.kept_bytes(), 200 + 4_096);
        drop(first);
        assert_eq!(all.kept_bytes(), 100 + 3_000);
        drop(second);
        assert_eq!(all.kept_bytes(), 0);
    }

    #[test]
    fn an_answer_waits_for_room_and_the_largest_one_is_alone() {
        let all = InProgress::new(16 << 10);
        let cx = &mut Context::from_waker(Waker::noop());
        let (mut first, mut second, mut small) = (all.begin(0, 3_000), all.begin(0, 1 << 20), all.begin(0, 0));
        assert!(pin!(first.wait_for_room()).poll(cx).is_ready());
        assert!(pin!(second.wait_for_room()).poll(cx).is_pending());
        assert!(pin!(small.wait_for_room()).poll(cx).is_ready(), "it has no answer that would need room");
        drop(first);
        assert!(pin!(second.wait_for_room()).poll(cx).is_ready());
    }
}
