//! The tools that a project is built with: whether they are there, and how to install those that are not.

use std::io::{ErrorKind, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a tool may take to print its version.
const PATIENCE: Duration = Duration::from_secs(5);

const NODE: &str = "install Node.js 20 or later, with npm: from nodejs.org, or with `apt install nodejs npm` or `brew \
                    install node`";

const PYTHON: &str =
    "install Python 3.10 or later, with venv: `apt install python3 python3-venv` or `brew install python`";

/// The tools for one language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tools {
    /// Node.js and npm.
    Node,
    /// Python with the module venv.
    Python,
    /// cargo and the WebAssembly target.
    Rust,
}

/// What a command did.
enum Ran {
    Printed(String),
    /// It failed, or took too long.
    Failed,
    NotFound,
}

impl Tools {
    /// What is missing, and how to install it. Looks for it in `dir`, because version managers choose by directory.
    pub(super) fn missing(self, dir: &Path) -> Option<String> {
        let ran = |program, arguments: &[&str]| run(program, arguments, dir);
        match self {
            Self::Node => match (ran("node", &["--version"]), ran("npm", &["--version"])) {
                (Ran::NotFound, _) => Some(format!("node is not installed; {NODE}")),
                (_, Ran::NotFound) => Some(format!("npm is not installed; {NODE}")),
                (Ran::Printed(version), _) if is_old(&version) => Some(format!("node is {}; {NODE}", version.trim())),
                (Ran::Failed, _) => Some(format!("`node --version` failed; {NODE}")),
                _ => None,
            },
            Self::Python => {
                let script = "import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 10))";
                match ran("python3", &["-c", script]) {
                    Ran::Printed(_) => None,
                    Ran::NotFound => Some(format!("python3 is not installed; {PYTHON}")),
                    Ran::Failed => Some(format!("python3 is older than 3.10, or has no venv; {PYTHON}")),
                }
            }
            Self::Rust => match (ran("cargo", &["--version"]), target_directory(dir)) {
                (Ran::NotFound, _) => Some("cargo is not installed; install Rust from https://rustup.rs".to_owned()),
                (_, Ran::Printed(directory)) if Path::new(directory.trim()).is_dir() => None,
                _ => Some(
                    "Rust's target wasm32-wasip2 is not installed; run `rustup target add wasm32-wasip2`".to_owned(),
                ),
            },
        }
    }
}

fn target_directory(dir: &Path) -> Ran {
    run("rustc", &["--print", "target-libdir", "--target", "wasm32-wasip2"], dir)
}

/// Whether this is the version of a Node.js before 20. A text that is no version counts as a newer one.
fn is_old(version: &str) -> bool {
    let major = version.trim().trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
    major.is_some_and(|major| major < 20)
}

fn run(program: &str, arguments: &[&str], dir: &Path) -> Ran {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(dir).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ran::NotFound,
        Err(_) => return Ran::Failed,
    };
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            _ => {
                // It may have ended meanwhile.
                let _ = child.kill();
                let _ = child.wait();
                return Ran::Failed;
            }
        }
    };
    let mut printed = String::new();
    let read = child.stdout.take().map(|mut stdout| stdout.read_to_string(&mut printed));
    match read {
        Some(Ok(_)) if status.success() => Ran::Printed(printed),
        _ => Ran::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_node() {
        fn check(version: &str, expected: bool) {
            assert_eq!(is_old(version), expected, "{version}");
        }
        check("v18.19.1\n", true);
        check("v20.0.0\n", false);
        check("v100.1.0\n", false);
        check("a text", false);
    }

    #[test]
    fn commands() {
        let dir = Path::new("/");
        assert!(matches!(run("sh", &["-c", "echo yes"], dir), Ran::Printed(text) if text == "yes\n"));
        assert!(matches!(run("sh", &["-c", "exit 1"], dir), Ran::Failed));
        assert!(matches!(run("/no/such/program", &[], dir), Ran::NotFound));
    }
}
