//! A Redis or NATS server of a test's own, on loopback, which keeps what it has acknowledged also when it is killed.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// What it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Redis,
    Nats,
}

/// How long the server may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server, which is killed at the end.
pub struct StoreServer {
    kind: Kind,
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
    is_tls: bool,
    arguments: Vec<String>,
}

impl StoreServer {
    /// Starts Redis with further arguments.
    pub fn redis(arguments: &[&str]) -> Self {
        Self::start(Kind::Redis, arguments, None)
    }

    /// Starts NATS with further arguments.
    pub fn nats(arguments: &[&str]) -> Self {
        Self::start(Kind::Nats, arguments, None)
    }

    /// Starts Redis, which takes connections with TLS only, with this certificate and key.
    pub fn redis_tls(pem: [String; 2]) -> Self {
        Self::start(Kind::Redis, &[], Some(pem))
    }

    /// Starts NATS in the same way.
    pub fn nats_tls(pem: [String; 2]) -> Self {
        Self::start(Kind::Nats, &[], Some(pem))
    }

    fn start(kind: Kind, arguments: &[&str], tls: Option<[String; 2]>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let port = free_port();
        let mut arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
        let is_tls = tls.is_some();
        if let Some(pem) = tls {
            let files = ["server.pem", "server.key"].map(|name| dir.path().join(name));
            for (file, pem) in files.iter().zip(pem) {
                std::fs::write(file, pem).expect("room");
            }
            arguments.extend(kind.tls(port, &files.map(|file| file.display().to_string())));
        }
        let child = spawn(kind, dir.path(), port, &arguments);
        let server = Self { kind, child, port, dir, is_tls, arguments };
        server.wait();
        server
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The backend of a store.
    pub fn url(&self) -> String {
        match (self.kind, self.is_tls) {
            (Kind::Redis, false) => format!("redis://127.0.0.1:{}/0", self.port),
            (Kind::Redis, true) => format!("rediss://127.0.0.1:{}/0", self.port),
            (Kind::Nats, false) => format!("nats://127.0.0.1:{}", self.port),
            (Kind::Nats, true) => format!("tls://127.0.0.1:{}", self.port),
        }
    }

    /// Sends Redis a command, with words that have spaces in quotes, and returns the answer as it is.
    pub fn ask(&self, command: &str) -> String {
        self.try_ask(command).expect("an answer")
    }

    fn try_ask(&self, command: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "{command}\r\nQUIT\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.strip_suffix("+OK\r\n").unwrap_or(&answer).to_owned())
    }

    /// Kills it, without a chance to do anything.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again, at the same port and with the same data.
    pub fn start_again(&mut self) {
        self.child = spawn(self.kind, self.dir.path(), self.port, &self.arguments);
        self.wait();
    }

    /// Stops it from running until [`Self::resume`]. When this returns, none of its threads does anything.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
        let began = Instant::now();
        while !self.is_stopped() {
            assert!(began.elapsed() < PATIENCE, "{} does not stop", self.kind.name());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn is_stopped(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("a running server");
        threads.flatten().all(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
        })
    }

    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, signal).expect("a running server");
    }

    /// Waits until it answers, also that a password is missing.
    fn wait(&self) {
        let began = Instant::now();
        while !self.is_ready() {
            assert!(began.elapsed() < PATIENCE, "{} does not start", self.kind.name());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn is_ready(&self) -> bool {
        match self.kind {
            // It accepts connections when it has read its data.
            Kind::Redis if self.is_tls => TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok(),
            Kind::Redis => {
                let answer = self.try_ask("PING").unwrap_or_default();
                answer.starts_with("+PONG") || answer.starts_with("-NOAUTH")
            }
            // It accepts connections when JetStream has read its files.
            Kind::Nats => {
                let mut greeting = [0; 4];
                let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
                stream.and_then(|mut stream| stream.read_exact(&mut greeting)).is_ok() && &greeting == b"INFO"
            }
        }
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis-server",
            Self::Nats => "nats-server",
        }
    }

    /// Arguments for TLS with the certificate and the key in these files.
    fn tls(self, port: u16, [certificate, key]: &[String; 2]) -> Vec<String> {
        let text = match self {
            // Given later than the port without TLS, which it turns off.
            Self::Redis => format!(
                "--port 0 --tls-port {port} --tls-cert-file {certificate} --tls-key-file {key} \
                 --tls-ca-cert-file {certificate} --tls-auth-clients no"
            ),
            Self::Nats => format!("--tls --tlscert {certificate} --tlskey {key}"),
        };
        text.split_whitespace().map(str::to_owned).collect()
    }

    /// The variable with the path of the program.
    fn variable(self) -> &'static str {
        match self {
            Self::Redis => "DAYLILY_REDIS_SERVER",
            Self::Nats => "DAYLILY_NATS_SERVER",
        }
    }
}

impl Drop for StoreServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(kind: Kind, dir: &std::path::Path, port: u16, arguments: &[String]) -> Child {
    let variable = kind.variable();
    let mut command = Command::new(std::env::var_os(variable).unwrap_or_else(|| kind.name().into()));
    match kind {
        Kind::Redis => {
            command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--appendfsync", "always"]);
            command.args(["--port", &port.to_string(), "--dir"]).arg(dir)
        }
        Kind::Nats => command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd"]).arg(dir),
    };
    let child = command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    child.unwrap_or_else(|error| panic!("{} cannot be started ({error}); {variable} is its path", kind.name()))
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}
