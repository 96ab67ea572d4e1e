//! The page `/metrics` of an admin listener, as a scraper reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Connection, PATIENCE, Request};

/// Requests by route and outcome. Those of requests without a route have none.
pub type Counts = BTreeMap<(Option<String>, String), u64>;

/// A series with its value, and the request that is its exemplar.
#[derive(Clone, Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
    exemplar: Option<Exemplar>,
}

/// A request that a histogram refers to.
#[derive(Clone, Debug)]
pub struct Exemplar {
    pub route: Option<String>,
    pub id: String,
    pub seconds: f64,
}

/// The page in the form of OpenMetrics, and when it was read.
#[derive(Clone, Debug)]
pub struct MetricsPage {
    samples: Vec<Sample>,
    gauges: BTreeSet<String>,
    /// Before the request was sent, and after the page was there, in microseconds since 1970.
    pub asked_us: u64,
    pub received_us: u64,
}

impl MetricsPage {
    /// Reads the page; None if the admin listener does not respond.
    pub fn read(mut connection: Connection) -> Option<Self> {
        let request = Request::get("localhost", "/metrics").header("accept", "application/openmetrics-text");
        let asked_us = unix_us();
        connection.try_send(&request.bytes());
        let response = connection.try_response("GET", PATIENCE).ok()?;
        assert_eq!(response.status, 200, "{response:?}");
        let text = response.text();
        let mut page = Self { samples: Vec::new(), gauges: BTreeSet::new(), asked_us, received_us: unix_us() };
        for line in text.lines() {
            if let Some(kind) = line.strip_prefix("# TYPE ") {
                page.gauges.extend(kind.strip_suffix(" gauge").map(str::to_owned));
            } else if !line.starts_with('#') {
                page.samples.push(sample(line).unwrap_or_else(|| panic!("not a sample: {line}")));
            }
        }
        assert!(text.ends_with("# EOF\n"), "the page is cut: {} bytes", text.len());
        Some(page)
    }

    fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| sample.name == name)
    }

    /// `daylily_requests_total`, without what is 0.
    pub fn requests(&self) -> Counts {
        let counted = self.of("daylily_requests_total").filter(|sample| sample.value > 0.0);
        counted.map(|sample| ((sample.route(), sample.labels["outcome"].clone()), sample.value as u64)).collect()
    }

    /// The sum of the series of this name and route that have all of `labels`.
    pub fn sum(&self, name: &str, route: Option<&str>, labels: &[(&str, &str)]) -> f64 {
        let has = |sample: &&Sample| sample.has(labels) && sample.route().as_deref() == route;
        self.of(name).filter(has).map(|sample| sample.value).sum()
    }

    /// The sums of the series of this name that have all of `labels`, by route.
    pub fn by_route(&self, name: &str, labels: &[(&str, &str)]) -> BTreeMap<Option<String>, f64> {
        let mut sums = BTreeMap::new();
        for sample in self.of(name).filter(|sample| sample.has(labels)) {
            *sums.entry(sample.route()).or_default() += sample.value;
        }
        sums
    }

    /// The values that a label has in the series of this name.
    pub fn values(&self, name: &str, label: &str) -> BTreeSet<String> {
        self.of(name).filter_map(|sample| sample.labels.get(label).cloned()).collect()
    }

    /// The sum of all series of this name.
    pub fn total(&self, name: &str) -> f64 {
        self.of(name).map(|sample| sample.value).sum()
    }

    /// The routes that have series of their own, and `None` for requests without a route.
    pub fn routes(&self) -> BTreeSet<Option<String>> {
        self.of("daylily_requests_total").map(Sample::route).collect()
    }

    pub fn exemplars(&self) -> impl Iterator<Item = &Exemplar> {
        self.samples.iter().filter_map(|sample| sample.exemplar.as_ref())
    }

    /// All series that may not decrease, with their labels, and their values.
    pub fn counters(&self) -> BTreeMap<String, f64> {
        let counters = self.samples.iter().filter(|sample| !self.gauges.contains(&sample.name));
        counters.map(|sample| (format!("{}{:?}", sample.name, sample.labels), sample.value)).collect()
    }
}

impl Sample {
    fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels.iter().all(|&(key, value)| self.labels.get(key).is_some_and(|has| has == value))
    }

    fn route(&self) -> Option<String> {
        self.labels.get("route").cloned()
    }
}

/// Microseconds since 1970.
pub fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    u64::try_from(since.as_micros()).expect("microseconds")
}

/// `NAME{LABEL="VALUE",…} VALUE`, and perhaps ` # {request_id="ID"} SECONDS TIME`.
fn sample(line: &str) -> Option<Sample> {
    let at = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(at);
    let (labels, rest) = labels(rest)?;
    let (value, exemplar) = match rest.trim_start().split_once(" # ") {
        None => (rest.trim(), None),
        Some((value, exemplar)) => {
            let (its, rest) = self::labels(exemplar)?;
            let seconds = rest.split_whitespace().next()?.parse().ok()?;
            let route = labels.get("route").cloned();
            (value, Some(Exemplar { route, id: its.get("request_id")?.clone(), seconds }))
        }
    };
    Some(Sample { name: name.to_owned(), labels, value: value.parse().ok()?, exemplar })
}

/// The labels at the beginning of a text, which may be none, and what is behind them.
fn labels(text: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    let Some(mut rest) = text.strip_prefix('{') else { return Some((labels, text)) };
    while !rest.starts_with('}') {
        let (name, quoted) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = quoted.char_indices();
        let end = loop {
            match chars.next()? {
                (at, '"') => break at,
                (_, '\\') => value.push(match chars.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, other) => value.push(other),
            }
        };
        labels.insert(name.to_owned(), value);
        rest = quoted.get(end + 1..)?;
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    Some((labels, rest.get(1..)?))
}
