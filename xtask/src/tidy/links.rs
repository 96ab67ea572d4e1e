//! Checks that every relative link in the documents, and the `runbook` of every alert, leads to an existing file and
//! heading.

use super::Fault;
use super::markdown::prose;
use super::tree::Tree;

pub(super) fn check(tree: &Tree) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (path, text) in tree.all("", ".md") {
        for (line, target) in targets(text) {
            faults.extend(fault(tree, (path, line), path, target));
        }
    }
    for (path, text) in tree.all("contrib/prometheus/", ".yml") {
        let runbooks = (1..).zip(text.lines()).filter_map(|(line, text)| Some((line, text.split_once("runbook:")?.1)));
        for (line, target) in runbooks {
            // They are relative to the root.
            faults.extend(fault(tree, (path, line), "", target.trim()));
        }
    }
    faults
}

/// What is wrong with a link to `target`, which is relative to the document `base`.
fn fault(tree: &Tree, (path, line): (&str, usize), base: &str, target: &str) -> Option<Fault> {
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let file = if file.is_empty() { base.to_owned() } else { resolve(base, file) };
    if !tree.has(&file) {
        return Some(Fault::new(path, line, format!("the link to `{target}` leads nowhere")));
    }
    let has_heading = anchor.is_empty() || anchors(tree.text(&file).unwrap_or_default()).any(|name| name == anchor);
    (!has_heading).then(|| Fault::new(path, line, format!("`{file}` has no heading `#{anchor}`")))
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

    #[test]
    fn a_runbook_leads_somewhere() {
        let files = |text| [("contrib/prometheus/rules.yml", text), ("docs/b.md", "## At 3 a.m.")];
        expect(check, &files("runbook: docs/b.md#at-3-am"), &[]);
        expect(
            check,
            &files("\n  runbook: docs/b.md#at-4-am"),
            &["rules.yml:2: `docs/b.md` has no heading `#at-4-am`"],
        );
        expect(check, &files("runbook: b.md"), &["the link to `b.md` leads nowhere"]);
    }
}
