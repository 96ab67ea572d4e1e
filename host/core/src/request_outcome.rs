//! How a request ended, in one word, for the access log and the metrics.

use crate::words::words;

words! {
    /// How a request ended. It says what a status cannot: whether a guest's 200 was complete, and who ended what.
    pub enum RequestOutcome;

    Ok = "ok", "the response was complete";
    Trap = "trap", "the guest trapped before its response was complete";
    Exit = "exit", "the guest called `exit` with a code other than 0 before its response was complete";
    NoResponse = "no_response", "the guest ended without a response";
    InvalidResponse = "invalid_response", "the guest's response is not valid in HTTP, or its body did not have its length";
    GuestError = "guest_error", "the guest returned an error code of `wasi:http`";
    CpuLimit = "cpu_limit", "the guest used up its `cpu_time`";
    WallLimit = "wall_limit", "`wall_time` passed before the response was complete";
    MemoryLimit = "memory_limit", "the guest trapped after it was refused memory over `max_memory` or a table over `max_table_elements`";
    BodyLimit = "body_limit", "the request's body was longer than `max_body`";
    BodyTimeout = "body_timeout", "the request's body made no progress for `body_timeout`";
    BodySlow = "body_slow", "the request's body made too little progress while other requests waited";
    HeadLimit = "head_limit", "the request's head was over `max_head` or `max_headers`, or its target too long";
    HeadTimeout = "head_timeout", "the request's head took longer than `head_timeout`";
    Malformed = "malformed", "not a valid HTTP request";
    Unsupported = "unsupported", "the request's body has a transfer coding other than `chunked`";
    NoRoute = "no_route", "no route for this host and path";
    QueueFull = "queue_full", "`max_queue` requests were waiting already";
    QueueTimeout = "queue_timeout", "the request waited for `queue_timeout`";
    NoInstance = "no_instance", "no instance could be created";
    ClientGone = "client_gone", "the client left before its response was complete";
    ShutDown = "shutdown", "the server was shutting down, and the request was refused";
    Cut = "cut", "`shutdown_timeout` was over before the response was complete";
    Lost = "lost", "the worker died during the request";
    Internal = "internal", "an error in daylily";
    NoFile = "no_file", "the route serves files, and has none with this path";
    MethodNotAllowed = "method_not_allowed", "the route serves files, which have no methods but GET and HEAD";
    NoPermit = "no_permit", "no permit was free for a request of another guest, which does not wait for one";
    LoopDetected = "loop_detected", "the request would have been one more than `max_chain` in a chain";
}

impl RequestOutcome {
    /// Whether the request did not end as it should have.
    pub fn is_failure(self) -> bool {
        self != Self::Ok
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_every_outcome() {
        let document = include_str!("../../../docs/observability.md");
        for outcome in RequestOutcome::ALL {
            let row = format!("| `{outcome}` | {} |", outcome.meaning());
            assert!(document.lines().any(|line| line == row), "{row}");
        }
    }
}
