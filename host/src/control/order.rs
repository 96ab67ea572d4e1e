//! What a supervisor and a worker say to each other, byte by byte.

use std::io::{self, Read};

/// A worker says it once: it has loaded everything, and accepts connections as soon as it is told to.
pub(super) const READY: u8 = b'r';

/// A worker says it instead: it cannot serve. Then come an exit code and, to the end, the reason.
pub(super) const FAILED: u8 = b'f';

/// A worker says it after [`Order::End`]: what is accepted from now on, others accept, but for what waited
/// on sockets that close.
pub(super) const CLOSED: u8 = b'c';

/// What a supervisor tells a worker to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    End(End),
    /// Accept, and for these workers too, which are not there now, and for no others any more.
    Cover(Vec<u32>),
}

/// How a worker is to end: it finishes what it has, in any case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct End {
    /// Nobody serves after it, and somebody waits for the end.
    pub(super) is_last: bool,
    /// The listening sockets (by their place in the handover) that nobody accepts on any more: what waits
    /// in their backlogs is to be answered as well.
    pub(super) closes: Vec<u32>,
}

impl Order {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let (kind, numbers) = match self {
            Self::End(End { is_last: false, closes }) => (b'd', closes),
            Self::End(End { is_last: true, closes }) => (b's', closes),
            Self::Cover(workers) => (b'c', workers),
        };
        let count = u32::try_from(numbers.len()).unwrap_or(0);
        let numbers = std::iter::once(&count).chain(numbers).flat_map(|number| number.to_le_bytes());
        std::iter::once(kind).chain(numbers).collect()
    }

    /// # Errors
    ///
    /// When the supervisor is gone, or says something that this worker does not know.
    pub(super) fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut kind = [0];
        from.read_exact(&mut kind)?;
        let mut number = || {
            let mut bytes = [0; 4];
            from.read_exact(&mut bytes).map(|()| u32::from_le_bytes(bytes))
        };
        let count = number()?;
        let numbers = (0..count).map(|_| number()).collect::<io::Result<_>>()?;
        match &kind {
            b"d" => Ok(Self::End(End { is_last: false, closes: numbers })),
            b"s" => Ok(Self::End(End { is_last: true, closes: numbers })),
            b"c" => Ok(Self::Cover(numbers)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_arrive_as_they_were_given() {
        let orders = [
            Order::Cover(vec![]),
            Order::Cover(vec![0, 7, 255]),
            Order::End(End::default()),
            Order::End(End { is_last: true, closes: vec![3, 1] }),
        ];
        let bytes: Vec<u8> = orders.iter().flat_map(Order::to_bytes).collect();
        let mut bytes = bytes.as_slice();
        for order in orders {
            assert_eq!(Order::read(&mut bytes).expect("an order"), order);
        }
        assert!(Order::read(&mut bytes).is_err());
        assert!(Order::read(&mut &b"?\0\0\0\0"[..]).is_err());
    }
}
