//! How a server under test is started.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use command_fds::{CommandFdExt, FdMapping};
use tempfile::TempDir;

use super::audit::{AdminAt, Plan};
use super::server::Daylily;
use super::{Turn, guest};

/// The control socket, in the server's working directory.
pub(super) const CONTROL: &str = "control.sock";

/// The first descriptor that systemd passes (`SD_LISTEN_FDS_START`).
const FIRST_PASSED: i32 = 3;

/// The directory of compiled components. All servers under test share it, so that each component is compiled once per
/// run.
pub fn cache_dir() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache")
}

/// The program under test: the one of this build, or the one in `DAYLILY_E2E_BINARY`.
pub fn binary() -> &'static str {
    static NAMED: LazyLock<Option<String>> = LazyLock::new(|| {
        let named = std::env::var("DAYLILY_E2E_BINARY").ok()?;
        assert!(Path::new(&named).is_absolute(), "DAYLILY_E2E_BINARY is not an absolute path: {named}");
        assert!(Path::new(&named).is_file(), "DAYLILY_E2E_BINARY names no file: {named}");
        Some(named)
    });
    NAMED.as_deref().unwrap_or(env!("CARGO_BIN_EXE_daylily"))
}

/// The configuration file with its routes, flags, environment and files of a server to start.
#[derive(Default)]
pub struct Setup {
    top: String,
    server: String,
    defaults: String,
    routes: String,
    bare: Option<Vec<String>>,
    flags: Vec<String>,
    environment: Vec<(String, String)>,
    files: Vec<(PathBuf, Vec<u8>)>,
    wrapper: Vec<String>,
    workers: Option<u32>,
    without: Vec<String>,
    passed: Vec<OwnedFd>,
    own_program: bool,
    alone: bool,
    is_unaudited: bool,
    may_repeat: bool,
}

impl Setup {
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `daylily ARGUMENTS`, without a configuration file from the harness.
    pub fn bare(arguments: &[&str]) -> Self {
        let bare = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Self { bare: Some(bare), ..Self::default() }
    }

    /// Adds lines before the first section.
    pub fn top(mut self, toml: &str) -> Self {
        self.top += &format!("{toml}\n");
        self
    }

    /// Adds lines to `[server]`.
    pub fn server(mut self, toml: &str) -> Self {
        self.server += &format!("{toml}\n");
        self
    }

    /// Adds lines to `[defaults]`.
    pub fn defaults(mut self, toml: &str) -> Self {
        self.defaults += &format!("{toml}\n");
        self
    }

    /// Adds a route for every path of `host`, which is also its name; `more` are its other keys.
    pub fn route(self, host: &str, package: &str, more: &str) -> Self {
        self.route_at(&format!("name = '{host}'\nhost = '{host}'\n{more}"), package)
    }

    /// Adds a route with these keys.
    pub fn route_at(self, keys: &str, package: &str) -> Self {
        self.route_with(keys, &guest(package).display().to_string())
    }

    /// Adds a route with these keys to a component in the server's directory.
    pub fn route_with(mut self, keys: &str, component: &str) -> Self {
        self.routes += &format!("\n[[route]]\ncomponent = '{component}'\n{keys}\n");
        self
    }

    /// Adds the text of a route.
    pub fn raw_route(mut self, toml: &str) -> Self {
        self.routes += toml;
        self
    }

