//! Guests in JavaScript and in Python with `--dev`: the error response to an exception has its message and the line of
//! the source, and after an edit of the source little is compiled. Guests in these languages bring their own
//! interpreter, and no test of `cargo test` has the tools to build them. Those of [`stores`] use key-value stores.

mod stores;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::http::{answer, free_port};
use crate::process::{self, Running};
use crate::{cargo_build, javascript, say};

/// The version of docs/guests.md.
const COMPONENTIZE_PY: &str = "componentize-py==0.25.1";

/// Where tools and components are kept from one run to the next.
const TOOLS: &str = "target/tools";

/// The text in the source whose line the error response must name.
const CULPRIT: &str = "the cart of";

/// A text in the source, and what an edit makes of it.
const EDIT: [&str; 2] = [" is empty", " is still empty"];

/// What the log says about a component that was compiled in parts, before the number of those that were compiled.
const COMPILED: &str = "; compiled now: ";

/// The parts that an edit may change: the one with the data, and the component, which has the small modules.
const MAX_EDITED_PARTS: usize = 2;

/// Time limit of each build step: downloads may be slow.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long the start may take, which compiles an interpreter.
const READY_WITHIN: Duration = Duration::from_secs(300);

/// The message of the exception, at the start of the error response.
const EXCEPTION: &str = "the cart of /shop is empty";

struct Language {
    name: &'static str,
    /// In `tests/languages`.
    source: &'static str,
    build: fn(root: &Path, dir: &Path, source: &Path) -> Result<PathBuf>,
    /// The start of the second line of the error response.
    reason: &'static str,
    /// How the stack names a line of the source; `LINE` stands for its number.
    place: &'static str,
}

const LANGUAGES: [Language; 2] = [
    Language {
        name: "JavaScript",
        source: "throws.js",
        build: |root, dir, source| javascript::build(root, dir, source, &root.join("wit/0.2/deps"), None),
        // The engine ends normally, without a response.
        reason: "guest returned an invalid response: ",
        place: "cart@throws.js:LINE:",
    },
    Language {
        name: "Python",
        source: "app.py",
        build: python,
        reason: "guest trapped: ",
        place: "app.py\", line LINE, in cart",
    },
];

/// # Errors
///
/// When a guest cannot be built, an error response does not say what happened and where, an edit compiles more than
/// what changed, or an operation on a store has another result than it should.
pub(crate) fn main(root: &Path) -> Result<()> {
    cargo_build(root, &["--release"], &["daylily"])?;
    for language in &LANGUAGES {
        let source = root.join("tests/languages").join(language.source);
        let dir = root.join(TOOLS).join(language.name.to_ascii_lowercase());
        let edited_source = dir.join("edited").join(language.source);
        edit(&source, &edited_source).with_context(|| format!("failed to edit {}", source.display()))?;
        let build = |source: &Path, name: &str| {
            let component = (language.build)(root, &dir, source)
                .with_context(|| format!("failed to build the guest in {}", language.name))?;
            fs::copy(&component, dir.join(name)).context("failed to copy the component").map(drop)
        };
        build(&source, BEFORE)?;
        build(&edited_source, AFTER)?;
        let mut server = Server::start(root, dir)?;
        let said = server.response()?;
        if let Err(error) = check(language, &source, &said) {
            bail!("{}: {error:#}; the error response was:\n{said}", language.name);
        }
        say(&format!("{}: the error response has the exception and its line\n", language.name))?;
        let took = server.edit().with_context(|| language.name)?;
        say(&format!("{}: {} s after an edit, the new generation serves\n", language.name, took.as_secs_f32()))?;
    }
    stores::main(root)
}

/// The components before and after the edit, and the one that is served.
const BEFORE: &str = "before.wasm";
const AFTER: &str = "after.wasm";
const SERVED: &str = "served.wasm";

fn edit(source: &Path, edited: &Path) -> Result<()> {
    let [text, by] = EDIT;
    let before = fs::read_to_string(source)?;
    ensure!(before.contains(text), "it does not contain {text:?}");
    fs::create_dir_all(edited.parent().context("no directory")?)?;
    Ok(fs::write(edited, before.replace(text, by))?)
}

/// daylily with the component and the cache in its working directory.
struct Server {
    program: PathBuf,
    dir: PathBuf,
    port: u16,
    process: Running,
}

