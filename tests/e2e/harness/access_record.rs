//! Lines of the access log that the harness turns on.

use std::collections::BTreeMap;

use serde_json::Value;

use super::metrics_page::Counts;

/// A line of the access log: the record of one request.
#[derive(Clone, Debug)]
pub struct AccessRecord {
    pub id: String,
    pub route: Option<String>,
    pub outcome: String,
    /// None if no response began, or the worker died.
    pub status: Option<u16>,
    /// When the head had been read, or had been given up, in microseconds since 1970.
    pub began_us: u64,
    pub total_us: u64,
    /// How many requests the line stands for.
    weight: f64,
    /// Whether a head was read.
    pub has_head: bool,
}

impl AccessRecord {
    /// # Panics
    ///
    /// If the line is not such a record.
    pub fn parse(line: &str) -> Self {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let text = |name: &str| value[name].as_str().unwrap_or_else(|| panic!("no {name}: {line}")).to_owned();
        let status = value.get("status").map(|status| status.as_u64().and_then(|status| status.try_into().ok()));
        Self {
            id: text("id"),
            route: value.get("route").map(|_| text("route")),
            outcome: text("outcome"),
            status: status.map(|status| status.unwrap_or_else(|| panic!("not a status: {line}"))),
            began_us: us(&text("time")).unwrap_or_else(|| panic!("not a time: {line}")),
            total_us: value["total_us"].as_u64().unwrap_or_else(|| panic!("no total_us: {line}")),
            weight: value.get("weight").map_or(1.0, |weight| weight.as_f64().expect("a weight")),
            has_head: value.get("method").is_some(),
        }
    }

    pub fn key(&self) -> (Option<String>, String) {
        (self.route.clone(), self.outcome.clone())
    }
}

/// Requests by route and outcome: how many the lines stand for.
pub fn count<'a>(records: impl IntoIterator<Item = &'a AccessRecord>) -> Counts {
    let mut counts: BTreeMap<_, f64> = BTreeMap::new();
    records.into_iter().for_each(|record| *counts.entry(record.key()).or_default() += record.weight);
    counts.into_iter().map(|(key, count)| (key, count.round() as u64)).collect()
}

/// The time `2026-11-27T03:34:48.284918Z` in microseconds since 1970.
fn us(time: &str) -> Option<u64> {
    let digits = |from: usize, to: usize| time.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (digits(0, 4)?, digits(5, 7)?, digits(8, 10)?);
    let seconds = digits(11, 13)? * 3600 + digits(14, 16)? * 60 + digits(17, 19)?;
    let fraction = digits(20, 26).filter(|_| time.len() == 27 && time.ends_with('Z'))?;
    // A year begins in March here, so that the leap day is its last one.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    const DAYS_BEFORE_1970: u64 = 719_468;
    Some((days - DAYS_BEFORE_1970) * 86_400_000_000 + seconds * 1_000_000 + fraction)
}

#[test]
fn times_are_read() {
    for (time, expected) in [
        ("1970-01-01T00:00:00.000000Z", Some(0)),
        ("2000-02-29T00:00:00.000001Z", Some(951_782_400_000_001)),
        ("2026-11-27T03:34:48.284918Z", Some(1_795_750_488_284_918)),
        ("2026-11-27T03:34:48Z", None),
    ] {
        assert_eq!(us(time), expected, "{time}");
    }
}
