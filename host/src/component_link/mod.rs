//! Changes to components before they are compiled: bytes in, bytes out.

pub(crate) mod candidate;
pub(crate) mod direct;
pub(crate) mod payloads;
pub(crate) mod relink;
