//! What configurations get from outside: the environment of this process, and files.

use std::cell::RefCell;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use daylily_core::config::Surroundings;

use crate::sys::read_file::read_file;

/// The environment and the files of this process. Files are read again for each configuration.
#[derive(Default)]
pub(crate) struct ProcessSurroundings {
    asked: RefCell<Vec<PathBuf>>,
}

impl ProcessSurroundings {
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
}
