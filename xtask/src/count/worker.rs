//! Runs daylily with one worker, which runs under a tool.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use super::figures::{self, Callgrind, Figures};
use super::{Case, FEW, MANY};
use crate::http::{Client, free_port};
use crate::process::{self, Running};

/// How long a start may take: compiling a component under valgrind takes seconds.
const READY_WITHIN: Duration = Duration::from_secs(300);

/// Pause between two requests. It lets the worker go to sleep, so that each request takes the same path.
const PAUSE: Duration = Duration::from_millis(3);

/// How long a tool may take to run a program that does nothing.
const TRIED_WITHIN: Duration = Duration::from_secs(60);

/// How long callgrind may take to write its file.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// Makes the C library set and copy memory in a loop. Otherwise it uses one repeated instruction, of which valgrind
/// counts every byte, and the size of the memory would hide all other costs.
const BLOCKS: &str = "GLIBC_TUNABLES=glibc.cpu.hwcaps=-ERMS";

/// The tool that a worker runs under.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tool {
    Callgrind,
    Strace,
}

/// The program, the guests and the directories of the runs.
pub(super) struct Workshop {
    daylily: PathBuf,
    guests: PathBuf,
    dir: TempDir,
}

/// # Errors
///
/// When a tool is missing or does not work here; the error says what to do about it.
pub(super) fn ensure_tools() -> Result<()> {
    for (tool, package) in [("valgrind", "valgrind"), ("strace", "strace"), ("cc", "gcc libc6-dev")] {
        if process::find(tool).is_none() {
            bail!("{tool} is not on the path; install it (Debian, Ubuntu: apt-get install {package})");
        }
    }
    let dir = tempfile::tempdir()?;
    for (tool, arguments, remedy) in [
        ("valgrind", ["--quiet", "--tool=none", "true"].as_slice(), "does it know this system's C library?"),
        (
            "strace",
            ["-o", "/dev/null", "true"].as_slice(),
            "a container needs the right to trace (--cap-add=SYS_PTRACE)",
        ),
    ] {
        let mut command = Command::new(tool);
        command.args(arguments);
        process::run(command, TRIED_WITHIN, &dir.path().join(tool))
            .with_context(|| format!("{tool} does not work here; {remedy}"))?;
    }
    Ok(())
}

