//! The memory that the host keeps for streams and futures.

use super::{Channel, Channels, Pending, Side};

impl Channels {
    /// Memory of all channels, in bytes.
    pub(crate) fn kept_bytes(&self) -> usize {
        let waiting = self.0.iter().map(|(_, channel)| channel.reader.waiting_bytes() + channel.writer.waiting_bytes());
        self.0.capacity() * size_of::<Channel>() + waiting.sum::<usize>()
    }
}

impl Side {
    /// Bytes of values that wait for the guest to allocate memory.
    fn waiting_bytes(&self) -> usize {
        self.event.as_ref().and_then(|event| event.pending.as_deref()).map_or(0, Pending::kept_bytes)
    }
}
