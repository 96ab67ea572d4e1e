//! The comparisons of what Prometheus has with what the clients saw. Each returns what is wrong.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::api::{Mode, Prometheus};
use super::events::Events;
use super::expressions::{of_dashboard, of_rule};
use super::load::{MEASURED, Seen};
use super::server::Server;
use super::{Counts, unix_time};
use crate::process;

/// How long promtool may take.
const CHECKS_WITHIN: Duration = Duration::from_secs(30);

/// Seconds between two scrapes, of which there is one each second: Prometheus leaves one out if the machine is so busy
/// that the one before it takes too long.
const LONGEST_PAUSE: f64 = 2.5;

/// The quotient of two bounds of buckets that follow each other, 2^(1/4) and 2: estimates are so near.
const NATIVE_BUCKET: f64 = 1.1893;
const CLASSIC_BUCKET: f64 = 2.0;

pub(super) fn report(seen: &Seen, events: &Events) -> Result<()> {
    let (total, unanswered, raced) = (seen.total(), seen.unanswered.len(), seen.raced);
    crate::say(&format!(
        "  {}: {total} responses, {unanswered} requests without one, {raced} sent again\n",
        events.describe()
    ))
}

/// Each outcome was counted exactly as often as clients saw it.
pub(super) fn exact(prometheus: &Prometheus, seen: &Counts) -> Result<Vec<String>> {
    let counted = outcomes(prometheus)?;
    Ok(differences(&counted, seen, 0))
}

/// Each outcome was counted about as often as clients saw it, and all together exactly: only requests without a response
/// may have been counted or not.
pub(super) fn near(prometheus: &Prometheus, seen: &Seen, tolerance: u64) -> Result<Vec<String>> {
    let counted = outcomes(prometheus)?;
    let mut faults = differences(&counted, &seen.counts, tolerance);
    let (all, answered) = (counted.values().sum::<u64>(), seen.total());
    let unanswered = seen.unanswered.len() as u64 + seen.raced;
    if !(answered..=answered + unanswered).contains(&all) {
        faults.push(format!("{all} requests were counted; {answered} had a response, {unanswered} had none"));
    }
    Ok(faults)
}

fn outcomes(prometheus: &Prometheus) -> Result<Counts> {
    let samples = prometheus.query("sum by (outcome) (daylily_requests_total)", None)?;
    let count = |value: f64| value as u64;
    let counts = samples.iter().map(|sample| (sample.label("outcome").to_owned(), count(sample.value.unwrap_or(0.0))));
    Ok(counts.filter(|(_, count)| *count > 0).collect())
}

fn differences(counted: &Counts, seen: &Counts, tolerance: u64) -> Vec<String> {
    let number = |counts: &Counts, outcome: &str| counts.get(outcome).copied().unwrap_or(0);
    let mut outcomes: Vec<_> = counted.keys().chain(seen.keys()).collect();
    outcomes.sort();
    outcomes.dedup();
    let both = outcomes.into_iter().map(|outcome| (outcome, number(counted, outcome), number(seen, outcome)));
    both.filter(|(_, counted, seen)| counted.abs_diff(*seen) > tolerance)
        .map(|(outcome, counted, seen)| format!("{counted} requests were counted as {outcome}, clients saw {seen}"))
        .collect()
}

/// The quantiles of the durations of the last `seconds`, up to the time `now`, are those that the clients measured.
pub(super) fn quantiles(
    prometheus: &Prometheus,
    mode: Mode,
    measured: &[Duration],
    (now, seconds): (f64, u64),
) -> Result<Vec<String>> {
    let mut measured = measured.to_vec();
    measured.sort_unstable();
    let (series, labels, bucket) = match mode {
        Mode::Classic => ("daylily_request_duration_seconds_bucket", "route, le", CLASSIC_BUCKET),
        Mode::Native => ("daylily_request_duration_seconds", "route", NATIVE_BUCKET),
    };
    let mut faults = Vec::new();
    for percent in [50, 90, 99] {
        let quantile = f64::from(percent) / 100.0;
        let expression = format!(
            "histogram_quantile({quantile}, sum by ({labels}) (increase({series}{{route=\"{MEASURED}\"}}[{seconds}s])))"
        );
        let samples = prometheus.query(&expression, Some(now))?;
        let estimate = samples.first().and_then(|sample| sample.value).with_context(|| format!("no {expression}"))?;
        let at = (measured.len() * percent as usize / 100).min(measured.len().saturating_sub(1));
        let seen = measured.get(at).context("no durations were measured")?.as_secs_f64();
        crate::say(&format!("  p{percent}: {:.1} ms, clients measured {:.1} ms\n", estimate * 1e3, seen * 1e3))?;
        if !is_near(estimate, seen, bucket) {
            faults.push(format!("p{percent} is {estimate} s, clients measured {seen} s, over a factor of {bucket}"));
        }
    }
    Ok(faults)
}

fn is_near(estimate: f64, seen: f64, factor: f64) -> bool {
    estimate <= seen * factor && estimate * factor >= seen
}

