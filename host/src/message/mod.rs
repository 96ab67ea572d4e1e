//! Rules of HTTP messages that hold in both directions: for clients and for origins.

pub(crate) mod transfer_coding;
