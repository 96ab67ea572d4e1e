//! Whether a body comes from outside, in however many boxes it is passed on.
//!
//! A guest of 0.3 may give a stream that it got from the host back to the host: as the body of its response, or of a
//! request. The host then moves the bytes without the guest. What moves them gets a box, of wasmtime-wasi-http or of
//! `direct::v3`, which cannot be asked what is in it. So the bodies from outside leave a note when they are polled.

use std::cell::Cell;

thread_local! {
    static POLLED: Cell<bool> = const { Cell::new(false) };
}

/// To be called by a client's or an origin's body whenever it is polled.
pub(crate) fn note_polled() {
    POLLED.set(true);
}

/// Polls a body, and tells whether a body from outside was polled with it: without one, the bytes are the guest's to
/// write.
pub(crate) fn observe<T>(poll: impl FnOnce() -> T) -> (T, bool) {
    POLLED.set(false);
    let polled = poll();
    (polled, POLLED.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_who_was_polled() {
        assert_eq!(observe(|| 1), (1, false));
        assert_eq!(observe(note_polled), ((), true));
        // What was noted before does not count.
        assert_eq!(observe(|| 2), (2, false));
    }
}
