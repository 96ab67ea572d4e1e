//! A terminal of its own, whose output is read when a test wants it.

use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::Log;

/// What programs write to it waits in the kernel, which has room for some 10 KB; then write(2) blocks.
pub struct Terminal {
    controlling: File,
    path: PathBuf,
    /// So that the end of a program is not the end of the terminal.
    _open: File,
}

impl Terminal {
    pub fn new() -> Self {
        let controlling = controlling();
        let path = PathBuf::from(name(&controlling));
        let own = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(&path);
        Self { controlling, path, _open: own.expect("a terminal") }
    }

    /// The file that programs write to.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it from now on.
    pub fn read(&self) -> Log {
        Log::collect(self.controlling.try_clone().expect("a descriptor"))
    }
}

#[expect(unsafe_code, reason = "rustix without its feature for terminals")]
fn controlling() -> File {
    // SAFETY: these functions take a number, and the descriptor that the first one returns is nobody else's.
    unsafe {
        let fd = libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC);
        assert!(fd >= 0 && libc::grantpt(fd) == 0 && libc::unlockpt(fd) == 0, "no terminal");
        File::from_raw_fd(fd)
    }
}

#[expect(unsafe_code, reason = "as above")]
fn name(controlling: &File) -> String {
    let mut name = [0; 64];
    // SAFETY: the buffer has this length.
    let error = unsafe { libc::ptsname_r(controlling.as_raw_fd(), name.as_mut_ptr().cast(), name.len()) };
    assert_eq!(error, 0, "a terminal without a name");
    CStr::from_bytes_until_nul(&name).expect("a name").to_str().expect("a path").to_owned()
}
