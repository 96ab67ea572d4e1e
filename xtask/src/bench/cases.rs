//! The cases, one line each, and which servers are in them.

use super::servers::Server;

/// One comparison.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// For `--case`.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) how: How,
    pub(crate) servers: &'static [Server],
}

/// What is done to each server of a case.
#[derive(Clone, Copy, Debug)]
pub(crate) enum How {
    /// wrk with 32 connections on a guest's `path`, with a script of `bench/` where it does more than GET.
    Load { guest: Guest, path: &'static str, script: Option<&'static str> },
    /// Hello World with so many connections.
    Connections { counts: &'static [u32] },
    /// Bodies of so many bytes, there and back, so many times on one connection.
    Echo { bytes: u64, times: u32 },
    /// Memory of so many connections without a request.
    Idle { connections: u32 },
    /// As many routes, each with a component of its own.
    Routes { counts: &'static [u32] },
    /// From `exec` to the first answer, so many times with compiled code in a cache, and without.
    Start { warm: u32, cold: u32 },
    /// Hello World alone, and with as many connections on this path of a slow guest.
    Beside { guest: &'static str, path: &'static str, what: &'static str },
}

/// Where a component comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Guest {
    /// A package of the guest workspace.
    Package(&'static str),
    /// `bench/js`; without it, the case is left out.
    JavaScript,
}

const ALL_02: &[Server] = &[Server::Native, Server::One, Server::All, Server::Node, Server::Cluster, Server::Fresh];
const ALL_03: &[Server] =
    &[Server::Native, Server::One, Server::All, Server::Node, Server::Cluster, Server::Fresh, Server::Reused];
const ON_ALL_CORES: &[Server] = &[Server::Native, Server::All, Server::Cluster, Server::Fresh];
const GUESTS: &[Server] = &[Server::Fresh, Server::One, Server::All];
const OURS: &[Server] = &[Server::All];

const MIB: u64 = 1 << 20;

/// The components that are built for the cases.
pub(crate) const PACKAGES: &[&str] = &["hello", "hello03", "echo", "stream", "burn"];

pub(crate) const CASES: &[Case] = &[
    case("hello02", "Hello World, wasi:http 0.2", load("hello"), ALL_02),
    case("hello03", "Hello World, wasi:http 0.3", load("hello03"), ALL_03),
    case(
        "echo1k",
        "Echo of 1 KiB of JSON",
        How::Load { guest: Guest::Package("echo"), path: "/echo", script: Some("echo.lua") },
        ALL_02,
    ),
    case("echo1m", "Echo of 1 MiB", How::Echo { bytes: MIB, times: 1000 }, ALL_02),
    case("echo64m", "Echo of 64 MiB", How::Echo { bytes: 64 * MIB, times: 16 }, ALL_02),
    case("start", "Start", How::Start { warm: 20, cold: 5 }, ON_ALL_CORES),
    case("connections", "Connections", How::Connections { counts: &[1, 32, 256, 1024, 4096] }, ON_ALL_CORES),
    case("idle", "Idle connections", How::Idle { connections: 2000 }, ON_ALL_CORES),
    case("routes", "Routes", How::Routes { counts: &[1, 100, 1000] }, OURS),
    case("large", "Hello World in JavaScript", How::Load { guest: Guest::JavaScript, path: "/", script: None }, GUESTS),
    case(
        "beside-wait",
        "Beside a guest that waits",
        How::Beside { guest: "stream", path: "/silent?ms=100", what: "waits 100 ms" },
        OURS,
    ),
    case(
        "beside-burn",
        "Beside a guest that computes",
        How::Beside { guest: "burn", path: "/ms?n=5", what: "computes for 5 ms" },
        OURS,
    ),
];

const fn case(name: &'static str, title: &'static str, how: How, servers: &'static [Server]) -> Case {
    Case { name, title, how, servers }
}

const fn load(package: &'static str) -> How {
    How::Load { guest: Guest::Package(package), path: "/", script: None }
}
