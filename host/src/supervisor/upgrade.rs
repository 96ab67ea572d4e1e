//! Upgrades: the supervisor starts the new binary with its sockets, and drains when that one is ready.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::time::Duration;

use daylily_core::log_target;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::admin::AdminListener;
use super::orphans;
use crate::ipc::fd_message;
use crate::net::sockets::{Inventory, Sockets};
use crate::observe::counters::Totals;
use crate::observe::metrics::Sums;
use crate::sys::sealed::shared_file;

/// The hidden first argument of a successor's command line.
pub(crate) const SUCCESSOR: &str = "successor";

/// How long a successor may take to be ready: it compiles the components with its own wasmtime first.
const READY_TIMEOUT: Duration = Duration::from_secs(600);

const READY: u8 = b'r';

/// Maximum length of a predecessor's message, and how long to wait for the first one.
const MAX_LINE_BYTES: u64 = 1 << 16;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum length of a predecessor's metrics.
const MAX_METRICS_BYTES: u64 = 256 << 20;

/// How this program was started, so that a newer one can be started the same way.
#[derive(Clone)]
pub(crate) struct Invocation {
    program: PathBuf,
    arguments: Vec<OsString>,
}

/// The handoff: what a successor receives from its predecessor.
pub(crate) struct Inheritance {
    pub(crate) sockets: Sockets,
    pub(crate) admin: AdminListener,
    pub(crate) carried: CarriedState,
    /// A file that the predecessor writes its metrics to, before it sends its totals.
    metrics: Option<File>,
    predecessor: StdUnixStream,
}

/// A successor that is ready to take over.
pub(crate) struct Successor {
    child: Child,
    channel: StdUnixStream,
    /// A file that this process writes its metrics to, for the successor.
    metrics: File,
    pub(crate) pid: u32,
}

/// The payload of the handoff. Read by other versions of this program: fields may be added, with a default, but not
/// renamed or removed.
#[derive(Serialize, Deserialize)]
pub(crate) struct Handoff {
    pub(crate) inventory: Inventory,
    /// After the sockets comes the file of [`Inheritance::metrics`].
    #[serde(default)]
    has_metrics: bool,
    #[serde(flatten)]
    carried: CarriedState,
    /// The socket of the admin listener, whose descriptor follows those before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    admin: Option<Inventory>,
}

/// The state that continues across an upgrade, besides the sockets. A part of [`Handoff`].
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct CarriedState {
    /// The number of the latest generation.
    pub(crate) generation: u64,
    pub(crate) totals: Totals,
    /// The configuration file was found without being named, and has been required since.
    #[serde(default)]
    pub(crate) config_was_found: bool,
}

/// The process group of a successor that is not ready yet. Killing it also ends the processes that the successor has
/// started, which would otherwise keep the sockets open. Dropping this kills the group.
struct Group(Option<Pid>);

impl Group {
    fn kill(&self) {
        // Fails only when all processes of the group have ended.
        let _ = self.0.map(|leader| kill_process_group(leader, Signal::KILL));
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Invocation {
    /// `program` is the first word of the command line. Its path is kept, not the file: an upgrade starts the file that
    /// has this path by then.
    pub(crate) fn new(program: OsString, arguments: Vec<OsString>) -> Self {
        Self { program: locate(PathBuf::from(program)), arguments }
    }

    /// Starts the program that has this path now, and waits until it is ready to serve. Cancel safe: the new process is
    /// killed.
    ///
    /// # Errors
    ///
    /// When it does not start, ends before it is ready (its stderr says why), or is not ready within `READY_TIMEOUT`.
    pub(crate) async fn succeed(
        &self,
        sockets: &Sockets,
        admin: &AdminListener,
        carried: CarriedState,
    ) -> io::Result<Successor> {
        let (ours, theirs) = StdUnixStream::pair()?;
        let mut command = Command::new(&self.program);
        command.arg(SUCCESSOR).args(&self.arguments).stdin(OwnedFd::from(theirs)).process_group(0).kill_on_drop(true);
        // These variables are valid only for this process's pid.
        for variable in ["WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
            command.env_remove(variable);
        }
        let mut child = command
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("`{}`: {error}", self.program.display())))?;
        // Close this process's copy of the successor's socket. Otherwise the channel would stay open after the
        // successor has ended.
        drop(command);
        orphans::exclude(&child);
        let pid = child.id().unwrap_or_default();
        let mut group = Group(i32::try_from(pid).ok().and_then(Pid::from_raw));
        let (inventory, mut descriptors) = sockets.inventory();
        let metrics = shared_file("daylily-handoff-metrics")?;
        descriptors.push(metrics.as_fd());
        let (admin, last) = admin.sockets().inventory();
        let admin = (!last.is_empty()).then_some(admin);
        descriptors.extend(last);
        let handoff = serde_json::to_vec(&Handoff { inventory, has_metrics: true, carried, admin })?;
        let sent = fd_message::send(&ours, &handoff, &descriptors);
        ours.set_nonblocking(true)?;
        let mut channel = UnixStream::from_std(ours)?;
        let word = async {
            // An error here means that the program has ended already; its exit status is reported below.
            sent?;
            channel.read_u8().await
        };
        match tokio::time::timeout(READY_TIMEOUT, word).await {
            Ok(Ok(READY)) => {
                group.0 = None;
                Ok(Successor { child, channel: channel.into_std()?, metrics, pid })
            }
            Ok(_) => {
                group.kill();
                let status = child.wait().await?;
                Err(io::Error::other(format!("the new program ended before it was ready ({status})")))
            }
            Err(_elapsed) => {
                group.kill();
                child.wait().await?;
                Err(io::Error::other(format!("the new program was not ready after {READY_TIMEOUT:?}")))
            }
        }
    }
}

