//! What is outside of the configurations under test.

#![allow(dead_code, reason = "each test file uses some of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use daylily_core::config::{Overrides, Surroundings, options};

/// Variables and files, and which files were read.
#[derive(Default)]
pub(crate) struct Fixed {
    pub(crate) variables: BTreeMap<String, OsString>,
    pub(crate) files: BTreeMap<PathBuf, Vec<u8>>,
    pub(crate) read: RefCell<Vec<PathBuf>>,
}

impl Fixed {
    pub(crate) fn new(variables: &[(&str, &str)], files: &[(&str, &[u8])]) -> Self {
        let variables = variables.iter().map(|(name, value)| (name.to_string(), OsString::from(value))).collect();
        let files = files.iter().map(|(path, contents)| (PathBuf::from(path), contents.to_vec())).collect();
        Self { variables, files, read: RefCell::default() }
    }

    /// What `tests/cases/config/full.toml` needs, as `/etc/daylily/daylily.toml`.
    pub(crate) fn of_the_example() -> Self {
        Self::new(
            &[("API_TOKEN", "t"), ("CREDENTIALS_DIRECTORY", "/run/credentials")],
            &[
                ("/etc/daylily/.env", b"ZONE=file\nSTAGE=file\n"),
                (".env", b""),
                ("/run/secrets/key", b"k\n"),
                ("/run/credentials/database", b"d\n"),
            ],
        )
    }
}

impl Surroundings for Fixed {
    fn variable(&self, name: &str) -> Option<OsString> {
        self.variables.get(name).cloned()
    }

    fn file(&self, path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
        self.read.borrow_mut().push(path.to_owned());
        let contents = self.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        if contents.len() as u64 > max_bytes {
            return Err(io::Error::other("it is too large"));
        }
        Ok(contents.clone())
    }
}

/// The overrides that flags give, in this order: for each, the key of its option and its value.
pub(crate) fn overrides(flags: &[(&str, &str)]) -> Overrides {
    let mut overrides = Overrides::default();
    for (key, value) in flags {
        let flag = options::rows().into_iter().filter(|row| row.key == *key).find_map(|row| row.flag).unwrap();
        (flag.set)(&mut overrides, OsStr::new(value)).unwrap();
    }
    overrides
}