impl Workshop {
    pub(super) fn new(root: &Path, guests: PathBuf) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("daylily-count-").tempdir()?;
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(dir.path().join("count.so"));
        cc.arg(root.join("bench/count.c")).arg("-ldl");
        process::run(cc, Duration::from_secs(60), &dir.path().join("cc.log"))?;
        Ok(Self { daylily: root.join("target/release/daylily"), guests, dir })
    }

    pub(super) fn count(&self, case: Case) -> Result<Figures> {
        let few = self.callgrind(case, FEW)?;
        let many = self.callgrind(case, MANY)?;
        let calls_few = self.strace(case, FEW)?;
        let calls_many = self.strace(case, MANY)?;
        ensure!(
            many.allocations > few.allocations,
            "no allocation was counted, which cannot be: has the allocator's name changed? see ALLOCATORS"
        );
        let each = |few: u64, many: u64| (many as f64 - few as f64) / f64::from(MANY - FEW);
        let mut system_calls = 0.0;
        let mut names = Vec::new();
        for (name, many) in &calls_many {
            let calls = each(calls_few.get(name).copied().unwrap_or(0), *many);
            system_calls += calls;
            if calls >= 0.05 {
                names.push(format!("{name} {calls:.1}"));
            }
        }
        crate::say(&format!("{}: {}\n", case.name, names.join(", ")))?;
        Ok(Figures {
            instructions: each(few.instructions, many.instructions),
            system_calls,
            allocations: each(few.allocations, many.allocations),
        })
    }

    fn callgrind(&self, case: Case, requests: u32) -> Result<Callgrind> {
        let out = self.run(case, requests, Tool::Callgrind)?;
        // The file of the first thread, which serves. The others drive the epoch and write the log.
        let path = out.with_file_name("out-01");
        let text = fs::read_to_string(&path).with_context(|| format!("callgrind left no {}", path.display()))?;
        figures::callgrind(&text).context("failed to read what callgrind wrote")
    }

    fn strace(&self, case: Case, requests: u32) -> Result<BTreeMap<String, u64>> {
        let out = self.run(case, requests, Tool::Strace)?;
        let text = fs::read_to_string(&out).with_context(|| format!("strace left no {}", out.display()))?;
        let calls = figures::strace(&text);
        ensure!(!calls.is_empty(), "failed to read what strace wrote: {text}");
        Ok(calls)
    }

    /// Starts a daylily under `tool`, sends it `requests`, and returns the tool's output file.
    fn run(&self, case: Case, requests: u32, tool: Tool) -> Result<PathBuf> {
        let dir = tempfile::tempdir_in(self.dir.path())?.keep();
        let out = dir.join("out");
        let under = match tool {
            // Valgrind emulates fewer processor features than the machine has, and code is compiled for those it
            // emulates.
            Tool::Callgrind => format!(
                "valgrind --tool=callgrind --separate-threads=yes --log-file={0}/worker.log --callgrind-out-file={0}/out",
                dir.display()
            ),
            // Without -f, only the first thread is counted, which serves.
            Tool::Strace => format!("strace -c -o {}", out.display()),
        };
        let script = dir.join("worker");
        // The observer is started in the same way, and is not counted.
        let daylily = self.daylily.display();
        let text = format!(
            "#!/bin/sh\n[ \"$1\" = worker ] || exec {daylily} \"$@\"\nexec env {BLOCKS} {under} {daylily} \"$@\"\n"
        );
        fs::write(&script, text)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        let port = free_port()?;
        let config = dir.join("daylily.toml");
        fs::write(&config, self.config(case, port, &dir))?;

        let mut command = match tool {
            Tool::Callgrind => {
                let mut command = Command::new("valgrind");
                command.arg("--tool=none").arg(format!("--log-file={}", dir.join("supervisor.log").display()));
                command.arg(&self.daylily);
                command
            }
            Tool::Strace => Command::new(&self.daylily),
        };
        command.arg("serve").arg("--config").arg(&config);
        process::without_settings(&mut command);
        command.env("LD_PRELOAD", self.dir.path().join("count.so")).env("COUNT_WORKER", &script);
        let mut running = Running::start(command, dir.join("log"))?;
        let sent = drive(&mut running, case, port, requests);
        let status = running.stop_within(ENDS_WITHIN);
        sent.with_context(|| format!("daylily wrote: {}", running.output()))?;
        ensure!(status.is_some_and(|status| status.success()), "daylily did not end well: {}", running.output());
        Ok(out)
    }

    fn config(&self, case: Case, port: u16, dir: &Path) -> String {
        format!(
            "listen = \"127.0.0.1:{port}\"\nworkers = 1\nlog = \"warn\"\ncache_dir = \"{0}/cache\"\ncontrol = \"{0}/control\"\n\
             [server]\nmax_concurrency = 1\nstart_timeout = \"10m\"\nhang_timeout = \"10m\"\n\
             [defaults]\ncpu_time = \"10m\"\nwall_time = \"10m\"\nmax_memory = \"4MiB\"\n\
             [[route]]\ncomponent = \"{1}/{2}.wasm\"\n",
            dir.display(),
            self.guests.display(),
            case.package
        )
    }
}

fn drive(running: &mut Running, case: Case, port: u16, requests: u32) -> Result<()> {
    let begun = Instant::now();
    let mut client = loop {
        running.is_running()?;
        match Client::connect(port) {
            Ok(client) => break client,
            Err(_) if begun.elapsed() < READY_WITHIN => std::thread::sleep(Duration::from_millis(20)),
            Err(error) => return Err(error).context("daylily does not listen"),
        }
    };
    for _ in 0..requests {
        if case.body_bytes == 0 {
            client.get(case.path)?;
        } else {
            client.post(case.path, case.body_bytes)?;
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}
