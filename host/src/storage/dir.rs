//! The directory of the stores of one application.

use std::io;
use std::path::{Path, PathBuf};

use daylily_core::config::Config;
use rustix::fs::Mode;

use super::database::{Database, OpenError, path};
use crate::sys::dirs::{self, NotPrivate};

/// File systems over a network, by the number that statfs(2) has for them. SQLite's locks do not work there, or its
/// shared memory does not.
const NETWORK: [(u32, &str); 7] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x5346_414f, "AFS"),
    (0x00c3_6400, "Ceph"),
    (0x7375_7245, "Coda"),
];

/// Digits of the digest in the name of a default directory.
const DIGEST_DIGITS: usize = 8;

/// Why a directory, or a store in it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateDirError {
    #[error("there is no state directory for the stores: the user has no home; name one with state_dir (--state-dir)")]
    Unknown,
    #[error("failed to open the state directory `{path}`: {error}; name another with state_dir (--state-dir)", path = path.display())]
    Unusable { path: PathBuf, error: io::Error },
    #[error(
        "the state directory `{path}` is not safe: {reason}; {remedy}, or name another with state_dir (--state-dir)",
        path = path.display()
    )]
    Unsafe { path: PathBuf, reason: String, remedy: &'static str },
    #[error(
        "the state directory `{path}` is on a network file system ({name}), where locks are not reliable; name a local \
         directory with state_dir (--state-dir)",
        path = path.display()
    )]
    Network { path: PathBuf, name: &'static str },
    #[error("store `{store}`: {reason}")]
    Store { store: String, reason: String },
}

/// The directory of what is served: the configured one, systemd's, or one of the user's for this configuration file or
/// component, so that the stores of two applications are not the same because their names are.
pub(crate) fn of(config: &Config, served: Option<&Path>) -> Result<PathBuf, StateDirError> {
    if let Some(dir) = &config.state_dir {
        return Ok(dir.clone());
    }
    if let Some(dir) = dirs::service_state_dir() {
        return Ok(dir);
    }
    let dir = dirs::state_dir().ok_or(StateDirError::Unknown)?;
    Ok(match served.and_then(|served| std::path::absolute(served).ok()) {
        Some(served) => dir.join(application(&served)),
        None => dir,
    })
}

/// A name for a configuration file or a component: a word that one recognizes, and a digest of the whole path.
fn application(served: &Path) -> String {
    let stem = served.file_stem().filter(|stem| *stem != "daylily").or_else(|| served.parent()?.file_name());
    let stem = stem.unwrap_or_default().to_string_lossy();
    let word: String =
        stem.chars().map(|letter| if letter.is_alphanumeric() { letter } else { '-' }).take(32).collect();
    let digest = blake3::hash(served.as_os_str().as_encoded_bytes()).to_hex();
    format!("{word}-{}", digest.get(..DIGEST_DIGITS).unwrap_or_default())
}

/// Makes the directory if it does not exist, and checks it.
///
/// # Errors
///
/// If it cannot be made, if another user can write to it, or if it is on a network file system.
pub(crate) fn prepare(path: &Path) -> Result<(), StateDirError> {
    let unusable = |error: io::Error| StateDirError::Unusable { path: path.to_owned(), error };
    let dir = dirs::open_private(path).map_err(|error| match error {
        NotPrivate::Unusable(error) => unusable(error),
        NotPrivate::Unsafe { reason, remedy } => StateDirError::Unsafe { path: path.to_owned(), reason, remedy },
    })?;
    #[cfg(target_os = "linux")]
    {
        let system = rustix::fs::fstatfs(&dir).map_err(|error| unusable(error.into()))?;
        #[expect(clippy::cast_possible_truncation, reason = "the numbers have 32 bits")]
        if let Some((_, name)) = NETWORK.iter().find(|(number, _)| *number == system.f_type as u32) {
            return Err(StateDirError::Network { path: path.to_owned(), name });
        }
    }
    Ok(())
}

/// Lets no other user read the files that this process makes.
pub(crate) fn keep_private() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}

/// All that prevents the stores of a configuration from being served, for `daylily check`: it opens those that exist.
pub(crate) fn faults(config: &Config) -> Vec<StateDirError> {
    let Some(dir) = config.state_dir.as_deref().filter(|_| config.has_files()) else { return Vec::new() };
    keep_private();
    if let Err(error) = prepare(dir) {
        return vec![error];
    }
    let in_files = config.stores.iter().filter(|store| store.server().is_none());
    let existing = in_files.filter(|store| path(dir, &store.name).symlink_metadata().is_ok());
    let refused = existing.filter_map(|store| match Database::open(dir, store) {
        Err(OpenError::Refused(reason)) => Some(StateDirError::Store { store: store.name.clone(), reason }),
        // A damaged file fails its store, and everything else is served.
        Err(OpenError::Failed(_)) | Ok(_) => None,
    });
    refused.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applications_have_directories_of_their_own() {
        let name = |path: &str| application(Path::new(path));
        let word = |path: &str| name(path).rsplit_once('-').map(|(word, _)| word.to_owned());
        assert_eq!(word("/srv/shop/daylily.toml").as_deref(), Some("shop"));
        assert_eq!(word("/srv/shop/two.toml").as_deref(), Some("two"));
        assert_eq!(word("/srv/app.wasm").as_deref(), Some("app"));
        assert_eq!(word("/daylily.toml").as_deref(), Some(""));
        assert_eq!(word("/srv/a b\u{1b}/daylily.toml").as_deref(), Some("a-b-"));
        assert_ne!(name("/srv/a/daylily.toml"), name("/opt/a/daylily.toml"));
        assert_eq!(name("/srv/a/daylily.toml"), name("/srv/a/daylily.toml"));
    }
}
