//! The id of one request in logs and error responses.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Unique within a process and, because counting starts at a random number, in practice across processes. 16 hex
/// digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestId(u64);

/// Counts requests, from an unpredictable start.
static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(RandomState::new().hash_one(std::process::id())));

impl RequestId {
    /// The next id.
    pub(crate) fn next() -> Self {
        // An odd factor keeps ids distinct, and makes consecutive ids look unrelated (Fibonacci hashing).
        Self(NEXT.fetch_add(1, Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
