//! The decoders of the messages between daylily's processes, for the fuzz targets.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use daylily_core::config::Config;

use super::control_socket::report::{Command, Reply};
use super::upgrade::Handoff;
use crate::artifact::Facts;
use crate::ipc::command::WorkerCommand;
use crate::ipc::fd_message;
use crate::net::sockets::Sockets;
use crate::observe::counters::Totals;
use crate::sys::sealed::sealed;
use crate::worker::setup::SetupHeader;

/// The result of one decoder.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// The type of message that was decoded.
    pub kind: &'static str,
    /// The decoded message, encoded again: decoding that must give the same message. None when the bytes are no such
    /// message.
    pub understood: Option<Vec<u8>>,
}

/// Runs every decoder on `bytes`. No input may make one panic, or use memory or time out of proportion to its length.
pub fn messages(bytes: &[u8]) -> Vec<Message> {
    let json = |kind, understood: Option<Result<Vec<u8>, serde_json::Error>>| Message {
        kind,
        understood: understood.and_then(Result::ok),
    };
    let handoff = || serde_json::from_slice::<Handoff>(bytes).ok();
    if let Some(handoff) = handoff() {
        // Without the descriptors that it announces.
        drop(Sockets::from_inventory(handoff.inventory, &mut std::iter::empty()));
    }
    let reply = serde_json::from_slice::<Reply>(bytes).ok();
    if let Some(Reply::Status(status)) = &reply {
        drop(status.to_text());
    }
    vec![
        json("command", serde_json::from_slice::<Command>(bytes).ok().map(|it| serde_json::to_vec(&it))),
        json("reply", reply.map(|it| serde_json::to_vec(&it))),
        json("totals", serde_json::from_slice::<Totals>(bytes).ok().map(|it| serde_json::to_vec(&it))),
        json("handoff", handoff().map(|it| serde_json::to_vec(&it))),
        Message {
            kind: "worker setup",
            understood: postcard::from_bytes::<(SetupHeader, Config)>(bytes)
                .ok()
                .and_then(|(head, config)| postcard::to_stdvec(&(head, config)).ok()),
        },
        Message {
            kind: "facts",
            understood: postcard::from_bytes::<Facts>(bytes).ok().and_then(|it| postcard::to_stdvec(&it).ok()),
        },
        Message {
            kind: "worker command",
            understood: WorkerCommand::read(&mut { bytes }).ok().map(|command| command.to_bytes()),
        },
        Message { kind: "fd message", understood: fd_message_of(bytes) },
    ]
}

/// The payload of an fd message whose sender has written these bytes, without descriptors, and then a valid fd message.
fn fd_message_of(bytes: &[u8]) -> Option<Vec<u8>> {
    let (ours, theirs) = UnixStream::pair().ok()?;
    ours.set_nonblocking(true).ok()?;
    (&ours).write_all(bytes.get(..bytes.len().min(64))?).ok()?;
    let file = sealed("fuzzing", bytes).ok()?;
    fd_message::send(&ours, bytes, &[file.as_fd()]).ok()?;
    drop(ours);
    fd_message::receive(&theirs).ok().map(|(payload, _)| payload)
}
