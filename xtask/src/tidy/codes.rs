//! Checks exit codes: those in the sources, in docs/configuration.md and in the help are the same.

use std::collections::BTreeSet;

use super::Fault;
use super::markdown::rows;
use super::tree::Tree;

const CONFIGURATION: &str = "docs/configuration.md";
const CLI: &str = "host/src/cli.rs";

/// What precedes an exit code in the sources. sysexits.h begins at 64.
const BEFORE: &[&str] = &["exit_code: ", "code: ", "=> ", "map_or(", ": u8 = ", "ExitCode::from("];

/// Exit codes of clap and the standard library.
const GENERAL: [u32; 3] = [0, 1, 2];

pub(super) fn check(tree: &Tree) -> Vec<Fault> {
    let (Some(cli), Some(text)) = (tree.text(CLI), tree.text(CONFIGURATION)) else { return Vec::new() };
    let used: BTreeSet<u32> = used(tree).into_iter().chain(GENERAL).collect();
    let help = cli.split_once("const EXIT_CODES: &str = ").and_then(|(_, rest)| rest.split_once("\";"));
    let help = help.map_or("", |(help, _)| help).trim_start_matches(['"', '\\', '\n', ' ']);
    let help = help.strip_prefix("Exit codes: ").unwrap_or(help).replace("\\\n", "");
    let helped: BTreeSet<u32> =
        help.split(';').filter_map(|part| part.split_whitespace().next()?.parse().ok()).collect();
    let table = rows(text, "Exit codes");
    let documented: BTreeSet<u32> = table.iter().filter_map(|(_, cells)| cells.first()?.parse().ok()).collect();
    let mut faults = Vec::new();
    for (path, said) in [(CLI, helped), (CONFIGURATION, documented)] {
        let mut say = |code: &u32, text: &str| faults.push(Fault::new(path, 0, format!("exit code {code} {text}")));
        used.difference(&said).for_each(|code| say(code, "is not said"));
        said.difference(&used).for_each(|code| say(code, "is said, and no source ends with it"));
    }
    faults
}

fn used(tree: &Tree) -> BTreeSet<u32> {
    let mut codes = BTreeSet::new();
    for (_, text) in tree.all("host/src/", ".rs") {
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        for start in BEFORE {
            for after in text.split(start).skip(1) {
                let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
                let is_number =
                    after.get(digits.len()..).is_some_and(|rest| rest.starts_with([',', ';', ' ', ')', '\n']));
                codes.extend(digits.parse::<u32>().ok().filter(|code| (64..=78).contains(code) && is_number));
            }
        }
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::expect;

    #[track_caller]
    fn expect_of(source: &str, table: &str, faults: &[&str]) {
        let cli = "const EXIT_CODES: &str = \"Exit codes: 0 done; 1 internal; 2 usage; \\\n69 no server.\";";
        let table = format!("## Exit codes\n| 0 | |\n| 1 | |\n| 2 | |\n{table}");
        let files = [("host/src/a.rs", source), (super::CLI, cli), (super::CONFIGURATION, table.as_str())];
        expect(check, &files, faults);
    }

    #[test]
    fn exit_codes_are_documented_and_used() {
        expect_of("Self::Listen { .. } => 69,", "| 69 | no server |", &[]);
        expect_of("Self::Listen { .. } => 69,", "", &["exit code 69 is not said"]);
        expect_of("exit_code: 69 }", "| 69 | |\n| 77 | |", &["exit code 77 is said, and no source ends with it"]);
        expect_of("Failed { reason, exit_code: 69 }; code: 70,", "| 69 | |", &["exit code 70", "exit code 70"]);
    }
}
