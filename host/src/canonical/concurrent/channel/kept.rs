//! What the host keeps for streams and futures.

use super::{Channel, Channels, Pending, Side};

impl Channels {
    /// In bytes.
    pub(in crate::canonical) fn kept_bytes(&self) -> usize {
        let waiting = self.0.iter().map(|(_, channel)| channel.reader.waiting_bytes() + channel.writer.waiting_bytes());
        self.0.capacity() * size_of::<Channel>() + waiting.sum::<usize>()
    }
}

impl Side {
    /// Values that the guest has not made room for yet.
    fn waiting_bytes(&self) -> usize {
        self.event.as_ref().and_then(|event| event.pending.as_deref()).map_or(0, Pending::kept_bytes)
    }
}
