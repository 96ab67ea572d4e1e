//! Files in memory for other processes (memfd_create(2)), sealed, so that the contents that were checked are those that
//! are mapped.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use crate::sys::limits;

/// A file with `bytes` that no process can change any more, not even this one.
///
/// # Errors
///
/// When the system has no memory or no descriptor to give.
pub(crate) fn sealed(name: &str, bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(anonymous(name)?);
    file.write_all(bytes).map_err(limits::over_file_size)?;
    seal(&file, Seal::Contents)?;
    Ok(file)
}

/// A file of `len` zeros for several processes to map and change. Its size is sealed: shrinking it would kill the
/// processes that have it mapped.
///
/// # Errors
///
/// When the system has no memory or no descriptor to give.
pub(crate) fn shared(name: &str, len: u64) -> io::Result<OwnedFd> {
    let file = File::from(anonymous(name)?);
    file.set_len(len).map_err(limits::over_file_size)?;
    seal(&file, Seal::Size)?;
    Ok(file.into())
}

/// An empty file in memory, which grows as another process writes to it.
///
/// # Errors
///
/// When the system has no memory or no descriptor to give.
pub(crate) fn shared_file(name: &str) -> io::Result<File> {
    Ok(anonymous(name)?.into())
}

enum Seal {
    Contents,
    Size,
}

#[cfg(target_os = "linux")]
fn anonymous(name: &str) -> io::Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, memfd_create};
    Ok(memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?)
}

#[cfg(target_os = "linux")]
fn seal(file: &File, what: Seal) -> io::Result<()> {
    use rustix::fs::{SealFlags, fcntl_add_seals};
    let size = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    Ok(fcntl_add_seals(
        file,
        match what {
            Seal::Contents => size | SealFlags::WRITE,
            Seal::Size => size,
        },
    )?)
}

/// Without sealed files: an unnamed file, which only this process and its workers have open.
#[cfg(not(target_os = "linux"))]
fn anonymous(_name: &str) -> io::Result<OwnedFd> {
    Ok(tempfile::tempfile()?.into())
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "as it is where files can be sealed")]
fn seal(_file: &File, _what: Seal) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_sealed_file_cannot_be_changed() {
        let mut file = sealed("test", b"as it was").expect("a sealed file");
        assert!(file.write_all(b"changed").is_err());
        assert!(file.set_len(0).is_err());
        let mut again = File::open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file))).expect("it");
        let mut text = String::new();
        again.read_to_string(&mut text).expect("its contents");
        assert_eq!(text, "as it was");
    }
}
