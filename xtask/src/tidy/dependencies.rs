//! Checks that every dependency has its reason, on the line above it, in the manifest that names its version.

use super::Fault;
use super::tree::Tree;

pub(super) fn check(tree: &Tree) -> Vec<Fault> {
    tree.all("", "Cargo.toml").flat_map(|(path, text)| manifest(path, text)).collect()
}

fn manifest(path: &str, text: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    let (mut is_list, mut above, mut has_lints) = (false, "", false);
    for (number, line) in (1..).zip(text.lines()) {
        if line.starts_with('[') {
            is_list = line.trim_end_matches(']').ends_with("dependencies");
            has_lints |= line == "[lints]";
        } else if let Some((name, value)) = line.split_once(" = ").filter(|_| is_list && !line.starts_with([' ', '#']))
        {
            let is_elsewhere = name.ends_with(".workspace") || value.contains("workspace = true");
            let is_own = value.contains("path = ") && !value.contains("version = ");
            if !is_elsewhere && !is_own && !above.starts_with('#') {
                faults.push(Fault::new(path, number, format!("`{name}` has no reason on the line above it")));
            }
        }
        above = line;
    }
    let is_of_host = !path.starts_with("guest/") && !path.starts_with("fuzz/") && text.contains("[package]");
    if is_of_host && !has_lints {
        faults.push(Fault::new(path, 0, "the workspace's lints are not taken: `[lints]`, `workspace = true`"));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::expect;

    #[test]
    fn a_dependency_has_a_reason() {
        let root = |text: &'static str| [("Cargo.toml", text)];
        expect(check, &root("[workspace.dependencies]\ncore = { path = \"core\" }\n# Sockets.\nnet = \"1\"\n"), &[]);
        expect(
            check,
            &root("[workspace.dependencies]\n# Sockets.\nnet = \"1\"\nweb = \"2\"\n"),
            &["Cargo.toml:4: `web` has no reason"],
        );
        expect(
            check,
            &[("a/Cargo.toml", "[package]\n[lints]\nworkspace = true\n[dependencies]\nnet.workspace = true\n")],
            &[],
        );
        expect(check, &[("a/Cargo.toml", "[package]\n[dev-dependencies]\nnet = \"1\"\n")], &["`net`", "`[lints]`"]);
    }
}
