//! Parses the parts of Markdown that the rules need: numbered lines, code spans, fenced blocks and tables.

/// A fenced block of code.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block<'a> {
    /// The text after the opening fence.
    pub(super) language: &'a str,
    /// The line number of the opening fence, from 1.
    pub(super) line: usize,
    /// The last line above it that is not empty.
    pub(super) above: &'a str,
    pub(super) lines: Vec<&'a str>,
}

/// The lines outside fenced blocks, with their line numbers.
pub(super) fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut is_code = false;
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            lines.push((number, line));
        }
    }
    lines
}

/// The code spans outside fenced blocks, with their line numbers.
pub(super) fn spans(text: &str) -> Vec<(usize, &str)> {
    prose(text).into_iter().flat_map(|(number, line)| in_line(line).map(move |span| (number, span))).collect()
}

/// The code spans of one line.
pub(super) fn in_line(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2).filter(|span| !span.is_empty())
}

pub(super) fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    let (mut is_code, mut above) = (false, "");
    for (number, line) in (1..).zip(text.lines()) {
        match line.strip_prefix("```") {
            Some(_) if is_code => is_code = false,
            Some(language) => {
                is_code = true;
                blocks.push(Block { language: language.trim(), line: number, above, lines: Vec::new() });
            }
            None if is_code => blocks.last_mut().into_iter().for_each(|block| block.lines.push(line)),
            None => {}
        }
        if !line.trim().is_empty() {
            above = line;
        }
    }
    blocks
}

/// The rows of all tables from the heading `title` to the next heading: the line number and the cells. Table heads are
/// included, the delimiter rows are not. An empty `title` means the whole document.
pub(super) fn rows<'a>(text: &'a str, title: &str) -> Vec<(usize, Vec<&'a str>)> {
    let mut is_below = title.is_empty();
    let mut rows = Vec::new();
    for (number, line) in prose(text) {
        if line.starts_with('#') && !title.is_empty() {
            is_below = line.trim_start_matches('#').trim() == title;
        }
        let cells = line.strip_prefix('|').and_then(|line| line.trim_end().strip_suffix('|'));
        let Some(cells) = cells.filter(|_| is_below) else { continue };
        let is_rule = cells.chars().all(|character| " -:|".contains(character));
        if !is_rule {
            rows.push((number, cells.split('|').map(str::trim).collect()));
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::{Block, blocks, rows, spans};

    const TEXT: &str =
        "a `b` and `c::d`\n\n```toml\nkey = `1`\n```\n# Table\n| x | y |\n|---|--:|\n| `1` | |\n## Next\n| z |\n";

    #[test]
    fn code_is_separated_from_prose() {
        assert_eq!(spans(TEXT), [(1, "b"), (1, "c::d"), (9, "1")]);
        let block = Block { language: "toml", line: 3, above: "a `b` and `c::d`", lines: vec!["key = `1`"] };
        assert_eq!(blocks(TEXT), [block]);
    }

    #[test]
    fn tables_are_read_below_their_heading() {
        assert_eq!(rows(TEXT, "Table"), [(7, vec!["x", "y"]), (9, vec!["`1`", ""])]);
        assert_eq!(rows(TEXT, "").len(), 3);
    }
}
