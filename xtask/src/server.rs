//! daylily: the release build, with a configuration and in a directory of its own.

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

/// A running daylily, whose log is discarded: without a bound it would fill the disk. Dropping it ends it.
pub(crate) struct Server {
    pub(crate) port: u16,
    process: Running,
    daylily: PathBuf,
    dir: TempDir,
}

impl Server {
    /// Starts it and waits until it responds. `configure` is given the port that it has to listen to and the directory,
    /// to put there what is needed, and returns the configuration.
    ///
    /// # Errors
    ///
    /// When it does not start, or `/` has not the status 200.
    pub(crate) fn start(root: &Path, name: &str, configure: impl FnOnce(u16, &Path) -> Result<String>) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix(&format!("daylily-{name}-")).tempdir()?;
        let daylily = root.join("target/release/daylily");
        let port = free_port()?;
        fs::write(dir.path().join("daylily.toml"), configure(port, dir.path())?)?;
        let mut command = Command::new("sh");
        command
            .args(["-c", "exec \"$0\" serve --control control.sock --cache-dir cache --state-dir state 2>/dev/null"]);
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

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// CPU time of all of its processes.
    pub(crate) fn cpu(&self) -> Duration {
        self.process.cpu()
    }

    /// Memory of all of its processes.
    pub(crate) fn memory_kib(&self) -> u64 {
        self.process.pss_kib()
    }

    /// How many workers have been replaced.
    pub(crate) fn deaths(&self) -> Result<u64> {
        let mut command = Command::new(&self.daylily);
        command.args(["status", "--json", "--control", "control.sock"]).current_dir(self.dir());
        process::without_settings(&mut command);
        let status = process::run(command, ANSWERS_WITHIN, &self.dir().join("status"))?;
        number(&status, "worker_restarts").context("`daylily status --json` has no worker_restarts")
    }
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
