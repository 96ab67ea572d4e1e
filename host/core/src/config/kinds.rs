//! The kinds of options: how each is read from the file and from a flag, and what its default is.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

use super::option::{Form, Kind};
use super::reader::{Located, ReadLimit, Section};
use super::{DirGrant, EnvFile, Listen, Value, Workers};
use crate::ValueError;
use crate::allow_http::{AllowHttp, Entry, RouteGrant};
use crate::limits::Limit;

impl<T: ReadLimit> Kind<T> for Limit<T> {
    fn key(&self) -> &'static str {
        self.key
    }

    fn default(&self) -> T {
        self.default
    }

    fn default_text(&self) -> String {
        format!("`{}`", self.default.as_in_file())
    }

    fn range_text(&self) -> String {
        T::range(self.min, self.max)
    }

    fn read(&self, section: &mut Section<'_, '_>, value: &mut T) {
        replace(value, section.limit(self));
    }

    fn parse_flag(&self, text: &OsStr, given: &mut Option<T>) -> Result<(), ValueError> {
        *given = Some(self.parse(utf8(text)?)?);
        Ok(())
    }
}

/// The key of an option that is off by default.
pub(super) struct Switch(pub(super) &'static str);

impl Kind<bool> for Switch {
    fn key(&self) -> &'static str {
        self.0
    }

    fn default_text(&self) -> String {
        "`false`".to_owned()
    }

    fn form(&self) -> Form {
        Form::Switch
    }

    fn read(&self, section: &mut Section<'_, '_>, value: &mut bool) {
        replace(value, section.boolean(self.0));
    }

    fn parse_flag(&self, _: &OsStr, given: &mut Option<bool>) -> Result<(), ValueError> {
        *given = Some(true);
        Ok(())
    }
}

/// A word, which is parsed.
pub(super) struct Word<T> {
    pub(super) key: &'static str,
    pub(super) default: T,
}

impl<T: FromStr<Err = ValueError> + Display + Clone + Default> Kind<T> for Word<T> {
    fn key(&self) -> &'static str {
        self.key
    }

    fn default_text(&self) -> String {
        format!("`\"{}\"`", self.default)
    }

    fn default(&self) -> T {
        self.default.clone()
    }

    fn read(&self, section: &mut Section<'_, '_>, value: &mut T) {
        replace(value, section.parsed(self.key).map(|word| word.value));
    }

    fn parse_flag(&self, text: &OsStr, given: &mut Option<T>) -> Result<(), ValueError> {
        *given = Some(utf8(text)?.parse()?);
        Ok(())
    }
}

/// The key of the number of worker processes.
pub(super) struct WorkerCount(pub(super) &'static str);

impl Kind<Workers> for WorkerCount {
    fn key(&self) -> &'static str {
        self.0
    }

    fn default_text(&self) -> String {
        format!("`\"{}\"`", Workers::default())
    }

    fn range_text(&self) -> String {
        format!("1 to {}", Workers::MAX)
    }

    fn read(&self, section: &mut Section<'_, '_>, value: &mut Workers) {
        replace(value, section.workers(self.0));
    }

    fn parse_flag(&self, text: &OsStr, given: &mut Option<Workers>) -> Result<(), ValueError> {
        *given = Some(utf8(text)?.parse()?);
        Ok(())
    }
}

/// A path; in the file, relative to the file's directory.
pub(super) struct PathOf {
    pub(super) key: &'static str,
    /// What has the path, for errors.
    pub(super) name: &'static str,
    /// The remedy for an empty path.
    pub(super) help: &'static str,
    /// What is used without a path, in Markdown.
    pub(super) default: &'static str,
}

impl Kind<Option<PathBuf>> for PathOf {
    fn key(&self) -> &'static str {
        self.key
    }

    fn default_text(&self) -> String {
        self.default.to_owned()
    }

    fn form(&self) -> Form {
        Form::Path
    }

    fn read(&self, section: &mut Section<'_, '_>, value: &mut Option<PathBuf>) {
        replace(value, section.path(self).map(Some));
    }

    fn parse_flag(&self, text: &OsStr, given: &mut Option<Option<PathBuf>>) -> Result<(), ValueError> {
        *given = Some(Some(PathBuf::from(text)));
        Ok(())
    }
}

/// The key of the addresses to listen on. In the file, the same address twice is an error; flags may repeat it.
pub(super) struct Addresses(pub(super) &'static str);

impl Kind<Option<Vec<Listen>>> for Addresses {
    fn key(&self) -> &'static str {
        self.0
    }

    fn default_text(&self) -> String {
        "the sockets that systemd passed, else `\"127.0.0.1:3000\"`".to_owned()
    }

    fn form(&self) -> Form {
        Form::List
    }

    fn read(&self, section: &mut Section<'_, '_>, value: &mut Option<Vec<Listen>>) {
        let Some(listed) = section.one_or_list(self.0) else { return };
        let mut places: Vec<Located<Listen>> = Vec::new();
        for place in listed {
            match places.iter().find(|earlier| earlier.value.is_same_place(&place.value)) {
                Some(first) => {
                    let error = ValueError::new(format!("`{}` has \"{}\" twice", self.0, place.value));
                    let first = first.span.clone();
                    let error = error.help("remove one of the two");
                    section.problems().add_related(place.span, error, first, "the first one");
                }
                None => places.push(place),
            }
        }
        *value = Some(places.into_iter().map(|place| place.value).collect());
    }

    fn parse_flag(&self, text: &OsStr, given: &mut Option<Option<Vec<Listen>>>) -> Result<(), ValueError> {
        let place: Listen = utf8(text)?.parse()?;
        let places = given.get_or_insert_default().get_or_insert_default();
        if !places.iter().any(|earlier| earlier.is_same_place(&place)) {
            places.push(place);
        }
        Ok(())
    }
}