    /// Adds a route to a component in the server's directory, which a test can replace.
    pub fn route_to(mut self, host: &str, component: &str) -> Self {
        self.routes += &route_to(host, component);
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

    /// Adds a file to the server's directory.
    pub fn file(mut self, path: &str, contents: &[u8]) -> Self {
        self.files.push((path.into(), contents.into()));
        self
    }

    /// Starts the server with `sh -c SCRIPT`, which must end in `exec "$@"`.
    pub fn through(mut self, script: &str) -> Self {
        self.wrapper = ["/bin/sh", "-c", script, "sh"].map(str::to_owned).into();
        self
    }

    /// Sets the number of workers. The default is one, so that counts and limits are in one process.
    pub fn workers(mut self, workers: u32) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Leaves out a flag that the harness sets, so that the configuration file decides.
    pub fn without(mut self, flag: &str) -> Self {
        self.without.push(flag.to_owned());
        self
    }

    /// Passes these descriptors, from 3 on, as systemd does. `names` are their names, separated by colons.
    pub fn passed(mut self, sockets: Vec<OwnedFd>, names: &str) -> Self {
        let count = sockets.len().to_string();
        self.passed = sockets;
        if !names.is_empty() {
            self = self.env("LISTEN_FDNAMES", names);
        }
        self.env("LISTEN_FDS", &count).through("export LISTEN_PID=$$; exec \"$@\"")
    }

    /// Starts `./daylily`, a copy that a test can replace.
    pub fn own_program(mut self) -> Self {
        self.own_program = true;
        self
    }

    /// Runs while no other test does.
    pub fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// Does not turn the access log and the metrics on, nor compares them at the end; `reason` says why that would
    /// disturb the test. A setup with an access log of its own needs no such reason.
    pub fn unaudited(mut self, _reason: &str) -> Self {
        self.is_unaudited = true;
        self
    }

    /// The access log may have a request twice; `reason` says why.
    pub fn repeats_lines(mut self, _reason: &str) -> Self {
        self.may_repeat = true;
        self
    }

    /// Whether the setup has one of these words in its configuration, its flags or its environment.
    fn mentions(&self, words: &[&str]) -> bool {
        let files = self.files.iter().filter(|(path, _)| path.extension().is_some_and(|extension| extension == "toml"));
        let files = files.map(|(_, contents)| String::from_utf8_lossy(contents).into_owned());
        let flags = self.flags.iter().chain(self.bare.iter().flatten()).cloned();
        let variables = self.environment.iter().map(|(name, _)| name.clone());
        let mut texts = files.chain(flags).chain(variables).chain([self.top.clone()]);
        texts.any(|text| words.iter().any(|word| text.contains(word)))
    }

    /// How the server is audited; None if it is not.
    fn audit(&self) -> Option<Plan> {
        if self.is_unaudited || self.mentions(&["access_log", "--access-log", "DAYLILY_ACCESS_LOG"]) {
            return None;
        }
        let its = self.mentions(&["[admin]", "--admin", "DAYLILY_ADMIN"]);
        Some(Plan { admin: if its { AdminAt::Its } else { AdminAt::Ours }, may_repeat: self.may_repeat })
    }

    fn config(&self) -> String {
        let Self { top, server, defaults, routes, .. } = self;
        format!("{top}[server]\n{server}\n[defaults]\n{defaults}\n{routes}")
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments = match &self.bare {
            Some(bare) => bare.clone(),
            None => ["serve", "-c", "daylily.toml"].map(str::to_owned).into(),
        };
        let cache = cache_dir().display().to_string();
        let workers = self.workers.unwrap_or(1).to_string();
        let listens = self.environment.iter().any(|(name, _)| name == "DAYLILY_LISTEN");
        for (flag, value) in [
            ("--listen", "127.0.0.1:0"),
            ("--workers", workers.as_str()),
            ("--control", CONTROL),
            ("--cache-dir", &cache),
        ] {
            let is_left_out = self.without.iter().any(|left_out| left_out == flag) || (flag == "--listen" && listens);
            if !is_left_out && !self.flags.iter().any(|given| given == flag) {
                arguments.extend([flag, value].map(str::to_owned));
            }
        }
        arguments.extend(self.flags.clone());
        arguments
    }

    /// Starts the server and waits until it prints its addresses.
    #[track_caller]
    pub fn start(self) -> Daylily {
        let mut server = self.spawn();
        server.announced();
        server
    }

    /// Starts the server without waiting. Its addresses are not known, and it may fail to start.
    #[track_caller]
    pub fn spawn(mut self) -> Daylily {
        let turn = if self.alone { Turn::alone() } else { Turn::shared() };
        let directory = TempDir::with_prefix("daylily-e2e-").expect("a temporary directory");
        if self.bare.is_none() {
            std::fs::write(directory.path().join("daylily.toml"), self.config()).expect("a configuration file");
        }
        write_files(directory.path(), &self.files);
        let mut words = self.wrapper.clone();
        words.push(if self.own_program { "./daylily" } else { binary() }.to_owned());
        if self.own_program {
            copy_program(Path::new(binary()), &directory.path().join("daylily"));
        }
        words.extend(self.arguments());
        let audit = self.audit();
        if let Some(plan) = audit {
            self.environment.extend(plan.environment(directory.path()));
        }
        let passed = std::mem::take(&mut self.passed);
        let passed =
            passed.into_iter().zip(FIRST_PASSED..).map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd });
        let child = Command::new(&words[0])
            .args(&words[1..])
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .fd_mappings(passed.collect())
            .expect("a number for each descriptor")
            .spawn()
            .expect("the binary under test");
        Daylily::new(child, directory, turn, audit)
    }
}

/// The text of a route to a component in the server's directory.
pub fn route_to(host: &str, component: &str) -> String {
    format!("\n[[route]]\nname = '{host}'\nhost = '{host}'\ncomponent = '{component}'\n")
}

/// Copies a program, in another process: a program cannot be run (ETXTBSY) while this process, or a child that another
/// thread starts meanwhile, has it open for writing.
pub fn copy_program(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg(from).arg(to).status().expect("cp");
    assert!(copied.success(), "cp {} {}: {copied}", from.display(), to.display());
}

pub(super) fn write_files(directory: &Path, files: &[(PathBuf, Vec<u8>)]) {
    for (path, contents) in files {
        let path = directory.join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, contents).expect("a file");
    }
}
