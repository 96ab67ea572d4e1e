//! The benchmark cases, one line each, with the servers that they compare.

use super::servers::Server;

/// One comparison.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// The name for `--case`.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) how: How,
    pub(crate) servers: &'static [Server],
}

/// How a case measures each server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum How {
    /// wrk with 32 connections on a guest's `path`, with a script of `bench/` where it does more than GET.
    Load { guest: Guest, path: &'static str, script: Option<&'static str> },
    /// Hello World with these numbers of connections.
    Connections { counts: &'static [u32] },
    /// Echoes a body of `bytes`, `times` times on one connection.
    Echo { bytes: u64, times: u32 },
    /// Memory of idle connections.
    Idle { connections: u32 },
    /// These numbers of routes, each with its own component.
    Routes { counts: &'static [u32] },
    /// Time from `exec` to the first response: `warm` times with compiled code in a cache, and `cold` times without.
    Start { warm: u32, cold: u32 },
    /// Hello World alone, and beside the same number of connections on this path of a slow guest.
    Beside { guest: &'static str, path: &'static str, what: &'static str },
}

/// The source of a component.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Guest {
    /// A package of the guest workspace.
    Package(&'static str),
    /// `bench/js`; the case is skipped where it cannot be built.
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
