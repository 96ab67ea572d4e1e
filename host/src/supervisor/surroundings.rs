//! What configurations get from outside: the environment of this process, and files.

use std::cell::RefCell;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use daylily_core::config::{PORT, Surroundings};
use daylily_core::log_target;

use crate::net::sockets::Sockets;
use crate::sys::read_file::read_file;

/// The environment and the files of this process. Files are read again for each configuration.
#[derive(Default)]
pub(crate) struct ProcessSurroundings {
    asked: RefCell<Vec<PathBuf>>,
    /// The only store that is used, by a command that runs no guests.
    only_store: Option<String>,
}

impl ProcessSurroundings {
    /// For a command that uses one store and runs no guests.
    pub(crate) fn of_store(name: &str) -> Self {
        Self { only_store: Some(name.to_owned()), ..Self::default() }
    }

    /// The files that were asked for, whether they could be read or not.
    pub(crate) fn into_asked(self) -> Vec<PathBuf> {
        self.asked.into_inner()
    }
}

impl Surroundings for ProcessSurroundings {
    fn variable(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }

    /// Blocks for as long as [`read_file`] does.
    fn file(&self, path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
        self.asked.borrow_mut().push(path.to_owned());
        read_file(path, max_bytes)
    }

    fn has_guests(&self) -> bool {
        self.only_store.is_none()
    }

    fn needs_secret_of(&self, store: &str) -> bool {
        self.only_store.as_deref().is_none_or(|only| only == store)
    }
}

/// Logs that the port of a platform is not listened on, if it is not: other servers take it without being told.
pub(crate) fn note_port(sockets: &Sockets) {
    let variable = std::env::var(PORT).ok();
    let Some(port) = variable.and_then(|port| port.parse::<u16>().ok()).filter(|port| *port != 0) else { return };
    if sockets.addresses().iter().any(|address| address.tcp().is_some_and(|address| address.port() == port)) {
        return;
    }
    tracing::info!(
        target: log_target::SUPERVISOR,
        "the variable PORT is {port}, and no address of listen has this port; to take it, write \
         listen = \"0.0.0.0:$PORT\" (--listen '0.0.0.0:$PORT')"
    );
}
