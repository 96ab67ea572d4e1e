//! `daylily status`, `reload` and `stop`: the other end of the control socket.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::report::{Command, Reply, Status};
use crate::failure::{EXIT_CUT, Failure};
use crate::places;

/// What sockets are called.
pub(super) const SOCKET_SUFFIX: &str = ".sock";

/// For a successor to take over a socket. Nobody else leaves one that is not listened on for long.
const TAKEOVER_PATIENCE: Duration = Duration::from_secs(1);

/// How an answer is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    Text,
    Json,
}

/// Sends `command` to the server at `socket`, or to the only one that runs, and says what it answered.
/// Waits for a reload or a stop to be done.
///
/// # Errors
///
/// When there is no such server, or not only one; and what the server says went wrong, with its exit code.
pub(crate) fn run(command: Command, socket: Option<&Path>, form: Form) -> Result<(), Failure> {
    let (path, stream) = connect(socket)?;
    let reply = match exchange(stream, command) {
        Ok(reply) => reply,
        // It may just be handing over to its successor.
        Err(_) => again(&path).and_then(|stream| exchange(stream, command)).map_err(|error| Failure::Worker {
            text: format!("the daylily at `{}` ended without an answer ({error}); its log says why", path.display()),
            code: 69,
        })?,
    };
    let mut out = io::stdout();
    match reply {
        Reply::Status(status) => write!(out, "{}", show(&status, form)?)?,
        Reply::Reloaded { generation } => writeln!(out, "reloaded: generation {generation} serves")?,
        Reply::Stopped { requests_cut: 0 } => writeln!(out, "stopped")?,
        Reply::Stopped { requests_cut } => {
            return Err(Failure::Worker { text: Failure::Cut { cut: requests_cut }.to_string(), code: EXIT_CUT });
        }
        Reply::Failed { reason, exit_code } => return Err(Failure::Worker { text: reason, code: exit_code }),
    }
    Ok(())
}

fn show(status: &Status, form: Form) -> io::Result<String> {
    Ok(match form {
        Form::Text => status.to_text(),
        Form::Json => serde_json::to_string_pretty(status)? + "\n",
    })
}

fn exchange(stream: UnixStream, command: Command) -> io::Result<Reply> {
    let mut line = serde_json::to_string(&command)?;
    line.push('\n');
    // Whoever is refused is told so at once, without being listened to.
    let written = (&stream).write_all(line.as_bytes());
    let mut answer = String::new();
    let mut reader = BufReader::new(stream);
    reader.read_line(&mut answer)?;
    // After a stop, the connection ends with the process.
    let _ = reader.read_to_end(&mut Vec::new());
    if answer.is_empty() {
        written?;
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_str(&answer)?)
}

fn connect(socket: Option<&Path>) -> Result<(PathBuf, UnixStream), Failure> {
    let none = |reason: String| Failure::Worker { text: reason, code: 69 };
    if let Some(path) = socket {
        return UnixStream::connect(path)
            .or_else(|error| if error.kind() == io::ErrorKind::ConnectionRefused { again(path) } else { Err(error) })
            .map(|stream| (path.to_owned(), stream))
            .map_err(|error| none(format!("no daylily answers at `{}`: {error}; is it running?", path.display())));
    }
    let dirs = places::control_dirs();
    let mut running: Vec<_> = dirs.iter().flat_map(|dir| running_in(dir)).collect();
    match (running.pop(), running.as_slice()) {
        (Some(only), []) => Ok(only),
        (None, _) => {
            let looked: Vec<_> = dirs.iter().map(|dir| dir.display().to_string()).collect();
            Err(none(format!(
                "no daylily of yours is running (looked into {}); name its socket with --control",
                looked.join(" and ")
            )))
        }
        (Some(last), others) => {
            let paths = others.iter().chain([&last]).map(|(path, _)| format!("  --control {}", path.display()));
            Err(none(format!("several are running; choose one:\n{}", paths.collect::<Vec<_>>().join("\n"))))
        }
    }
}

/// Connects to a socket that nobody listens on for a moment while a successor takes it over.
fn again(path: &Path) -> io::Result<UnixStream> {
    let deadline = Instant::now() + TAKEOVER_PATIENCE;
    loop {
        match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            connected => return connected,
        }
    }
}

/// The sockets in a directory that somebody listens on.
fn running_in(dir: &Path) -> Vec<(PathBuf, UnixStream)> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let sockets = paths.into_iter().filter(|path| path.to_string_lossy().ends_with(SOCKET_SUFFIX));
    sockets.filter_map(|path| UnixStream::connect(&path).ok().map(|stream| (path, stream))).collect()
}
