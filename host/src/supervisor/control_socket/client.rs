//! `daylily status`, `reload` and `stop`: the client side of the control socket.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use super::report::{Command, Reply, Status};
use crate::failure::{EXIT_CUT, Failure};
use crate::stdout::print;
use crate::sys::dirs::{self, SOCKET_SUFFIX};

/// How long to retry while connections are refused: a successor that takes over the socket listens within this time. A
/// socket that refuses for longer has no listener.
const TAKEOVER_PATIENCE: Duration = Duration::from_secs(1);

/// How long a supervisor may take to show that it responds: to reply to `status`, and to start on a reload or a stop.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// When the reply to a reload or a stop takes longer than this, the client sends `status` on another connection: a
/// supervisor that replies to it has received the earlier command, too.
const ASK_AFTER: Duration = Duration::from_secs(1);

/// Delay between attempts to connect, while the backlog is full or no process listens.
const RETRY: Duration = Duration::from_millis(10);

/// EX_NOPERM of sysexits.h.
const EXIT_NOT_YOURS: u8 = 77;

/// The output format of a reply.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OutputFormat {
    Text,
    Json,
}

/// Sends `command` to the server at `socket`, or to the only one that runs, and prints its reply. Once the server has
/// shown that it responds, waits until a reload or stop is done.
///
/// # Errors
///
/// When there is no such server, or several and no `socket`; when it does not respond; and the error that the server
/// reports, with its exit code.
pub(crate) fn run(command: Command, socket: Option<&Path>, form: OutputFormat) -> Result<(), Failure> {
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    let (path, stream) = connect(socket, deadline)?;
    let reply = match exchange(stream, command, &path, deadline) {
        Err(error) if error.kind() != ErrorKind::TimedOut => {
            // The server may be handing over to its successor: try once more.
            again(&path, deadline).and_then(|stream| exchange(stream, command, &path, deadline))
        }
        answered => answered,
    };
    let failed = |text| Failure::Worker { text, code: 69 };
    let reply = reply.map_err(|error| match error.kind() {
        ErrorKind::TimedOut => failed(unresponsive(&path)),
        _ => failed(format!(
            "the daylily server at `{}` closed the connection without a reply ({error}); see its log",
            path.display()
        )),
    })?;
    match reply {
        Reply::Status(status) => print(&show(&status, form)?),
        Reply::Reloaded { generation } => print(&format!("reloaded: generation {generation} serves\n")),
        Reply::Reopened => print("reopened\n"),
        Reply::Stopped { requests_cut: 0 } => print("stopped\n"),
        Reply::Stopped { requests_cut } => {
            Err(Failure::Worker { text: Failure::Cut { cut: requests_cut }.to_string(), code: EXIT_CUT })
        }
        Reply::Failed { reason, exit_code } => Err(Failure::Worker { text: reason, code: exit_code }),
    }
}

