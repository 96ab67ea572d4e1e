//! Tables in documents that are made from rows in the sources.

use std::path::Path;

use anyhow::{Context, Result};

use super::tree::Tree;
use super::{Fault, counters, metrics};

const TABLES: [Table; 2] = [counters::TABLE, metrics::TABLE];

pub(super) fn check(tree: &Tree) -> Vec<Fault> {
    TABLES.iter().flat_map(|table| table.check(tree)).collect()
}

/// Writes the tables.
pub(super) fn write(root: &Path, tree: &Tree) -> Result<()> {
    TABLES.iter().try_for_each(|table| table.write(root, tree))
}

/// A table in a document.
pub(super) struct Table {
    pub(super) source: &'static str,
    pub(super) document: &'static str,
    /// The head of the table, which ends before the next empty line.
    pub(super) head: &'static str,
    /// Makes the rows from the source; empty if the source has another form.
    pub(super) rows: fn(&str) -> String,
}

impl Table {
    pub(super) fn check(&self, tree: &Tree) -> Vec<Fault> {
        let Self { source: path, document, .. } = *self;
        let (Some(source), Some(text)) = (tree.text(path), tree.text(document)) else { return Vec::new() };
        let Some((before, shown, _)) = self.split(text) else {
            return vec![Fault::new(document, 0, format!("there is no table of {path}"))];
        };
        let rows = (self.rows)(source);
        if rows.is_empty() {
            return vec![Fault::new(path, 0, "tidy cannot read its rows")];
        }
        if rows == shown {
            return Vec::new();
        }
        let at = (0..).find(|&at| rows.lines().nth(at) != shown.lines().nth(at)).unwrap_or_default();
        let row = rows.lines().nth(at).unwrap_or("no row");
        let text = format!("{path} has {row} here; `cargo xtask tidy --bless` writes it");
        vec![Fault::new(document, before.lines().count() + 1 + at, text)]
    }

    fn write(&self, root: &Path, tree: &Tree) -> Result<()> {
        let (Some(source), Some(text)) = (tree.text(self.source), tree.text(self.document)) else { return Ok(()) };
        let Some((before, shown, after)) = self.split(text) else { return Ok(()) };
        let rows = (self.rows)(source);
        if rows.is_empty() || rows == shown {
            return Ok(());
        }
        std::fs::write(root.join(self.document), format!("{before}{rows}{after}"))
            .with_context(|| format!("failed to write {}", self.document))
    }

    /// The document before, in and after the table's rows.
    fn split<'a>(&self, text: &'a str) -> Option<(&'a str, &'a str, &'a str)> {
        let start = text.find(self.head)? + self.head.len();
        let (before, rest) = text.split_at_checked(start)?;
        let (shown, after) = rest.split_at_checked(rest.find("\n\n").map_or(rest.len(), |end| end + 1))?;
        Some((before, shown, after))
    }
}
