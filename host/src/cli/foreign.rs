//! Answers to words of other programs: flags, commands and variables that daylily has under another name.
//!
//! Each answer is one sentence with daylily's own spelling. Without it, the error would name a flag that only looks
//! similar, or a component that does not exist.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use daylily_core::config::{Table, options};
use daylily_core::similar::closest;

use super::Cli;

/// What a flag of another program is in daylily.
enum Meaning {
    /// An address and a port.
    Address,
    /// A port.
    Port,
    /// A host without a port.
    Host,
    /// Something else; the sentence follows the flag.
    Other(&'static str),
}

const FLAGS: &[(&str, Meaning)] = &[
    ("--addr", Meaning::Address),
    ("--address", Meaning::Address),
    ("--bind", Meaning::Address),
    ("-l", Meaning::Address),
    ("--port", Meaning::Port),
    ("-p", Meaning::Port),
    ("--host", Meaning::Host),
    ("-S", Meaning::Other(WASI)),
    (
        "-W",
        Meaning::Other(
            "limits are set with --max-memory, --cpu-time and --wall-time, and the other WebAssembly options are fixed",
        ),
    ),
    (
        "--files",
        Meaning::Other(
            "static files are served by a route of the configuration file: `files = \"DIR\"` in a [[route]]",
        ),
    ),
];

const WASI: &str =
    "guests have all of WASI, and what they may reach is granted with --env, --var, --dir and --allow-http";

/// Commands of other programs, and the sentence about each.
const COMMANDS: &[(&str, &str)] = &[
    ("run", "`daylily serve COMPONENT.wasm` serves a component, and `daylily serve` the routes of ./daylily.toml"),
    ("up", "`daylily serve` serves the routes of ./daylily.toml"),
    ("start", "`daylily serve` starts a server"),
    ("restart", "`daylily reload` makes a running server read its configuration and components again, without a pause"),
    ("init", "`daylily new NAME --template TEMPLATE` makes a project"),
    ("create", "`daylily new NAME --template TEMPLATE` makes a project"),
    ("version", "`daylily --version` prints the version"),
];

/// Variables under names that other programs have for them, without the prefix.
const VARIABLES: &[(&str, &str)] = &[
    ("ADDR", "DAYLILY_LISTEN=ADDR:PORT says where to listen"),
    ("ADDRESS", "DAYLILY_LISTEN=ADDR:PORT says where to listen"),
    ("BIND", "DAYLILY_LISTEN=ADDR:PORT says where to listen"),
    ("CONFIG", "the configuration file is named with -c FILE"),
    ("HOST", "DAYLILY_LISTEN=ADDR:PORT says where to listen"),
    ("LOG_LEVEL", "DAYLILY_LOG is the level of the log"),
];

const PREFIX: &str = "DAYLILY_";

/// The answer to the arguments that clap does not understand, if they have a word of another program.
pub(crate) fn argument(error: &clap::Error, arguments: &[OsString]) -> Option<String> {
    // Help and version are no errors.
    if !error.use_stderr() {
        return None;
    }
    // Whatever is wrong after it: it was taken for a component.
    if let Some(answer) = arguments.first().and_then(|first| command(first)) {
        return Some(answer);
    }
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let Some(ContextValue::String(unknown)) = error.get(ContextKind::InvalidArg) else { return None };
    let (flag, meaning) = FLAGS.iter().find(|(flag, _)| flag == unknown)?;
    let value = value(flag, arguments).unwrap_or_default();
    let listen = match meaning {
        Meaning::Other(answer) => return Some(format!("`{flag}` is no flag of daylily: {answer}")),
        Meaning::Address if value.bytes().all(|byte| byte.is_ascii_digit()) => of_port(&value),
        Meaning::Address => Some(value),
        Meaning::Port => of_port(&value),
        Meaning::Host if value.contains(':') && !value.starts_with('[') => Some(format!("[{value}]:3000")),
        Meaning::Host => Some(format!("{value}:3000")),
    };
    let listen = listen.filter(|listen| listen.parse::<daylily_core::config::Listen>().is_ok());
    let listen = listen.as_deref().unwrap_or("ADDR:PORT");
    Some(format!("`{flag}` is no flag of daylily: the address and the port are one value, --listen {listen}"))
}

fn of_port(port: &str) -> Option<String> {
    port.parse::<u16>().ok().map(|port| format!("127.0.0.1:{port}"))
}

/// The value that follows a flag, in the same argument or in the next one.
fn value(flag: &str, arguments: &[OsString]) -> Option<String> {
    let mut arguments = arguments.iter().map(|argument| argument.to_string_lossy());
    let rest = arguments.find_map(|argument| argument.strip_prefix(flag).map(str::to_owned))?;
    let rest = rest.strip_prefix('=').unwrap_or(&rest);
    if rest.is_empty() { arguments.next().map(String::from) } else { Some(rest.to_owned()) }
}

/// The answer to a word that stands where a command or a component does, if it is neither.
pub(crate) fn command(word: &OsStr) -> Option<String> {
    let name = word.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-'))?;
    if name.starts_with('-') || Path::new(name).symlink_metadata().is_ok() {
        return None;
    }
    let cli = Cli::command();
    if cli.find_subcommand(name).is_some() {
        return None;
    }
    if let Some((_, answer)) = COMMANDS.iter().find(|(command, _)| *command == name) {
        return Some(format!("`{name}` is no command of daylily: {answer}"));
    }
    let commands = cli.get_subcommands().map(clap::Command::get_name);
    let meant = closest(name, commands)?;
    Some(format!("`{name}` is no command of daylily, and no file has this name: did you mean `daylily {meant}`?"))
}

/// The answer to the first variable that is not one of daylily's, but looks like one. Others with its prefix are left
/// alone: Kubernetes sets such variables for a service that is called `daylily`.
pub(crate) fn variable(environment: impl Iterator<Item = (OsString, OsString)>) -> Option<String> {
    let rows = options::rows();
    let flags = || rows.iter().filter_map(|row| row.flag.as_ref()?.variable);
    let known: Vec<&str> = flags().filter_map(|variable| variable.strip_prefix(PREFIX)).collect();
    let mut answers: Vec<String> = environment
        .filter_map(|(variable, value)| {
            let variable = variable.to_str()?;
            let name = variable.strip_prefix(PREFIX).filter(|name| !known.contains(name))?;
            if let Some((_, answer)) = VARIABLES.iter().find(|(other, _)| *other == name) {
                return Some(format!("`{variable}` is no variable of daylily: {answer}"));
            }
            if let Some(listen) = value.to_str().filter(|_| name == "PORT").and_then(of_port) {
                let answer = format!("the address and the port are one value, DAYLILY_LISTEN={listen}");
                return Some(format!("`{variable}` is no variable of daylily: {answer}"));
            }
            let key = name.to_ascii_lowercase();
            let is_key = rows.iter().any(|row| row.key == key && row.table != Table::Route && key.contains('_'));
            if is_key {
                return Some(format!("`{variable}` is no variable of daylily: set `{key}` in the configuration file"));
            }
            let meant = closest(name, known.iter().copied())?;
            Some(format!("`{variable}` is no variable of daylily: did you mean `{PREFIX}{meant}`?"))
        })
        .collect();
    answers.sort_unstable();
    answers.into_iter().next()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn flags_and_commands() {
        fn check(line: &str, expected: Option<&str>) {
            let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
            let error = Cli::try_parse_from(std::iter::once(&OsString::from("daylily")).chain(&arguments)).err();
            let answer = error.and_then(|error| argument(&error, &arguments));
            match expected {
                Some(part) => {
                    assert!(answer.as_deref().is_some_and(|answer| answer.contains(part)), "{line}: {answer:?}")
                }
                None => assert_eq!(answer, None, "{line}"),
            }
        }
        check("--addr 0.0.0.0:8080 a.wasm", Some("--listen 0.0.0.0:8080"));
        check("serve --addr=[::]:80", Some("--listen [::]:80"));
        check("--addr", Some("--listen ADDR:PORT"));
        check("--bind nonsense", Some("--listen ADDR:PORT"));
        check("--port 8080", Some("--listen 127.0.0.1:8080"));
        check("--port=99999", Some("--listen ADDR:PORT"));
        check("-p8080", Some("--listen 127.0.0.1:8080"));
        check("check -p 8080", Some("`-p` is no flag of daylily"));
        check("-l 8080", Some("--listen 127.0.0.1:8080"));
        check("-l 0.0.0.0:80", Some("--listen 0.0.0.0:80"));
        check("--host 0.0.0.0", Some("--listen 0.0.0.0:3000"));
        check("--host ::1", Some("--listen [::1]:3000"));
        check("-Scli -Shttp a.wasm", Some("`-S` is no flag of daylily: guests have all of WASI"));
        check("-W max-memory-size=1000 a.wasm", Some("--max-memory"));
        check("--files public", Some("`files = \"DIR\"`"));
        check("run a.wasm", Some("`run` is no command of daylily: `daylily serve COMPONENT.wasm`"));
        check("serv a.wasm --dev", Some("did you mean `daylily serve`?"));
        check("serv a.wasm", Some("did you mean `daylily serve`?"));
        check("a.wasm b.wasm", None);
        check("--no-such-flag", None);
        check("--max-body many", None);
    }

    #[test]
    fn commands() {
        fn check(word: &str, expected: Option<&str>) {
            let answer = command(OsStr::new(word));
            match expected {
                Some(part) => {
                    assert!(answer.as_deref().is_some_and(|answer| answer.contains(part)), "{word}: {answer:?}")
                }
                None => assert_eq!(answer, None, "{word}"),
            }
        }
        check("up", Some("`daylily serve`"));
        check("start", Some("`daylily serve`"));
        check("restart", Some("`daylily reload`"));
        check("init", Some("`daylily new NAME"));
        check("create", Some("`daylily new NAME"));
        check("version", Some("`daylily --version`"));
        check("serv", Some("`daylily serve`"));
        check("relaod", Some("`daylily reload`"));
        check("status", None);
        check("app", None);
        check("app.wasm", None);
        check("./serv", None);
        check("-p", None);
        // A file of this name.
        check("src", None);
    }

    #[test]
    fn variables() {
        fn check(variable: &str, value: &str, expected: Option<&str>) {
            let answer = super::variable([(variable.into(), value.into())].into_iter());
            match expected {
                Some(part) => {
                    assert!(answer.as_deref().is_some_and(|answer| answer.contains(part)), "{variable}: {answer:?}")
                }
                None => assert_eq!(answer, None, "{variable}"),
            }
        }
        check("DAYLILY_LISTEN", "x", None);
        check("DAYLILY_LISTE", "x", Some("did you mean `DAYLILY_LISTEN`?"));
        check("DAYLILY_CONTORL", "x", Some("did you mean `DAYLILY_CONTROL`?"));
        check("DAYLILY_MAX_MEMORY_MB", "x", Some("did you mean `DAYLILY_MAX_MEMORY`?"));
        check("DAYLILY_ADDR", "x", Some("DAYLILY_LISTEN=ADDR:PORT"));
        check("DAYLILY_PORT", "8080", Some("DAYLILY_LISTEN=127.0.0.1:8080"));
        check("DAYLILY_LOG_LEVEL", "debug", Some("DAYLILY_LOG "));
        check("DAYLILY_SHUTDOWN_TIMEOUT", "1s", Some("set `shutdown_timeout` in the configuration file"));
        check("DAYLILY_TOKEN", "x", None);
        check("DAYLILY_ENV", "x", None);
        check("LISTEN", "x", None);
        // What Kubernetes sets for services called `daylily`, `daylily-admin`, `daylily-dev` and `daylily-log`.
        for service in ["", "ADMIN_", "DEV_", "LOG_"] {
            for name in ["SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_80_TCP", "PORT_80_TCP_ADDR"]
            {
                let value = if name.ends_with("PORT") { "tcp://10.0.0.7:80" } else { "x" };
                check(&format!("DAYLILY_{service}{name}"), value, None);
            }
            for name in ["PORT_80_TCP_PORT", "PORT_80_TCP_PROTO", "SERVICE_PORT_METRICS"] {
                check(&format!("DAYLILY_{service}{name}"), "80", None);
            }
        }
    }
}
