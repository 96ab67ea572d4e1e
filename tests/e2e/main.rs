//! End-to-end tests: they start the real `daylily` and talk to it over sockets.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test fails by panicking and shows the server's log; nothing here is a library"
)]

mod harness;

mod hello;
