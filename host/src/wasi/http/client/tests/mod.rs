//! Tests of the client against servers on loopback whose behaviour each test scripts.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that is wrong about its own set-up may panic"
)]

mod bodies;
mod exchange;
mod framing;
mod harness;
mod lifetime;
mod policy;
mod pool;
mod timeouts;
mod tls;
