//! The kinds of options that the logs have.

use std::ffi::OsStr;
use std::str::FromStr;

use super::kinds::{PathOf, replace, utf8};
use super::option::{Form, Kind};
use super::reader::{Located, Section};
use super::{LogTo, Sample};
use crate::ValueError;

/// An array of words, each of which is parsed. One that is there twice is an error.
pub(super) struct Items<T> {
    pub(super) key: &'static str,
    pub(super) default: fn() -> Vec<T>,
    /// The default in Markdown.
    pub(super) default_text: &'static str,
    /// Most items.
    pub(super) max: usize,
}

impl<T> Items<T> {
    /// None by default, and any number.
    pub(super) fn none(key: &'static str) -> Self {
        Self { key, default: Vec::new, default_text: "`[]`", max: usize::MAX }
    }
}

impl<T: FromStr<Err = ValueError> + Clone + PartialEq> Kind<Vec<T>> for Items<T> {
    fn key(&self) -> &'static str {
        self.key
    }

    fn default(&self) -> Vec<T> {
        (self.default)()
    }

    fn default_text(&self) -> String {
        self.default_text.to_owned()
    }

    fn form(&self) -> Form {
        Form::List
    }

    fn read(&self, section: &mut Section<'_, '_>, value: &mut Vec<T>) {
        let Some(listed) = section.list::<T>(self.key) else { return };
        let mut items = Vec::new();
        for Located { span, value: item } in listed {
            if items.contains(&item) {
                section.problems().add(span, ValueError::new(format!("`{}` has this twice", self.key)));
            } else if items.len() == self.max {
                section.problems().add(span, ValueError::new(format!("`{}` has more than {}", self.key, self.max)));
            } else {
                items.push(item);
            }
        }
        *value = items;
    }

    fn parse_flag(&self, text: &OsStr, given: &mut Option<Vec<T>>) -> Result<(), ValueError> {
        given.get_or_insert_default().push(utf8(text)?.parse()?);
        Ok(())
    }
}

/// The place where a log goes. Standard output is allowed for the one that goes there by default.
pub(super) struct LogPlace {
    pub(super) key: &'static str,
    pub(super) default: LogTo,
}

impl LogPlace {
    fn allows_stdout(&self) -> bool {
        self.default == LogTo::Stdout
    }

    fn help(&self) -> &'static str {
        if self.allows_stdout() {
            "write \"stdout\", \"stderr\", or the path of a file"
        } else {
            "write \"stderr\", or the path of a file"
        }
    }

    /// What a word means.
    fn of_word(&self, word: &str) -> Result<LogTo, ValueError> {
        match word {
            "stderr" => Ok(LogTo::Stderr),
            "stdout" if self.allows_stdout() => Ok(LogTo::Stdout),
            "stdout" => Err(ValueError::new("the log cannot be written to standard output")
                .help("write \"stderr\", or the path of a file (\"./stdout\" for a file of this name)")),
            "" => Err(ValueError::new("the path of the log is empty").help(self.help())),
            path => Ok(LogTo::File(path.into())),
        }
    }
}

impl Kind<LogTo> for LogPlace {
    fn key(&self) -> &'static str {
        self.key
    }

    fn default(&self) -> LogTo {
        self.default.clone()
    }

    fn default_text(&self) -> String {
        if self.allows_stdout() { "`\"stdout\"`" } else { "`\"stderr\"`" }.to_owned()
    }

    fn form(&self) -> Form {
        Form::Path
    }

    fn read(&self, section: &mut Section<'_, '_>, value: &mut LogTo) {
        if section.is_text(self.key, &["stdout", "stderr"]).is_none() {
            let of = PathOf { key: self.key, name: "path of the log", help: self.help(), default: "" };
            return replace(value, section.path(&of).map(LogTo::File));
        }
        let Some(Located { span, value: word }) = section.text(self.key) else { return };
        match self.of_word(word) {
            Ok(to) => *value = to,
            Err(error) => section.problems().add(span, error),
        }
    }

    fn parse_flag(&self, text: &OsStr, given: &mut Option<LogTo>) -> Result<(), ValueError> {
        *given = Some(text.to_str().map_or_else(|| Ok(LogTo::File(text.into())), |text| self.of_word(text))?);
        Ok(())
    }
}

/// The key of a part of all requests.
pub(super) struct Part(pub(super) &'static str);

impl Kind<Sample> for Part {
    fn key(&self) -> &'static str {
        self.0
    }

    fn default_text(&self) -> String {
        "`1`".to_owned()
    }

    fn range_text(&self) -> String {
        "0.000001 to 1".to_owned()
    }

    fn read(&self, section: &mut Section<'_, '_>, value: &mut Sample) {
        let Some(Located { span, value: part }) = section.number(self.0) else { return };
        match Sample::new(part) {
            Ok(sample) => *value = sample,
            Err(error) => section.problems().add(span, error),
        }
    }

    fn parse_flag(&self, text: &OsStr, given: &mut Option<Sample>) -> Result<(), ValueError> {
        *given = Some(Sample::new(utf8(text)?.parse().unwrap_or(f64::NAN))?);
        Ok(())
    }
}
