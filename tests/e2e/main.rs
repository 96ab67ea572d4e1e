//! End-to-end tests: they start the real `daylily` and send it requests over sockets.
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

mod access_log;
mod access_log_targets;
mod access_log_unwritten;
mod addresses;
mod admin;
mod admin_life;
mod build_command;
mod cache;
mod chain;
mod configuration;
mod continuing;
mod crashes;
mod develop;
mod develop_builds;
mod develop_pages;
mod diagnosis;
mod disconnect;
mod endings;
mod every_outcome;
mod files;
mod forms;
mod framing;
mod giving_way;
mod golden;
mod grants;
mod hangs;
mod headers;
mod hello;
mod hosts;
mod injection;
mod interfaces;
mod isolation;
mod limits_body;
mod limits_guest;
mod limits_head;
mod limits_host;
mod limits_load;
mod log_targets;
mod logging;
mod metrics;
mod metrics_connections;
mod misnamed;
mod outgoing;
mod outgoing_bodies;
mod outgoing_failures;
mod output;
mod own_log;
mod parts;
mod refusals;
mod reload;
mod residue;
mod resting;
mod rfc;
mod route_calls;
mod routes;
mod schedules;
mod schedules_failing;
mod service03;
mod shutdown_delay;
mod smuggling;
mod special_files;
mod starting;
mod static_files;
mod status;
mod stopping;
mod stores;
mod stores_failing;
mod stores_servers;
mod streaming;
mod surroundings;
mod systemd;
mod texts;
mod trace_context;
mod unix_files;
mod unix_sockets;
mod upgrade;
mod values;
mod watching;
mod workers;
