//! nginx and the release build of daylily, each serving the same directory.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::requests::{self, Request, Response};
use crate::http::{Client, free_port};
use crate::process::{self, Running};

const READY_WITHIN: Duration = Duration::from_secs(60);

pub(super) struct Server {
    pub(super) port: u16,
    pub(super) process: Running,
}

pub(super) struct Servers {
    pub(super) daylily: Server,
    pub(super) nginx: Server,
    _dir: TempDir,
}

impl Servers {
    pub(super) fn start(root: &Path, nginx: &Path) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("daylily-static-").tempdir()?;
        // nginx may give up root for its worker, which then has to find the files.
        set_public(dir.path())?;
        let site = dir.path().join("site");
        requests::make(&site)?;
        for (name, bytes) in super::measure::FILES {
            fs::write(site.join(name), vec![b'x'; *bytes])?;
        }
        let daylily = start_daylily(root, dir.path(), &site)?;
        let nginx = start_nginx(nginx, dir.path(), &site)?;
        Ok(Self { daylily, nginx, _dir: dir })
    }

    pub(super) fn daylily(&self, request: &Request) -> Result<Response> {
        Response::of(self.daylily.port, request).context("daylily")
    }

    pub(super) fn nginx(&self, request: &Request) -> Result<Response> {
        Response::of(self.nginx.port, request).context("nginx")
    }
}

fn set_public(dir: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?)
}

fn start_daylily(root: &Path, dir: &Path, site: &Path) -> Result<Server> {
    let port = free_port()?;
    let config = format!("listen = \"127.0.0.1:{port}\"\nworkers = 1\n[[route]]\nfiles = \"{}\"\n", site.display());
    fs::write(dir.join("daylily.toml"), config)?;
    let mut command = Command::new(root.join("target/release/daylily"));
    command.args(["serve", "--control", "control.sock", "--cache-dir", "cache"]).current_dir(dir);
    process::without_settings(&mut command);
    ready(command, port, dir.join("daylily.log"))
}

fn start_nginx(nginx: &Path, dir: &Path, site: &Path) -> Result<Server> {
    let port = free_port()?;
    let at = |name: &str| dir.join(name).display().to_string();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("  {name}_temp_path {};\n", at(&format!("nginx-{name}"))))
        .collect();
    let config = format!(
        "daemon off;\nworker_processes 1;\nuser root;\npid {pid};\nerror_log stderr;\nevents {{ worker_connections 1024; }}\n\
         http {{\n{temporary}  access_log off;\n  sendfile on;\n  tcp_nopush on;\n  gzip_static on;\n  gzip_vary on;\n  \
         types {{ text/html html; text/css css; application/javascript js; application/json json; image/jpeg jpg; \
         text/plain txt; }}\n  default_type application/octet-stream;\n  server {{\n    listen 127.0.0.1:{port};\n    \
         root {root};\n    absolute_redirect off;\n  }}\n}}\n",
        pid = at("nginx.pid"),
        root = site.display(),
    );
    fs::write(dir.join("nginx.conf"), config)?;
    let mut command = Command::new(nginx);
    command.args(["-c", &at("nginx.conf"), "-p", &dir.display().to_string()]).current_dir(dir);
    ready(command, port, dir.join("nginx.log"))
}

fn ready(command: Command, port: u16, log: std::path::PathBuf) -> Result<Server> {
    let mut process = Running::start(command, log)?;
    let begun = Instant::now();
    while Client::connect(port).is_err() {
        process.is_running()?;
        ensure!(begun.elapsed() < READY_WITHIN, "it did not start: {}", process.output());
        thread::sleep(Duration::from_millis(20));
    }
    Ok(Server { port, process })
}
