//! The servers that are compared, and how each is started.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::http::{Client, free_port};
use crate::process::{self, Running};

/// How long a start may take: a cold start with a thousand components compiles all of them.
const READY_WITHIN: Duration = Duration::from_secs(900);

/// Interval between two attempts to get the first response.
const ASK_EVERY: Duration = Duration::from_micros(200);

/// A server to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Server {
    /// hyper alone: the lower bound.
    Native,
    /// daylily with one worker.
    One,
    /// daylily with a worker for each core.
    All,
    Node,
    Cluster,
    /// `wasmtime serve` with a new instance for each request.
    Fresh,
    /// `wasmtime serve` with its default for 0.3 components, which reuses instances.
    Reused,
}

/// What a server serves.
#[derive(Clone, Debug)]
pub(crate) enum Serve {
    /// The path of a component. Servers without components have the same response built in.
    Component(PathBuf),
    /// A configuration file of daylily's.
    Config(PathBuf),
}

impl Serve {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Component(path) | Self::Config(path) => path,
        }
    }
}

/// A running server.
pub(crate) struct Up {
    pub(crate) process: Running,
    pub(crate) port: u16,
    /// The time from `exec` to the end of the first response.
    pub(crate) start: Duration,
}

/// The servers that this machine has, and the directory for files of the run.
pub(crate) struct Bench {
    pub(crate) root: PathBuf,
    pub(crate) guests: PathBuf,
    pub(crate) cores: usize,
    pub(crate) node: Option<PathBuf>,
    pub(crate) wasmtime: Option<PathBuf>,
    /// The large guest, if it is measured.
    pub(crate) javascript: Option<PathBuf>,
    /// What is skipped, and why.
    pub(crate) notes: Vec<String>,
    temp: TempDir,
    next: Cell<u32>,
}

impl Server {
    pub(crate) fn title(self, bench: &Bench) -> String {
        let cores = bench.cores;
        match self {
            Self::Native => format!("hyper alone, {cores} threads"),
            Self::One => "daylily, 1 worker".into(),
            Self::All => format!("daylily, {cores} workers"),
            Self::Node => "Node `http`, 1 process".into(),
            Self::Cluster => format!("Node `cluster`, {cores} processes"),
            Self::Fresh => "`wasmtime serve`, fresh instances".into(),
            Self::Reused => "`wasmtime serve`, reused instances".into(),
        }
    }

    pub(crate) fn is_there(self, bench: &Bench) -> bool {
        match self {
            Self::Native | Self::One | Self::All => true,
            Self::Node | Self::Cluster => bench.node.is_some(),
            Self::Fresh | Self::Reused => bench.wasmtime.is_some(),
        }
    }
}

impl Bench {
    pub(crate) fn new(root: PathBuf, guests: PathBuf, javascript: Option<Result<PathBuf>>) -> Result<Self> {
        let mut notes = Vec::new();
        let node = process::find("node");
        if node.is_none() {
            notes.push("Node is left out: there is no `node` on the path.".into());
        }
        let wasmtime = match wasmtime(&root) {
            Ok(path) => Some(path),
            Err(reason) => {
                notes.push(format!("`wasmtime serve` is left out: {reason:#}."));
                None
            }
        };
        let javascript = match javascript {
            Some(Err(reason)) => {
                notes.push(format!("Hello World in JavaScript is left out: {reason:#}."));
                None
            }
            Some(Ok(path)) => Some(path),
            None => None,
        };
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let temp = tempfile::Builder::new().prefix("daylily-bench-").tempdir()?;
        Ok(Self { root, guests, cores, node, wasmtime, javascript, notes, temp, next: Cell::new(0) })
    }

    pub(crate) fn guest(&self, package: &str) -> Serve {
        Serve::Component(self.guests.join(format!("{package}.wasm")))
    }

    pub(crate) fn script(&self, name: &str) -> PathBuf {
        self.root.join("bench").join(name)
    }

    /// A unique path in a directory that is removed at the end.
    pub(crate) fn scratch(&self, what: &str) -> PathBuf {
        let number = self.next.get();
        self.next.set(number + 1);
        self.temp.path().join(format!("{number}-{what}"))
    }

    /// The cache of compiled components, shared by all runs except cold starts.
    pub(crate) fn cache(&self) -> PathBuf {
        self.temp.path().join("cache")
    }

    fn release(&self, program: &str) -> PathBuf {
        self.root.join("target/release").join(program)
    }

