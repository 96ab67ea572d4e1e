//! What processes of daylily say to each other, for the fuzz targets.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use daylily_core::config::Config;

use super::account::Totals;
use super::handover::Head;
use super::order::Order;
use super::parcel;
use super::report::{Command, Reply};
use super::sockets::Sockets;
use super::upgrade::Estate;
use crate::engine::Facts;
use crate::sealed::sealed;

/// Something that one process says to another.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// What it would be.
    pub kind: &'static str,
    /// What was understood, written again; the same when that is read. None for what is no such message.
    pub understood: Option<Vec<u8>>,
}

/// What each reader understands of some bytes: whatever they are, none may panic, or take memory or time that does not
/// depend on their length.
pub fn messages(bytes: &[u8]) -> Vec<Message> {
    let json = |kind, understood: Option<Result<Vec<u8>, serde_json::Error>>| Message {
        kind,
        understood: understood.and_then(Result::ok),
    };
    let estate = || serde_json::from_slice::<Estate>(bytes).ok();
    if let Some(estate) = estate() {
        // Without the descriptors that it speaks of.
        drop(Sockets::from_inventory(estate.inventory, &mut std::iter::empty()));
    }
    let reply = serde_json::from_slice::<Reply>(bytes).ok();
    if let Some(Reply::Status(status)) = &reply {
        drop(status.to_text());
    }
    vec![
        json("command", serde_json::from_slice::<Command>(bytes).ok().map(|it| serde_json::to_vec(&it))),
        json("reply", reply.map(|it| serde_json::to_vec(&it))),
        json("totals", serde_json::from_slice::<Totals>(bytes).ok().map(|it| serde_json::to_vec(&it))),
        json("estate", estate().map(|it| serde_json::to_vec(&it))),
        Message {
            kind: "handover",
            understood: postcard::from_bytes::<(Head, Config)>(bytes)
                .ok()
                .and_then(|(head, config)| postcard::to_stdvec(&(head, config)).ok()),
        },
        Message {
            kind: "facts",
            understood: postcard::from_bytes::<Facts>(bytes).ok().and_then(|it| postcard::to_stdvec(&it).ok()),
        },
        Message { kind: "order", understood: Order::read(&mut { bytes }).ok().map(|order| order.to_bytes()) },
        Message { kind: "parcel", understood: parcel_of(bytes) },
    ]
}

/// The payload of a parcel whose sender has written these bytes, without descriptors, and then a parcel of its own.
fn parcel_of(bytes: &[u8]) -> Option<Vec<u8>> {
    let (ours, theirs) = UnixStream::pair().ok()?;
    ours.set_nonblocking(true).ok()?;
    (&ours).write_all(bytes.get(..bytes.len().min(64))?).ok()?;
    let file = sealed("fuzzing", bytes).ok()?;
    parcel::send(&ours, bytes, &[file.as_fd()]).ok()?;
    drop(ours);
    parcel::receive(&theirs).ok().map(|(payload, _)| payload)
}
