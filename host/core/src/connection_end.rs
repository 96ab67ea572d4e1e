//! How a client connection ended, and why one could not be accepted, in one word, for the metrics.

use crate::words::words;

words! {
    /// How a client connection ended. If there are several reasons, the first one that closed it.
    pub enum ConnectionEnd;

    ClientClosed = "client_closed", "the client closed it, after its last response or without a request";
    ClientGone = "client_gone", "the client closed it before its request or the response was complete";
    ClientReset = "client_reset", "the client reset it, or the network failed";
    Requested = "requested", "daylily closed it after a response, because the client sent `connection: close` or uses HTTP/1.0";
    UnreadBody = "unread_body", "daylily closed it after a response, because the rest of the request's body was not read";
    IdleTimeout = "idle_timeout", "no request came for `idle_timeout`";
    HeadTimeout = "head_timeout", "the head was not complete after `head_timeout`, or a new connection sent none";
    HeadLimit = "head_limit", "the head was over `max_head` or `max_headers`, or its target too long";
    Malformed = "malformed", "what the client sent is not valid HTTP";
    UnreadResponse = "unread_response", "the client did not read its response for `body_timeout`, before `wall_time`, or while other requests waited";
    Cut = "cut", "a response was cut, because its guest failed or reached a limit";
    Drain = "drain", "the worker is replaced or stops: idle connections are closed, others after a response, or after `shutdown_timeout`";
    Lost = "lost", "the worker died";
    Internal = "internal", "an error in daylily";
}

words! {
    /// Why a connection could not be accepted when a worker wanted to accept one.
    pub enum NotAccepted;

    Limit = "limit", "`max_connections` were open: clients wait in the backlog";
    Exhausted = "exhausted", "the process or the system has no descriptor or no memory left: clients wait in the backlog";
    Aborted = "aborted", "the client gave up while it waited in the backlog";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_every_word() {
        let document = include_str!("../../../docs/metrics.md");
        let ends = ConnectionEnd::ALL.iter().map(|end| (end.as_str(), end.meaning()));
        let failures = NotAccepted::ALL.iter().map(|why| (why.as_str(), why.meaning()));
        for (word, meaning) in ends.chain(failures) {
            let row = format!("| `{word}` | {meaning} |");
            assert!(document.lines().any(|line| line == row), "{row}");
        }
    }
}
