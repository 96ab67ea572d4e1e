//! Produces the samples of output: a directory for each, with the program, a server and a shell.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::scenarios::{GUESTS, Scenario, Shows};
use crate::process::{self, Running};

/// How long a start may take: the component may have to be compiled.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// How long a line may take to appear in the log.
const LOGGED_WITHIN: Duration = Duration::from_secs(10);

/// Time limit of a command, in seconds.
const COMMAND_SECONDS: &str = "60";

/// The first is the port in the documents. All have the same number of digits, so that one can replace another inside a
/// component.
const PORTS: std::ops::RangeInclusive<u16> = 3000..=9999;

pub(super) struct Workshop {
    bin: PathBuf,
    guests: PathBuf,
    /// The cache of compiled components, shared by all samples.
    cache: TempDir,
}

/// The environment of one sample.
struct Bench<'a> {
    workshop: &'a Workshop,
    dir: TempDir,
    port: u16,
    server: Option<Running>,
}

impl Workshop {
    /// Builds the program and the guests.
    pub(super) fn new(root: &Path) -> Result<Self> {
        for tool in ["curl", "timeout"] {
            ensure!(process::find(tool).is_some(), "{tool} is not on the path; the samples are made with it");
        }
        let mut packages: Vec<&str> = GUESTS.iter().map(|(package, _)| *package).collect();
        packages.dedup();
        let guests = guest_builder::build(&packages).context("failed to build the guests")?;
        // With `--tests`, as `cargo test` builds it: otherwise dependencies would be built again with other features.
        crate::cargo_build(root, &["--tests"], &["daylily", "daylily-core", "guest-builder"])?;
        Ok(Self { bin: root.join("target/debug"), guests, cache: tempfile::tempdir()? })
    }

    /// The expected output of a sample with these lines.
    pub(super) fn run(&self, scenario: &Scenario, lines: &[&str]) -> Result<String> {
        let mut bench = Bench { workshop: self, dir: tempfile::tempdir()?, port: free_port()?, server: None };
        bench.prepare(scenario)?;
        let mut started = String::new();
        if let Some(arguments) = scenario.serves {
            started = bench.serve(arguments)?;
        }
        for command in scenario.before {
            bench.shell(command)?;
        }
        let shown = match scenario.shows {
            Shows::Start => started,
            Shows::Log(parts) => bench.logged(parts)?,
            Shows::Commands => bench.commands(lines)?,
        };
        Ok(shown.replace(&format!(":{}", bench.port), &format!(":{}", PORTS.start())))
    }
}

impl Bench<'_> {
    fn prepare(&self, scenario: &Scenario) -> Result<()> {
        let dir = self.dir.path();
        if !scenario.config.is_empty() {
            fs::write(dir.join("daylily.toml"), self.here(&scenario.config.concat()))?;
        }
        // A body over the limit of the samples.
        fs::write(dir.join("Cargo.lock"), "#".repeat(2000))?;
        fs::write(dir.join(".curlrc"), "silent\nshow-error\n")?;
        for (package, path) in GUESTS {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().unwrap_or(dir))?;
            let component = fs::read(self.workshop.guests.join(format!("{package}.wasm")))?;
            fs::write(path, self.moved(component))?;
        }
        Ok(())
    }

    /// Replaces the documents' port in `text` by the actual one.
    fn here(&self, text: &str) -> String {
        text.replace(&format!(":{}", PORTS.start()), &format!(":{}", self.port))
    }

    /// Replaces the documents' address in a component that sends requests to its own server.
    fn moved(&self, mut component: Vec<u8>) -> Vec<u8> {
        let address = format!("localhost:{}", PORTS.start()).into_bytes();
        let moved = format!("localhost:{}", self.port).into_bytes();
        let mut at = 0;
        while let Some(place) = component.get_mut(at..at + address.len()) {
            if place == address.as_slice() {
                place.copy_from_slice(&moved);
            }
            at += 1;
        }
        component
    }

    /// Starts a server and returns the first line that it prints.
    fn serve(&mut self, arguments: &str) -> Result<String> {
        let command = self.command(&format!("exec daylily {arguments} 2>>log"));
        let mut server = Running::start(command, self.dir.path().join("stdout"))?;
        let deadline = Instant::now() + READY_WITHIN;
        while !server.output().ends_with('\n') {
            server.is_running().with_context(|| format!("its log: {}", self.log()))?;
            ensure!(Instant::now() < deadline, "daylily did not start; its log: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        let line = server.output();
        self.server = Some(server);
        Ok(line)
    }

    /// The lines that begin with `$ `, each followed by its output. Cargo is not run: what it would build exists.
    fn commands(&mut self, lines: &[&str]) -> Result<String> {
        let mut shown = String::new();
        for command in lines.iter().filter_map(|line| line.strip_prefix("$ ")) {
            let words: Vec<&str> = command.split_whitespace().collect();
            let printed = match words.as_slice() {
                ["cargo", ..] => String::new(),
                ["daylily", "check" | "status" | "reload" | "stop", ..] => self.shell(command)?,
                ["daylily", arguments @ ..] => self.serve(&arguments.join(" "))?,
                _ => self.shell(command)?,
            };
            shown.push_str(&format!("$ {command}\n{printed}"));
            if !shown.ends_with('\n') {
                shown.push('\n');
            }
        }
        Ok(shown)
    }

    /// The output of a command, whether it succeeds or fails.
    fn shell(&self, command: &str) -> Result<String> {
        let script = format!("exec 2>&1\n{}", self.here(command));
        let output = self.command(&script).stdin(Stdio::null()).output().context("failed to run a shell")?;
        ensure!(output.status.code() != Some(124), "`{command}` took longer than {COMMAND_SECONDS} seconds");
        Ok(String::from_utf8_lossy(&output.stdout).replace('\r', ""))
    }

    fn command(&self, script: &str) -> Command {
        let dir = self.dir.path();
        // A command that serves has no time limit: it ends with the sample.
        let mut command = Command::new(if script.starts_with("exec daylily") { "sh" } else { "timeout" });
        if !script.starts_with("exec daylily") {
            command.args([COMMAND_SECONDS, "sh"]);
        }
        command.args(["-c", script]).current_dir(dir);
        process::without_settings(&mut command);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.workshop.bin.display())).env("HOME", dir);
        command.env("DAYLILY_LISTEN", format!("127.0.0.1:{}", self.port)).env("DAYLILY_WORKERS", "2");
        command.env("DAYLILY_CONTROL", dir.join("control.sock")).env("DAYLILY_CACHE_DIR", self.workshop.cache.path());
        command
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// The log lines that contain one of these texts, once each text has appeared.
    fn logged(&self, parts: &[&str]) -> Result<String> {
        let deadline = Instant::now() + LOGGED_WITHIN;
        loop {
            let log = self.log();
            if parts.iter().all(|part| log.contains(part)) {
                let is_shown = |line: &&str| parts.iter().any(|part| line.contains(part));
                return Ok(log.lines().filter(is_shown).map(|line| format!("{line}\n")).collect());
            }
            ensure!(Instant::now() < deadline, "not all of {parts:?} is in the log: {log}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn free_port() -> Result<u16> {
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    PORTS.clone().find(is_free).context("no port from 3000 to 9999 is free")
}