/// Names with values. Those of a flag or of a route are merged with those that it overrides.
pub(super) struct Pairs {
    pub(super) key: &'static str,
    pub(super) parse: fn(&str) -> Result<(String, Value), ValueError>,
    pub(super) check: fn(&str, &str) -> Result<(), ValueError>,
}

impl Kind<BTreeMap<String, Value>> for Pairs {
    fn key(&self) -> &'static str {
        self.key
    }

    fn default_text(&self) -> String {
        "none".to_owned()
    }

    fn form(&self) -> Form {
        Form::Repeated
    }

    fn read(&self, section: &mut Section<'_, '_>, value: &mut BTreeMap<String, Value>) {
        value.extend(section.pairs(self.key, self.check));
    }

    fn parse_flag(&self, text: &OsStr, given: &mut Option<BTreeMap<String, Value>>) -> Result<(), ValueError> {
        given.get_or_insert_default().extend([(self.parse)(utf8(text)?)?]);
        Ok(())
    }

    fn override_with(&self, given: &BTreeMap<String, Value>, value: &mut BTreeMap<String, Value>) {
        value.extend(given.clone());
    }
}

/// The file with variables of the environment.
pub(super) struct EnvFileOf(pub(super) PathOf);

impl Kind<Option<EnvFile>> for EnvFileOf {
    fn key(&self) -> &'static str {
        self.0.key
    }

    fn default_text(&self) -> String {
        self.0.default.to_owned()
    }

    fn form(&self) -> Form {
        Form::Path
    }

    fn read(&self, section: &mut Section<'_, '_>, value: &mut Option<EnvFile>) {
        let place = section.place_of(self.0.key);
        replace(value, section.path(&self.0).map(|path| Some(EnvFile { path, place })));
    }

    fn parse_flag(&self, text: &OsStr, given: &mut Option<Option<EnvFile>>) -> Result<(), ValueError> {
        *given = Some(Some(EnvFile { path: PathBuf::from(text), place: None }));
        Ok(())
    }
}

/// The key of directories. In the file, two with the same guest path are an error; of flags, the last one is used.
pub(super) struct Dirs(pub(super) &'static str);

impl Kind<Vec<DirGrant>> for Dirs {
    fn key(&self) -> &'static str {
        self.0
    }

    fn default_text(&self) -> String {
        "`[]`".to_owned()
    }

    fn form(&self) -> Form {
        Form::Repeated
    }

    fn read(&self, section: &mut Section<'_, '_>, value: &mut Vec<DirGrant>) {
        let Some(listed) = section.list::<DirGrant>(self.0) else { return };
        value.clear();
        for Located { span, value: dir } in listed {
            if value.iter().any(|earlier| earlier.guest == dir.guest) {
                let error = format!("two directories have the guest path {:?}", dir.guest);
                section.problems().add(span, ValueError::new(error));
            }
            value.push(DirGrant { host: section.dir().join(dir.host), ..dir });
        }
    }

    fn parse_flag(&self, text: &OsStr, given: &mut Option<Vec<DirGrant>>) -> Result<(), ValueError> {
        let dir: DirGrant = utf8(text)?.parse()?;
        let dirs = given.get_or_insert_default();
        dirs.retain(|earlier| earlier.guest != dir.guest);
        dirs.push(dir);
        Ok(())
    }
}

/// The key of origins and routes that requests may be sent to.
pub(super) struct Origins(pub(super) &'static str);

impl Kind<AllowHttp> for Origins {
    fn key(&self) -> &'static str {
        self.0
    }

    fn default_text(&self) -> String {
        "`[]`".to_owned()
    }

    fn form(&self) -> Form {
        Form::Repeated
    }

    fn read(&self, section: &mut Section<'_, '_>, value: &mut AllowHttp) {
        let Some(entries) = section.list(self.0) else { return };
        *value = AllowHttp::default();
        for Located { span, value: entry } in entries {
            value.add(match entry {
                Entry::Route(route) => Entry::Route(RouteGrant { place: Some(span), ..route }),
                origin @ Entry::Origin(_) => origin,
            });
        }
    }

    fn parse_flag(&self, text: &OsStr, given: &mut Option<AllowHttp>) -> Result<(), ValueError> {
        given.get_or_insert_default().add(utf8(text)?.parse()?);
        Ok(())
    }
}

pub(super) fn replace<T>(value: &mut T, other: Option<T>) {
    if let Some(other) = other {
        *value = other;
    }
}

pub(super) fn utf8(text: &OsStr) -> Result<&str, ValueError> {
    text.to_str().ok_or_else(|| ValueError::new(format!("{text:?} is not valid UTF-8")).help("write UTF-8"))
}
