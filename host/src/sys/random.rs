//! Random numbers.

/// A random number, for jitter: what failed together should not be tried again together.
pub(crate) fn random() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    #[expect(clippy::cast_possible_truncation, reason = "any bits will do")]
    let bits = RandomState::new().hash_one(0_u8) as u32;
    bits
}
