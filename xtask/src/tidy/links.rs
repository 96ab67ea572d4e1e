//! Checks that every relative link in the documents leads to an existing file and heading.

use super::Fault;
use super::markdown::prose;
use super::tree::Tree;

pub(super) fn check(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (path, text) in tree.all("", ".md") {
        for (line, target) in targets(text) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { path.to_owned() } else { resolve(path, file) };
            if !tree.has(&file) {
                faults.push(Fault::new(path, line, format!("the link to `{target}` leads nowhere")));
            } else if !anchor.is_empty() && !anchors(tree.text(&file).unwrap_or_default()).any(|name| name == anchor) {
                faults.push(Fault::new(path, line, format!("`{file}` has no heading `#{anchor}`")));
            }
        }
    }
    faults
}

/// The targets of Markdown links, except those to other sites.
fn targets(text: &str) -> Vec<(usize, &str)> {
    let in_line = |line| -> Vec<&str> {
        let parts: Vec<&str> = str::split(line, "](").skip(1).collect();
        parts.into_iter().filter_map(|part| part.split_once(')').map(|(target, _)| target)).collect()
    };
    let lines = prose(text).into_iter();
    let all = lines.flat_map(|(number, line)| in_line(line).into_iter().map(move |target| (number, target)));
    all.filter(|(_, target)| !target.contains("://") && !target.contains(' ')).collect()
}

/// The path, from the root, of a relative link `target` in `document`.
fn resolve(document: &str, target: &str) -> String {
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The anchors that GitHub generates for headings.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    let headings = prose(text).into_iter().filter(|(_, line)| line.starts_with('#'));
    headings.map(|(_, line)| {
        let kept = |character: &char| character.is_alphanumeric() || " -_".contains(*character);
        let title = line.trim_start_matches('#').trim().to_lowercase();
        title.chars().filter(kept).map(|character| if character == ' ' { '-' } else { character }).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::expect;

    #[test]
    fn a_link_leads_somewhere() {
        let files = |text: &'static str| [("docs/a.md", text), ("docs/b.md", "## At 3 a.m.\n### `[server]`\n")];
        expect(check, &files("[x](b.md#at-3-am) [y](../docs/b.md#server) [z](https://a.test/b)"), &[]);
        expect(check, &files("\n[x](c.md)"), &["docs/a.md:2: the link to `c.md` leads nowhere"]);
        expect(check, &files("[x](b.md#at-4-am)"), &["`docs/b.md` has no heading `#at-4-am`"]);
    }
}
