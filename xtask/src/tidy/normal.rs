//! Normalises output, by masking what differs from run to run: times, process ids, request ids, and on request all
//! numbers.

/// `text` with these parts masked.
pub(super) fn normal(text: &str, masks_numbers: bool) -> String {
    let mut out = String::new();
    for line in text.trim_end().lines() {
        let line = if line.starts_with("date: ") { "date: …" } else { line };
        let mut normal = line.split(' ').map(word).collect::<Vec<_>>().join(" ");
        if masks_numbers {
            normal = spaces(&numbers(&normal));
        }
        out.push_str(normal.trim_end());
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out
}

/// Masks a word that is a point in time, or an id of 32 hex digits.
fn word(word: &str) -> String {
    let is_time = word.ends_with('Z') && word.contains('T') && word.starts_with(|c: char| c.is_ascii_digit());
    if is_time {
        return "…".into();
    }
    // A line of the log as JSON begins with its time.
    let json = word.strip_prefix("{\"time\":\"").and_then(|rest| rest.split_once('"'));
    json.map_or_else(|| ids(word), |(_, rest)| ids(&format!("{{\"time\":\"…\"{rest}")))
}

fn ids(word: &str) -> String {
    let mut out = String::new();
    let mut run = String::new();
    for character in word.chars().chain([' ']) {
        if character.is_ascii_digit() || ('a'..='f').contains(&character) {
            run.push(character);
            continue;
        }
        out.push_str(if run.len() == 32 { "…" } else { &run });
        run.clear();
        out.push(character);
    }
    out.pop();
    out
}

fn numbers(line: &str) -> String {
    let mut out = String::new();
    for character in line.chars() {
        match character {
            '0'..='9' if out.ends_with('#') => {}
            '0'..='9' => out.push('#'),
            _ => out.push(character),
        }
    }
    out
}

/// Collapses spaces: the widths of a table's columns depend on their contents.
fn spaces(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::normal;

    #[test]
    fn what_differs_from_run_to_run_does_not_count() {
        let cases = [
            ("2026-11-23T08:15:26.261680Z  WARN guest failed", "…  WARN guest failed", false),
            ("date: Mon, 23 Nov 2026 08:13:56 GMT", "date: …", false),
            ("too large (request 01a21b11de7a7b6eb9f7879d1fb65958)", "too large (request …)", false),
            (
                "cpu_time = 100ms request=01a21b11de0376cca07d7cebeec3db5c route=/*",
                "cpu_time = 100ms request=… route=/*",
                false,
            ),
            ("content-length: 50", "content-length: 50", false),
            ("{\"time\":\"2026-11-23T08:15:26.261680Z\",\"level\":1}", "{\"time\":\"…\",\"level\":1}", false),
            ("0       2           8243  ready", "# # # ready", true),
        ];
        for (text, want, masks_numbers) in cases {
            assert_eq!(normal(text, masks_numbers), want);
        }
    }
}
