//! State that the framing, which passes a request's bytes to hyper, shares with the service, which hyper calls.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::framing::Body;

/// The request that is arriving on a connection, or the last one that arrived.
pub(crate) struct Arrival {
    /// The head has been passed to hyper up to its end, and hyper has not parsed it yet.
    has_head: AtomicBool,
    has_fragment: AtomicBool,
    /// Number of body bytes that were passed with the head. If not 0, they are the whole body.
    ahead: AtomicU64,
    body: AnnouncedBody,
    /// Part of the body has not been passed to hyper yet.
    is_body_coming: AtomicBool,
}

/// Facts about a head that the framing found and hyper does not report.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    /// hyper found the same end of the head as the framing, and the same body after it. If not, this must be the last
    /// request on the connection.
    pub(crate) is_agreed: bool,
    /// The target has a fragment, which `http::Uri` removes.
    pub(crate) has_fragment: bool,
}

/// The body that hyper found after a head, until the framing takes it: its length, or one of two values that hyper
/// never uses as a length.
struct AnnouncedBody(AtomicU64);

impl Arrival {
    pub(crate) fn new() -> Self {
        Self {
            has_head: AtomicBool::new(false),
            has_fragment: AtomicBool::new(false),
            ahead: AtomicU64::new(0),
            body: AnnouncedBody::none(),
            is_body_coming: AtomicBool::new(false),
        }
    }

    /// The end of a head was passed to hyper, and with it `ahead` bytes of the body (0 for none).
    pub(crate) fn note_head_end(&self, has_fragment: bool, ahead: u64) {
        self.has_head.store(true, Relaxed);
        self.has_fragment.store(has_fragment, Relaxed);
        self.ahead.store(ahead, Relaxed);
    }

    /// hyper has parsed a head and found this body after it.
    pub(crate) fn begin_body(&self, body: Body) -> Head {
        self.body.set(body);
        let ahead = self.ahead.load(Relaxed);
        self.is_body_coming.store(body != Body::Length(ahead), Relaxed);
        let is_agreed = self.has_head.load(Relaxed) && (ahead == 0 || body == Body::Length(ahead));
        self.has_head.store(false, Relaxed);
        Head { is_agreed, has_fragment: self.has_fragment.load(Relaxed) }
    }

    /// The body that hyper found after the head. Only the first call for a request returns it.
    pub(crate) fn take_body(&self) -> Option<Body> {
        self.body.take()
    }

    /// Whether hyper has a whole head that it has not parsed.
    pub(crate) fn has_head(&self) -> bool {
        self.has_head.load(Relaxed)
    }

    /// Whether the next bytes from the client belong to a request's body.
    pub(crate) fn is_body_coming(&self) -> bool {
        self.is_body_coming.load(Relaxed)
    }

    /// Whether a request is arriving: hyper has not parsed its head, or part of its body is missing.
    pub(crate) fn is_coming(&self) -> bool {
        self.has_head.load(Relaxed) || self.is_body_coming()
    }

    /// The whole body has been passed to hyper.
    pub(crate) fn note_body_end(&self) {
        self.is_body_coming.store(false, Relaxed);
    }
}

impl AnnouncedBody {
    const NONE: u64 = u64::MAX;
    const CHUNKED: u64 = u64::MAX - 1;

    const fn none() -> Self {
        Self(AtomicU64::new(Self::NONE))
    }

    fn set(&self, body: Body) {
        let number = match body {
            Body::Length(length) => length,
            Body::Chunked => Self::CHUNKED,
        };
        self.0.store(number, Relaxed);
    }

    fn take(&self) -> Option<Body> {
        let body = match self.0.load(Relaxed) {
            Self::NONE => return None,
            Self::CHUNKED => Body::Chunked,
            length => Body::Length(length),
        };
        self.0.store(Self::NONE, Relaxed);
        Some(body)
    }
}
