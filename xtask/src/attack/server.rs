//! The attacked server: the release build with two workers and the default limits.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::http::{Client, free_port};
use crate::process::{self, Running};

/// How long a first start may take, which compiles the components.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// How long a command on the control socket may take.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

pub(super) struct Server {
    pub(super) port: u16,
    process: Running,
    daylily: PathBuf,
    dir: TempDir,
}

impl Server {
    pub(super) fn start(root: &Path, guests: &Path) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("daylily-attack-").tempdir()?;
        let daylily = root.join("target/release/daylily");
        let port = free_port()?;
        fs::write(dir.path().join("daylily.toml"), config(port, guests))?;
        let granted = dir.path().join("granted");
        fs::create_dir(&granted)?;
        make_fifo(&granted.join("fifo"))?;
        // The log is discarded: without a bound it would fill the disk.
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$0\" serve --control control.sock --cache-dir cache 2>/dev/null"]);
        command.arg(&daylily).current_dir(dir.path());
        process::without_settings(&mut command);
        let mut process = Running::start(command, dir.path().join("stdout"))?;
        let begun = Instant::now();
        while !process.output().starts_with("Server running") {
            process.is_running()?;
            ensure!(begun.elapsed() < READY_WITHIN, "daylily did not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Client::connect(port)?.get("/").context("Hello World is not served")?;
        Ok(Self { port, process, daylily, dir })
    }

    /// Memory of the supervisor and its workers.
    pub(super) fn memory_kib(&self) -> u64 {
        self.process.pss_kib()
    }

    /// How many workers have been replaced.
    pub(super) fn deaths(&self) -> Result<u64> {
        let mut command = Command::new(&self.daylily);
        command.args(["status", "--json", "--control", "control.sock"]).current_dir(self.dir.path());
        process::without_settings(&mut command);
        let status = process::run(command, ANSWERS_WITHIN, &self.dir.path().join("status"))?;
        number(&status, "worker_restarts").context("`daylily status --json` has no worker_restarts")
    }
}

fn config(port: u16, guests: &Path) -> String {
    let route = |host: &str, package: &str, keys: &str| {
        let component = guests.join(format!("{package}.wasm"));
        format!("[[route]]\n{host}component = \"{}\"\n{keys}\n", component.display())
    };
    let host = |name: &str| format!("host = \"{name}.test\"\n");
    [
        format!("listen = \"127.0.0.1:{port}\"\nworkers = 2\n"),
        route("", "hello", ""),
        route(&host("echo"), "echo", ""),
        route(&host("stream"), "stream", ""),
        route(&host("trap"), "trap", ""),
        route(&host("excess"), "excess", ""),
        route(&host("outgoing"), "outgoing", "allow_http = [\"http://127.0.0.1:*\"]\n"),
        route(&host("files"), "env", "dirs = [\"granted::/granted\"]\nwall_time = \"300ms\"\n"),
    ]
    .concat()
}

fn make_fifo(path: &Path) -> Result<()> {
    let mut command = Command::new("mkfifo");
    command.arg(path);
    process::run(command, ANSWERS_WITHIN, &path.with_extension("log")).map(drop)
}

/// The value of the first number with this name in JSON.
fn number(json: &str, name: &str) -> Option<u64> {
    let (_, rest) = json.split_once(&format!("\"{name}\":"))?;
    let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn a_number_of_json_is_read() {
        let json = "{\"totals\": {\"worker_restarts\": 12,\n\"worker_hangs\":0}}";
        assert_eq!(
            [number(json, "worker_restarts"), number(json, "worker_hangs"), number(json, "no")],
            [Some(12), Some(0), None]
        );
    }
}