/// Every query of the dashboard and every rule has a result.
pub(super) fn expressions(prometheus: &Prometheus, root: &Path, mode: Mode) -> Result<Vec<String>> {
    let dashboard = root.join("contrib/grafana/daylily.json");
    let dashboard = fs::read_to_string(&dashboard).with_context(|| dashboard.display().to_string())?;
    let queries = of_dashboard(&dashboard)?.into_iter().filter(|query| query.is_for(mode));
    let queries = queries.map(|query| (format!("the dashboard's {}", query.panel), query.expression));
    let rules = prometheus.rules()?;
    ensure!(!rules.is_empty(), "Prometheus has no rules");
    let mut faults: Vec<_> = rules
        .iter()
        .filter(|rule| !rule.error.is_empty())
        .map(|rule| format!("the rule {}: {}", rule.name, rule.error))
        .collect();
    let all: Vec<_> =
        queries.chain(rules.iter().map(|rule| (format!("the rule {}", rule.name), of_rule(rule)))).collect();
    for (place, expression) in &all {
        match prometheus.query(expression, None) {
            Ok(samples) if samples.iter().any(super::api::Sample::is_data) => {}
            Ok(_) => faults.push(format!("{place} has no result: {expression}")),
            Err(error) => faults.push(format!("{place}: {error:#}")),
        }
    }
    if faults.is_empty() {
        crate::say(&format!("  {} expressions of the dashboard and of the rules\n", all.len()))?;
    }
    Ok(faults)
}

/// The page in the text format is as `promtool` wants it.
pub(super) fn page(server: &Server, promtool: &Path) -> Result<Vec<String>> {
    let dir = tempfile::tempdir()?;
    let page = dir.path().join("page");
    fs::write(&page, server.metrics()?)?;
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" check metrics <\"$1\""]).arg(promtool).arg(&page);
    let checked = process::run(command, CHECKS_WITHIN, &dir.path().join("log"));
    Ok(checked.err().map(|error| format!("promtool check metrics: {error:#}")).into_iter().collect())
}

/// No scrape failed, no counter decreased, and there are exemplars.
pub(super) fn whole_run(prometheus: &Prometheus, mode: Mode, seconds: u64) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    let range = format!("[{}s]", seconds + 10);
    let one = |expression: &str| -> Result<f64> {
        let samples = prometheus.query(expression, None)?;
        samples.first().and_then(|sample| sample.value).with_context(|| format!("no result: {expression}"))
    };
    let job = "{job=\"daylily\"}";
    let scrapes = prometheus.times(&format!("up{job}{range}"))?;
    let failed = scrapes.len() as f64 - one(&format!("sum_over_time(up{job}{range})"))?;
    if failed > 0.0 {
        faults.push(format!("{failed} of {} scrapes failed", scrapes.len()));
    }
    let pauses = scrapes.windows(2).map(|pair| pair.iter().rev().copied().reduce(|later, sooner| later - sooner));
    let longest = pauses.flatten().fold(0.0, f64::max);
    if longest > LONGEST_PAUSE {
        faults.push(format!("there was no scrape for {longest:.1} seconds, with one each second"));
    }
    let mut counters = 0;
    for name in prometheus.names()? {
        let is_counter = ["_total", "_bucket", "_sum", "_count"].iter().any(|end| name.ends_with(end));
        let is_native = mode == Mode::Native && !is_counter && prometheus.is_histogram(&name)?;
        counters += usize::from(is_counter || is_native);
        if is_counter {
            faults.extend(decreases(prometheus, &format!("{name}{range}"))?);
        }
        if is_native {
            // `resets` of the histograms themselves is always 0 in Prometheus 2.42.
            for part in ["histogram_count", "histogram_sum"] {
                faults.extend(decreases(prometheus, &format!("{part}({name})[{}s:1s]", seconds + 10))?);
            }
        }
    }
    ensure!(counters > 10, "there are only {counters} counters");
    let now = unix_time()?;
    let series = if mode == Mode::Classic { "_bucket" } else { "" };
    let expression = format!("daylily_request_duration_seconds{series}");
    let exemplars = prometheus.exemplars(&expression, (now - seconds as f64, now))?;
    if exemplars == 0 {
        faults.push(format!("{expression} has no exemplar"));
    }
    let lost = one("sum(daylily_requests_total{outcome=\"lost\"})")?;
    crate::say(&format!(
        "  {} scrapes, at most {longest:.1} s apart, {counters} names of counters, {exemplars} exemplars, {lost} requests \
         lost with workers\n",
        scrapes.len()
    ))?;
    Ok(faults)
}

/// The series of a counter that have decreased. `counter` is an expression with its range.
fn decreases(prometheus: &Prometheus, counter: &str) -> Result<Vec<String>> {
    let samples = prometheus.query(&format!("resets({counter})"), None)?;
    let resets = samples.iter().filter(|sample| sample.value.is_none_or(|value| value > 0.0));
    let mut faults: Vec<_> = resets.map(|sample| format!("{counter} has decreased: {:?}", sample.labels)).collect();
    if samples.is_empty() {
        faults.push(format!("resets({counter}) has no result"));
    }
    Ok(faults)
}

#[cfg(test)]
mod tests {
    use super::{Counts, NATIVE_BUCKET, differences, is_near};

    #[test]
    fn numbers_that_differ_are_faults() {
        let counts = |pairs: &[(&str, u64)]| -> Counts {
            pairs.iter().map(|(outcome, count)| ((*outcome).to_owned(), *count)).collect()
        };
        let (counted, seen) = (counts(&[("ok", 10), ("lost", 1)]), counts(&[("ok", 12), ("trap", 1)]));
        assert_eq!(differences(&counted, &counted, 0), Vec::<String>::new());
        assert_eq!(differences(&counted, &seen, 2), Vec::<String>::new());
        assert_eq!(differences(&counted, &seen, 1), ["10 requests were counted as ok, clients saw 12"]);
        assert_eq!(differences(&counted, &seen, 0).len(), 3);
    }

    #[test]
    fn estimates_are_near_within_a_bucket() {
        assert!(is_near(0.1, 0.118, NATIVE_BUCKET) && is_near(0.118, 0.1, NATIVE_BUCKET));
        assert!(!is_near(0.1, 0.12, NATIVE_BUCKET) && !is_near(0.12, 0.1, NATIVE_BUCKET));
    }
}
