//! The admin listener, as its supervisor has it: the socket, and who may use it. The observer accepts on it.

use std::io;
use std::os::fd::BorrowedFd;

use daylily_core::config::Config;

use crate::net::address::Address;
use crate::net::listen::ListenError;
use crate::net::sockets::Sockets;
use crate::observe::server_page::ServerPage;
use crate::observer::message::{AdminSettings, Message};

/// The admin listener of one configuration; by default, none. Cheap to clone: clones share the socket, and the last one
/// closes it.
#[derive(Clone, Default)]
pub(crate) struct AdminListener {
    /// One socket or none.
    sockets: Sockets,
    token: Option<String>,
}

impl AdminListener {
    /// Of a predecessor.
    pub(crate) fn inherited(sockets: Sockets) -> Self {
        Self { sockets, token: None }
    }

    /// The listener for `config`. Keeps the socket of `self` if the address is the same, else binds a new one, which
    /// does not listen yet. `guests` are the sockets that guests are served on. Blocks while a name is resolved.
    ///
    /// # Errors
    ///
    /// When the address cannot be bound, guests are served at its port, or other machines could use it without a token.
    pub(crate) fn open(&self, config: &Config, token: Option<String>, guests: &Sockets) -> Result<Self, ListenError> {
        let Some(place) = config.admin.listen.place() else { return Ok(Self::default()) };
        let refused = |at: Option<Address>, error: io::Error, remedy: &str| ListenError {
            address: format!("{place} (the admin listener)"),
            at,
            error,
            remedy: remedy.to_owned().into(),
        };
        let sockets = self.sockets.open(Some(std::slice::from_ref(place)), 1).map_err(|errors| {
            let Some(ListenError { at, error, remedy, .. }) = errors.into_iter().next() else {
                return refused(None, io::Error::other("unknown error"), "choose another address with --admin");
            };
            refused(at, error, &remedy.replace("--listen", "--admin"))
        })?;
        let opened = Self { sockets, token };
        let Some(address) = opened.address() else { return Ok(opened) };
        let port = address.tcp().map(|address| address.port());
        // Known only now: the default address, the sockets of systemd, and what a name resolves to.
        if port.is_some() && guests.addresses().iter().any(|guests| guests.tcp().map(|guests| guests.port()) == port) {
            let error = io::Error::other("guests are served at this port");
            return Err(refused(Some(address), error, "choose another port with --admin or --listen"));
        }
        if !opened.is_local() && opened.token.is_none() {
            let error = io::Error::other("other machines may reach this address, and there is no token");
            return Err(refused(Some(address), error, "set token_file in [admin], or use 127.0.0.1 or [::1]"));
        }
        Ok(opened)
    }

    /// Lets the kernel accept connections. Blocks while another server that starts has a directory locked.
    ///
    /// # Errors
    ///
    /// When another server has begun to listen at the address, or a system call fails.
    pub(crate) fn listen(&self) -> Result<(), ListenError> {
        self.sockets.listen().map_err(|error| ListenError {
            address: format!("{} (the admin listener)", error.address),
            remedy: error.remedy.replace("--listen", "--admin").into(),
            ..error
        })
    }

    /// None if there is no listener.
    pub(crate) fn address(&self) -> Option<Address> {
        self.sockets.addresses().into_iter().next()
    }

    fn is_loopback(&self) -> bool {
        self.address().and_then(|address| address.tcp()).is_some_and(|address| address.ip().is_loopback())
    }

    fn is_local(&self) -> bool {
        self.address().is_none_or(|address| address.tcp().is_none()) || self.is_loopback()
    }

    /// Whether nothing has to change for `other` to be used.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let (closed, opened) = (self.sockets.closing(&other.sockets), other.sockets.closing(&self.sockets));
        closed.is_empty() && opened.is_empty() && self.token == other.token
    }

    /// What the observer needs to serve it, with the descriptors; `page` is what the supervisor is doing.
    pub(crate) fn message<'a>(&'a self, page: &'a ServerPage) -> (Message, Vec<BorrowedFd<'a>>) {
        let socket = self.sockets.of_workers(1).into_iter().next().map(|(socket, _)| socket);
        let settings = socket.map(|_| AdminSettings { token: self.token.clone(), is_loopback: self.is_loopback() });
        (Message::Admin(settings), std::iter::once(page.file()).chain(socket).collect())
    }

    /// For an upgrade.
    pub(crate) fn sockets(&self) -> &Sockets {
        &self.sockets
    }
}
