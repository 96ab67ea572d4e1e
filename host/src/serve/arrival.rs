//! What the framing, which lets a request through to hyper, and the service, which hyper then calls, tell each other.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::framing::Body;

/// The request that arrives on a connection, or arrived last.
pub(super) struct Arrival {
    /// Its head has come to its end, and is hyper's to parse.
    has_head: AtomicBool,
    has_fragment: AtomicBool,
    /// So many bytes of the body came with the head, which is then all of it.
    ahead: AtomicU64,
    body: AnnouncedBody,
    /// Not all of the body has come to hyper yet.
    is_body_coming: AtomicBool,
}

/// What the framing found in a head, and hyper does not say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    /// hyper found its end where the framing did, and the same body behind it. If not, the connection must end with this request.
    pub(crate) is_agreed: bool,
    /// The target has a fragment, which `http::Uri` cuts off.
    pub(crate) has_fragment: bool,
}

/// The body that hyper found after a head, until the framing has been told: its length, or one of two values that
/// hyper takes for no length.
struct AnnouncedBody(AtomicU64);

impl Arrival {
    pub(super) fn new() -> Self {
        Self {
            has_head: AtomicBool::new(false),
            has_fragment: AtomicBool::new(false),
            ahead: AtomicU64::new(0),
            body: AnnouncedBody::none(),
            is_body_coming: AtomicBool::new(false),
        }
    }

    /// A head has come to its end, and with it as many bytes of the body, if any.
    pub(super) fn note_head_end(&self, has_fragment: bool, ahead: u64) {
        self.has_head.store(true, Relaxed);
        self.has_fragment.store(has_fragment, Relaxed);
        self.ahead.store(ahead, Relaxed);
    }

    /// hyper has parsed a head, and finds this body after it.
    pub(super) fn begin_body(&self, body: Body) -> Head {
        self.body.set(body);
        let ahead = self.ahead.load(Relaxed);
        self.is_body_coming.store(body != Body::Length(ahead), Relaxed);
        let is_agreed = self.has_head.load(Relaxed) && (ahead == 0 || body == Body::Length(ahead));
        self.has_head.store(false, Relaxed);
        Head { is_agreed, has_fragment: self.has_fragment.load(Relaxed) }
    }

    /// The body that hyper found after the head, the first time this is asked.
    pub(super) fn take_body(&self) -> Option<Body> {
        self.body.take()
    }

    /// Whether bytes that come are of a request's body.
    pub(super) fn is_body_coming(&self) -> bool {
        self.is_body_coming.load(Relaxed)
    }

    /// Whether a request has begun to arrive, and hyper has not parsed its head or not all of its body has come.
    pub(super) fn is_coming(&self) -> bool {
        self.has_head.load(Relaxed) || self.is_body_coming()
    }

    /// All of the body has come to hyper.
    pub(super) fn note_body_end(&self) {
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
