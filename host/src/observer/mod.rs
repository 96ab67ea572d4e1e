//! The observer process: reads the journals of all workers and writes the access log. It parses what strangers have
//! sent, and nothing depends on it: if it ends, the supervisor starts another, which goes on where it was.
//!
//! It outlives a supervisor that has died, until the last worker has ended and its journal is written.

mod access_log;
mod line;
pub(crate) mod message;
pub(crate) mod sink;

use std::ffi::CStr;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use daylily_core::log_target;
use rustix::event::{PollFd, PollFlags};

use self::access_log::AccessLogWriter;
use self::message::{Message, Settings};
use crate::observe::log;
use crate::sys::limits;

/// Printed when a user starts an observer by hand.
const NOT_FOR_HANDS: &str =
    "this command is internal: daylily starts its observer with it; run `daylily serve` instead";

/// The name in `ps` and `top`.
const PROCESS_NAME: &CStr = c"daylily-observer";

/// How long records wait to be written together with others.
const BATCH_DELAY: Duration = Duration::from_millis(200);

/// How long the log may take to be written after the supervisor and all workers have ended.
pub(crate) const LAST_LINES: Duration = Duration::from_secs(2);

/// Runs an observer to its end.
pub(crate) fn main() -> ExitCode {
    let (supervisor, settings) = match begin() {
        Ok(begun) => begun,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{NOT_FOR_HANDS} ({error})");
            return ExitCode::from(2);
        }
    };
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::set_name(PROCESS_NAME);
    // The supervisor decides when this process ends, and a write over the limit of file sizes is an error like others.
    limits::ignore_stop_signals();
    limits::survive_file_size_limit();
    match log::start(&settings.log).and_then(|log| run(supervisor, settings, &log)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "the observer cannot run: {error}");
            ExitCode::FAILURE
        }
    }
}

fn begin() -> io::Result<(UnixStream, Settings)> {
    let supervisor = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    match message::receive(&supervisor)? {
        (Message::Settings(settings), _) => Ok((supervisor, settings)),
        _ => Err(io::Error::other("the first message has no settings")),
    }
}

fn run(supervisor: UnixStream, settings: Settings, log: &log::Log) -> io::Result<()> {
    let (sender, messages) = mpsc::channel();
    let from = supervisor.try_clone()?;
    std::thread::Builder::new().name("messages".into()).spawn(move || {
        while let Ok(message) = message::receive(&from) {
            if sender.send(message).is_err() {
                return;
            }
        }
    })?;
    let mut writer = AccessLogWriter::new(settings.access_log);
    let mut is_alone = false;
    loop {
        match messages.recv_timeout(BATCH_DELAY) {
            Ok((Message::Settings(settings), _)) => {
                log.set_filter(&settings.log);
                writer.set(settings.access_log);
            }
            Ok((Message::Journal { id, facts }, files)) => match writer.add(id, facts, files) {
                Ok(()) => continue,
                Err(error) => tracing::error!(
                    target: log_target::LOG,
                    "failed to read the journal of a worker: {error}; its requests have no lines in the access log"
                ),
            },
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                if !is_alone {
                    is_alone = true;
                    end_in_time(writer.signs_of_life()?)?;
                }
                // The channel returns at once from now on.
                std::thread::sleep(BATCH_DELAY.min(Duration::from_millis(20)));
            }
        }
        for id in writer.write() {
            // Ignore errors: the supervisor may have ended.
            let _ = message::tell_done(&supervisor, id);
        }
        if is_alone && writer.is_done() {
            return Ok(());
        }
    }
}

/// Ends the process [`LAST_LINES`] after the last worker, also when a write does not return.
fn end_in_time(alive: Vec<std::fs::File>) -> io::Result<()> {
    std::thread::Builder::new().name("end".into()).spawn(move || {
        for worker in alive {
            // Nothing is ever written to it: it only hangs up.
            let _ = rustix::event::poll(&mut [PollFd::new(&worker, PollFlags::IN)], None);
        }
        std::thread::sleep(LAST_LINES);
        std::process::exit(1);
    })?;
    Ok(())
}
