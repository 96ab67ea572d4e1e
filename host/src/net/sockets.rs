//! The listening sockets. They belong to the supervisor and stay open when a worker dies, so that
//! connections wait for its replacement in the backlog instead of being refused.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use daylily_core::config::{Listen, ListenAddr, UnixListen};
use daylily_core::log_target;
use rustix::net::sockopt;
use serde::{Deserialize, Serialize};

use crate::net::address::Address;
use crate::net::listen::{self, ListenError, Refused};
use crate::net::passed;
use crate::net::start_lock::StartLock;
use crate::net::unix::{self, FileId, SocketFile};

/// The sockets of one generation. Cheap to clone: clones share the sockets, and the last one closes them.
#[derive(Clone, Default)]
pub(crate) struct Sockets {
    bound: Vec<Bound>,
    given: Vec<Given>,
}

/// The sockets at one address: of TCP one for each worker, between which the kernel spreads connections
/// (`SO_REUSEPORT`), or one for all of them; of Unix one for all of them.
#[derive(Clone)]
struct Bound {
    listen: Listen,
    address: Address,
    /// The file of a Unix socket that daylily opens. It is dropped before the socket is closed, and until then the path
    /// looks in use.
    file: Option<Arc<SocketFile>>,
    sockets: Vec<Arc<OwnedFd>>,
    /// No other socket of daylily's had the port when these were bound.
    is_alone: bool,
}

/// A socket that systemd passed.
#[derive(Clone)]
struct Given {
    name: String,
    socket: Arc<OwnedFd>,
}

/// The sockets or the address of one entry of `listen`, before anything is bound.
enum Found<'a> {
    /// Sockets that are open already.
    Open(Bound),
    /// An address at which nothing listens.
    Free(&'a ListenAddr, SocketAddr),
    /// A path at which nothing listens.
    FreePath(&'a UnixListen),
    Given(Vec<Bound>),
}

/// What the workers do with a socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Assignment {
    /// The workers that accept on it while no worker is absent: one, or several where there are fewer sockets than
    /// workers.
    pub(crate) owners: Vec<u32>,
    /// systemd passed it, and keeps it open.
    pub(crate) is_lent: bool,
    /// Its number in [`Sockets::names`].
    pub(crate) name: u32,
}

/// The description of [`Sockets`] without the descriptors, to be sent to another process, which may be of another
/// version: fields may be added, but not changed. The descriptors are in the order of the fields.
#[derive(Serialize, Deserialize)]
pub(crate) struct Inventory {
    /// TCP sockets.
    bound: Vec<(Listen, SocketAddr, u32)>,
    given: Vec<String>,
    /// Unix sockets that daylily opened.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    unix: Vec<(Listen, PathBuf, FileId)>,
}

impl Sockets {
    /// The sockets that systemd passed to this process, if any; nothing listens on them yet.
    ///
    /// # Errors
    ///
    /// When one of them is not a listening socket.
    pub(crate) fn from_systemd() -> Result<Self, ListenError> {
        let given = passed::sockets()?.into_iter().map(|(name, socket)| Given { name, socket: Arc::new(socket) });
        Ok(Self { bound: Vec::new(), given: given.collect() })
    }

