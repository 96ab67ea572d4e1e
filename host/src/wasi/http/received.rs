//! Detects whether a body was received from a client or an origin, however many wrappers it is in.
//!
//! A 0.3 guest may give a stream that it received from the host back to the host, as the body of its response or of a
//! request. The host then moves the bytes without the guest. The body that does so is wrapped by wasmtime-wasi-http or
//! by `direct::p3` in a box whose content cannot be inspected. Therefore received bodies set a thread-local flag when
//! they are polled.

use std::cell::Cell;

thread_local! {
    static POLLED: Cell<bool> = const { Cell::new(false) };
}

/// To be called by the body of a client or an origin whenever it is polled.
pub(crate) fn note_polled() {
    POLLED.set(true);
}

/// Polls a body. Also returns whether a received body was polled in it; if not, the guest writes the bytes.
pub(crate) fn observe<T>(poll: impl FnOnce() -> T) -> (T, bool) {
    // A body of a guest that answers another guest is polled within that one's poll.
    let before = POLLED.replace(false);
    let polled = poll();
    (polled, POLLED.replace(before))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_who_was_polled() {
        assert_eq!(observe(|| 1), (1, false));
        assert_eq!(observe(note_polled), ((), true));
        // A flag that was set before the poll does not count, and stays.
        note_polled();
        assert_eq!(observe(|| 2), (2, false));
        assert_eq!(observe(|| observe(|| 3)), ((3, false), false));
        let within = || {
            note_polled();
            observe(|| 4)
        };
        assert_eq!(observe(within), ((4, false), true));
    }
}
