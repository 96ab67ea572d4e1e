//! Help for a component that cannot be read or is none: what its name suggests was meant.

use std::io;
use std::path::Path;

use super::SourceName;
use super::inspect::NotServable;

/// Help for a component that cannot be read.
pub(crate) fn unreadable(component: &SourceName, error: &io::Error) -> &'static str {
    let path = component.path();
    if is_address(path) {
        return "it is a web address, and components are read from files: download it and give the file's path";
    }
    if is_in_registry(path) {
        return "it looks like a reference to a registry, and components are read from files: pull it into a file first, \
            for example with `wkg oci pull -o app.wasm REFERENCE`, and give the file's path";
    }
    if error.kind() == io::ErrorKind::IsADirectory || error.to_string().contains("a directory") {
        return "give the path of the `.wasm` file in it, or with `-c` that of the configuration file in it";
    }
    if is_toml(path) {
        return "pass a configuration file with `-c`";
    }
    "check the path and its permissions"
}

/// Help for a file that is not a component, if its name tells what it is.
pub(crate) fn not_servable(component: &SourceName, reason: &NotServable) -> &'static str {
    match reason {
        NotServable::NotWasm if is_toml(component.path()) => "; pass a configuration file with `-c`",
        _ => "",
    }
}

fn is_toml(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml"))
}

/// Whether the path contains a URL. In a configuration, the configuration's directory precedes it.
fn is_address(path: &str) -> bool {
    ["https://", "http://", "oci://"].into_iter().any(|scheme| path.contains(scheme))
}

/// Whether the path ends in `host/name:tag` or `host/name@sha256:digest`.
fn is_in_registry(path: &str) -> bool {
    let Some((before, name)) = path.rsplit_once('/') else { return false };
    let is_tag =
        |tag: &str| !tag.is_empty() && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    let has_tag = name.split_once(':').is_some_and(|(name, tag)| !name.is_empty() && is_tag(tag));
    has_tag && before.split('/').any(|part| part.contains('.') && !part.starts_with('.') || part.contains(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_references_to_registries_from_paths() {
        for (path, expected) in [
            ("registry.example.com/team/app:1.0", true),
            ("localhost:5000/app:latest", true),
            ("/etc/daylily/registry.example.com/team/app:1.0", true),
            ("registry.example.com/app@sha256:0123abcd", true),
            ("app:1.0", false),
            ("./app:1.0", false),
            ("../build/app.wasm", false),
            ("registry.example.com/app.wasm", false),
            ("registry.example.com/app:", false),
        ] {
            assert_eq!(is_in_registry(path), expected, "{path}");
        }
    }
}
