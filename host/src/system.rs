//! What the system limits or does not have, and what an operator can do about it.

use std::io;
use std::path::Path;

use daylily_core::units::format_size;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// A write that would make a file larger than its limit (`ulimit -f`, `LimitFSIZE=`) fails from now on, as on a full
/// disk, instead of ending the process by SIGXFSZ. Processes that this one starts inherit it.
#[expect(unsafe_code, reason = "a signal is ignored through the C library only")]
pub(crate) fn survive_file_size_limit() {
    // SAFETY: no handler is given that could run at a bad time, and no other code relies on this signal. It fails only
    // for a signal that does not exist.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// An error of writing a file in memory, with the remedy where it is over the limit of file sizes.
pub(crate) fn over_file_size(error: io::Error) -> io::Error {
    if error.kind() != io::ErrorKind::FileTooLarge {
        return error;
    }
    io::Error::new(error.kind(), "a file in memory exceeds the file size limit; raise it (ulimit -f, LimitFSIZE=)")
}

/// What helps where the system has no more of something, as the end of an error's text; empty for other errors.
pub(crate) fn hint(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE | Errno::NFILE) => "; raise the limit of open files (ulimit -n, LimitNOFILE=)",
        Some(Errno::AGAIN) => "; raise the limit of processes and threads (ulimit -u, TasksMax=)",
        Some(Errno::NOMEM) => "; not enough memory or address space (check ulimit -v, MemoryMax=)",
        _ => "",
    }
}

/// What to do where there is no address space to reserve; None where it is not limited.
pub(crate) fn address_space_remedy() -> Option<String> {
    let bytes = getrlimit(Resource::As).current?;
    Some(format!(
        "the address space is limited to {}, and instances reserve it without using it: lift the limit (ulimit -v \
         unlimited, LimitAS=infinity), and limit memory by the control group (MemoryMax=)",
        format_size(bytes)
    ))
}

/// An error of starting this program again from `/proc`, with the reason where there is no `/proc`.
pub(crate) fn without_proc(error: io::Error) -> io::Error {
    // Not followed: the link leads to no name once the program's file has been replaced.
    let is_there = Path::new("/proc/self/exe").symlink_metadata().is_ok();
    if !cfg!(target_os = "linux") || is_there {
        return error;
    }
    io::Error::new(
        error.kind(),
        "/proc is not mounted, and workers are started from /proc/self/exe; mount it (mount -t proc proc /proc)",
    )
}
