//! Typed access to the tables of a TOML file. Errors are collected; reading goes on after them.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::slice;
use std::str::FromStr;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::diagnostic::Problems;
use super::kinds::PathOf;
use super::tables::Table;
use super::{Value, Workers};
use crate::ValueError;
use crate::limits::{Limit, LimitValue};

/// A table that is being read. Keys that were not read before [`Section::finish`] are unknown keys.
pub(super) struct Section<'a, 'p> {
    place: Table,
    table: &'a DeTable<'a>,
    dir: &'a Path,
    asked: Vec<&'static str>,
    problems: &'p mut Problems,
}

/// A value, and its location in the file.
pub(super) struct Located<T> {
    pub(super) span: Range<usize>,
    pub(super) value: T,
}

impl<'a, 'p> Section<'a, 'p> {
    /// Paths in it are relative to `dir`.
    pub(super) fn new(place: Table, table: &'a DeTable<'a>, dir: &'a Path, problems: &'p mut Problems) -> Self {
        Self { place, table, dir, asked: Vec::new(), problems }
    }

    /// A table within this one.
    pub(super) fn section(&mut self, key: &'static str, place: Table) -> Option<Section<'a, '_>> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::Table(table) => Some(Section::new(place, table, self.dir, self.problems)),
            other => {
                self.problems.add(value.span(), wrong_type(key, "a table", other));
                None
            }
        }
    }

    /// The tables of an array of tables, each with the location of its header; `None` if there are none.
    pub(super) fn tables(&mut self, key: &'static str) -> Option<Vec<Located<&'a DeTable<'a>>>> {
        let value = self.value(key)?;
        let DeValue::Array(array) = value.get_ref() else {
            let error = wrong_type(key, "an array of tables", value.get_ref());
            self.problems.add(value.span(), error.help(format!("write `[[{key}]]`")));
            return Some(Vec::new());
        };
        if array.is_empty() {
            return None;
        }
        let mut tables = Vec::new();
        for item in array.iter() {
            match item.get_ref() {
                DeValue::Table(table) => tables.push(Located { span: item.span(), value: table }),
                other => self.problems.add(item.span(), wrong_type(key, "an array of tables", other)),
            }
        }
        Some(tables)
    }

    /// The tables in a table whose keys are names, in the order of the file.
    pub(super) fn named_tables(&mut self, key: &'static str) -> Vec<(Located<&'a str>, &'a DeTable<'a>)> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let DeValue::Table(names) = value.get_ref() else {
            let error = wrong_type(key, "a table of tables", value.get_ref());
            self.problems.add(value.span(), error.help(format!("write `[{key}.NAME]`")));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for (name, value) in names.iter() {
            match value.get_ref() {
                DeValue::Table(table) => {
                    tables.push((Located { span: name.span(), value: name.get_ref().as_ref() }, table));
                }
                other => {
                    let error = wrong_type(name.get_ref(), "a table", other);
                    self.problems.add(value.span(), error.help(format!("write `[{key}.NAME]`")));
                }
            }
        }
        tables.sort_by_key(|(name, _)| name.span.start);
        tables
    }

    /// A table that is being read below this one.
    pub(super) fn within(&mut self, place: Table, table: &'a DeTable<'a>) -> Section<'a, '_> {
        Section::new(place, table, self.dir, self.problems)
    }

    pub(super) fn boolean(&mut self, key: &'static str) -> Option<bool> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::Boolean(boolean) => Some(*boolean),
            other => {
                self.problems.add(value.span(), wrong_type(key, "true or false", other));
                None
            }
        }
    }

    /// A string.
    pub(super) fn text(&mut self, key: &'static str) -> Option<Located<&'a str>> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(Located { span: value.span(), value: text }),
            other => {
                self.problems.add(value.span(), wrong_type(key, "a string", other));
                None
            }
        }
    }

    /// The one of these words that the value is, if it is one; the key then counts as read.
    pub(super) fn is_text(&mut self, key: &'static str, words: &[&'static str]) -> Option<&'static str> {
        let DeValue::String(text) = self.table.get(key)?.get_ref() else { return None };
        let word = words.iter().find(|word| **word == text.as_ref())?;
        self.asked.push(key);
        Some(word)
    }

    /// A number, with or without a fraction.
    pub(super) fn number(&mut self, key: &'static str) -> Option<Located<f64>> {
        let value = self.value(key)?;
        let number = match value.get_ref() {
            DeValue::Integer(integer) => integer.as_str().parse().ok(),
            DeValue::Float(float) => float.as_str().parse().ok(),
            _ => None,
        };
        match number {
            Some(number) => Some(Located { span: value.span(), value: number }),
            None => {
                self.problems.add(value.span(), wrong_type(key, "a number", value.get_ref()));
                None
            }
        }
    }

    /// A string that is parsed into `T`.
    pub(super) fn parsed<T: FromStr<Err = ValueError>>(&mut self, key: &'static str) -> Option<Located<T>> {
        let text = self.text(key)?;
        match text.value.parse() {
            Ok(value) => Some(Located { span: text.span, value }),
            Err(error) => {
                self.problems.add(text.span, error);
                None
            }
        }
    }

    /// A path that is relative to the directory of the file.
    pub(super) fn path(&mut self, of: &PathOf) -> Option<PathBuf> {
        let path = self.text(of.key)?;
        if path.value.is_empty() || path.value.contains('\0') {
            let error = ValueError::new(format!("invalid {} {:?}", of.name, path.value));
            let help = if path.value.is_empty() { of.help } else { "a path must not contain a NUL character" };
            self.problems.add(path.span, error.help(help));
            return None;
        }
        Some(self.dir.join(path.value))
    }

    /// An array of strings, each of which is parsed; invalid ones are left out.
    pub(super) fn list<T: FromStr<Err = ValueError>>(&mut self, key: &'static str) -> Option<Vec<Located<T>>> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::Array(array) => Some(self.items(key, array)),
            other => {
                self.problems.add(value.span(), wrong_type(key, "an array of strings", other));
                None
            }
        }
    }

    /// A string, or an array of at least one string, each of which is parsed; invalid ones are left out.
    pub(super) fn one_or_list<T: FromStr<Err = ValueError>>(&mut self, key: &'static str) -> Option<Vec<Located<T>>> {
        let value = self.value(key)?;
        let error = match value.get_ref() {
            DeValue::String(_) => return Some(self.items(key, slice::from_ref(value))),
            DeValue::Array(array) if !array.is_empty() => return Some(self.items(key, array)),
            DeValue::Array(_) => {
                ValueError::new(format!("`{key}` is empty")).help("write at least one, or leave it out")
            }
            other => wrong_type(key, "a string or an array of strings", other),
        };
        self.problems.add(value.span(), error);
        None
    }

    fn items<T: FromStr<Err = ValueError>>(
        &mut self,
        key: &'static str,
        items: &[Spanned<DeValue<'_>>],
    ) -> Vec<Located<T>> {
        let mut list = Vec::new();
        for item in items {
            let parsed = match item.get_ref() {
                DeValue::String(text) => text.parse(),
                other => Err(wrong_type(key, "an array of strings only", other)),
            };
            match parsed {
                Ok(value) => list.push(Located { span: item.span(), value }),
                Err(error) => self.problems.add(item.span(), error),
            }
        }
        list
    }

    /// `"auto"`, or a whole number.
    pub(super) fn workers(&mut self, key: &'static str) -> Option<Workers> {
        let value = self.value(key)?;
        let read = match value.get_ref() {
            DeValue::Integer(integer) => {
                let count = u64::from_str_radix(integer.as_str(), integer.radix()).ok().and_then(Workers::count);
                count.ok_or_else(|| Workers::refused(integer))
            }
            DeValue::String(text) => match text.parse() {
                Ok(Workers::Count(count)) => Err(ValueError::new(format!("`{key}` has its number in quotes"))
                    .help(format!("write `{key} = {count}`"))),
                other => other,
            },
            other => Err(wrong_type(key, "\"auto\" or a whole number", other)),
        };
        read.map_err(|error| self.problems.add(value.span(), error)).ok()
    }

    /// A table of values with arbitrary keys, each of which must pass `check`.
    pub(super) fn pairs(
        &mut self,
        key: &'static str,
        check: fn(&str, &str) -> Result<(), ValueError>,
    ) -> Vec<(String, Value)> {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        let DeValue::Table(table) = value.get_ref() else {
            self.problems.add(value.span(), wrong_type(key, "a table of strings", value.get_ref()));
            return Vec::new();
        };
        let mut pairs = Vec::new();
        for (name, value) in table.iter() {
            let text = value.get_ref().as_str().unwrap_or_default();
            match (check(name.get_ref(), text), Value::read(name.get_ref(), value, self.dir)) {
                (Ok(()), Ok(value)) => pairs.push((name.get_ref().to_string(), value)),
                (Err(error), _) => self.problems.add(name.span(), error),
                (_, Err(error)) => self.problems.add(value.span(), error),
            }
        }
        pairs
    }

    /// One string, or a table of strings with arbitrary keys, in the order of the file.
    pub(super) fn text_or_pairs(&mut self, key: &'static str) -> Vec<(Option<Located<&'a str>>, Located<&'a str>)> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let table = match value.get_ref() {
            DeValue::String(text) => return vec![(None, Located { span: value.span(), value: text })],
            DeValue::Table(table) => table,
            other => {
                self.problems.add(value.span(), wrong_type(key, "a string or a table of strings", other));
                return Vec::new();
            }
        };
        let mut pairs = Vec::new();
        for (name, value) in table.iter() {
            match value.get_ref() {
                DeValue::String(text) => {
                    let name = Located { span: name.span(), value: name.get_ref().as_ref() };
                    pairs.push((Some(name), Located { span: value.span(), value: text.as_ref() }));
                }
                other => self.problems.add(value.span(), wrong_type(name.get_ref(), "a string", other)),
            }
        }
        pairs.sort_by_key(|(_, value)| value.span.start);
        pairs
    }

    /// A limit in its range.
    pub(super) fn limit<T: ReadLimit>(&mut self, limit: &Limit<T>) -> Option<T> {
        let value = self.value(limit.key)?;
        match T::read(limit, value.get_ref()) {
            Ok(value) => Some(value),
            Err(error) => {
                self.problems.add(value.span(), error);
                None
            }
        }
    }

    /// Whether the table has this key, with any value.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Where the value of this key is, if the table has it.
    pub(super) fn place_of(&self, key: &str) -> Option<Range<usize>> {
        self.table.get(key).map(Spanned::span)
    }

    /// The directory that paths are relative to.
    pub(super) fn dir(&self) -> &'a Path {
        self.dir
    }

    /// For problems that involve more than one value.
    pub(super) fn problems(&mut self) -> &mut Problems {
        self.problems
    }

    /// Reports the keys that were not read.
    pub(super) fn finish(self) {
        for key in self.table.keys() {
            if !self.asked.contains(&key.get_ref().as_ref()) {
                self.problems.add(key.span(), self.place.unknown_key(key.get_ref(), &self.asked));
            }
        }
    }

    /// A value of any type; the key then counts as read.
    pub(super) fn value(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.asked.push(key);
        self.table.get(key)
    }
}

