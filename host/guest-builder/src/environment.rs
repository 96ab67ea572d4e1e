//! The environment of a cargo or compiler that is started from inside cargo. An outer `cargo clippy`, a build script or
//! a test sets variables for the host, which would break the build of a guest or repeat it each time.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::Command;

/// Variables that cargo or its tools set for one compilation of the host.
const NAMES: &[&str] = &[
    "CARGO_ENCODED_RUSTDOCFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_INCREMENTAL",
    "RUSTC_LINKER",
    // `cargo clippy` wraps rustc, and so do editors.
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTDOCFLAGS",
    "RUSTFLAGS",
];

/// Prefixes of further such variables.
const PREFIXES: &[&str] = &[
    "CARGO_BUILD_",
    "CARGO_CFG_",
    "CARGO_FEATURE_",
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CARGO_PROFILE_",
    "CARGO_TARGET_",
    "CARGO_UNSTABLE_",
    "__CARGO",
];

/// A command for `program` in `dir`, without these variables. RUSTUP_TOOLCHAIN is kept: the guests are built by the
/// toolchain that builds the host.
pub(crate) fn command(program: impl AsRef<OsStr>, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(dir);
    for (name, _) in env::vars_os() {
        if leaks(&name) {
            command.env_remove(name);
        }
    }
    command
}

/// The program in the variable `name` (set by an outer cargo, or by the user), or `fallback`.
pub(crate) fn tool(name: &str, fallback: &str) -> OsString {
    env::var_os(name).filter(|tool| !tool.is_empty()).unwrap_or_else(|| fallback.into())
}

fn leaks(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
}

#[cfg(test)]
mod tests {
    use super::leaks;
    use std::ffi::OsStr;

    #[test]
    fn only_settings_of_the_outer_build_are_removed() {
        let cases = [
            ("RUSTFLAGS", true),
            ("CARGO_ENCODED_RUSTFLAGS", true),
            ("RUSTC_WORKSPACE_WRAPPER", true),
            ("CARGO_TARGET_DIR", true),
            ("CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS", true),
            ("CARGO_BUILD_TARGET", true),
            ("CARGO_PROFILE_RELEASE_LTO", true),
            ("__CARGO_TEST_ROOT", true),
            ("CARGO", false),
            ("CARGO_HOME", false),
            ("CARGO_HTTP_CAINFO", false),
            ("CARGO_MAKEFLAGS", false),
            ("CARGO_NET_OFFLINE", false),
            ("CARGO_REGISTRIES_MINE_INDEX", false),
            ("CARGO_TERM_COLOR", false),
            ("PATH", false),
            ("RUSTC", false),
            ("RUSTUP_TOOLCHAIN", false),
            ("RUSTUP_AUTO_INSTALL", false),
        ];
        for (name, want) in cases {
            assert_eq!(leaks(OsStr::new(name)), want, "{name}");
        }
    }
}
