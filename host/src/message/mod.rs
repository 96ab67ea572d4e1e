//! Rules of HTTP messages that hold in both directions: for clients and for origins.

pub(crate) mod fields;
pub(crate) mod transfer_coding;
