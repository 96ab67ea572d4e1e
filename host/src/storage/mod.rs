//! The storage process: keeps the key-value stores of one generation, for all of its workers.
//!
//! One process has the files open, so a worker that is killed or hangs never does so with a lock, and writes of all
//! workers are done one after the other. Each store has a thread. Workers connect through its
//! [doorbell](crate::ipc::doorbell), which the supervisor keeps when this process is started again.
//!
//! It ends by itself when no worker is left, and no process that could start one.

pub(crate) mod client;
pub(crate) mod command;
mod connection;
pub(crate) mod database;
pub(crate) mod dir;
mod entries;
mod events;
mod limits;
pub(crate) mod message;
mod remote;
mod service;
#[cfg(test)]
mod testing;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use daylily_core::config::{Store, StoreSecret};
use daylily_core::secret::Secret;
use serde::{Deserialize, Serialize};

use self::events::Events;
pub(crate) use self::events::MAX_EVENT_BYTES;
use self::remote::Remote;
use self::service::Service;
use crate::ipc::command::{FAILED, READY};
use crate::ipc::{child, fd_message};

/// The exit code of an error of the configuration (EX_CONFIG of sysexits.h).
const EXIT_CONFIGURATION: u8 = 78;

/// What the supervisor sends.
#[derive(Serialize, Deserialize)]
struct Setup {
    /// A path, which need not be UTF-8.
    dir: OsString,
    stores: Vec<Store>,
    /// For each store, what it has to tell its server. The stores themselves have it in no message, because workers get
    /// them, too.
    secrets: Vec<Option<Secret>>,
    /// It is the first storage process of its generation.
    is_first: bool,
}

/// Sends a storage process what it needs. For each store there is a doorbell.
///
/// # Errors
///
/// When the process has ended, or the system has no memory or descriptors left.
pub(crate) fn send(
    to: &UnixStream,
    dir: &Path,
    stores: &[Store],
    doorbells: &[BorrowedFd<'_>],
    is_first: bool,
) -> io::Result<()> {
    let secrets = stores.iter().map(|store| Some(store.server()?.secret.as_ref()?.secret.clone())).collect();
    let setup = Setup { dir: dir.as_os_str().to_owned(), stores: stores.to_owned(), secrets, is_first };
    fd_message::send(to, &postcard::to_stdvec(&setup).map_err(io::Error::other)?, doorbells)
}

fn receive(supervisor: &UnixStream) -> io::Result<(Setup, Vec<UnixStream>)> {
    let (payload, doorbells) = fd_message::receive(supervisor)?;
    let mut setup: Setup = postcard::from_bytes(&payload).map_err(io::Error::other)?;
    for (store, secret) in setup.stores.iter_mut().zip(setup.secrets.drain(..)) {
        if let Some(server) = store.server_mut() {
            server.secret = secret.map(StoreSecret::received);
        }
    }
    if setup.stores.len() != doorbells.len() {
        return Err(io::Error::other("a descriptor is missing"));
    }
    Ok((setup, doorbells.into_iter().map(UnixStream::from).collect()))
}

/// Runs a storage process to its end.
pub(crate) fn main() -> ExitCode {
    let (supervisor, (setup, doorbells)) = match child::begin(c"daylily-storage", "storage process", receive) {
        Ok(begun) => begun,
        Err(code) => return code,
    };
    match serve(&supervisor, setup, doorbells) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "the storage process cannot run: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What a thread keeps.
enum Keeper {
    File(Box<Service>),
    Server(Box<Remote>),
}

impl Keeper {
    /// As [`Service::open`] and [`Remote::open`].
    fn open(dir: &Path, store: Store, doorbell: UnixStream, events: Events, is_first: bool) -> Result<Self, String> {
        match store.server().cloned() {
            None => Service::open(dir.to_owned(), store, doorbell, events, is_first).map(Box::new).map(Self::File),
            Some(server) => Remote::open(store, server, doorbell, events, is_first).map(Box::new).map(Self::Server),
        }
    }

    fn run(self) -> io::Result<()> {
        match self {
            Self::File(service) => service.run(),
            Self::Server(remote) => remote.run(),
        }
    }
}

/// Opens all stores at the same time, because a server may take a while. Returns each with its name.
fn open_all(
    dir: &Path,
    stores: Vec<Store>,
    doorbells: Vec<UnixStream>,
    events: &Events,
    is_first: bool,
) -> io::Result<Vec<(String, Result<Keeper, String>)>> {
    std::thread::scope(|scope| {
        let begun = stores.into_iter().zip(doorbells).map(|(store, doorbell)| {
            let (name, events) = (store.name.clone(), events.clone());
            let open = move || (name, Keeper::open(dir, store, doorbell, events, is_first));
            std::thread::Builder::new().spawn_scoped(scope, open)
        });
        let begun: Vec<_> = begun.collect::<io::Result<_>>()?;
        let ended = begun.into_iter().map(|thread| thread.join().map_err(|_| io::Error::other("a store panicked")));
        ended.collect()
    })
}

fn serve(supervisor: &UnixStream, setup: Setup, doorbells: Vec<UnixStream>) -> io::Result<ExitCode> {
    let (dir, stores) = (PathBuf::from(setup.dir), setup.stores);
    dir::keep_private();
    child::abort_on_panic();
    let events = Events::new(supervisor.try_clone()?);
    let (mut keepers, mut refused) = (Vec::new(), Vec::new());
    for (name, opened) in open_all(&dir, stores, doorbells, &events, setup.is_first)? {
        match opened {
            Ok(keeper) => keepers.push((name, keeper)),
            Err(reason) => refused.push(format!("store `{name}`: {reason}")),
        }
    }
    if !refused.is_empty() {
        let message = [&[FAILED, EXIT_CONFIGURATION][..], refused.join("\n").as_bytes()].concat();
        (&mut &*supervisor).write_all(&message)?;
        return Ok(ExitCode::from(EXIT_CONFIGURATION));
    }
    (&mut &*supervisor).write_all(&[READY])?;
    let beating = supervisor.try_clone()?;
    std::thread::Builder::new().name("heartbeat".into()).spawn(move || Events::beat(beating))?;
    let threads = keepers.into_iter().map(|(name, keeper)| {
        std::thread::Builder::new().name(name.clone()).spawn(move || {
            if let Err(error) = keeper.run() {
                let _ = writeln!(io::stderr(), "the storage process cannot serve the store `{name}`: {error}");
                std::process::exit(1);
            }
        })
    });
    let threads: Vec<_> = threads.collect::<io::Result<_>>()?;
    for thread in threads {
        let _ = thread.join();
    }
    Ok(ExitCode::SUCCESS)
}