    /// The sockets for `wanted` and this number of workers: sockets that are open are kept, missing ones are bound. For
    /// more workers, sockets are added, which the kernel uses only after [`Sockets::listen`]. For fewer workers, no
    /// socket is closed, because the connections in its backlog would be lost: the workers share all of them. Blocks
    /// while names are resolved.
    ///
    /// # Errors
    ///
    /// Every address that cannot be bound, and every socket that systemd did not pass.
    pub(crate) fn open(&self, wanted: Option<&[Listen]>, workers: u32) -> Result<Self, Vec<ListenError>> {
        let unsaid =
            [if self.given.is_empty() { Listen::Address(ListenAddr::default()) } else { Listen::Systemd(None) }];
        let wanted = wanted.unwrap_or(&unsaid);
        let mut failures = Vec::new();
        let mut fail = |failure| failures.push(failure);
        // Find all of them before binding any: `0.0.0.0:80` and `[::]:80` conflict only while one of them is tried
        // without SO_REUSEPORT.
        let found: Vec<_> = wanted.iter().filter_map(|listen| self.find(listen).map_err(&mut fail).ok()).collect();
        let mut bound = Vec::new();
        for found in found {
            match self.bind(found, workers) {
                Ok(several) => {
                    // Two entries may refer to the same socket: `systemd:NAME` and `systemd`.
                    let is_new = |one: &Bound| !bound.iter().any(|bound: &Bound| bound.shares_with(one));
                    let new: Vec<_> = several.into_iter().filter(is_new).collect();
                    bound.extend(new);
                }
                Err(failure) => fail(failure),
            }
        }
        if !failures.is_empty() {
            return Err(failures);
        }
        let unused = self.given.iter().filter(|given| !bound.iter().any(|bound| bound.has(&given.socket)));
        for given in unused {
            tracing::warn!(
                target: log_target::SUPERVISOR,
                "the socket `{}` that systemd passed is not used; write listen = \"systemd\" to use all",
                given.name
            );
        }
        Ok(Self { bound, given: self.given.clone() })
    }