/// A type that a [`Limit`] in a file can have.
pub(super) trait ReadLimit: LimitValue {
    fn read(limit: &Limit<Self>, value: &DeValue<'_>) -> Result<Self, ValueError>;
}

impl ReadLimit for u64 {
    fn read(limit: &Limit<Self>, value: &DeValue<'_>) -> Result<Self, ValueError> {
        match value {
            DeValue::Integer(integer) => limit.check(to_u64(limit.key, integer)?),
            DeValue::String(text) => limit.parse(text),
            other => Err(wrong_type(limit.key, "a size", other).help("write bytes, or a string such as \"64KiB\"")),
        }
    }
}

impl ReadLimit for u32 {
    fn read(limit: &Limit<Self>, value: &DeValue<'_>) -> Result<Self, ValueError> {
        match value {
            // A number that does not fit becomes the largest one, which is outside the range of every limit.
            DeValue::Integer(integer) => limit.check(Self::try_from(to_u64(limit.key, integer)?).unwrap_or(Self::MAX)),
            other => Err(wrong_type(limit.key, "a whole number", other)),
        }
    }
}

impl ReadLimit for Duration {
    fn read(limit: &Limit<Self>, value: &DeValue<'_>) -> Result<Self, ValueError> {
        match value {
            DeValue::String(text) => limit.parse(text),
            other => {
                Err(wrong_type(limit.key, "a duration", other).help("write a string such as \"500ms\" or \"10s\""))
            }
        }
    }
}

/// A number that does not fit becomes `u64::MAX`, which the limit's range then rejects.
fn to_u64(key: &str, integer: &DeInteger<'_>) -> Result<u64, ValueError> {
    if integer.as_str().starts_with('-') {
        return Err(ValueError::new(format!("`{key}` is negative")));
    }
    Ok(u64::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(u64::MAX))
}

pub(super) fn wrong_type(key: &str, expected: &str, found: &DeValue<'_>) -> ValueError {
    let found = match found {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    };
    ValueError::new(format!("`{}` must be {expected}, not {found}", key.escape_debug()))
}
