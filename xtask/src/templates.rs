//! What a user of `daylily new` does with each template: make the project, build it, serve it, and run its test. No test of
//! `cargo test` has the tools to build all of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::http::free_port;
use crate::process::{self, Running};
use crate::{cargo_build, say};

/// What npm, pip and daylily keep from one run to the next.
const CACHES: &str = "target/tools/templates";

/// Another program to check, as for the end-to-end tests.
const BINARY: &str = "DAYLILY_E2E_BINARY";

/// The name of each project.
const NAME: &str = "shop-7";

/// Where a component with an interpreter is read and compiled.
const READY_WITHIN: Duration = Duration::from_secs(300);

/// Time limit of each step: downloads may be slow.
const PATIENCE: Duration = Duration::from_secs(600);

/// Files that fix the versions of a project's tools and packages.
const LOCKS: [&str; 3] = ["Cargo.lock", "package-lock.json", "requirements.txt"];

struct Workplace {
    daylily: PathBuf,
    caches: PathBuf,
}

/// # Errors
///
/// When a template is unknown, a project cannot be made, built or served, or its test fails.
pub(crate) fn main(root: &Path, names: &[&str]) -> Result<()> {
    let daylily = match std::env::var_os(BINARY) {
        Some(binary) => PathBuf::from(binary),
        None => {
            cargo_build(root, &["--release"], &["daylily"])?;
            root.join("target/release/daylily")
        }
    };
    let workplace = Workplace { daylily, caches: root.join(CACHES) };
    fs::create_dir_all(&workplace.caches).with_context(|| format!("failed to create {CACHES}"))?;
    let all = workplace.names()?;
    let chosen: Vec<&str> = if names.is_empty() { all.iter().map(String::as_str).collect() } else { names.to_vec() };
    for name in chosen {
        ensure!(all.iter().any(|known| known == name), "there is no template {name}; there are {}", all.join(", "));
        let begun = Instant::now();
        workplace.check(name).with_context(|| format!("the template {name}"))?;
        say(&format!("{name}: made, built, served and tested in {} s\n", begun.elapsed().as_secs()))?;
    }
    Ok(())
}

impl Workplace {
    /// The names of all templates, from the list for users.
    fn names(&self) -> Result<Vec<String>> {
        let output = Command::new(&self.daylily).args(["new", "--help"]).output().context("failed to run daylily")?;
        let help = String::from_utf8_lossy(&output.stdout).into_owned();
        let (_, list) = help.split_once("Templates:\n").context("`daylily new --help` lists no templates")?;
        let names = list.lines().map_while(|line| line.strip_prefix("  ")?.split_whitespace().next());
        Ok(names.map(str::to_owned).collect())
    }

    fn check(&self, template: &str) -> Result<()> {
        let dir = tempfile::tempdir().context("failed to create a directory")?;
        let log = dir.path().join("log");
        let mut new = self.command(&self.daylily, dir.path());
        new.args(["new", NAME, "--template", template]);
        process::run(new, PATIENCE, &log)?;
        let project = dir.path().join(NAME);
        let config = fs::read_to_string(project.join("daylily.toml")).context("it has no daylily.toml")?;
        let (build, served) = split(&config);
        if let Some(command) = build {
            self.without_tools(&project, &command)?;
            let mut shell = self.command(Path::new("/bin/sh"), &project);
            shell.args(["-c", &command]);
            let locks = || LOCKS.map(|file| fs::read(project.join(file)).ok());
            let before = locks();
            process::run(shell, PATIENCE, &log)?;
            ensure!(locks() == before, "the build has changed a lock file, which did not fit the project");
        }
        fs::write(project.join("serve.toml"), served)?;
        let port = free_port()?;
        let url = format!("http://127.0.0.1:{port}");
        let test = || {
            let mut test = self.command(Path::new("sh"), &project);
            test.args(["test.sh", &url]);
            process::run(test, PATIENCE, &log)
        };
        // Nothing is served yet.
        fails(test(), "no response from")?;
        let mut serve = self.command(&self.daylily, &project);
        serve.args(["serve", "--config", "serve.toml", "--workers", "1"]);
        serve.args(["--listen", &format!("127.0.0.1:{port}"), "--control", "control.sock"]);
        serve.arg("--cache-dir").arg(self.caches.join("compiled"));
        let mut server = Running::start(serve, dir.path().join("server-log"))?;
        server.prints("Server running", READY_WITHIN)?;
        test().map(drop).with_context(|| format!("the server said: {}", server.output()))
    }

    /// Checks that the build command says what is missing where there is no tool for it.
    fn without_tools(&self, project: &Path, build: &str) -> Result<()> {
        let bin = project.join("no-tools");
        fs::create_dir_all(&bin)?;
        for tool in ["dirname", "sh"] {
            let tool_path = process::find(tool).with_context(|| format!("there is no {tool} on the path"))?;
            std::os::unix::fs::symlink(tool_path, bin.join(tool))?;
        }
        let mut shell = self.command(Path::new("/bin/sh"), project);
        shell.args(["-c", build]).env("PATH", &bin);
        let built = process::run(shell, PATIENCE, &project.join("no-tools/log"));
        fs::remove_dir_all(&bin)?;
        fails(built, "is not installed; ")
    }

    fn command(&self, program: &Path, dir: &Path) -> Command {
        let mut command = Command::new(program);
        process::without_settings(&mut command);
        // The component is in the project's own directory.
        command.current_dir(dir).env_remove("CARGO_TARGET_DIR");
        command.env("npm_config_cache", self.caches.join("npm")).env("PIP_CACHE_DIR", self.caches.join("pip"));
        command
    }
}

/// Checks that a step has failed, with this text in its output.
fn fails(result: Result<String>, text: &str) -> Result<()> {
    match result {
        Ok(printed) => anyhow::bail!("it succeeded, and was expected to fail: {printed}"),
        Err(error) => {
            let said = format!("{error:#}");
            ensure!(said.contains(text), "its error has no {text:?}: {said}");
            Ok(())
        }
    }
}

/// The command of [build] in a configuration, and the rest of the file.
fn split(config: &str) -> (Option<String>, String) {
    let mut is_build = false;
    let (build, rest): (Vec<&str>, Vec<&str>) = config.lines().partition(|line| {
        is_build = if line.starts_with('[') { *line == "[build]" } else { is_build };
        is_build
    });
    let command = build.iter().find_map(|line| line.strip_prefix("command = \"")?.strip_suffix('"'));
    (command.map(str::to_owned), rest.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn the_build_command_is_found() {
        let config = "# a\n[build]\ncommand = \"sh build.sh\"\nwatch = []\n\n[[route]]\nfiles = \"a\"\n";
        assert_eq!(split(config), (Some("sh build.sh".into()), "# a\n[[route]]\nfiles = \"a\"".into()));
        assert_eq!(split("[[route]]\n"), (None, "[[route]]".into()));
    }
}