    fn find<'a>(&self, listen: &'a Listen) -> Result<Found<'a>, ListenError> {
        if let Listen::Systemd(name) = listen {
            return self.given_as(name.as_deref()).map(Found::Given);
        }
        // A socket whose file was removed can no longer be reached, so another one is opened.
        let is_open = |bound: &&Bound| {
            bound.listen.is_same_place(listen) && bound.file.as_ref().is_none_or(|file| file.is_in_place())
        };
        if let Some(bound) = self.bound.iter().find(is_open) {
            return Ok(Found::Open(Bound { listen: listen.clone(), ..bound.clone() }));
        }
        let free = match listen {
            Listen::Address(address) => {
                listen::free(address.as_str(), &self.tcp_addresses()).map(|free| Found::Free(address, free))
            }
            Listen::Unix(socket) => unix::check(socket.path()).map(|()| Found::FreePath(socket)),
            Listen::Systemd(name) => return self.given_as(name.as_deref()).map(Found::Given),
        };
        free.map_err(|refused| ListenError::new(listen, refused))
    }

    fn bind(&self, found: Found<'_>, workers: u32) -> Result<Vec<Bound>, ListenError> {
        let wanted = if listen::SPREADS_CONNECTIONS { workers as usize } else { 1 };
        match found {
            Found::Given(given) => Ok(given),
            Found::Free(listen, free) => {
                let refused = |refused| ListenError::new(listen, refused);
                let (sockets, address) = listen::bind(free, wanted).map_err(refused)?;
                let sockets = sockets.into_iter().map(Arc::new).collect();
                let is_alone = !listen::shares_port(address, &self.tcp_addresses());
                let (listen, address) = (Listen::Address(listen.clone()), Address::Tcp(address));
                Ok(vec![Bound { listen, address, file: None, sockets, is_alone }])
            }
            // Bound only when workers are ready to accept, so that a failed start leaves another server's file alone.
            Found::FreePath(listen) => {
                let address = Address::Unix(listen.path().to_owned());
                let refused = |error| ListenError::new(listen, Refused::at(address.clone(), error));
                let sockets = vec![Arc::new(unix::socket().map_err(refused)?)];
                let file = Some(Arc::new(SocketFile::new(listen.path())));
                Ok(vec![Bound { listen: Listen::Unix(listen.clone()), address, file, sockets, is_alone: true }])
            }
            Found::Open(mut bound) => {
                let refused = |error| ListenError::new(&bound.listen, Refused::at(bound.address.clone(), error));
                if let Some(address) = bound.address.tcp() {
                    while bound.sockets.len() < wanted {
                        bound.sockets.push(Arc::new(listen::bind_another(address).map_err(refused)?));
                    }
                }
                Ok(vec![bound])
            }
        }
    }

    fn given_as(&self, name: Option<&str>) -> Result<Vec<Bound>, ListenError> {
        let matching = self.given.iter().filter(|given| name.is_none_or(|name| given.name == name));
        let refused = |error| ListenError {
            address: Listen::Systemd(name.map(str::to_owned)).to_string(),
            error,
            at: None,
            remedy: "start daylily by its systemd socket unit, and name the socket there with FileDescriptorName="
                .into(),
        };
        let bound: Vec<_> = matching
            .map(|given| {
                let listen = Listen::Systemd(Some(given.name.clone()));
                let address = Address::of(&given.socket).map_err(refused)?;
                Ok(Bound { listen, address, file: None, sockets: vec![Arc::clone(&given.socket)], is_alone: false })
            })
            .collect::<Result<_, ListenError>>()?;
        if bound.is_empty() {
            return Err(refused(io::Error::other("systemd passed no such socket")));
        }
        Ok(bound)
    }

    /// Makes all sockets listen, once workers are ready to accept: from then on the kernel spreads connections over
    /// them. Blocks while another server that starts does the same.
    ///
    /// # Errors
    ///
    /// When another server has begun to listen at an address meanwhile, or a system call fails.
    pub(crate) fn listen(&self) -> Result<(), ListenError> {
        // A bound socket that does not listen does not keep other servers from listening at its address, so check once
        // more. All addresses are checked before any socket listens: daylily's own would conflict with each other.
        let new: Vec<_> = self.bound.iter().filter(|bound| bound.is_new()).collect();
        let _lock = (!new.is_empty()).then(StartLock::acquire);
        for (bound, address) in new.into_iter().filter_map(|bound| Some((bound, bound.address.tcp()?))) {
            listen::check(address).map_err(|refused| ListenError::new(&bound.listen, refused))?;
        }
        for bound in self.bound.iter().filter(|bound| !bound.is_lent()) {
            bound.listen().map_err(|refused| ListenError::new(&bound.listen, refused))?;
        }
        // At the end, so that nothing has changed when another socket does not listen.
        for bound in &self.bound {
            bound.set_mode().map_err(|refused| ListenError::new(&bound.listen, refused))?;
        }
        Ok(())
    }

    /// The addresses of the sockets.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        self.bound.iter().map(|bound| bound.address.clone()).collect()
    }

    fn tcp_addresses(&self) -> Vec<SocketAddr> {
        self.bound.iter().filter_map(|bound| bound.address.tcp()).collect()
    }

    /// This process serves on the sockets of its predecessor, and removes their files in the end.
    pub(crate) fn claim_files(&self) {
        self.files().for_each(|file| file.claim());
    }

    /// A successor serves on the sockets, and removes their files in the end.
    pub(crate) fn release_files(&self) {
        self.files().for_each(|file| file.release());
    }

    fn files(&self) -> impl Iterator<Item = &Arc<SocketFile>> {
        self.bound.iter().filter_map(|bound| bound.file.as_ref())
    }

    /// The entries of the configuration that the sockets are for, as they are written there, each once; those that
    /// systemd passed by their names.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for name in self.bound.iter().map(|bound| bound.listen.to_string()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Each socket, and how it is assigned to the workers.
    pub(crate) fn of_workers(&self, workers: u32) -> Vec<(BorrowedFd<'_>, Assignment)> {
        let names = self.names();
        let mut all = Vec::new();
        for bound in &self.bound {
            let name = bound.listen.to_string();
            let name = (0..).zip(&names).find(|(_, other)| **other == name).map_or(0, |(at, _)| at);
            for (at, socket) in (0_u32..).zip(&bound.sockets) {
                let owners = owners(at, bound.sockets.len(), workers);
                all.push((socket.as_fd(), Assignment { owners, is_lent: bound.is_lent(), name }));
            }
        }
        all
    }

    /// The indexes, as in [`Sockets::of_workers`], of the sockets that close when only `kept` stays open.
    pub(crate) fn closing(&self, kept: &Self) -> Vec<u32> {
        let sockets = self.bound.iter().flat_map(|bound| bound.sockets.iter().map(|socket| (bound.is_lent(), socket)));
        let is_kept = |socket| kept.bound.iter().any(|bound| bound.has(socket));
        (0..).zip(sockets).filter(|(_, (is_lent, socket))| !is_lent && !is_kept(socket)).map(|(at, _)| at).collect()
    }

    /// What another process needs to take over the sockets.
    pub(crate) fn inventory(&self) -> (Inventory, Vec<BorrowedFd<'_>>) {
        let count = |bound: &Bound| u32::try_from(bound.sockets.len()).unwrap_or(u32::MAX);
        let tcp = self.bound.iter().filter_map(|bound| Some((bound, bound.address.tcp()?)));
        let unix = self.bound.iter().filter_map(|bound| Some((bound, bound.file.as_ref()?)));
        let unix = unix.filter_map(|(bound, file)| Some((bound, file, file.id()?)));
        let inventory = Inventory {
            bound: tcp.clone().map(|(bound, address)| (bound.listen.clone(), address, count(bound))).collect(),
            given: self.given.iter().map(|given| given.name.clone()).collect(),
            unix: unix.clone().map(|(bound, file, id)| (bound.listen.clone(), file.path().to_owned(), id)).collect(),
        };
        let sockets = tcp.flat_map(|(bound, _)| &bound.sockets);
        let sockets = sockets.chain(self.given.iter().map(|given| &given.socket));
        let sockets = sockets.chain(unix.flat_map(|(bound, ..)| &bound.sockets));
        (inventory, sockets.map(|socket| socket.as_fd()).collect())
    }

    /// The inverse of [`Sockets::inventory`]. Files belong to the predecessor until [`Sockets::claim_files`].
    ///
    /// # Errors
    ///
    /// When there are fewer descriptors than described.
    pub(crate) fn from_inventory(
        inventory: Inventory,
        descriptors: &mut impl Iterator<Item = OwnedFd>,
    ) -> io::Result<Self> {
        let mut next = || descriptors.next().map(Arc::new).ok_or_else(|| io::Error::other("a socket is missing"));
        let mut bound = Vec::new();
        for (listen, address, count) in inventory.bound {
            let sockets = (0..count).map(|_| next()).collect::<io::Result<_>>()?;
            bound.push(Bound { listen, address: Address::Tcp(address), file: None, sockets, is_alone: false });
        }
        let given = inventory.given.into_iter().map(|name| Ok(Given { name, socket: next()? }));
        let given = given.collect::<io::Result<_>>()?;
        for (listen, path, id) in inventory.unix {
            let file = Some(Arc::new(SocketFile::inherited(&path, id)));
            bound.push(Bound { listen, address: Address::Unix(path), file, sockets: vec![next()?], is_alone: true });
        }
        Ok(Self { bound, given })
    }
}

