//! Every error response that daylily sends instead of a guest's response.

use std::fmt;

use crate::diagnosis::Diagnosis;
use crate::excerpt::Excerpt;
use crate::request_outcome::RequestOutcome;

/// Why daylily, and not the guest, responds to a request.
///
/// `detail` goes into the log, and into the response only with `--dev`: it may reveal internals of the guest to
/// clients. It is an [`Excerpt`], since much of it is text from a guest or a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorResponse {
    /// 400: not a valid HTTP request.
    Malformed {
        /// What is wrong with it.
        detail: Excerpt,
    },
    /// 404: no route for this host and path.
    NoRoute,
    /// 404: the route serves files, and has none with this path.
    NoFile,
    /// 421: the request's host is no name of the server of `daylily dev`.
    ForeignHost,
    /// 421: a client's request for a host that is reserved for requests from route to route.
    ReservedHost,
    /// 405: the route serves files, which have no methods but GET and HEAD.
    MethodNotAllowed,
    /// 408: the request's head took longer than `head_timeout`.
    HeadTimeout,
    /// 408: the request's body made no progress for `body_timeout`.
    BodyTimeout,
    /// 408: the request's body made too little progress while other requests waited for its permit.
    GaveWay,
    /// 413: the request's body is longer than `max_body`.
    BodyTooLarge,
    /// 414: the request line is longer than `max_head`, or its target longer than a URI may be.
    TargetTooLong,
    /// 431: the request's head is longer than `max_head`, or has more fields than `max_headers`.
    HeadTooLarge,
    /// 500: the guest trapped before it responded.
    Trap {
        /// The trap, as described by wasmtime.
        detail: Excerpt,
    },
    /// 500: the guest ended without a response.
    NoResponse,
    /// 500: the guest's response is not valid in HTTP.
    InvalidResponse {
        /// What is wrong with it.
        detail: Excerpt,
    },
    /// 502: the guest returned an error code of `wasi:http`.
    GuestError {
        /// The error code.
        detail: Excerpt,
    },
    /// 503: `max_queue` requests are waiting already.
    QueueFull,
    /// 503: the request waited for `queue_timeout` without getting a permit.
    QueueTimeout,
    /// 503: the pool had no room for another instance.
    NoInstance {
        /// The resource that ran out.
        detail: Excerpt,
    },
    /// 503: the server drains and accepts no more requests.
    ShuttingDown,
    /// 503: no permit was free for a request of another guest, which does not wait for one.
    NoPermit,
    /// 504: the guest used up its `cpu_time`.
    CpuTime {
        /// The limit, as a key and a value.
        detail: Excerpt,
    },
    /// 504: `wall_time` passed before there was a response.
    WallTime {
        /// The limit, as a key and a value.
        detail: Excerpt,
    },
    /// 501: the request's body has a transfer coding other than `chunked`.
    UnknownCoding,
    /// 508: the request would have been one more than `max_chain` in a chain of requests of guests.
    LoopDetected,
    /// 500: an error in daylily.
    Internal {
        /// What went wrong.
        detail: Excerpt,
    },
}

/// Who has to change something so that the request succeeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The client that sent the request.
    Client,
    /// The author of the component.
    Guest,
    /// daylily, or the machine that it runs on.
    Host,
    /// No party: there are more requests than the limits admit, or the server is draining.
    Overload,
}

impl ErrorResponse {
    /// The status code of the response.
    pub fn status(&self) -> u16 {
        match self {
            Self::Malformed { .. } => 400,
            Self::NoRoute | Self::NoFile => 404,
            Self::MethodNotAllowed => 405,
            Self::HeadTimeout | Self::BodyTimeout | Self::GaveWay => 408,
            Self::BodyTooLarge => 413,
            Self::TargetTooLong => 414,
            Self::ForeignHost | Self::ReservedHost => 421,
            Self::HeadTooLarge => 431,
            Self::UnknownCoding => 501,
            Self::Trap { .. } | Self::NoResponse | Self::InvalidResponse { .. } | Self::Internal { .. } => 500,
            Self::GuestError { .. } => 502,
            Self::QueueFull | Self::QueueTimeout | Self::NoPermit | Self::NoInstance { .. } | Self::ShuttingDown => 503,
            Self::CpuTime { .. } | Self::WallTime { .. } => 504,
            Self::LoopDetected => 508,
        }
    }

