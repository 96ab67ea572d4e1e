//! Metrics as text: Prometheus' format 0.0.4, and OpenMetrics 1.0.

use std::fmt::Write as _;

use super::family::{Family, HistogramValue, Kind, Sample, Value};
use crate::observe::metrics::Exemplar;

/// The two forms differ in how a counter's family is named, and OpenMetrics has units, exemplars and an end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Prometheus,
    OpenMetrics,
}

pub(super) fn write(families: impl Iterator<Item = Family>, form: Form) -> String {
    let mut out = String::new();
    for family in families {
        write_family(&mut out, &family, form);
    }
    if form == Form::OpenMetrics {
        out.push_str("# EOF\n");
    }
    out
}

fn write_family(out: &mut String, family: &Family, form: Form) {
    let (name, kind) = (family.name.as_str(), family.kind.as_str());
    let suffix = if family.kind == Kind::Counter { "_total" } else { "" };
    let described = if form == Form::Prometheus { suffix } else { "" };
    let _ = write!(out, "# HELP {name}{described} ");
    escape(out, family.help, form == Form::OpenMetrics);
    let _ = write!(out, "\n# TYPE {name}{described} {kind}\n");
    if let (Form::OpenMetrics, Some(unit)) = (form, family.unit) {
        let _ = writeln!(out, "# UNIT {name} {unit}");
    }
    for sample in &family.samples {
        match &sample.value {
            Value::Integer(value) => write_sample(out, name, suffix, sample, value),
            Value::Float(value) => write_sample(out, name, suffix, sample, &Float(*value)),
            Value::Histogram(histogram) => write_histogram(out, name, sample, histogram, form),
        }
    }
}

fn write_sample(out: &mut String, name: &str, suffix: &str, sample: &Sample, value: &impl std::fmt::Display) {
    let _ = write!(out, "{name}{suffix}");
    write_labels(out, sample, None);
    let _ = writeln!(out, " {value}");
}

fn write_histogram(out: &mut String, name: &str, sample: &Sample, histogram: &HistogramValue, form: Form) {
    // In the bucket that has it; of several, in the first.
    let mut exemplar = histogram.exemplar.filter(|_| form == Form::OpenMetrics);
    for (bound, count) in histogram.cumulative() {
        let _ = write!(out, "{name}_bucket");
        write_labels(out, sample, Some(bound));
        let _ = write!(out, " {count}");
        if let Some(found) = exemplar.take_if(|exemplar| seconds(exemplar) <= bound) {
            write_exemplar(out, &found);
        }
        out.push('\n');
    }
    let _ = write!(out, "{name}_sum");
    write_labels(out, sample, None);
    let _ = writeln!(out, " {}", Float(histogram.sum));
    let _ = write!(out, "{name}_count");
    write_labels(out, sample, None);
    let _ = writeln!(out, " {}", histogram.count());
}

#[expect(clippy::cast_precision_loss, reason = "durations of requests")]
pub(super) fn seconds(exemplar: &Exemplar) -> f64 {
    exemplar.ns as f64 / 1e9
}

fn write_exemplar(out: &mut String, exemplar: &Exemplar) {
    let Exemplar { id, unix_us, .. } = exemplar;
    let (s, us) = (unix_us / 1_000_000, unix_us % 1_000_000);
    let _ = write!(out, " # {{request_id=\"{id}\"}} {} {s}.{us:06}", Float(seconds(exemplar)));
}

fn write_labels(out: &mut String, sample: &Sample, bound: Option<f64>) {
    if sample.labels.is_empty() && bound.is_none() {
        return;
    }
    out.push('{');
    for (number, (name, value)) in sample.labels.iter().enumerate() {
        let comma = if number > 0 { "," } else { "" };
        let _ = write!(out, "{comma}{name}=\"");
        escape(out, value, true);
        out.push('"');
    }
    if let Some(bound) = bound {
        let comma = if sample.labels.is_empty() { "" } else { "," };
        let _ = write!(out, "{comma}le=\"{}\"", Float(bound));
    }
    out.push('}');
}

/// Escapes what would end a line, or a label's value.
fn escape(out: &mut String, text: &str, quotes: bool) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}

/// A number with a point or an exponent, as OpenMetrics requires for bounds.
struct Float(f64);

impl std::fmt::Display for Float {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 == f64::INFINITY { f.write_str("+Inf") } else { write!(f, "{:?}", self.0) }
    }
}
