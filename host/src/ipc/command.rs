//! The binary protocol between a supervisor and a worker, after the fd message of the start: worker commands in one
//! direction, one-byte reports in the other.

use std::io::{self, Read};

/// Sent once by a worker: it has loaded everything, and accepts connections after the first [`WorkerCommand::Accept`].
pub(crate) const READY: u8 = b'r';

/// Sent by a worker instead of [`READY`]: it cannot serve. An exit code (one byte) and the reason (up to the end of the
/// stream) follow.
pub(crate) const FAILED: u8 = b'f';

/// Sent by a worker after [`WorkerCommand::End`]: it has stopped accepting, except that it empties the backlogs of the sockets
/// in [`End::closes`].
pub(crate) const CLOSED: u8 = b'c';

/// A worker command: sent by the supervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WorkerCommand {
    End(End),
    /// Accept on the worker's own sockets and on those of these absent workers, and on no others.
    Accept(Vec<u32>),
    /// Serve as before, and close each connection after its next response.
    CloseConnections,
}

/// How a worker is to drain. It finishes the requests in progress in any case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct End {
    /// No other generation serves afterwards, and the stop is waited for.
    pub(crate) is_last: bool,
    /// The listening sockets (by their index in the setup) that no process accepts on any more: the connections in
    /// their backlogs must be accepted and answered as well.
    pub(crate) closes: Vec<u32>,
}

impl WorkerCommand {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let (kind, numbers) = match self {
            Self::End(End { is_last: false, closes }) => (b'd', closes),
            Self::End(End { is_last: true, closes }) => (b's', closes),
            Self::Accept(workers) => (b'c', workers),
            Self::CloseConnections => (b'k', &Vec::new()),
        };
        let count = u32::try_from(numbers.len()).unwrap_or(0);
        let numbers = std::iter::once(&count).chain(numbers).flat_map(|number| number.to_le_bytes());
        std::iter::once(kind).chain(numbers).collect()
    }

    /// # Errors
    ///
    /// When the supervisor has closed the channel, or sent an unknown command.
    pub(crate) fn read(from: &mut impl Read) -> io::Result<Self> {
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
            b"c" => Ok(Self::Accept(numbers)),
            b"k" => Ok(Self::CloseConnections),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_arrive_as_they_were_sent() {
        let commands = [
            WorkerCommand::Accept(vec![]),
            WorkerCommand::Accept(vec![0, 7, 255]),
            WorkerCommand::CloseConnections,
            WorkerCommand::End(End::default()),
            WorkerCommand::End(End { is_last: true, closes: vec![3, 1] }),
        ];
        let bytes: Vec<u8> = commands.iter().flat_map(WorkerCommand::to_bytes).collect();
        let mut bytes = bytes.as_slice();
        for command in commands {
            assert_eq!(WorkerCommand::read(&mut bytes).expect("a command"), command);
        }
        assert!(WorkerCommand::read(&mut bytes).is_err());
        assert!(WorkerCommand::read(&mut &b"?\0\0\0\0"[..]).is_err());
    }
}
