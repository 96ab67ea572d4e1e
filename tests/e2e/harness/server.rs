//! The real `daylily`, started on a port of the kernel's choosing.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::{Connection, Log, Process, Request, Response, Turn, guest};

/// Compiling every guest in the dev profile, on a machine with other tests.
const START: Duration = Duration::from_secs(180);

/// The control socket, in the directory that a server runs in.
const CONTROL: &str = "control.sock";

/// Compiled components, shared by all servers under test: they are compiled once for the whole run.
pub fn cache_dir() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache")
}

pub const BINARY: &str = env!("CARGO_BIN_EXE_daylily");

/// What to start: a configuration file with its routes, flags, environment and files.
#[derive(Default)]
pub struct Setup {
    server: String,
    defaults: String,
    routes: String,
    bare: Option<Vec<String>>,
    flags: Vec<String>,
    environment: Vec<(String, String)>,
    files: Vec<(PathBuf, Vec<u8>)>,
    wrapper: Vec<String>,
    workers: Option<u32>,
    alone: bool,
}

impl Setup {
    pub fn new() -> Self {
        Self::default()
    }

    /// `daylily ARGUMENTS`, without a configuration file of the harness.
    pub fn bare(arguments: &[&str]) -> Self {
        let bare = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Self { bare: Some(bare), ..Self::default() }
    }

    /// Lines of `[server]`.
    pub fn server(mut self, toml: &str) -> Self {
        self.server += &format!("{toml}\n");
        self
    }

    /// Lines of `[defaults]`.
    pub fn defaults(mut self, toml: &str) -> Self {
        self.defaults += &format!("{toml}\n");
        self
    }

    /// A route that takes every path of `host`, which is also its name; `more` are its other keys.
    pub fn route(self, host: &str, package: &str, more: &str) -> Self {
        self.route_at(&format!("name = '{host}'\nhost = '{host}'\n{more}"), package)
    }

    /// A route with these keys.
    pub fn route_at(mut self, keys: &str, package: &str) -> Self {
        let component = guest(package);
        self.routes += &format!("\n[[route]]\ncomponent = '{}'\n{keys}\n", component.display());
        self
    }

    pub fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|&flag| flag.to_owned()));
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// A file in the directory that it starts in.
    pub fn file(mut self, path: &str, contents: &[u8]) -> Self {
        self.files.push((path.into(), contents.into()));
        self
    }

    /// Starts it through `sh -c SCRIPT`, which must end in `exec "$@"`.
    pub fn through(mut self, script: &str) -> Self {
        self.wrapper = ["/bin/sh", "-c", script, "sh"].map(str::to_owned).into();
        self
    }

    /// So many workers, instead of one: what a test counts and limits is then all in one place.
    pub fn workers(mut self, workers: u32) -> Self {
        self.workers = Some(workers);
        self
    }

    /// No other test runs meanwhile.
    pub fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    fn config(&self) -> String {
        let Self { server, defaults, routes, .. } = self;
        format!("[server]\n{server}\n[defaults]\n{defaults}\n{routes}")
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments = match &self.bare {
            Some(bare) => bare.clone(),
            None => ["serve", "-c", "daylily.toml"].map(str::to_owned).into(),
        };
        if self.environment.iter().all(|(name, _)| name != "DAYLILY_LISTEN") {
            arguments.extend(["--listen", "127.0.0.1:0"].map(str::to_owned));
        }
        let cache = cache_dir().display().to_string();
        let workers = self.workers.unwrap_or(1).to_string();
        for (flag, value) in [("--workers", workers.as_str()), ("--control", CONTROL), ("--cache-dir", &cache)] {
            if !self.flags.iter().any(|given| given == flag) {
                arguments.extend([flag, value].map(str::to_owned));
            }
        }
        arguments.extend(self.flags.clone());
        arguments
    }

    #[track_caller]
    pub fn start(self) -> Daylily {
        let turn = if self.alone { Turn::alone() } else { Turn::shared() };
        let directory = TempDir::with_prefix("daylily-e2e-").expect("a temporary directory");
        if self.bare.is_none() {
            std::fs::write(directory.path().join("daylily.toml"), self.config()).expect("a configuration file");
        }
        write_files(directory.path(), &self.files);
        let mut words = self.wrapper.clone();
        words.push(BINARY.to_owned());
        words.extend(self.arguments());
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary under test");
        let log = Log::collect(child.stderr.take().expect("a pipe"));
        let stdout = Log::collect(child.stdout.take().expect("a pipe"));
        let watchdog = watchdog(child.id());
        let address = ([127, 0, 0, 1], 0).into();
        let mut server = Daylily { child, watchdog, address, log, stdout, directory, _turn: turn };
        server.address = server.announced();
        server
    }
}

pub(super) fn write_files(directory: &Path, files: &[(PathBuf, Vec<u8>)]) {
    for (path, contents) in files {
        let path = directory.join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, contents).expect("a file");
    }
}

/// Ends the server when this process is gone, also where it was killed and dropped nothing.
fn watchdog(server: u32) -> Child {
    Command::new("/bin/sh")
        .args(["-c", "read _; kill -9 \"$0\"", &server.to_string()])
        .stdin(Stdio::piped())
        .spawn()
        .expect("a shell")
}

/// A running server; killed when dropped.
pub struct Daylily {
    child: Child,
    watchdog: Child,
    address: SocketAddr,
    log: Log,
    stdout: Log,
    directory: TempDir,
    _turn: Turn,
}

impl Daylily {
    fn announced(&mut self) -> SocketAddr {
        let line = self.stdout.find_within(START, |_| true);
        let line = line.unwrap_or_else(|| panic!("no address on stdout; exit: {:?}", self.child.try_wait()));
        let address = line.strip_prefix("Server running at http://").and_then(|rest| rest.split_once("/ with "));
        let (address, _workers) = address.unwrap_or_else(|| panic!("not the announced line: {line:?}"));
        address.parse().unwrap_or_else(|error| panic!("not an address: {address:?}: {error}"))
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The process that serves. There must be one worker only.
    #[track_caller]
    pub fn process(&self) -> Process {
        match self.supervisor().children().as_slice() {
            [worker] => *worker,
            workers => panic!("not one worker: {}", workers.len()),
        }
    }

    pub fn supervisor(&self) -> Process {
        Process { pid: self.child.id() }
    }

    /// The directory it runs in, with its configuration.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    /// One request on a connection of its own.
    #[track_caller]
    pub fn exchange(&self, request: &Request) -> Response {
        self.connect().exchange(request)
    }

    #[track_caller]
    pub fn get(&self, host: &str, target: &str) -> Response {
        self.exchange(&Request::get(host, target))
    }

    /// Ends it; gives everything that it wrote on stdout.
    pub fn stop(mut self) -> String {
        self.kill();
        self.stdout.to_end()
    }

    pub fn show_log(&self) {
        eprintln!("---- log of daylily on {} ----\n{}", self.address, self.log.tail());
    }

    fn kill(&mut self) {
        // The watchdog first: it must not outlive what it watches.
        for child in [&mut self.watchdog, &mut self.child] {
            let _already_gone = child.kill();
            let _already_waited = child.wait();
        }
    }
}

impl Drop for Daylily {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            self.log.to_end();
            self.show_log();
        }
    }
}