    /// The outcome of a request that is refused with this response.
    pub fn outcome(&self) -> RequestOutcome {
        match self {
            Self::Malformed { .. } => RequestOutcome::Malformed,
            Self::NoRoute | Self::ForeignHost | Self::ReservedHost => RequestOutcome::NoRoute,
            Self::NoFile => RequestOutcome::NoFile,
            Self::MethodNotAllowed => RequestOutcome::MethodNotAllowed,
            Self::HeadTimeout => RequestOutcome::HeadTimeout,
            Self::BodyTimeout => RequestOutcome::BodyTimeout,
            Self::GaveWay => RequestOutcome::BodySlow,
            Self::BodyTooLarge => RequestOutcome::BodyLimit,
            Self::TargetTooLong | Self::HeadTooLarge => RequestOutcome::HeadLimit,
            Self::UnknownCoding => RequestOutcome::Unsupported,
            Self::Trap { .. } => RequestOutcome::Trap,
            Self::NoResponse => RequestOutcome::NoResponse,
            Self::InvalidResponse { .. } => RequestOutcome::InvalidResponse,
            Self::GuestError { .. } => RequestOutcome::GuestError,
            Self::QueueFull => RequestOutcome::QueueFull,
            Self::QueueTimeout => RequestOutcome::QueueTimeout,
            Self::NoPermit => RequestOutcome::NoPermit,
            Self::LoopDetected => RequestOutcome::LoopDetected,
            Self::NoInstance { .. } => RequestOutcome::NoInstance,
            Self::ShuttingDown => RequestOutcome::ShutDown,
            Self::CpuTime { .. } => RequestOutcome::CpuLimit,
            Self::WallTime { .. } => RequestOutcome::WallLimit,
            Self::Internal { .. } => RequestOutcome::Internal,
        }
    }

    /// The reason in a few words, the same for every error response of this kind.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "malformed request",
            Self::NoRoute => "no such route",
            Self::NoFile => "no such file",
            Self::ForeignHost => {
                "this host is no name of the development server: use localhost, or name it with --listen"
            }
            Self::ReservedHost => "this host is reserved for requests from route to route",
            Self::MethodNotAllowed => "method not allowed",
            Self::HeadTimeout => "request head timed out",
            Self::BodyTimeout => "request body timed out",
            Self::GaveWay => "request body too slow while other requests waited",
            Self::BodyTooLarge => "request body too large",
            Self::TargetTooLong => "request target too long",
            Self::HeadTooLarge => "request head too large",
            Self::UnknownCoding => "unsupported transfer coding",
            Self::Trap { .. } => "guest trapped",
            Self::NoResponse => "guest returned no response",
            Self::InvalidResponse { .. } => "guest returned an invalid response",
            Self::GuestError { .. } => "guest returned an error code",
            Self::QueueFull => "request queue full",
            Self::QueueTimeout => "timed out in queue",
            Self::NoPermit => "no permit is free for a request of another guest",
            Self::LoopDetected => "too many requests in a chain",
            Self::NoInstance { .. } => "cannot create an instance",
            Self::ShuttingDown => "server is shutting down",
            Self::CpuTime { .. } => "CPU time limit exceeded",
            Self::WallTime { .. } => "wall time limit exceeded",
            Self::Internal { .. } => "internal error",
        }
    }

    /// The part of the reason that is specific to this request, if any.
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::Malformed { detail }
            | Self::Trap { detail }
            | Self::InvalidResponse { detail }
            | Self::GuestError { detail }
            | Self::CpuTime { detail }
            | Self::WallTime { detail }
            | Self::NoInstance { detail }
            | Self::Internal { detail } => Some(detail.as_str()),
            Self::NoRoute
            | Self::NoFile
            | Self::ForeignHost
            | Self::ReservedHost
            | Self::MethodNotAllowed
            | Self::HeadTimeout
            | Self::BodyTimeout
            | Self::GaveWay
            | Self::BodyTooLarge
            | Self::TargetTooLong
            | Self::HeadTooLarge
            | Self::UnknownCoding
            | Self::NoPermit
            | Self::LoopDetected
            | Self::NoResponse
            | Self::QueueFull
            | Self::QueueTimeout
            | Self::ShuttingDown => None,
        }
    }

    /// Who is to blame, which determines the log level.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Malformed { .. }
            | Self::NoRoute
            | Self::NoFile
            | Self::ForeignHost
            | Self::ReservedHost
            | Self::MethodNotAllowed
            | Self::HeadTimeout
            | Self::BodyTimeout
            | Self::GaveWay
            | Self::BodyTooLarge
            | Self::TargetTooLong
            | Self::HeadTooLarge
            | Self::UnknownCoding => Blame::Client,
            Self::Trap { .. }
            | Self::NoResponse
            | Self::InvalidResponse { .. }
            | Self::GuestError { .. }
            | Self::LoopDetected
            | Self::CpuTime { .. }
            | Self::WallTime { .. } => Blame::Guest,
            Self::QueueFull | Self::QueueTimeout | Self::NoPermit | Self::ShuttingDown => Blame::Overload,
            Self::NoInstance { .. } | Self::Internal { .. } => Blame::Host,
        }
    }

    /// The response's `Retry-After`, in seconds, if a retry can succeed.
    pub fn retry_after_s(&self) -> Option<u32> {
        (self.status() == 503).then_some(1)
    }

    /// The response's body, plain text. Its first line is the reason; with `dev` that has the detail, and what is known
    /// of the guest follows. An exception that ended the guest says more than the reason, and comes before it.
    pub fn body(&self, request_id: &str, dev: bool, diagnosis: Option<&Diagnosis>) -> String {
        if !dev {
            return format!("{} (request {request_id})\n", self.class());
        }
        let exception = diagnosis.filter(|_| self.may_be_by_exception()).and_then(Diagnosis::exception);
        let exception = exception.map(|exception| format!("{exception}\n")).unwrap_or_default();
        let diagnosis = diagnosis.map(ToString::to_string).unwrap_or_default();
        format!("{exception}{self} (request {request_id})\n{diagnosis}")
    }

    /// Whether the reason is what follows when a guest throws an exception or panics.
    fn may_be_by_exception(&self) -> bool {
        matches!(self, Self::Trap { .. } | Self::NoResponse | Self::InvalidResponse { .. } | Self::GuestError { .. })
    }
}

