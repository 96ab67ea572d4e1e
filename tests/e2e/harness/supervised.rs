//! The operator's view of a server: its status, commands, files, signals and exit.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::setup::{CONTROL, binary};
use super::{Connection, Daylily, Finished, PATIENCE, Process, Request, cli, eventually};

/// How many connections to open until the wanted worker has accepted one, because the kernel distributes them.
const TRIES: usize = 200;

/// The output of `daylily status --json`.
#[derive(Debug)]
pub struct Status(pub Value);

impl Status {
    #[track_caller]
    fn number(&self, pointer: &str) -> u64 {
        let value = self.0.pointer(pointer).and_then(Value::as_u64);
        value.unwrap_or_else(|| panic!("no number {pointer} in {self:?}"))
    }

    pub fn supervisor(&self) -> Process {
        Process { pid: u32::try_from(self.number("/pid")).expect("a process's number") }
    }

    pub fn generation(&self) -> u64 {
        self.number("/generation")
    }

    pub fn state(&self) -> &str {
        self.0["state"].as_str().expect("a state")
    }

    #[track_caller]
    pub fn total(&self, name: &str) -> u64 {
        self.number(&format!("/totals/{name}"))
    }

    #[track_caller]
    pub fn of_worker(&self, worker: usize, name: &str) -> u64 {
        self.number(&format!("/workers/{worker}/{name}"))
    }

    pub fn draining(&self) -> usize {
        self.0["draining"].as_array().expect("a list").len()
    }

    /// The processes of ready workers, by worker number; None for a worker that is not ready.
    pub fn workers(&self) -> Vec<Option<Process>> {
        let workers = self.0["workers"].as_array().expect("a list").iter().map(|worker| {
            let pid = u32::try_from(worker["pid"].as_u64()?).ok()?;
            (worker["state"] == "ready").then_some(Process { pid })
        });
        workers.collect()
    }

    /// All workers, or None unless all are ready.
    pub fn ready(&self) -> Option<Vec<Process>> {
        self.workers().into_iter().collect()
    }
}

/// Of the totals, those that go up and down.
const GAUGES: [&str; 1] = ["requests_in_progress"];

/// The last status. Checks that no total goes backwards from one to the next.
#[derive(Default)]
pub struct Moved(Option<Status>);

impl Moved {
    /// Gets the status and compares it with the previous one.
    #[track_caller]
    pub fn look<'a>(&'a mut self, server: &Daylily) -> &'a Status {
        let next = server.status();
        if let Some(last) = &self.0 {
            let totals = last.0["totals"].as_object().expect("totals");
            for name in totals.keys().filter(|name| !GAUGES.contains(&name.as_str())) {
                let (before, after) = (last.total(name), next.total(name));
                assert!(before <= after, "{name} went from {before} back to {after}");
            }
        }
        self.0.insert(next)
    }
}

/// Makes a named pipe: opening it blocks until another process opens the other end.
pub fn make_pipe(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
}

/// A command that was sent to the control socket.
pub struct Asked(UnixStream);

impl Asked {
    /// Whether a response has arrived, or the connection was closed.
    pub fn is_answered(&self) -> bool {
        use rustix::net::{RecvFlags, recv};
        recv(&self.0, &mut [0_u8], RecvFlags::PEEK | RecvFlags::DONTWAIT).is_ok()
    }

    /// Waits for the line of the response.
    pub fn answer(self) -> Option<String> {
        let mut answer = String::new();
        BufReader::new(self.0).read_line(&mut answer).ok()?;
        (!answer.is_empty()).then_some(answer)
    }
}

impl Daylily {
    /// The server's status from its control socket, without starting `daylily status`. During an upgrade there is a
    /// moment without a response; like the command, this then tries again.
    #[track_caller]
    pub fn status(&self) -> Status {
        let mut status = None;
        let answered = eventually(Duration::from_secs(2), || {
            status = self.try_status();
            status.is_some()
        });
        assert!(answered, "nobody answers on the control socket");
        status.expect("a status")
    }

    pub(super) fn try_status(&self) -> Option<Status> {
        let answer = self.say("\"status\"\n")?;
        let mut answer: Value = serde_json::from_str(&answer).ok()?;
        Some(Status(answer.get_mut("status")?.take()))
    }