    /// Starts a server and waits for its first response, at `path`.
    pub(crate) fn up(&self, server: Server, serve: &Serve, cache: &Path, path: &str) -> Result<Up> {
        let port = free_port()?;
        fs::create_dir_all(cache).with_context(|| format!("failed to create {}", cache.display()))?;
        let command = self.command(server, serve, cache, port)?;
        let begun = Instant::now();
        let mut process = Running::start(command, self.scratch("log"))?;
        loop {
            process.is_running().with_context(|| format!("{} did not start", server.title(self)))?;
            if let Ok(mut client) = Client::connect(port) {
                client.get(path).with_context(|| format!("{}: {}", server.title(self), process.output()))?;
                return Ok(Up { process, port, start: begun.elapsed() });
            }
            if begun.elapsed() > READY_WITHIN {
                bail!("{} does not answer: {}", server.title(self), process.output().trim());
            }
            std::thread::sleep(ASK_EVERY);
        }
    }

    fn command(&self, server: Server, serve: &Serve, cache: &Path, port: u16) -> Result<Command> {
        let address = format!("127.0.0.1:{port}");
        let component = serve.path();
        let missing = || format!("{} is not on this machine", server.title(self));
        let mut command;
        match server {
            Server::Native => {
                command = Command::new(self.release("daylily-bench"));
                command.arg(address).arg(self.cores.to_string());
            }
            Server::One | Server::All => {
                let workers = if server == Server::One { 1 } else { self.cores };
                command = Command::new(self.release("daylily"));
                command.arg("serve");
                if let Serve::Config(_) = serve {
                    command.arg("--config");
                }
                command.arg(component).args(["--listen", &address, "--workers", &workers.to_string()]);
                command.arg("--cache-dir").arg(cache.join("daylily")).arg("--control").arg(self.scratch("control"));
                // Limits that the cases need: bodies of 64 MiB, and 4,096 requests at a time.
                command.args(["--max-body", "128MiB", "--max-queue", "16384"]);
                command.args(["--cpu-time", "60s", "--wall-time", "120s", "--log", "warn"]);
            }
            Server::Node => {
                command = Command::new(self.node.as_ref().with_context(missing)?);
                command.arg(self.script("http.js")).arg(port.to_string());
            }
            Server::Cluster => {
                command = Command::new(self.node.as_ref().with_context(missing)?);
                command.arg(self.script("cluster.js")).arg(port.to_string()).arg(self.cores.to_string());
            }
            Server::Fresh | Server::Reused => {
                command = Command::new(self.wasmtime.as_ref().with_context(missing)?);
                command.args(["serve", "-Scli", "--addr", &address]);
                // daylily's default; that of `wasmtime serve` is less than the cases need.
                command.args(["--max-concurrent-connections", "10000"]);
                // Use a cache of compiled code, as by default, but not the user's.
                command.env("XDG_CACHE_HOME", cache);
                if server == Server::Fresh {
                    command.args(["--max-instance-reuse-count", "1"]);
                }
                command.arg(component);
            }
        }
        process::without_settings(&mut command);
        Ok(command)
    }
}

/// The `wasmtime` in `$WASMTIME` or in PATH, if it has the version that daylily is built with.
fn wasmtime(root: &Path) -> Result<PathBuf> {
    let path = std::env::var_os("WASMTIME").map(PathBuf::from).or_else(|| process::find("wasmtime"));
    let path = path.context("there is no `wasmtime` on the path, and $WASMTIME names none")?;
    let output = Command::new(&path).arg("--version").output();
    let output = output.with_context(|| format!("{} cannot be run", path.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let theirs = text.split_whitespace().nth(1).context("it does not say its version")?;
    let lock = fs::read_to_string(root.join("Cargo.lock")).context("there is no Cargo.lock")?;
    let ours = locked_version(&lock, "wasmtime").context("Cargo.lock has no wasmtime")?;
    if ours != theirs {
        bail!("it has version {theirs}, and daylily is built with {ours}");
    }
    Ok(path)
}

fn locked_version<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let name = format!("name = \"{package}\"\nversion = \"");
    lock.split_once(&name)?.1.split_once('"').map(|(version, _)| version)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_lock_file_says_the_version() {
        let lock = "[[package]]\nname = \"wasmtime-wasi\"\nversion = \"1.0.0\"\n\n[[package]]\nname = \"wasmtime\"\nversion = \"48.0.8\"\n";
        assert_eq!(super::locked_version(lock, "wasmtime"), Some("48.0.8"));
    }
}