impl fmt::Display for ErrorResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.class())?;
        match self.detail() {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ErrorResponse {}

impl Blame {
    /// Its name in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Guest => "guest",
            Self::Host => "host",
            Self::Overload => "overload",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal() {
        fn check(refusal: ErrorResponse, expected: &str) {
            let retry = refusal.retry_after_s().map_or(String::new(), |s| format!(" retry {s}"));
            let actual = format!("{} [{refusal}] {}{retry}", refusal.status(), refusal.blame().as_str());
            assert_eq!(actual, expected);
        }
        let detail = || Excerpt::of("why");
        check(ErrorResponse::Malformed { detail: detail() }, "400 [malformed request: why] client");
        check(ErrorResponse::NoRoute, "404 [no such route] client");
        check(ErrorResponse::NoFile, "404 [no such file] client");
        check(ErrorResponse::MethodNotAllowed, "405 [method not allowed] client");
        check(
            ErrorResponse::ForeignHost,
            "421 [this host is no name of the development server: use localhost, or name it with --listen] client",
        );
        check(ErrorResponse::ReservedHost, "421 [this host is reserved for requests from route to route] client");
        check(ErrorResponse::HeadTimeout, "408 [request head timed out] client");
        check(ErrorResponse::BodyTimeout, "408 [request body timed out] client");
        check(ErrorResponse::GaveWay, "408 [request body too slow while other requests waited] client");
        check(ErrorResponse::BodyTooLarge, "413 [request body too large] client");
        check(ErrorResponse::TargetTooLong, "414 [request target too long] client");
        check(ErrorResponse::HeadTooLarge, "431 [request head too large] client");
        check(ErrorResponse::Trap { detail: detail() }, "500 [guest trapped: why] guest");
        check(ErrorResponse::NoResponse, "500 [guest returned no response] guest");
        check(
            ErrorResponse::InvalidResponse { detail: detail() },
            "500 [guest returned an invalid response: why] guest",
        );
        check(ErrorResponse::GuestError { detail: detail() }, "502 [guest returned an error code: why] guest");
        check(ErrorResponse::QueueFull, "503 [request queue full] overload retry 1");
        check(ErrorResponse::QueueTimeout, "503 [timed out in queue] overload retry 1");
        check(ErrorResponse::NoPermit, "503 [no permit is free for a request of another guest] overload retry 1");
        check(ErrorResponse::LoopDetected, "508 [too many requests in a chain] guest");
        check(ErrorResponse::NoInstance { detail: detail() }, "503 [cannot create an instance: why] host retry 1");
        check(ErrorResponse::ShuttingDown, "503 [server is shutting down] overload retry 1");
        check(ErrorResponse::CpuTime { detail: detail() }, "504 [CPU time limit exceeded: why] guest");
        check(ErrorResponse::WallTime { detail: detail() }, "504 [wall time limit exceeded: why] guest");
        check(ErrorResponse::UnknownCoding, "501 [unsupported transfer coding] client");
        check(ErrorResponse::Internal { detail: detail() }, "500 [internal error: why] host");
    }

    #[test]
    fn details_are_for_developers() {
        fn check(refusal: &ErrorResponse, dev: bool, expected: &str) {
            assert_eq!(refusal.body("00ff", dev, None), expected);
        }
        let trap = ErrorResponse::Trap { detail: "unreachable".into() };
        check(&trap, false, "guest trapped (request 00ff)\n");
        check(&trap, true, "guest trapped: unreachable (request 00ff)\n");
        check(&ErrorResponse::NoRoute, true, "no such route (request 00ff)\n");
        let mut diagnosis = Diagnosis::default();
        diagnosis.stderr().push(b"secret\n");
        assert_eq!(trap.body("00ff", false, Some(&diagnosis)), trap.body("00ff", false, None));
        let shown = "guest trapped: unreachable (request 00ff)\n\nstderr:\nsecret\n";
        assert_eq!(trap.body("00ff", true, Some(&diagnosis)), shown);
        diagnosis.stderr().push(b"Traceback (most recent call last):\n  File\nKeyError: 'a\x1b'\n");
        let shown = trap.body("00ff", true, Some(&diagnosis));
        assert!(shown.starts_with("KeyError: 'a\\u{1b}'\nguest trapped: unreachable (request 00ff)\n\n"), "{shown}");
        let limit = ErrorResponse::WallTime { detail: "limit".into() };
        assert!(limit.body("00ff", true, Some(&diagnosis)).starts_with("wall time limit exceeded: limit (request"));
    }
}
