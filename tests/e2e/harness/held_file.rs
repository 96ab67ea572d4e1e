//! A file whose opening a test can delay.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use super::{PATIENCE, eventually};

/// The `fcntl` command that sets the signal for opening a leased file. (The crate `libc` does not have it.)
const F_SETSIG: i32 = 10;

/// A file with a lease (fcntl(2), "Leases"): opening it blocks until this is dropped, or for at most the time in
/// `/proc/sys/fs/lease-break-time`, 45 seconds by default.
pub struct HeldFile(File);

impl HeldFile {
    #[track_caller]
    pub fn new(path: &Path, contents: &[u8]) -> Self {
        std::fs::write(path, contents).expect("a file");
        let file = File::options().read(true).write(true).open(path).expect("the file");
        // Not the default signal (SIGIO), which would end this process.
        assert_eq!(fcntl(&file, F_SETSIG, libc::SIGURG), 0);
        // A process that another thread is starting may still have it open for a moment.
        let leased = eventually(PATIENCE, || fcntl(&file, libc::F_SETLEASE, libc::F_WRLCK) == 0);
        assert!(leased, "no lease on {}", path.display());
        Self(file)
    }

    /// Waits until another process tries to open the file.
    #[track_caller]
    pub fn wait_for_reader(&self) {
        let asked = eventually(PATIENCE, || fcntl(&self.0, libc::F_GETLEASE, 0) != libc::F_WRLCK);
        assert!(asked, "nobody opens the file");
    }
}

#[expect(unsafe_code, reason = "rustix has no leases")]
fn fcntl(file: &File, command: i32, argument: i32) -> i32 {
    // SAFETY: none of these commands takes a pointer.
    unsafe { libc::fcntl(file.as_raw_fd(), command, argument) }
}
