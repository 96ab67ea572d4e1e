//! What a family of metrics is, and its values at one time.

use super::page::Page;
use crate::observe::metrics::Exemplar;
use crate::observe::metrics::histogram::Scale;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A family of metrics.
pub(crate) struct Row {
    /// With its unit, and without the `_total` of counters.
    pub(crate) name: &'static str,
    pub(crate) unit: Option<&'static str>,
    pub(crate) kind: Kind,
    pub(crate) labels: &'static [&'static str],
    pub(crate) help: &'static str,
    pub(super) samples: fn(&Page, &mut Samples),
}

/// A family with its values.
pub(super) struct Family {
    pub(super) name: String,
    pub(super) unit: Option<&'static str>,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
    pub(super) samples: Vec<Sample>,
}

/// One series.
pub(super) struct Sample {
    pub(super) labels: Vec<(&'static str, String)>,
    pub(super) value: Value,
}

pub(super) enum Value {
    Integer(u64),
    Float(f64),
    Histogram(HistogramValue),
}

pub(super) struct HistogramValue {
    pub(super) scale: Scale,
    /// Of each bucket of the scale.
    pub(super) counts: Vec<u64>,
    pub(super) sum: f64,
    /// The exponents of two of the bounds of the classic histogram: the first, the last, and the step.
    pub(super) bounds: (i32, i32, usize),
    pub(super) exemplar: Option<Exemplar>,
}

impl HistogramValue {
    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The bounds of the classic histogram, with how many values are not above them; the last one is infinity.
    pub(super) fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let (first, last, step) = self.bounds;
        let bounds = (first..=last).step_by(step).map(|exponent| {
            let bucket = usize::try_from((exponent << self.scale.schema()) - self.scale.first_index()).unwrap_or(0);
            let count = self.counts.iter().take(bucket + 1).sum();
            (self.scale.bound(bucket), count)
        });
        bounds.chain([(f64::INFINITY, self.count())])
    }
}

/// The series of a family, as they are collected.
pub(super) struct Samples {
    names: &'static [&'static str],
    samples: Vec<Sample>,
}

impl Samples {
    /// Adds a series. `labels` has a value for each of the family's labels.
    pub(super) fn add<const N: usize>(&mut self, labels: [&str; N], value: Value) {
        debug_assert_eq!(N, self.names.len(), "{:?}", self.names);
        // An empty label is the same as none.
        let labels = self.names.iter().zip(labels).filter(|(_, value)| !value.is_empty());
        let labels = labels.map(|(name, value)| (*name, value.to_owned())).collect();
        self.samples.push(Sample { labels, value });
    }

    pub(super) fn integer<const N: usize>(&mut self, labels: [&str; N], value: u64) {
        self.add(labels, Value::Integer(value));
    }
}

impl Row {
    pub(super) fn family(&self, page: &Page) -> Family {
        let mut samples = Samples { names: self.labels, samples: Vec::new() };
        (self.samples)(page, &mut samples);
        let Self { name, unit, kind, help, .. } = *self;
        Family { name: name.to_owned(), unit, kind, help, samples: samples.samples }
    }
}
