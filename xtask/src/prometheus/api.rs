//! A Prometheus that scrapes the server each second, and its HTTP API.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::http::{self, free_port};
use crate::process::Running;

/// How long a start may take.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Which form of the page Prometheus asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// OpenMetrics, with classic histograms.
    Classic,
    /// Protocol Buffers, with native histograms.
    Native,
}

impl Mode {
    pub(super) const ALL: [Self; 2] = [Self::Classic, Self::Native];

    fn features(self) -> &'static str {
        match self {
            Self::Classic => "exemplar-storage",
            Self::Native => "exemplar-storage,native-histograms",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Classic => "classic histograms",
            Self::Native => "native histograms",
        })
    }
}

pub(super) struct Prometheus {
    port: u16,
    _process: Running,
    _dir: TempDir,
}

/// One series of a result.
#[derive(Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) labels: BTreeMap<String, String>,
    /// None: a native histogram.
    pub(super) value: Option<f64>,
}

impl Sample {
    /// The value of a label; empty if the series does not have it.
    pub(super) fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    /// Whether it is a number or a histogram.
    pub(super) fn is_data(&self) -> bool {
        self.value.is_none_or(|value| !value.is_nan())
    }
}

/// A rule as it was loaded.
#[derive(Debug, PartialEq)]
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) expression: String,
    pub(super) is_alert: bool,
    /// Empty if its last evaluation succeeded.
    pub(super) error: String,
}

impl Prometheus {
    /// Scrapes the admin listener at the port `target`.
    pub(super) fn start(root: &Path, program: &Path, mode: Mode, target: u16) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("daylily-prometheus-").tempdir()?;
        let rules = root.join("contrib/prometheus/daylily-rules.yml");
        let config = format!(
            "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\n  evaluation_interval: 1s\nrule_files:\n  - '{}'\n\
             scrape_configs:\n  - job_name: daylily\n    static_configs:\n      - targets: ['127.0.0.1:{target}']\n",
            rules.display()
        );
        fs::write(dir.path().join("prometheus.yml"), config)?;
        let port = free_port()?;
        let mut command = Command::new(program);
        command.current_dir(dir.path()).args([
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            "--log.level=warn",
            &format!("--web.listen-address=127.0.0.1:{port}"),
            &format!("--enable-feature={}", mode.features()),
        ]);
        let mut process = Running::start(command, dir.path().join("log"))?;
        let begun = Instant::now();
        while http::fetch(port, "/-/ready").is_err() {
            process.is_running()?;
            ensure!(begun.elapsed() < READY_WITHIN, "Prometheus did not start: {}", process.output());
            thread::sleep(Duration::from_millis(50));
        }
        Ok(Self { port, _process: process, _dir: dir })
    }

    /// The value of an expression, now or at a time in seconds since 1970.
    pub(super) fn query(&self, expression: &str, time: Option<f64>) -> Result<Vec<Sample>> {
        let time = time.map_or_else(String::new, |time| format!("&time={time:.3}"));
        let data = self.get(&format!("/api/v1/query?query={}{time}", encoded(expression)));
        let data = data.with_context(|| format!("the expression {expression}"))?;
        samples(&data).with_context(|| format!("not a vector: {expression}: {data}"))
    }

    /// The times, in seconds since 1970, at which the one series of a range has samples.
    pub(super) fn times(&self, range: &str) -> Result<Vec<f64>> {
        let data = self.get(&format!("/api/v1/query?query={}", encoded(range)))?;
        times(&data).with_context(|| format!("not one series: {range}: {data}"))
    }

    /// The names of all series of the server.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        let data = self.get(&format!("/api/v1/label/__name__/values?match[]={}", encoded("{job=\"daylily\"}")))?;
        let names = data.as_array().context("the names are no list")?;
        Ok(names.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    /// Whether a family is a histogram.
    pub(super) fn is_histogram(&self, name: &str) -> Result<bool> {
        let data = self.get(&format!("/api/v1/metadata?metric={}", encoded(name)))?;
        let of_name = data.get(name).and_then(Value::as_array).and_then(|all| all.first());
        Ok(of_name.and_then(|metadata| metadata.get("type")).and_then(Value::as_str) == Some("histogram"))
    }

    /// How many exemplars of an expression's series there are.
    pub(super) fn exemplars(&self, expression: &str, (start, end): (f64, f64)) -> Result<usize> {
        let query = encoded(expression);
        let data = self.get(&format!("/api/v1/query_exemplars?query={query}&start={start:.3}&end={end:.3}"))?;
        let of_series = |series: &Value| series.get("exemplars").and_then(Value::as_array).map_or(0, Vec::len);
        Ok(data.as_array().context("the exemplars are no list")?.iter().map(of_series).sum())
    }

    pub(super) fn rules(&self) -> Result<Vec<Rule>> {
        let data = self.get("/api/v1/rules")?;
        rules(&data).with_context(|| format!("not rules: {data}"))
    }

    /// What the API responds with, in the field `data`.
    fn get(&self, target: &str) -> Result<Value> {
        let json: Value = serde_json::from_str(&http::fetch(self.port, target)?)?;
        ensure!(json.get("status").and_then(Value::as_str) == Some("success"), "Prometheus answered {json}");
        json.get("data").cloned().context("Prometheus answered without data")
    }
}

