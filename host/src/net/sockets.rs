//! The listening sockets. They belong to the supervisor and stay open when a worker dies, so that
//! connections wait for its replacement in the backlog instead of being refused.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use daylily_core::config::{Listen, ListenAddr};
use daylily_core::log_target;
use rustix::net::{AddressFamily, SocketType, sockopt};
use serde::{Deserialize, Serialize};

use crate::net::listen::{self, ListenError, Refused};

/// The sockets of one generation. Cheap to clone: clones share the sockets, and the last one closes them.
#[derive(Clone, Default)]
pub(crate) struct Sockets {
    bound: Vec<Bound>,
    given: Vec<Given>,
}

/// The sockets at one address: one for each worker, between which the kernel spreads connections
/// (`SO_REUSEPORT`), or one for all of them.
#[derive(Clone)]
struct Bound {
    listen: Listen,
    address: SocketAddr,
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
    Open(&'a ListenAddr, Bound),
    /// An address at which nothing listens.
    Free(&'a ListenAddr, SocketAddr),
    Given(Vec<Bound>),
}

/// The description of [`Sockets`] without the descriptors, to be sent to another process.
#[derive(Serialize, Deserialize)]
pub(crate) struct Inventory {
    bound: Vec<(Listen, SocketAddr, u32)>,
    given: Vec<String>,
}

impl Sockets {
    /// The sockets that systemd passed to this process, if any; nothing listens on them yet.
    ///
    /// # Errors
    ///
    /// When one of them is not a TCP listener.
    pub(crate) fn from_systemd() -> Result<Self, ListenError> {
        if !is_for_this_process() {
            return Ok(Self::default());
        }
        let refused = |name: Option<&str>, error: io::Error| ListenError {
            address: Listen::Systemd(name.map(str::to_owned)).to_string(),
            error,
            at: None,
            remedy: "pass TCP sockets (ListenStream= with an address, Accept=no)".into(),
        };
        let passed = sd_notify::listen_fds_with_names().map_err(|error| refused(None, error))?;
        let given = passed.map(|(number, name)| {
            let socket = adopt(number);
            check_listener(&socket).map_err(|error| refused(Some(&name), error))?;
            Ok(Given { name, socket: Arc::new(socket) })
        });
        Ok(Self { bound: Vec::new(), given: given.collect::<Result<_, ListenError>>()? })
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
        let mut keep = |failure| failures.push(failure);
        // Find all of them before binding any: `0.0.0.0:80` and `[::]:80` conflict only while one of them is tried
        // without SO_REUSEPORT.
        let found: Vec<_> = wanted.iter().filter_map(|listen| self.find(listen).map_err(&mut keep).ok()).collect();
        let mut bound = Vec::new();
        for found in found {
            match self.bind(found, workers) {
                Ok(several) => {
                    // Two entries may refer to the same socket: `systemd:NAME` and `systemd`.
                    let is_new = |one: &Bound| !bound.iter().any(|bound: &Bound| bound.shares_with(one));
                    let new: Vec<_> = several.into_iter().filter(is_new).collect();
                    bound.extend(new);
                }
                Err(failure) => keep(failure),
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
        let address = match listen {
            Listen::Systemd(name) => return self.given_as(name.as_deref()).map(Found::Given),
            Listen::Address(address) => address,
        };
        if let Some(bound) = self.bound.iter().find(|bound| bound.listen == *listen) {
            return Ok(Found::Open(address, bound.clone()));
        }
        let free = listen::free(address.as_str(), &self.addresses());
        free.map(|free| Found::Free(address, free)).map_err(|refused| ListenError::new(address, refused))
    }

    fn bind(&self, found: Found<'_>, workers: u32) -> Result<Vec<Bound>, ListenError> {
        let wanted = if listen::SPREADS_CONNECTIONS { workers as usize } else { 1 };
        match found {
            Found::Given(given) => Ok(given),
            Found::Free(listen, free) => {
                let refused = |refused| ListenError::new(listen, refused);
                let (sockets, address) = listen::bind(free, wanted).map_err(refused)?;
                let sockets = sockets.into_iter().map(Arc::new).collect();
                let is_alone = !listen::shares_port(address, &self.addresses());
                Ok(vec![Bound { listen: Listen::Address(listen.clone()), address, sockets, is_alone }])
            }
            Found::Open(listen, mut bound) => {
                let refused = |error| ListenError::new(listen, Refused::at(bound.address, error));
                while bound.sockets.len() < wanted {
                    bound.sockets.push(Arc::new(listen::bind_another(bound.address).map_err(refused)?));
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
                let address = local_address(&given.socket).map_err(refused)?;
                Ok(Bound { listen, address, sockets: vec![Arc::clone(&given.socket)], is_alone: false })
            })
            .collect::<Result<_, ListenError>>()?;
        if bound.is_empty() {
            return Err(refused(io::Error::other("systemd passed no such socket")));
        }
        Ok(bound)
    }

    /// Makes all sockets listen, once workers are ready to accept: from then on the kernel spreads connections over
    /// them.
    ///
    /// # Errors
    ///
    /// When another server has begun to listen at an address meanwhile, or a system call fails.
    pub(crate) fn listen(&self) -> Result<(), ListenError> {
        // A bound socket that does not listen does not keep other servers from listening at its address, so check once
        // more. All addresses are checked before any socket listens: daylily's own would conflict with each other.
        for bound in self.bound.iter().filter(|bound| bound.is_new()) {
            listen::check(bound.address).map_err(|refused| ListenError::new(&bound.listen, refused))?;
        }
        for bound in self.bound.iter().filter(|bound| !bound.is_lent()) {
            for socket in &bound.sockets {
                let refused = |error| ListenError::new(&bound.listen, Refused::at(bound.address, error));
                listen::listen(socket).map_err(refused)?;
            }
        }
        Ok(())
    }

    /// The addresses of the sockets.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.bound.iter().map(|bound| bound.address).collect()
    }

    /// Each socket, with the workers that accept on it (one, or several where there are fewer sockets than workers),
    /// and whether systemd passed it.
    pub(crate) fn of_workers(&self, workers: u32) -> Vec<(BorrowedFd<'_>, (Vec<u32>, bool))> {
        let mut all = Vec::new();
        for bound in &self.bound {
            for (at, socket) in (0_u32..).zip(&bound.sockets) {
                let owners = owners(at, bound.sockets.len(), workers);
                all.push((socket.as_fd(), (owners, bound.is_lent())));
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
        let bound = self.bound.iter().map(|bound| (bound.listen.clone(), bound.address, count(bound))).collect();
        let given = self.given.iter().map(|given| given.name.clone()).collect();
        let sockets = self.bound.iter().flat_map(|bound| &bound.sockets);
        let descriptors = sockets.chain(self.given.iter().map(|given| &given.socket)).map(|socket| socket.as_fd());
        (Inventory { bound, given }, descriptors.collect())
    }

    /// The inverse of [`Sockets::inventory`].
    pub(crate) fn from_inventory(
        inventory: Inventory,
        descriptors: &mut impl Iterator<Item = OwnedFd>,
    ) -> io::Result<Self> {
        let mut next = || descriptors.next().map(Arc::new).ok_or_else(|| io::Error::other("a socket is missing"));
        let mut bound = Vec::new();
        for (listen, address, count) in inventory.bound {
            let sockets = (0..count).map(|_| next()).collect::<io::Result<_>>()?;
            bound.push(Bound { listen, address, sockets, is_alone: false });
        }
        let given = inventory.given.into_iter().map(|name| Ok(Given { name, socket: next()? }));
        Ok(Self { bound, given: given.collect::<io::Result<_>>()? })
    }
}

impl Bound {
    /// Whether the sockets do not listen yet, so that another server may have begun to listen at the address.
    fn is_new(&self) -> bool {
        let listens = self.sockets.iter().any(|socket| sockopt::socket_acceptconn(socket).unwrap_or(true));
        listen::SPREADS_CONNECTIONS && self.is_alone && !listens
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

#[expect(unsafe_code, reason = "systemd passes descriptors by number only")]
fn adopt(number: std::os::fd::RawFd) -> OwnedFd {
    use std::os::fd::FromRawFd;
    // SAFETY: `LISTEN_PID` and `LISTEN_FDS` say that this descriptor was opened for this process, and this is called
    // once, at start, before other code could own it.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Whether systemd passed sockets to this process. The parent process may have received sockets itself and left the
/// variables in the environment (sd_listen_fds(3)).
fn is_for_this_process() -> bool {
    std::env::var("LISTEN_PID").is_ok_and(|pid| pid.parse() == Ok(std::process::id()))
}

fn check_listener(socket: &OwnedFd) -> io::Result<()> {
    let kind = sockopt::socket_type(socket)?;
    let family = local_address(socket);
    if kind != SocketType::STREAM || family.is_err() || !sockopt::socket_acceptconn(socket)? {
        return Err(io::Error::other("it is not a listening TCP socket"));
    }
    // Non-blocking, because workers share it, and their event loops must not wait in `accept`.
    Ok(rustix::io::ioctl_fionbio(socket, true)?)
}

fn local_address(socket: &impl AsFd) -> io::Result<SocketAddr> {
    let address = rustix::net::getsockname(socket)?;
    if !matches!(address.address_family(), AddressFamily::INET | AddressFamily::INET6) {
        return Err(io::Error::other("it has no IP address"));
    }
    SocketAddr::try_from(address).map_err(|error| io::Error::other(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_has_a_socket_and_every_socket_a_worker() {
        for (sockets, workers, expected) in [
            (1, 1, vec![vec![0]]),
            (1, 3, vec![vec![0, 1, 2]]),
            (2, 2, vec![vec![0], vec![1]]),
            (2, 5, vec![vec![0, 2, 4], vec![1, 3]]),
            (4, 3, vec![vec![0], vec![1], vec![2], vec![0]]),
        ] {
            let seen: Vec<_> = (0_u32..).take(sockets).map(|at| owners(at, sockets, workers)).collect();
            assert_eq!(seen, expected, "{sockets} sockets, {workers} workers");
        }
    }
}