impl Successor {
    /// Sends it the totals so far, and the metrics: when it takes over, and at the end.
    pub(crate) fn tell(&self, totals: Totals, sums: &Sums) {
        let metrics = sums.to_json().map_err(io::Error::other).and_then(|json| rewrite(&self.metrics, &json));
        if let Err(error) = metrics {
            tracing::warn!(target: log_target::SUPERVISOR, "failed to send the metrics to process {}: {error}", self.pid);
        }
        let line = serde_json::to_string(&totals).map_err(io::Error::other).map(|line| line + "\n");
        if let Err(error) = line.and_then(|line| (&self.channel).write_all(line.as_bytes())) {
            tracing::warn!(
                target: log_target::SUPERVISOR,
                "failed to send the counters to process {}: {error}", self.pid
            );
        }
    }

    /// Keeps it running when this process ends: dropping `child` would kill it.
    pub(crate) fn release(self) {
        std::mem::forget(self.child);
    }
}

impl Inheritance {
    /// Receives the handoff from the predecessor through standard input. Blocks until it has arrived.
    ///
    /// # Errors
    ///
    /// When standard input is not connected to a predecessor, or its payload cannot be decoded.
    pub(crate) fn receive() -> io::Result<Self> {
        let predecessor = StdUnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        let (payload, descriptors) = fd_message::receive(&predecessor)?;
        let handoff: Handoff = serde_json::from_slice(&payload)?;
        let mut descriptors = descriptors.into_iter();
        let sockets = Sockets::from_inventory(handoff.inventory, &mut descriptors)?;
        let metrics = handoff.has_metrics.then(|| descriptors.next().map(File::from)).flatten();
        let admin = handoff.admin.map(|admin| Sockets::from_inventory(admin, &mut descriptors)).transpose()?;
        let admin = AdminListener::inherited(admin.unwrap_or_default());
        Ok(Self { sockets, admin, carried: handoff.carried, metrics, predecessor })
    }

    /// Reports to the predecessor that this process serves, so that it drains. Returns what it has counted so far, unless
    /// that comes later than `ANSWER_TIMEOUT` or cannot be read: then its last report has it. From then on, the
    /// predecessor does not reply on the control socket.
    ///
    /// # Errors
    ///
    /// When the predecessor has closed the connection.
    pub(crate) async fn take_over(mut self) -> io::Result<(io::Result<Report>, Predecessor)> {
        // Also claims the files of sockets that this process does not serve on; dropping `self` removes those.
        self.sockets.claim_files();
        self.admin.sockets().claim_files();
        self.predecessor.set_nonblocking(true)?;
        let mut predecessor = BufReader::new(UnixStream::from_std(self.predecessor)?);
        predecessor.write_all(&[READY]).await?;
        let mut predecessor = Predecessor { channel: predecessor, line: Vec::new(), metrics: self.metrics.take() };
        let report = tokio::time::timeout(ANSWER_TIMEOUT, predecessor.report()).await;
        Ok((report.unwrap_or_else(|elapsed| Err(elapsed.into())), predecessor))
    }
}

/// The predecessor, while it drains.
pub(crate) struct Predecessor {
    channel: BufReader<UnixStream>,
    /// The beginning of the next line.
    line: Vec<u8>,
    metrics: Option<File>,
}

/// What a predecessor has counted up to now.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) totals: Totals,
    /// Empty if the predecessor is of a version without metrics.
    pub(crate) sums: Sums,
}

