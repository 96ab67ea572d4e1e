//! A file that opens only when a test lets it.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use super::{PATIENCE, eventually};

/// Which signal says that somebody opens a file with a lease. (The crate `libc` does not have it.)
const F_SETSIG: i32 = 10;

/// A file with a lease (fcntl(2), "Leases"): whoever opens it waits until this is dropped, or for as long as
/// `/proc/sys/fs/lease-break-time` says, which is 45 seconds.
pub struct HeldFile(File);

impl HeldFile {
    #[track_caller]
    pub fn new(path: &Path, contents: &[u8]) -> Self {
        std::fs::write(path, contents).expect("a file");
        let file = File::options().read(true).write(true).open(path).expect("the file");
        // Not the signal whose default is to end this process.
        assert_eq!(fcntl(&file, F_SETSIG, libc::SIGURG), 0);
        // A process that another thread is starting may have it open for a moment.
        let leased = eventually(PATIENCE, || fcntl(&file, libc::F_SETLEASE, libc::F_WRLCK) == 0);
        assert!(leased, "no lease on {}", path.display());
        Self(file)
    }

    /// Waits until somebody opens it.
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
