//! The exact output and exit codes of daylily. `BLESS=1` rewrites the golden files.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::harness::{Finished, each, run_in};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases/cli")
}

/// A command line in a directory with files.
#[derive(Debug)]
struct Case {
    name: &'static str,
    arguments: &'static [&'static str],
    files: &'static [(&'static str, &'static [u8])],
    environment: &'static [(&'static str, &'static str)],
}

const fn case(name: &'static str, arguments: &'static [&'static str]) -> Case {
    Case { name, arguments, files: &[], environment: &[] }
}

/// Minimal components: each exports an empty instance under the name of a draft's handler.
const DRAFT_P2: &[u8] =
    b"\0asm\x0d\0\x01\0\x05\x03\x01\x01\0\x0b4\x01\0.wasi:http/incoming-handler@0.2.0-rc-2023-12-05\x05\0\0";
const DRAFT_P3: &[u8] = b"\0asm\x0d\0\x01\0\x05\x03\x01\x01\0\x0b+\x01\0%wasi:http/handler@0.3.0-rc-2025-09-16\x05\0\0";
/// A 0.3 handler that imports interfaces of a draft that no release has.
const IMPORTS_OF_DRAFTS: &[u8] = b"\0asm\x0d\0\x01\0\x07\x03\x01B\0\x0a-\x01\0(wasi:cli/environment@0.2.0-rc-2023-12-05\x05\0\x0a+\x01\0&wasi:random/random@0.3.0-rc-2025-09-16\x05\0\x0a-\x01\0(wasi:config/store@0.2.0-draft-2024-09-28\x05\0\x05\x03\x01\x01\0\x0b\x1d\x01\0\x17wasi:http/handler@0.3.0\x05\x03\0";

/// Paths as other servers write them.
const PARAMETERS: &[u8] = b"[[route]]\npath = '/users/:id'\ncomponent = 'a.wasm'\n
[[route]]\npath = '/users/{id}'\ncomponent = 'a.wasm'\n";

/// A path on which no program is.
const NO_TOOLS: &[(&str, &str)] = &[("PATH", "/nonexistent")];

/// What has a counterpart, and what has none.
const SPIN: &[u8] = b"spin_manifest_version = 2
[application]
name = 'shop'
[[trigger.http]]
route = '/api/...'
component = 'api'
[component.api]
source = 'api.wasm'
allowed_outbound_hosts = ['https://example.com', 'redis://localhost:6379']
key_value_stores = ['default']
[component.api.build]
command = 'make'
watch = ['src/**/*.rs']
";

const CASES: &[Case] = &[
    case("help", &["--help"]),
    case("help-serve", &["serve", "--help"]),
    case("help-check", &["check", "--help"]),
    case("help-dev", &["dev", "--help"]),
    case("help-build", &["build", "--help"]),
    case("help-new", &["new", "--help"]),
    case("help-import", &["import", "--help"]),
    case("version", &["--version"]),
    case("usage-unknown-flag", &["--no-such-flag"]),
    case("usage-two-components", &["a.wasm", "b.wasm"]),
    case("usage-component-and-config", &["a.wasm", "-c", "daylily.toml"]),
    case("usage-command-after-flags", &["--dev", "check"]),
    case("usage-reopen-after-flags", &["--dev", "reopen"]),
    case("usage-value", &["--max-body", "many"]),
    case("new-nothing", &["new"]),
    case("new-no-template", &["new", "shop"]),
    case("new-unknown-template", &["new", "shop", "--template", "jss"]),
    case("new-path", &["new", "../shop", "--template", "js"]),
    case("new-here", &["new", ".", "--template", "js"]),
    case("new-name", &["new", "My Shop", "--template", "js"]),
    case("new-name-of-dependency", &["new", "esbuild", "--template", "js"]),
    Case { files: &[("shop/a", b"")], ..case("new-exists", &["new", "shop", "--template", "js"]) },
    case("new-static", &["new", "shop", "--template", "static"]),
    Case { environment: NO_TOOLS, ..case("new-js-without-tools", &["new", "shop", "--template", "js"]) },
    Case { environment: NO_TOOLS, ..case("new-python-without-tools", &["new", "shop", "--template", "python"]) },
    Case { environment: NO_TOOLS, ..case("new-rust-without-tools", &["new", "shop", "--template", "rust"]) },
    Case { files: &[("spin.toml", SPIN)], ..case("import", &["import", "spin.toml"]) },
    Case { files: &[("spin.toml", SPIN), ("daylily.toml", b"")], ..case("import-exists", &["import", "spin.toml"]) },
    Case { files: &[("spin.toml", b"[application]\n")], ..case("import-other", &["import", "spin.toml"]) },
    case("import-missing", &["import", "spin.toml"]),
    case("foreign-addr", &["--addr", "0.0.0.0:8080", "app.wasm"]),
    case("foreign-port", &["--port", "8080"]),
    case("foreign-p", &["-p8080"]),
    case("foreign-l", &["-l", "8080"]),
    case("foreign-host", &["serve", "--host", "0.0.0.0"]),
    case("foreign-wasi", &["-Scli", "app.wasm"]),
    case("foreign-wasm", &["-W", "max-memory-size=1000000", "app.wasm"]),
    case("foreign-files", &["--files", "public"]),
    case("foreign-listen-port", &["--listen", "8080"]),
    case("foreign-listen-http", &["--listen", "http://localhost:8080/"]),
    case("foreign-listen-https", &["--listen", "https://0.0.0.0:8443"]),
    case("foreign-run", &["run", "app.wasm"]),
    case("foreign-up", &["up"]),
    case("foreign-start", &["start"]),
    case("foreign-init", &["init"]),
    case("foreign-restart", &["restart"]),
    case("foreign-version", &["version"]),
    case("foreign-misspelt", &["serv", "app.wasm"]),
    case("foreign-misspelt-alone", &["stopp"]),
    case("foreign-toml", &["missing.toml"]),
    Case { files: &[("app/daylily.toml", b"")], ..case("foreign-directory", &["app"]) },
    Case { files: &[("daylily.toml", PARAMETERS)], ..case("foreign-parameters", &["check"]) },
    Case { environment: &[("DAYLILY_LISTE", "127.0.0.1:8080")], ..case("foreign-variable", &["serve"]) },
    Case { environment: &[("DAYLILY_PORT", "8080")], ..case("foreign-variable-port", &["serve"]) },
    Case { environment: &[("DAYLILY_SHUTDOWN_TIMEOUT", "5s")], ..case("foreign-variable-key", &["check"]) },
    case("check-hello-world", &["check"]),
    case("component-missing", &["check", "missing.wasm"]),
    case("config-missing", &["check", "-c", "missing.toml"]),
    case("cannot-listen", &["--listen", "192.0.2.1:8080"]),
    Case { files: &[("module.wasm", b"\0asm\x01\0\0\0")], ..case("component-core-module", &["check", "module.wasm"]) },
    case("component-address", &["check", "https://files.example.com/app.wasm"]),
    case("component-registry", &["check", "registry.example.com/team/app:1.0"]),
    Case {
        files: &[("daylily.toml", b"[[route]]\ncomponent = 'app.wasm'\n")],
        ..case("component-configuration", &["check", "daylily.toml"])
    },
    Case {
        files: &[("half.wasm", b"\0asm\x0d\0\x01\0\x07\x99\x01\x01\x42")],
        ..case("component-truncated", &["check", "half.wasm"])
    },
    Case { files: &[("draft.wasm", DRAFT_P2)], ..case("component-draft-0.2", &["check", "draft.wasm"]) },
    Case { files: &[("draft.wasm", DRAFT_P3)], ..case("component-draft-0.3", &["check", "draft.wasm"]) },
    Case {
        files: &[("drafts.wasm", IMPORTS_OF_DRAFTS)],
        ..case("component-imports-of-drafts", &["check", "drafts.wasm"])
    },
    Case { files: &[("text.wasm", b"Hello World\n")], ..case("component-not-wasm", &["check", "text.wasm"]) },
    Case {
        files: &[("daylily.toml", b"[server]\nmax_hed = '1KiB'\n\n[[route]]\npath = '/v1'\n")],
        ..case("config-errors", &["check"])
    },
];

#[test]
fn cli() {
    each(CASES, |case| {
        let environment = [&[("COLUMNS", "100")], case.environment].concat();
        let actual = told(case, &run_in(case.files, &environment, case.arguments));
        let path = directory().join(format!("{}.txt", case.name));
        if std::env::var_os("BLESS").is_some() {
            std::fs::create_dir_all(directory()).expect("a directory");
            std::fs::write(&path, &actual).expect("a golden file");
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(actual, expected, "{} differs; BLESS=1 writes it anew", path.display());
    });
}

#[test]
fn no_golden_file_is_left_over() {
    let files = std::fs::read_dir(directory()).expect("the golden files");
    for file in files {
        let name = file.expect("a file").path().file_stem().expect("a name").to_string_lossy().into_owned();
        assert!(CASES.iter().any(|case| case.name == name), "{name} belongs to no case");
    }
}

fn told(case: &Case, finished: &Finished) -> String {
    let variables: String = case.environment.iter().map(|(name, value)| format!("{name}={value} ")).collect();
    let mut text = format!("$ {variables}daylily {}\nexit: {}\n", case.arguments.join(" "), finished.code);
    for (name, output) in [("stdout", &finished.stdout), ("stderr", &finished.stderr)] {
        if !output.is_empty() {
            writeln!(text, "--- {name}\n{}", without_times(output).trim_end()).expect("a string");
        }
    }
    text
}

/// Replaces times and versions, which change between runs.
fn without_times(output: &str) -> String {
    let output = output.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    let lines = output.lines().map(|line| match line.split_once(' ') {
        Some((time, rest)) if time.len() > 19 && time.starts_with("20") && time.ends_with('Z') => {
            format!("TIME {}\n", rest.trim_start())
        }
        _ => format!("{line}\n"),
    });
    lines.collect()
}
