//! The real `daylily`, started on a port that the kernel chooses.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tempfile::TempDir;

use super::audit::{Audit, Plan, is_ours};
use super::{Connection, Log, Process, Request, Response, Turn};

/// Enough to compile every guest in the dev profile, beside other tests.
const START: Duration = Duration::from_secs(180);

/// A process that kills the server and everything that it started when this process ends, even if this process is
/// killed and drops nothing. It finds them by their working directory, which no other process has.
fn watchdog(directory: &Path) -> Child {
    let script = "read _; for process in /proc/[0-9]*; do
        [ \"$(readlink $process/cwd)\" = \"$0\" ] && kill -9 ${process#/proc/}; done";
    let directory = directory.canonicalize().expect("a directory");
    Command::new("/bin/sh")
        .args(["-c", script])
        .arg(directory)
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a shell")
}

/// A running server. Dropping it compares its access log, its metrics and what its clients saw (see
/// [`audit`](super::audit)), and then kills what is left of it.
pub struct Daylily {
    child: Mutex<Child>,
    pid: u32,
    watchdog: Mutex<Child>,
    /// Without Unix sockets.
    addresses: Vec<SocketAddr>,
    log: Log,
    stdout: Log,
    directory: TempDir,
    audit: Option<Audit>,
    is_concluded: AtomicBool,
    _turn: Turn,
}

impl Daylily {
    /// Wraps a server that was started in `directory`, with pipes for its output. It is audited at its end if there is a
    /// plan for that, whose environment it must have.
    pub(super) fn new(mut child: Child, directory: TempDir, turn: Turn, audit: Option<Plan>) -> Self {
        let log = Log::collect(child.stderr.take().expect("a pipe"));
        let stdout = child.stdout.take().expect("a pipe");
        let (stdout, audit) = match audit {
            None => (Log::collect(stdout), None),
            Some(plan) => {
                let (stdout, records) = Log::collect_apart(stdout, is_ours);
                (stdout, Some(Audit::new(records, plan)))
            }
        };
        let watchdog = Mutex::new(watchdog(directory.path()));
        let (pid, child) = (child.id(), Mutex::new(child));
        let (addresses, is_concluded) = (Vec::new(), AtomicBool::new(false));
        Self { child, pid, watchdog, addresses, log, stdout, directory, audit, is_concluded, _turn: turn }
    }

    /// Waits until the server prints its addresses. Returns the number of workers that it prints.
    #[track_caller]
    pub fn announced(&mut self) -> u32 {
        let line = self.stdout.find_within(START, |_| true);
        let line = line.unwrap_or_else(|| panic!("no address on stdout; exit: {:?}", self.child().try_wait()));
        let parts = line.strip_prefix("Server running at ").and_then(|rest| rest.rsplit_once(" with "));
        let (urls, workers) = parts.unwrap_or_else(|| panic!("not the announced line: {line:?}"));
        let address = |url: &str| url.strip_prefix("http://")?.strip_suffix('/')?.parse().ok();
        let tcp = urls.split(" and ").filter(|url| !url.starts_with("unix:"));
        let addresses: Option<Vec<_>> = tcp.map(address).collect();
        self.addresses = addresses.unwrap_or_else(|| panic!("not URLs with addresses: {urls:?}"));
        match workers.split_once(' ') {
            Some(("1", "worker")) => 1,
            Some((count, "workers")) => count.parse().expect("a number of workers"),
            _ => panic!("not a number of workers: {workers:?}"),
        }
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first or only address of the server.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub(super) fn is_announced(&self) -> bool {
        self.stdout.lines().iter().any(|line| line.starts_with("Server running at "))
    }

    pub(super) fn audit(&self) -> Option<&Audit> {
        self.audit.as_ref()
    }

    /// The exit status; None while the server runs.
    pub fn try_wait(&self) -> Option<ExitStatus> {
        self.child().try_wait().expect("a child to ask")
    }

    pub fn stdout(&self) -> &Log {
        &self.stdout
    }

    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The process of the worker. There must be only one.
    #[track_caller]
    pub fn process(&self) -> Process {
        match self.worker_processes().as_slice() {
            [worker] => *worker,
            workers => panic!("not one worker: {}", workers.len()),
        }
    }

    /// The worker processes, which may not be ready yet.
    pub fn worker_processes(&self) -> Vec<Process> {
        self.supervisor().children().into_iter().filter(|child| child.is_called("daylily-worker")).collect()
    }

    /// The observer process.
    #[track_caller]
    pub fn observer(&self) -> Process {
        let observer = self.supervisor().children().into_iter().find(|child| child.is_called("daylily-observer"));
        observer.expect("an observer")
    }

    pub fn supervisor(&self) -> Process {
        Process { pid: self.pid }
    }

    /// The server's working directory, which contains its configuration.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn connect(&self) -> Connection {
        let connection = Connection::open(self.address());
        match &self.audit {
            Some(audit) => connection.witnessed(audit.witness.clone()),
            None => connection,
        }
    }

    /// Sends one request on a new connection.
    #[track_caller]
    pub fn exchange(&self, request: &Request) -> Response {
        self.connect().exchange(request)
    }

    #[track_caller]
    pub fn get(&self, host: &str, target: &str) -> Response {
        self.exchange(&Request::get(host, target))
    }

    /// Ends the server. Returns everything that it wrote to stdout.
    pub fn stop(self) -> String {
        self.end();
        self.stdout.to_end()
    }

    pub fn show_log(&self) {
        eprintln!("---- log of daylily on {:?} ----\n{}", self.addresses, self.log.tail());
    }

    /// The processes that run in the server's directory: its own, and those that it and its successors started.
    pub fn processes(&self) -> Vec<Process> {
        let directory = self.directory.path().canonicalize().expect("a directory");
        let all = std::fs::read_dir("/proc").expect("a list of processes").filter_map(|entry| {
            let entry = entry.ok()?;
            let pid = entry.file_name().to_str()?.parse().ok()?;
            (std::fs::read_link(entry.path().join("cwd")).ok()? == directory).then_some(Process { pid })
        });
        all.filter(|process| process.is_running()).collect()
    }

    /// Ends the server with its audit, and kills what is left of it.
    fn end(&self) {
        let is_first = !self.is_concluded.swap(true, SeqCst);
        let concluded =
            (is_first && !std::thread::panicking()).then(|| catch_unwind(AssertUnwindSafe(|| self.conclude())));
        self.kill();
        if let Some(Err(failure)) = concluded {
            self.show_log();
            resume_unwind(failure);
        }
    }

    fn kill(&self) {
        // First the watchdog, which must not outlive the server. Then the supervisor, which would replace killed
        // workers. Then the remaining processes.
        for child in [&self.watchdog, &self.child] {
            let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
            let _already_gone = child.kill();
            let _already_waited = child.wait();
        }
        self.processes().into_iter().for_each(Process::kill);
    }
}

impl Drop for Daylily {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            self.log.to_end();
            self.show_log();
        }
    }
}
