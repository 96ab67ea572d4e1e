//! The attacks.

use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::clients::Hold;
use super::{clients, origin};
use crate::server::Server;

/// The guests that the server needs.
pub(super) const PACKAGES: &[&str] = &["hello", "echo", "stream", "trap", "excess", "outgoing", "env"];

/// More connections than both workers have permits for by default.
const MORE_THAN_TURNS: usize = 700;

/// The number of clients that once blocked a worker for longer than `hang_timeout`.
const MANY: u32 = 200;

/// The time between two bytes: shorter than `body_timeout`.
const DRIP: Duration = Duration::from_secs(29);

/// How long a response is not read: longer than it may make no progress by default.
const UNREAD: Duration = Duration::from_secs(31);

pub(super) struct Attack {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    way: Way,
    /// Whether workers may be replaced during this attack, because threads are blocked in calls that never return.
    pub(super) may_replace_workers: bool,
}

enum Way {
    /// Clients that repeatedly connect, and send a head and then one character without end ([`PIECE_BYTES`] per write).
    Stream { clients: u32, head: &'static str, character: char },
    /// Clients that repeatedly request this target of this host.
    Ask { clients: u32, host: &'static str, target: &'static str },
    /// Connections that send this request or part of one, and nothing more.
    Hold { request: &'static str, how: Hold },
    /// A guest that sends requests to an origin that floods it.
    Origin,
}

const CHUNKED: &str = "POST /count HTTP/1.1\r\nhost: echo.test\r\ntransfer-encoding: chunked\r\n\r\n";
const BODY: &str = "POST /count HTTP/1.1\r\nhost: echo.test\r\ncontent-length: 1000000\r\n\r\n";
const LARGE: &str = "GET /?chunks=10000&size=65536 HTTP/1.1\r\nhost: stream.test\r\n\r\n";

const fn attack(name: &'static str, what: &'static str, way: Way) -> Attack {
    Attack { name, what, way, may_replace_workers: false }
}

pub(super) const CASES: &[Attack] = &[
    attack(
        "chunk-size-zeros",
        "8 clients whose chunk size is zeros without end",
        Way::Stream { clients: 8, head: CHUNKED, character: '0' },
    ),
    attack("interim-flood", "16 outgoing requests to an origin of interim responses without end", Way::Origin),
    attack(
        "stalled-bodies",
        "700 clients that begin a body and send nothing",
        Way::Hold { request: BODY, how: Hold::UntilAnswered },
    ),
    attack(
        "dripping-bodies",
        "700 clients that send a byte of a body every 29 s",
        Way::Hold { request: BODY, how: Hold::Dripping(DRIP) },
    ),
    attack(
        "unread-answers",
        "700 clients that do not read what they asked for",
        Way::Hold { request: LARGE, how: Hold::For(UNREAD) },
    ),
    attack(
        "long-error-codes",
        "200 clients of a guest whose error code is 10 MB long",
        Way::Ask { clients: MANY, host: "excess.test", target: "/error?kib=10240" },
    ),
    attack(
        "short-lines",
        "200 clients of a guest that prints 32,768 lines of a character",
        Way::Ask { clients: MANY, host: "excess.test", target: "/lines?count=32768" },
    ),
    attack(
        "many-fields",
        "16 clients of a guest that keeps 980 sets of 870 fields",
        Way::Ask { clients: 16, host: "excess.test", target: "/fields?sets=980&names=870" },
    ),
    attack(
        "traps",
        "200 clients of a guest that traps",
        Way::Ask { clients: MANY, host: "trap.test", target: "/before" },
    ),
    Attack {
        may_replace_workers: true,
        ..attack(
            "fifo-opens",
            "100 clients of a guest that opens a FIFO that nothing writes to",
            Way::Ask { clients: 100, host: "files.test", target: "/?read=/granted/fifo" },
        )
    },
];

/// The size of a write of [`Way::Stream`].
const PIECE_BYTES: usize = 256 << 10;

impl Attack {
    /// Attacks until `over` is set, and returns the number of attempts.
    pub(super) fn run(&self, server: &Server, over: &AtomicBool) -> Result<u64> {
        let port = server.port;
        Ok(match self.way {
            Way::Stream { clients, head, character } => {
                let piece = String::from(character).repeat(PIECE_BYTES);
                clients::stream(port, clients, head.as_bytes(), piece.as_bytes(), over)
            }
            Way::Ask { clients, host, target } => clients::ask(port, clients, request(host, target).as_bytes(), over),
            Way::Hold { request, how } => clients::hold(port, MORE_THAN_TURNS, request.as_bytes(), how, over),
            Way::Origin => thread::scope(|scope| -> Result<u64> {
                let origin = origin::start(scope, over)?;
                let target = format!("/?url=http://127.0.0.1:{origin}/&times=16");
                Ok(clients::ask(port, 1, request("outgoing.test", &target).as_bytes(), over))
            })?,
        })
    }
}

fn request(host: &str, target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")
}

#[cfg(test)]
mod tests {
    use super::CASES;

    #[test]
    fn attacks_have_names_of_their_own() {
        let mut names: Vec<_> = CASES.iter().map(|case| case.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CASES.len());
    }
}