impl Bound {
    /// Whether the sockets do not listen yet, so that another server may have begun to listen at the address.
    fn is_new(&self) -> bool {
        let listens = self.sockets.iter().any(|socket| sockopt::socket_acceptconn(socket).unwrap_or(true));
        listen::SPREADS_CONNECTIONS && self.is_alone && !listens
    }

    fn listen(&self) -> Result<(), Refused> {
        for socket in &self.sockets {
            match (&self.file, &self.listen) {
                (Some(file), Listen::Unix(listen)) => file.publish(socket, listen.mode())?,
                _ => listen::listen(socket).map_err(|error| Refused::at(self.address.clone(), error))?,
            }
        }
        Ok(())
    }

    /// Sets the mode of the file, which a reload may have changed.
    fn set_mode(&self) -> Result<(), Refused> {
        match (&self.file, &self.listen) {
            (Some(file), Listen::Unix(listen)) => file.set_mode(listen.mode()),
            _ => Ok(()),
        }
    }

    fn is_lent(&self) -> bool {
        matches!(self.listen, Listen::Systemd(_))
    }

    fn shares_with(&self, other: &Self) -> bool {
        other.sockets.iter().any(|socket| self.has(socket))
    }

    fn has(&self, socket: &Arc<OwnedFd>) -> bool {
        self.sockets.iter().any(|own| Arc::ptr_eq(own, socket))
    }
}

/// The workers of socket `at`, of this number of sockets at one address.
fn owners(at: u32, sockets: usize, workers: u32) -> Vec<u32> {
    if sockets >= workers as usize { vec![at % workers.max(1)] } else { (at..workers).step_by(sockets).collect() }
}

#[cfg(test)]
mod tests;