impl Predecessor {
    /// Its next report. Cancel safe.
    ///
    /// # Errors
    ///
    /// When it closes the connection without sending it, or it cannot be read.
    async fn report(&mut self) -> io::Result<Report> {
        let line = self.next_line().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.read(&line)
    }

    /// Its last report, which it sends at its end. That may take its `shutdown_timeout`.
    ///
    /// # Errors
    ///
    /// When it closes the connection without sending one, or it cannot be read.
    pub(crate) async fn last_report(mut self) -> io::Result<Report> {
        let mut last = Err(io::ErrorKind::UnexpectedEof.into());
        while let Some(line) = self.next_line().await? {
            last = self.read(&line);
        }
        last
    }

    /// The next line; None at the end of the connection. Cancel safe.
    async fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        (&mut self.channel).take(MAX_LINE_BYTES).read_until(b'\n', &mut self.line).await?;
        Ok(Some(std::mem::take(&mut self.line)).filter(|line| !line.is_empty()))
    }

    fn read(&self, line: &[u8]) -> io::Result<Report> {
        let sums = self.metrics.as_ref().map(read_sums).transpose()?.unwrap_or_default();
        Ok(Report { totals: serde_json::from_slice(line)?, sums })
    }
}

/// Replaces the contents of a file that the successor reads when it is told to. The position in the file is shared with
/// it, and is not used.
fn rewrite(file: &File, bytes: &[u8]) -> io::Result<()> {
    file.set_len(0)?;
    file.write_all_at(bytes, 0)
}

/// Reads what [`rewrite`] wrote. Fails if the predecessor is writing the next report; then that one is to be read.
fn read_sums(file: &File) -> io::Result<Sums> {
    let length = file.metadata()?.len().min(MAX_METRICS_BYTES);
    let mut json = vec![0; usize::try_from(length).unwrap_or(0)];
    file.read_exact_at(&mut json, 0)?;
    Ok(Sums::from_json(&json)?)
}

/// The absolute path of the program. Symbolic links are not resolved, so that a link that leads to a newer version by
/// the time of an upgrade is followed there.
fn locate(program: PathBuf) -> PathBuf {
    if program.components().count() > 1 {
        return std::path::absolute(&program).unwrap_or(program);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(&program)).find(|path| path.is_file());
    found.or_else(|| std::env::current_exe().ok()).unwrap_or(program)
}

#[cfg(test)]
mod tests {
    use daylily_core::process_role::ProcessRole;

    use super::*;

    fn sums(ns: u64) -> Sums {
        Sums::of_cpu_ns(ProcessRole::Worker, ns)
    }

    /// Reports that are late, or are overwritten while they are read, are not the last ones.
    #[tokio::test]
    async fn the_last_report_has_everything() {
        async fn check(first: &[u8], metrics: &[u8], is_read: bool) {
            let (theirs, ours) = StdUnixStream::pair().expect("a pair");
            ours.set_nonblocking(true).expect("a socket");
            let file = shared_file("reports").expect("memory");
            let channel = BufReader::new(UnixStream::from_std(ours).expect("a socket"));
            let metrics_file = Some(file.try_clone().expect("a descriptor"));
            let mut predecessor = Predecessor { channel, line: Vec::new(), metrics: metrics_file };
            let line = serde_json::to_string(&Totals::default()).expect("JSON") + "\n";
            rewrite(&file, metrics).expect("memory");
            (&theirs).write_all(first).expect("a reader");
            let report = tokio::time::timeout(Duration::from_millis(20), predecessor.report()).await;
            assert_eq!(report.is_ok_and(|report| report.is_ok()), is_read);
            (&theirs).write_all(line.get(first.len() % line.len()..).expect("the rest").as_bytes()).expect("a reader");
            rewrite(&file, &sums(2).to_json().expect("JSON")).expect("memory");
            let last = Totals { restarts: 1, ..Totals::default() };
            let line = serde_json::to_string(&last).expect("JSON") + "\n";
            (&theirs).write_all(line.as_bytes()).expect("a reader");
            drop(theirs);
            let report = predecessor.last_report().await.expect("a report");
            assert_eq!((report.totals.restarts, report.sums), (1, sums(2)));
        }
        let line = serde_json::to_string(&Totals::default()).expect("JSON") + "\n";
        let earlier = sums(1).to_json().expect("JSON");
        check(line.as_bytes(), &earlier, true).await;
        check(line.as_bytes(), &earlier[..earlier.len() - 1], false).await;
        check(line.as_bytes(), b"", false).await;
        check(b"", &earlier, false).await;
        check(&line.as_bytes()[..1], &earlier, false).await;
    }
}
