//! The server: the release build with two workers, an admin listener, and routes of several kinds.

use std::net::TcpListener;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use serde_json::Value;

use super::load::KINDS;
use crate::http::{self, free_port, local};
use crate::process::Foreign;
use crate::server;

pub(super) const PACKAGES: &[&str] = &["burn", "echo", "hello", "memory", "outgoing", "stream", "trap"];

/// How long a reload, an upgrade or the start of another worker may take.
const DONE_WITHIN: Duration = Duration::from_secs(60);

pub(super) struct Server {
    pub(super) port: u16,
    pub(super) admin: u16,
    origin: TcpListener,
    /// The supervisor, which is another one after an upgrade.
    supervisor: Foreign,
    _first: server::Server,
}

/// What `/status` of the admin listener says.
#[derive(Debug)]
struct Status {
    pid: i32,
    is_ready: bool,
    generation: u64,
    workers: Vec<i32>,
}

impl Server {
    pub(super) fn start(root: &Path, guests: &Path) -> Result<Self> {
        let admin = free_port()?;
        let origin = TcpListener::bind(local(0)).context("failed to listen as an origin")?;
        let first = server::Server::start(root, "prometheus", |port, _| Ok(config(port, admin, guests)))?;
        let supervisor = Foreign::of(status(admin)?.pid).context("the supervisor has ended")?;
        Ok(Self { port: first.port, admin, origin, supervisor, _first: first })
    }

    /// A listener for the origin of outgoing requests.
    pub(super) fn origin(&self) -> &TcpListener {
        &self.origin
    }

    /// The page of metrics in Prometheus' text format.
    pub(super) fn metrics(&self) -> Result<String> {
        http::fetch(self.admin, "/metrics")
    }

    pub(super) fn reload(&self) -> Result<()> {
        let before = status(self.admin)?;
        self.supervisor.signal(Signal::HUP);
        self.wait("a reload", |now| now.is_ready && now.generation > before.generation)
    }

    /// Kills one of the workers, and waits for its successor.
    pub(super) fn kill_worker(&self, number: usize) -> Result<()> {
        let workers = status(self.admin)?.workers;
        let pid = workers.get(number % workers.len().max(1)).copied().context("there is no worker")?;
        Foreign::of(pid).context("the worker has ended")?.signal(Signal::KILL);
        self.wait("another worker", |now| now.is_ready && !now.workers.contains(&pid))
    }

    pub(super) fn upgrade(&mut self) -> Result<()> {
        let before = status(self.admin)?.pid;
        self.supervisor.signal(Signal::USR2);
        self.wait("an upgrade", |now| now.is_ready && now.pid != before)?;
        self.supervisor = Foreign::of(status(self.admin)?.pid).context("the new supervisor has ended")?;
        Ok(())
    }

    fn wait(&self, what: &str, is_done: impl Fn(&Status) -> bool) -> Result<()> {
        let deadline = Instant::now() + DONE_WITHIN;
        loop {
            let now = status(self.admin)?;
            if is_done(&now) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{what} did not happen within {DONE_WITHIN:?}: {now:?}");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.supervisor.stop();
    }
}

fn status(admin: u16) -> Result<Status> {
    let text = http::fetch(admin, "/status").context("the admin listener")?;
    let json: Value = serde_json::from_str(&text).with_context(|| format!("/status is not JSON: {text}"))?;
    parse(&json).with_context(|| format!("/status has not what is needed: {text}"))
}

fn parse(json: &Value) -> Option<Status> {
    let pid = |value: &Value| i32::try_from(value.get("pid")?.as_i64()?).ok();
    let workers = json.get("workers")?.as_array()?.iter().filter_map(pid).collect();
    let generation = json.get("generation")?.as_u64()?;
    Some(Status { pid: pid(json)?, is_ready: json.get("ready")?.as_bool()?, generation, workers })
}

fn config(port: u16, admin: u16, guests: &Path) -> String {
    let mut text = format!(
        "listen = \"127.0.0.1:{port}\"\nworkers = 2\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n[access_log]\n\
         format = \"json\"\nto = \"access.log\"\n"
    );
    for kind in KINDS.iter().filter(|kind| !kind.package.is_empty()) {
        let component = guests.join(format!("{}.wasm", kind.package));
        let (host, keys) = (kind.host, kind.keys);
        text += &format!(
            "[[route]]\nname = \"{}\"\nhost = \"{host}\"\ncomponent = \"{}\"\n{keys}\n",
            kind.route(),
            component.display()
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_status_is_read() {
        let json = r#"{"pid": 7, "ready": true, "generation": 3, "workers": [{"pid": 8}, {"pid": null}, {"pid": 9}]}"#;
        let status = parse(&serde_json::from_str(json).unwrap()).unwrap();
        assert_eq!((status.pid, status.is_ready, status.generation, status.workers), (7, true, 3, vec![8, 9]));
        assert!(parse(&serde_json::from_str("{}").unwrap()).is_none());
    }
}
