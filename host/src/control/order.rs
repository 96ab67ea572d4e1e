//! What a supervisor and a worker say to each other, byte by byte.

/// A worker says it once: it accepts connections.
pub(super) const READY: u8 = b'r';

/// A worker says it instead: it cannot serve. Then come an exit code and, to the end, the reason.
pub(super) const FAILED: u8 = b'f';

/// What a supervisor tells a worker to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Finish what it has; others accept on the same sockets.
    Drain,
    /// The same, and nobody else accepts: what waits in the backlog is to be answered too.
    Stop,
}

impl Order {
    pub(super) fn to_byte(self) -> u8 {
        match self {
            Self::Drain => b'd',
            Self::Stop => b's',
        }
    }

    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        [Self::Drain, Self::Stop].into_iter().find(|order| order.to_byte() == byte)
    }
}
