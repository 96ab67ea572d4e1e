//! What guests may import.

pub(crate) mod http02;
pub(crate) mod http03;
pub(crate) mod link;
pub(crate) mod outgoing;
pub(crate) mod output;
