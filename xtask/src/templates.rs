//! What a user of `daylily new` does with each template: make the project, build it, serve it, run its test, and edit it
//! under `daylily dev`. No test of `cargo test` has the tools to build all of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::browser::Browser;
use crate::http::{answer, free_port};
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

/// Files of which each project has one, and what is replaced in it by what.
const EDITS: [(&str, &str, &str); 5] = [
    ("src/app.js", "no such page", "no page here"),
    ("src/app.ts", "no such page", "no page here"),
    ("src/lib.rs", "no such page", "no page here"),
    ("app.py", "no such page", "no page here"),
    ("public/index.html", "Change it", "It was changed"),
];

/// How long after the end of its build an edit may take until it is served. It takes less than a second on an idle
/// machine.
const SERVED_WITHIN: Duration = Duration::from_secs(10);

/// How often an edit is looked for.
const LOOK: Duration = Duration::from_millis(10);

struct Workplace {
    root: PathBuf,
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
    let workplace = Workplace { root: root.to_owned(), daylily, caches: root.join(CACHES) };
    fs::create_dir_all(&workplace.caches).with_context(|| format!("failed to create {CACHES}"))?;
    let all = workplace.names()?;
    let chosen: Vec<&str> = if names.is_empty() { all.iter().map(String::as_str).collect() } else { names.to_vec() };
    for name in chosen {
        ensure!(all.iter().any(|known| known == name), "there is no template {name}; there are {}", all.join(", "));
        let begun = Instant::now();
        workplace.check(name).with_context(|| format!("the template {name}"))?;
        say(&format!("{name}: made, built, served, tested and edited in {} s\n", begun.elapsed().as_secs()))?;
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
        let build = build_command(&config);
        if let Some(command) = &build {
            self.without_tools(&project, command)?;
            let mut build = self.command(&self.daylily, &project);
            build.arg("build");
            let locks = || LOCKS.map(|file| fs::read(project.join(file)).ok());
            let before = locks();
            process::run(build, PATIENCE, &log)?;
            ensure!(locks() == before, "the build has changed a lock file, which did not fit the project");
        }
        let port = free_port()?;
        let url = format!("http://127.0.0.1:{port}");
        let test = || {
            let mut test = self.command(Path::new("sh"), &project);
            test.args(["test.sh", &url]);
            process::run(test, PATIENCE, &log)
        };
        // Nothing is served yet.
        fails(test(), "no response from")?;
        let browser = Browser::with_script(&self.root, template)?;
        // Each server finds the data of the one before.
        for (command, time) in [("serve", "first"), ("dev", "again")] {
            let mut server = self.server(command, &project, port)?;
            test().map(drop).with_context(|| format!("daylily {command} said: {}", server.output()))?;
            if let Some(browser) = &browser {
                let looked = browser.check(template, &url, time);
                looked.with_context(|| format!("daylily {command} said: {}", server.output()))?;
            }
            if command == "dev" {
                let edited = edit(&project, port, &mut server, build.is_some());
                edited.with_context(|| format!("daylily {command} said: {}", server.output()))?;
            }
        }
        Ok(())
    }

    /// Starts `daylily serve` or `daylily dev`, and waits until it serves.
    fn server(&self, command: &str, project: &Path, port: u16) -> Result<Running> {
        let mut server = self.command(&self.daylily, project);
        server.args([command, "--workers", "1", "--listen", &format!("127.0.0.1:{port}"), "--control", "control.sock"]);
        server.arg("--cache-dir").arg(self.caches.join("compiled"));
        let mut server = Running::start(server, project.with_file_name(format!("{command}-log")))?;
        server.prints("Server running", READY_WITHIN)?;
        Ok(server)
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

/// Edits a file under `daylily dev`, and waits until the edit is served.
fn edit(project: &Path, port: u16, server: &mut Running, has_build: bool) -> Result<()> {
    let is_there = |(file, ..): &&(&str, &str, &str)| project.join(file).exists();
    let (file, text, by) = EDITS.iter().find(is_there).context("it has no file to edit")?;
    let before = fs::read_to_string(project.join(file))?;
    ensure!(before.contains(text), "{file} does not contain {text:?}");
    fs::write(project.join(file), before.replace(text, by))?;
    let path = if *file == "public/index.html" { "/" } else { "/missing" };
    let builds = |output: &str| output.matches("built in ").count();
    let (begun, built_before) = (Instant::now(), builds(&server.output()));
    let mut built = (!has_build).then(Instant::now);
    loop {
        if built.is_none() && builds(&server.output()) > built_before {
            built = Some(Instant::now());
        }
        if answer(port, path).is_ok_and(|(_, body)| body.contains(by)) {
            break;
        }
        server.is_running()?;
        let limit = built.map_or(begun + PATIENCE, |built| built + SERVED_WITHIN);
        ensure!(Instant::now() < limit, "an edit of {file} was not served");
        std::thread::sleep(LOOK);
    }
    let whole = begun.elapsed().as_secs_f64();
    let own = built.map_or(0.0, |built| built.elapsed().as_secs_f64());
    say(&format!("  an edit is served after {whole:.1} s, {own:.2} s after the end of its build\n"))
}

/// The command of [build] in a configuration.
fn build_command(config: &str) -> Option<String> {
    let (_, build) = config.split_once("[build]\n")?;
    let command = build.lines().find_map(|line| line.strip_prefix("command = \"")?.strip_suffix('"'))?;
    Some(command.to_owned())
}

#[cfg(test)]
mod tests {
    use super::build_command;

    #[test]
    fn the_build_command_is_found() {
        let config = "# a\n[build]\ncommand = \"sh build.sh\"\nwatch = []\n\n[[route]]\nfiles = \"a\"\n";
        assert_eq!(build_command(config).as_deref(), Some("sh build.sh"));
        assert_eq!(build_command("[[route]]\n"), None);
    }
}
