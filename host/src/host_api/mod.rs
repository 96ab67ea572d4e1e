//! What guests may import.

pub(crate) mod direct;
pub(crate) mod http02;
pub(crate) mod http03;
pub(crate) mod link;
pub(crate) mod outgoing;
pub(crate) mod output;

/// The longest method that a guest may give an outgoing request; RFC 9110 §9 has none over 7.
const MAX_METHOD_BYTES: usize = 64;
