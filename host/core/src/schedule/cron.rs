//! Cron lines and time zones, and the points in time that they stand for.
//!
//! A tick is an instant, in whole seconds after the Unix epoch, so two ticks at the same local time, before and after
//! the clocks are set back, are different ones.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use croner::errors::CronError;
use croner::parser::{CronParser, Year};
use jiff::civil::DateTime;
use jiff::tz::{self, TimeZone};
use jiff::{Timestamp, Zoned};
use serde::{Deserialize, Serialize};

use crate::ValueError;
use crate::similar::closest;

/// A point in time of a schedule: seconds after the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tick(pub i64);

/// A cron line that has a tick some day.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cron {
    text: String,
    parsed: Box<croner::Cron>,
}

/// A time zone of the IANA database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone {
    name: String,
    zone: TimeZone,
}

/// The ticks of a cron line in a time zone.
#[derive(Debug, Clone)]
pub struct Ticks {
    cron: Cron,
    zone: TimeZone,
}

/// More than any cron line needs.
const MAX_CRON_BYTES: usize = 256;

/// Where the search for a first tick begins. Which day it is makes no difference: without years, all lines repeat.
const ANY_DAY: DateTime = DateTime::constant(2000, 1, 1, 0, 0, 0, 0);

const CRON_HELP: &str = "write five fields, minute, hour, day of month, month and day of week, such as \"*/5 * * * *\"; \
                         with six, the first one is the second";

impl Cron {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Cron {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refused = |why: &str| ValueError::new(format!("invalid cron line {text:?}: {why}")).help(CRON_HELP);
        if text.len() > MAX_CRON_BYTES {
            return Err(refused("it is too long"));
        }
        let fields = text.split_whitespace().count();
        if !text.trim_start().starts_with('@') && !(5..=6).contains(&fields) {
            return Err(refused(&format!("it has {fields} fields")));
        }
        let parsed = CronParser::builder().year(Year::Disallowed).build().parse(text);
        let parsed = parsed.map_err(|error| refused(&reason(&error)))?;
        if parsed.find_next_occurrence(&ANY_DAY, true).is_err() {
            let error = ValueError::new(format!("the cron line {text:?} never comes"));
            return Err(error.help("no date matches its day, month and day of week"));
        }
        Ok(Self { text: text.to_owned(), parsed: Box::new(parsed) })
    }
}

/// Without what the library's texts begin with.
fn reason(error: &CronError) -> String {
    match error {
        CronError::InvalidPattern(why) | CronError::IllegalCharacters(why) | CronError::ComponentError(why) => {
            why.trim_end_matches('.').to_owned()
        }
        CronError::EmptyPattern => "it is empty".to_owned(),
        other => other.to_string(),
    }
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Cron {}

impl TryFrom<String> for Cron {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl From<Cron> for String {
    fn from(cron: Cron) -> Self {
        cron.text
    }
}

impl Zone {
    /// Its name in the database.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Default for Zone {
    fn default() -> Self {
        Self { name: "UTC".to_owned(), zone: TimeZone::UTC }
    }
}

impl FromStr for Zone {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let Ok(zone) = tz::db().get(text) else {
            let names: Vec<String> = tz::db().available().map(|name| name.to_string()).collect();
            let error = ValueError::new(format!("unknown time zone {text:?}"));
            return Err(match closest(text, names.iter().map(String::as_str)) {
                Some(name) => error.help(format!("did you mean {name:?}?")),
                None => error.help("write a name of the IANA database, such as \"Europe/Berlin\""),
            });
        };
        let name = zone.iana_name().unwrap_or(text).to_owned();
        Ok(Self { name, zone })
    }
}

impl TryFrom<String> for Zone {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> Self {
        zone.name
    }
}

impl Ticks {
    /// The ticks of `cron`, whose times are local times of `zone`.
    pub fn new(cron: &Cron, zone: &Zone) -> Self {
        Self { cron: cron.clone(), zone: zone.zone.clone() }
    }

    /// The first tick after this one.
    pub fn after(&self, tick: Tick) -> Option<Tick> {
        let found = self.cron.parsed.find_next_occurrence(&self.local(tick)?, false).ok()?;
        Some(Tick(found.timestamp().as_second())).filter(|found| found.cmp(&tick) == Ordering::Greater)
    }

    /// The last tick that is not after this point in time.
    pub fn until(&self, tick: Tick) -> Option<Tick> {
        let found = self.cron.parsed.find_previous_occurrence(&self.local(tick)?, true).ok()?;
        Some(Tick(found.timestamp().as_second())).filter(|found| *found <= tick)
    }

    /// A tick as local time, with its offset from UTC.
    pub fn local_text(&self, tick: Tick) -> String {
        self.local(tick).map_or_else(|| tick.to_string(), |local| local.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string())
    }

    fn local(&self, tick: Tick) -> Option<Zoned> {
        Some(Timestamp::from_second(tick.0).ok()?.to_zoned(self.zone.clone()))
    }
}

impl Tick {
    /// The whole second of a point in time; the epoch for all times before it.
    pub fn at(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Tick {
    /// RFC 3339, in UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Timestamp::from_second(self.0) {
            Ok(time) => time.fmt(f),
            Err(_) => self.0.fmt(f),
        }
    }
}