fn samples(data: &Value) -> Option<Vec<Sample>> {
    let sample = |series: &Value| {
        let labels = series.get("metric")?.as_object()?;
        let labels = labels.iter().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
        let value = match series.get("value") {
            Some(pair) => Some(pair.get(1)?.as_str()?.parse().ok()?),
            None => series.get("histogram").map(|_| None)?,
        };
        Some(Sample { labels: labels.collect(), value })
    };
    data.get("result").filter(|_| data.get("resultType").and_then(Value::as_str) == Some("vector"))?;
    data.get("result")?.as_array()?.iter().map(sample).collect()
}

fn times(data: &Value) -> Option<Vec<f64>> {
    let [series] = data.get("result")?.as_array()?.as_slice() else { return None };
    series.get("values")?.as_array()?.iter().map(|sample| sample.get(0)?.as_f64()).collect()
}

fn rules(data: &Value) -> Option<Vec<Rule>> {
    let rule = |rule: &Value| {
        let text = |name| rule.get(name).and_then(Value::as_str).map(str::to_owned);
        let error = match text("health")?.as_str() {
            "ok" => String::new(),
            health => format!("{health}: {}", text("lastError").unwrap_or_default()),
        };
        Some(Rule { name: text("name")?, expression: text("query")?, is_alert: text("type")? == "alerting", error })
    };
    let groups = data.get("groups")?.as_array()?;
    let rules = groups.iter().filter_map(|group| group.get("rules")?.as_array()).flatten();
    rules.map(rule).collect()
}

/// Text in a query component of a URL.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::{Rule, Sample, encoded, rules, samples, times};

    #[test]
    fn results_are_read() {
        let text = r#"{"resultType": "vector", "result": [{"metric": {"route": "a"}, "value": [1.5, "NaN"]},
            {"metric": {}, "value": [1.5, "7"]}, {"metric": {}, "histogram": [1.5, {"count": "1"}]}]}"#;
        let samples_of = |text: &str| samples(&serde_json::from_str(text).unwrap());
        let found = samples_of(text).unwrap();
        assert_eq!((found[0].label("route"), found[0].label("none"), found[0].is_data()), ("a", "", false));
        assert_eq!((found[1].value, found[2].value, found[2].is_data()), (Some(7.0), None, true));
        assert_eq!(samples_of(r#"{"resultType": "vector", "result": []}"#), Some(Vec::<Sample>::new()));
        assert_eq!(samples_of(r#"{"resultType": "scalar", "result": [1, "7"]}"#), None);
    }

    #[test]
    fn times_are_those_of_one_series() {
        let times_of = |text: &str| times(&serde_json::from_str(text).unwrap());
        let one = r#"{"resultType": "matrix", "result": [{"metric": {}, "values": [[1.5, "1"], [2.5, "0"]]}]}"#;
        assert_eq!(times_of(one), Some(vec![1.5, 2.5]));
        assert_eq!(times_of(r#"{"resultType": "matrix", "result": []}"#), None);
    }

    #[test]
    fn rules_are_read() {
        let text = r#"{"groups": [{"rules": [{"name": "a", "query": "up", "health": "ok", "type": "recording"},
            {"name": "B", "query": "up == 0", "health": "err", "lastError": "bad", "type": "alerting"}]}]}"#;
        let rule = |name: &str, expression: &str, is_alert, error: &str| Rule {
            name: name.into(),
            expression: expression.into(),
            is_alert,
            error: error.into(),
        };
        let want = vec![rule("a", "up", false, ""), rule("B", "up == 0", true, "err: bad")];
        assert_eq!(rules(&serde_json::from_str(text).unwrap()), Some(want));
    }

    #[test]
    fn expressions_are_encoded() {
        assert_eq!(encoded("a{b=\"c\"}[1s] + 2"), "a%7Bb%3D%22c%22%7D%5B1s%5D%20%2B%202");
    }
}
