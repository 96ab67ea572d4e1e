//! daylily with a store of each backend, and the servers of these.

use std::io::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::http::{self, free_port, local};
use crate::process::{Running, find, run};
use crate::server::Server;

/// How long a request waits for a store.
pub(super) const STORE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long Redis or NATS may take to start.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// How long a file stays locked at most: longer than anything is measured meanwhile.
const LOCKED_FOR: Duration = Duration::from_secs(20);

/// How long a program may take that does operations.
const DONE_WITHIN: Duration = Duration::from_secs(120);

/// The store of a route, by its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Store {
    File,
    Redis,
    Nats,
}

pub(super) struct Setup {
    pub(super) server: Server,
    redis: Keeper,
    nats: Keeper,
    program: PathBuf,
}

/// A server that keeps stores.
pub(super) struct Keeper {
    process: Running,
    port: u16,
    _dir: TempDir,
}

/// A store that does nothing until this is dropped.
pub(super) enum Stopped<'a> {
    Server(&'a Keeper),
    Locked { _process: Running },
}

impl Store {
    pub(super) const ALL: [Self; 3] = [Self::File, Self::Redis, Self::Nats];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Redis => "redis",
            Self::Nats => "nats",
        }
    }
}

impl Setup {
    pub(super) fn start(root: &Path, guests: &Path) -> Result<Self> {
        let redis = Keeper::start("redis-server", "DAYLILY_REDIS_SERVER", |port, dir, command| {
            command.args(["--bind", "127.0.0.1", "--port", port, "--save", "", "--dir"]).arg(dir);
        })?;
        let nats = Keeper::start("nats-server", "DAYLILY_NATS_SERVER", |port, dir, command| {
            command.args(["-a", "127.0.0.1", "-p", port, "-js", "-sd"]).arg(dir);
        })?;
        let component = |package: &str| guests.join(format!("{package}.wasm"));
        let server = Server::start(root, "stores", |port, _| {
            Ok(format!(
                "listen = \"127.0.0.1:{port}\"\nworkers = 2\n[store.file]\n\
                 [store.redis]\nbackend = \"redis://127.0.0.1:{}/0\"\n[store.nats]\nbackend = \"nats://127.0.0.1:{}\"\n\
                 [[route]]\npath = \"/\"\ncomponent = \"{}\"\n\
                 [[route]]\npath = \"/*\"\ncomponent = \"{}\"\nstores = [\"file\", \"redis\", \"nats\"]\n\
                 store_timeout = \"{}s\"\n",
                redis.port,
                nats.port,
                component("hello").display(),
                component("store").display(),
                STORE_TIMEOUT.as_secs()
            ))
        })?;
        // Afterwards, each store has an entry, and is connected.
        for store in Store::ALL {
            let target = format!("/set?store={}&key=k&bytes=100", store.name());
            let done = http::fetch(server.port, &target)?;
            ensure!(done == "()", "the store {} does not work: {done}", store.name());
        }
        Ok(Self { server, redis, nats, program: root.join("target/release/daylily-bench-store") })
    }

    /// What the program without guests prints that does an operation on a store.
    pub(super) fn without_guests(&self, store: Store, operation: &str, count: u64) -> Result<String> {
        run(self.program(store, operation, count), DONE_WITHIN, &self.server.dir().join("program.log"))
    }

    /// Makes a store do nothing: another process locks the file, or the server is stopped.
    pub(super) fn stop(&self, store: Store) -> Result<Stopped<'_>> {
        let keeper = match store {
            Store::File => {
                let program = self.program(store, "lock", LOCKED_FOR.as_secs());
                let mut process = Running::start(program, self.server.dir().join("lock.log"))?;
                process.prints("locked", READY_WITHIN)?;
                return Ok(Stopped::Locked { _process: process });
            }
            Store::Redis => &self.redis,
            Store::Nats => &self.nats,
        };
        keeper.process.signal(Signal::STOP);
        Ok(Stopped::Server(keeper))
    }

    fn program(&self, store: Store, operation: &str, count: u64) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(store.name());
        match store {
            Store::File => command.arg(self.server.dir().join("state/file.sqlite")),
            Store::Redis => command.arg(format!("redis://127.0.0.1:{}/0", self.redis.port)),
            Store::Nats => command.arg(format!("nats://127.0.0.1:{}", self.nats.port)),
        };
        command.args([operation, &count.to_string()]);
        command
    }
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        if let Self::Server(keeper) = self {
            keeper.process.signal(Signal::CONT);
        }
    }
}

impl Keeper {
    fn start(program: &str, variable: &str, arguments: impl FnOnce(&str, &Path, &mut Command)) -> Result<Self> {
        let path = std::env::var_os(variable).map(PathBuf::from).or_else(|| find(program));
        let path = path.with_context(|| format!("{program} is not on the path; {variable} can be its path"))?;
        let dir = tempfile::Builder::new().prefix(program).tempdir()?;
        let port = free_port()?;
        let mut command = Command::new(path);
        arguments(&port.to_string(), dir.path(), &mut command);
        let mut process = Running::start(command, dir.path().join("log"))?;
        let begun = Instant::now();
        while !accepts(port) {
            process.is_running()?;
            ensure!(begun.elapsed() < READY_WITHIN, "{program} did not start: {}", process.output().trim());
            thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { process, port, _dir: dir })
    }
}

/// Whether a server is there, and says so: both know this command.
fn accepts(port: u16) -> bool {
    let stream = TcpStream::connect(local(port));
    stream.is_ok_and(|mut stream| stream.write_all(b"PING\r\n").is_ok() && stream.peek(&mut [0]).is_ok_and(|n| n > 0))
}