    /// Sends bytes to the control socket. Returns the line that the server responds with.
    pub fn say(&self, bytes: &str) -> Option<String> {
        self.ask(bytes)?.answer()
    }

    /// Sends bytes to the control socket, and does not wait for the response. The server reads commands in the order in
    /// which they are sent: when it has replied to a later `status`, it has received this one.
    pub fn ask(&self, bytes: &str) -> Option<Asked> {
        let mut stream = UnixStream::connect(self.directory().join(CONTROL)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).expect("a read time-out");
        stream.write_all(bytes.as_bytes()).ok()?;
        Some(Asked(stream))
    }

    /// Runs `daylily ARGUMENTS --control` with the server's control socket.
    #[track_caller]
    pub fn command(&self, arguments: &[&str]) -> Finished {
        self.command_at(CONTROL, arguments)
    }

    /// As [`Daylily::command`], with another control socket.
    #[track_caller]
    pub fn command_at(&self, control: &str, arguments: &[&str]) -> Finished {
        if arguments.first() == Some(&"stop") {
            self.note_stop();
        }
        let mut command = Command::new(binary());
        command.env_clear().args(arguments).args(["--control", control]);
        cli::finish(&mut command, self.directory())
    }

    /// Reloads the server. Fails if the reload fails.
    #[track_caller]
    pub fn reload(&self) {
        self.command(&["reload"]).expect(0, &[]);
    }

    /// The server's workers. Fails unless all are ready soon.
    #[track_caller]
    pub fn workers(&self) -> Vec<Process> {
        let mut ready = None;
        let came = eventually(PATIENCE, || {
            ready = self.status().ready();
            ready.is_some()
        });
        assert!(came, "not all workers are ready: {:?}", self.status());
        ready.expect("workers")
    }

    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        if matches!(signal, Signal::TERM | Signal::INT) {
            self.note_stop();
        }
        self.supervisor().signal(signal);
    }

    /// Waits until the server exits. Returns its exit code.
    #[track_caller]
    pub fn wait_exit(&self) -> i32 {
        self.wait_exit_within(PATIENCE)
    }

    #[track_caller]
    pub fn wait_exit_within(&self, within: Duration) -> i32 {
        assert!(eventually(within, || self.try_wait().is_some()), "it runs on after {within:?}");
        let status = self.try_wait().expect("its end");
        status.code().unwrap_or_else(|| panic!("ended by signal {:?}", status.signal()))
    }

    /// Fails unless the server exits soon by itself, with this code and with all of `parts` in its log.
    #[track_caller]
    pub fn expect_exit(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.wait_exit(), code, "{}", self.log().to_end());
        let log = self.log().to_end();
        for part in parts {
            assert!(log.contains(part), "no {part:?} in the log:\n{log}");
        }
    }

    /// Waits until no process runs in the server's directory.
    #[track_caller]
    pub fn expect_no_process(&self, within: Duration) {
        let gone = eventually(within, || self.processes().is_empty());
        assert!(gone, "{:?} run on after {within:?}", self.processes());
    }

    /// A connection that this worker has accepted, after one request on it.
    #[track_caller]
    pub fn connect_to(&self, worker: usize, host: &str) -> Connection {
        for _ in 0..TRIES {
            let before = self.status().of_worker(worker, "requests");
            let mut connection = self.connect();
            assert_eq!(connection.exchange(&Request::get(host, "/")).status, 200);
            if self.status().of_worker(worker, "requests") > before {
                return connection;
            }
        }
        panic!("none of {TRIES} connections came to worker {worker}");
    }

    /// Replaces a file in the server's directory atomically.
    pub fn put(&self, path: &str, contents: impl AsRef<[u8]>) {
        let new = self.directory().join("put.new");
        fs::write(&new, contents).expect("a file");
        fs::rename(new, self.directory().join(path)).expect("the file in its place");
    }

    /// The text of the configuration file.
    pub fn config(&self) -> String {
        fs::read_to_string(self.directory().join("daylily.toml")).expect("a configuration file")
    }

    /// Changes the configuration file.
    pub fn configure(&self, change: impl FnOnce(String) -> String) {
        self.put("daylily.toml", change(self.config()));
    }
}
