//! Limits of the system, and what an operator can do about them.

use std::io;
use std::path::Path;

use daylily_core::units::format_size;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Makes a write over the limit of file sizes (`ulimit -f`, `LimitFSIZE=`) fail, as on a full disk, instead of ending
/// the process by SIGXFSZ. Child processes inherit this.
#[expect(unsafe_code, reason = "a signal is ignored through the C library only")]
pub(crate) fn survive_file_size_limit() {
    // SAFETY: SIG_IGN is no handler that could run at a bad time, and no other code relies on this signal. The call
    // fails only for an invalid signal number.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Raises the limit of open files of this process as far as it can.
pub(crate) fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    // Ignore errors: the limit is then what it was, and reaching it is reported.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Adds the remedy to an error of writing a file in memory, where it was over the limit of file sizes.
pub(crate) fn over_file_size(error: io::Error) -> io::Error {
    if error.kind() != io::ErrorKind::FileTooLarge {
        return error;
    }
    io::Error::new(error.kind(), "a file in memory exceeds the file size limit; raise it (ulimit -f, LimitFSIZE=)")
}

/// The remedy when the system has run out of a resource, to append to the error's text; empty for other errors.
pub(crate) fn hint(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE | Errno::NFILE) => "; raise the limit of open files (ulimit -n, LimitNOFILE=)",
        Some(Errno::AGAIN) => "; raise the limit of processes and threads (ulimit -u, TasksMax=)",
        Some(Errno::NOMEM) => "; not enough memory or address space (check ulimit -v, MemoryMax=)",
        _ => "",
    }
}

/// The remedy when address space cannot be reserved; None where it is not limited.
pub(crate) fn address_space_remedy() -> Option<String> {
    let bytes = getrlimit(Resource::As).current?;
    Some(format!(
        "the address space is limited to {}, and instances reserve it without using it: lift the limit (ulimit -v \
         unlimited, LimitAS=infinity), and limit memory by the control group (MemoryMax=)",
        format_size(bytes)
    ))
}

/// Adds the reason to an error of starting this program again, where `/proc` is not mounted.
pub(crate) fn without_proc(error: io::Error) -> io::Error {
    // The link is not followed: its target does not exist once the program's file has been replaced.
    let is_there = Path::new("/proc/self/exe").symlink_metadata().is_ok();
    if !cfg!(target_os = "linux") || is_there {
        return error;
    }
    io::Error::new(
        error.kind(),
        "/proc is not mounted, and workers are started from /proc/self/exe; mount it (mount -t proc proc /proc)",
    )
}
