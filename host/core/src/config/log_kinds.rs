//! The kinds of options that the logs have.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::str::FromStr;

use super::kinds::{PathOf, replace, utf8};
use super::option::{Form, Kind};
use super::reader::{Located, Section};
use super::{AccessLogTarget, LogTo, Sample};
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

/// The key of the place where a log goes.
pub(super) struct LogTarget(pub(super) &'static str);

impl Kind<AccessLogTarget> for LogTarget {
    fn key(&self) -> &'static str {
        self.0
    }

    fn default_text(&self) -> String {
        "`\"stdout\"`".to_owned()
    }

    fn form(&self) -> Form {
        Form::Path
    }

    fn read(&self, section: &mut Section<'_, '_>, value: &mut AccessLogTarget) {
        let of = PathOf {
            key: self.0,
            name: "path of a log",
            help: "write \"stdout\", \"stderr\", or the path of a file",
            default: "",
        };
        let target = match section.is_text(self.0, &["stdout", "stderr"]) {
            Some("stdout") => Some(AccessLogTarget::Stdout),
            Some(_) => Some(AccessLogTarget::Stderr),
            None => section.path(&of).map(AccessLogTarget::File),
        };
        replace(value, target);
    }

    fn parse_flag(&self, text: &OsStr, given: &mut Option<AccessLogTarget>) -> Result<(), ValueError> {
        *given = Some(match text.to_str() {
            Some("stdout") => AccessLogTarget::Stdout,
            Some("stderr") => AccessLogTarget::Stderr,
            _ => AccessLogTarget::File(PathBuf::from(text)),
        });
        Ok(())
    }
}

/// The key of the place where daylily's own log goes.
pub(super) struct OwnLogTarget(pub(super) &'static str);

impl Kind<LogTo> for OwnLogTarget {
    fn key(&self) -> &'static str {
        self.0
    }

    fn default_text(&self) -> String {
        "`\"stderr\"`".to_owned()
    }

    fn form(&self) -> Form {
        Form::Path
    }

    fn read(&self, section: &mut Section<'_, '_>, value: &mut LogTo) {
        let of = PathOf {
            key: self.0,
            name: "path of the log",
            help: "write \"stderr\", or the path of a file",
            default: "",
        };
        match section.is_text(self.0, &["stderr", "stdout"]) {
            Some("stderr") => *value = LogTo::Stderr,
            Some(_) => {
                if let Some(Located { span, .. }) = section.text(self.0) {
                    section.problems().add(span, LogTo::not_stdout());
                }
            }
            None => replace(value, section.path(&of).map(LogTo::File)),
        }
    }

    fn parse_flag(&self, text: &OsStr, given: &mut Option<LogTo>) -> Result<(), ValueError> {
        *given = Some(match text.to_str() {
            Some("stderr") => LogTo::Stderr,
            Some("stdout") => return Err(LogTo::not_stdout()),
            Some("") => return Err(ValueError::new("the path of the log is empty").help("write stderr, or a path")),
            _ => LogTo::File(PathBuf::from(text)),
        });
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