impl Server {
    fn start(root: &Path, dir: PathBuf) -> Result<Self> {
        let (port, program) = (free_port()?, root.join("target/release/daylily"));
        fs::copy(dir.join(BEFORE), dir.join(SERVED)).context("failed to copy the component")?;
        let mut command = Command::new(&program);
        command.args(["serve", SERVED, "--dev", "--workers", "1", "--listen", &format!("127.0.0.1:{port}")]);
        command.args(["--control", "control.sock", "--cache-dir", "cache", "--log", "info,daylily::component=debug"]);
        command.current_dir(&dir);
        process::without_settings(&mut command);
        let process = Running::start(command, dir.join("log"))?;
        let mut server = Self { program, dir, port, process };
        server.process.prints("Server running", READY_WITHIN)?;
        Ok(server)
    }

    /// The error response to a request for `/shop`.
    fn response(&self) -> Result<String> {
        let (status, said) = answer(self.port, "/shop")?;
        ensure!(status == 500, "answered {status}: {said}");
        Ok(said)
    }

    /// Serves the edited component instead. Returns how long the reload took.
    fn edit(&mut self) -> Result<Duration> {
        fs::rename(self.dir.join(AFTER), self.dir.join(SERVED)).context("failed to replace the component")?;
        let begun = Instant::now();
        let mut command = Command::new(&self.program);
        command.args(["reload", "--control", "control.sock"]).current_dir(&self.dir);
        process::without_settings(&mut command);
        process::run(command, PATIENCE, &self.dir.join("reload-log"))?;
        let took = begun.elapsed();
        let (said, [_, text]) = (self.response()?, EDIT);
        ensure!(said.contains(text), "the response is not that of the edited source:\n{said}");
        let output = self.process.output();
        let last = output.lines().rev().find_map(|line| line.split_once(COMPILED));
        let (_, compiled) = last.context("the component was not compiled in parts")?;
        let parts: usize = compiled.split(',').next().unwrap_or_default().parse().context("no number of parts")?;
        ensure!(parts <= MAX_EDITED_PARTS, "the edit compiled {compiled}");
        Ok(took)
    }
}

fn check(language: &Language, source: &Path, said: &str) -> Result<()> {
    let text = fs::read_to_string(source).with_context(|| format!("failed to read {}", source.display()))?;
    let line = text.lines().position(|line| line.contains(CULPRIT)).context("the source throws nothing")? + 1;
    let place = language.place.replace("LINE", &line.to_string());
    let mut lines = said.lines();
    let (first, second) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    ensure!(first.contains(EXCEPTION), "it does not start with the exception's message, {EXCEPTION:?}");
    ensure!(second.starts_with(language.reason), "its second line does not start with {:?}", language.reason);
    let (_, stderr) = said.split_once("\n\nstderr:\n").context("it has no stderr")?;
    for part in [EXCEPTION, &place] {
        ensure!(stderr.contains(part), "its stderr has no {part:?}");
    }
    Ok(())
}

/// The component of a Python file, made by componentize-py.
fn python(root: &Path, dir: &Path, source: &Path) -> Result<PathBuf> {
    let run = python_environment(dir, &[COMPONENTIZE_PY])?;
    fs::copy(source, dir.join("app.py")).with_context(|| format!("failed to copy {}", source.display()))?;
    let wit = root.join("wit/0.2").display().to_string();
    run("componentize-py", &["-d", &wit, "-w", "http", "componentize", "app", "-o", "app.wasm"])?;
    Ok(dir.join("app.wasm"))
}

/// Installs packages into a virtual environment in `dir`. Returns what runs the environment's programs.
fn python_environment(dir: &Path, packages: &[&str]) -> Result<impl Fn(&str, &[&str]) -> Result<()>> {
    let python = process::find("python3").context("there is no `python3` on the path to build Python with")?;
    fs::create_dir_all(dir).with_context(|| format!("failed to create {}", dir.display()))?;
    let (environment, dir) = (dir.join("environment"), dir.to_owned());
    let run = {
        let environment = environment.clone();
        move |program: &Path, args: &[&str]| {
            let mut command = Command::new(program);
            // As its `activate` does: componentize-py looks there for packages.
            command.args(args).current_dir(&dir).env("VIRTUAL_ENV", &environment);
            process::run(command, PATIENCE, &dir.join("log")).map(drop)
        }
    };
    if !environment.join("bin/pip").is_file() {
        run(&python, &["-m", "venv", "environment"])?;
    }
    // Does nothing if these versions are there.
    let install = ["install", "--quiet", "--disable-pip-version-check"];
    run(&environment.join("bin/pip"), &[&install[..], packages].concat())?;
    Ok(move |program: &str, args: &[&str]| run(&environment.join("bin").join(program), args))
}
