//! The beginning of a process that a supervisor starts: it receives everything through its standard input.

use std::ffi::CStr;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

/// Receives what the process needs with `receive`, names it, and ignores signals. To be called before any thread is
/// started: threads inherit the name, which is what `ps` and `top` show (otherwise that would be `exe`, from
/// /proc/self/exe). `what` is what the process is one of, for users who start it by hand.
///
/// # Errors
///
/// The exit code, when it was not started by a supervisor. The reason is printed.
pub(crate) fn begin<T>(
    name: &CStr,
    what: &str,
    receive: impl FnOnce(&UnixStream) -> io::Result<T>,
) -> Result<(UnixStream, T), ExitCode> {
    let received = io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from).and_then(|supervisor| {
        let received = receive(&supervisor)?;
        Ok((supervisor, received))
    });
    let received = received.map_err(|error| {
        let _ = writeln!(
            io::stderr(),
            "this command is internal: daylily starts its {what} with it; run `daylily serve` instead ({error})"
        );
        ExitCode::from(2)
    })?;
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::set_name(name);
    #[cfg(not(target_os = "linux"))]
    let _ = name;
    ignore_signals();
    Ok(received)
}

/// Ends the process if any of its threads panics: a thread that is missing would not be noticed, and the supervisor starts
/// another process instead.
pub(crate) fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

/// Ignores signals: they are sent to the whole process group (Ctrl-C) or to the whole service, and the supervisor
/// decides when its other processes end.
#[expect(unsafe_code, reason = "a signal is ignored through the C library only")]
fn ignore_signals() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1, libc::SIGUSR2] {
        // SAFETY: SIG_IGN is no handler that could run at a bad time, and nothing else in this process uses them.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}