/// Whether a daylily listens at `path`, even one that does not respond.
pub(crate) fn answers(path: &Path) -> bool {
    match try_connect(path) {
        Ok(_) => true,
        // Its backlog is full.
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

fn unresponsive(path: &Path) -> String {
    format!(
        "the daylily server at `{}` has not responded for {ANSWER_TIMEOUT:?}; is its process stopped, or the machine \
         out of memory?",
        path.display()
    )
}

fn show(status: &Status, form: OutputFormat) -> io::Result<String> {
    Ok(match form {
        OutputFormat::Text => status.to_text(),
        OutputFormat::Json => serde_json::to_string_pretty(status)? + "\n",
    })
}

fn exchange(stream: UnixStream, command: Command, path: &Path, deadline: Instant) -> io::Result<Reply> {
    let mut line = serde_json::to_string(&command)?;
    line.push('\n');
    let limit = |wait: Duration| Some(wait.min(left(deadline)));
    stream.set_write_timeout(limit(ANSWER_TIMEOUT))?;
    // A failed write is not final: the server replies to another user's client without reading its command.
    let written = (&stream).write_all(line.as_bytes());
    let mut reader = BufReader::new(&stream);
    if command == Command::Status {
        stream.set_read_timeout(limit(ANSWER_TIMEOUT))?;
    } else {
        stream.set_read_timeout(limit(ASK_AFTER))?;
        if reader.fill_buf().is_err_and(is_late) {
            acknowledged(path, deadline)?;
        }
        stream.set_read_timeout(None)?;
    }
    let mut answer = String::new();
    reader.read_line(&mut answer).map_err(timed_out)?;
    // After a stop, the server's process keeps the connection open until it has ended: wait for that.
    let _ = reader.read_to_end(&mut Vec::new());
    if answer.is_empty() {
        written?;
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_str(&answer)?)
}

/// Whether the supervisor responds to `status` on another connection, which shows that it has received the earlier
/// command. Commands have no interim reply, so that every version understands every other.
fn acknowledged(path: &Path, deadline: Instant) -> io::Result<()> {
    let status = again(path, deadline).and_then(|stream| exchange(stream, Command::Status, path, deadline));
    match status {
        Err(error) if error.kind() == ErrorKind::TimedOut => Err(error),
        // That a supervisor has ended is noticed on the waiting connection.
        _ => Ok(()),
    }
}

fn left(deadline: Instant) -> Duration {
    // Zero is not a valid time-out of a socket.
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

/// Whether the error is a socket's time-out; its kind depends on the platform.
fn is_late(error: io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == ErrorKind::WouldBlock { ErrorKind::TimedOut.into() } else { error }
}

fn connect(socket: Option<&Path>, deadline: Instant) -> Result<(PathBuf, UnixStream), Failure> {
    let none = |reason: String| Failure::Worker { text: reason, code: 69 };
    if let Some(path) = socket {
        return again(path, deadline).map(|stream| (path.to_owned(), stream)).map_err(|error| match error.kind() {
            ErrorKind::TimedOut => none(unresponsive(path)),
            // The kernel checks the socket's mode before the server sees the client.
            ErrorKind::PermissionDenied => Failure::Worker {
                text: format!(
                    "the control socket `{}` belongs to another user: {error}; run this as that user or as root",
                    path.display()
                ),
                code: EXIT_NOT_YOURS,
            },
            _ => none(format!("no daylily server responds at `{}`: {error}; is it running?", path.display())),
        });
    }
    let dirs = dirs::control_dirs();
    let mut running: Vec<_> = dirs.iter().flat_map(|dir| running_in(dir)).collect();
    match (running.pop(), running.as_slice()) {
        (Some(only), []) => match again(&only, deadline) {
            Ok(stream) => Ok((only, stream)),
            Err(_) => Err(none(unresponsive(&only))),
        },
        (None, _) => {
            let looked: Vec<_> = dirs.iter().map(|dir| dir.display().to_string()).collect();
            Err(none(format!(
                "no daylily server of this user is running (looked in {}); give its control socket with --control",
                looked.join(" and ")
            )))
        }
        (Some(last), others) => {
            let paths = others.iter().chain([&last]).map(|path| format!("  --control {}", path.display()));
            Err(none(format!(
                "several daylily servers are running; choose one:\n{}",
                paths.collect::<Vec<_>>().join("\n")
            )))
        }
    }
}

/// Connects, and retries until `deadline` while the backlog is full, and for `TAKEOVER_PATIENCE` while no process
/// listens because a successor takes over.
fn again(path: &Path, deadline: Instant) -> io::Result<UnixStream> {
    let takeover = Instant::now() + TAKEOVER_PATIENCE;
    loop {
        match try_connect(path) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused && Instant::now() < takeover => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < deadline => {}
            connected => return connected.map_err(timed_out),
        }
        std::thread::sleep(RETRY);
    }
}

/// Connects without waiting for room in the backlog: the kernel would wait without a limit.
///
/// # Errors
///
/// `WouldBlock` when the backlog is full.
fn try_connect(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)?;
    socket.set_nonblocking(false)?;
    Ok(OwnedFd::from(socket).into())
}

/// The control sockets in a directory on which a process listens.
fn running_in(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths.retain(|path| path.to_string_lossy().ends_with(SOCKET_SUFFIX) && answers(path));
    paths
}
