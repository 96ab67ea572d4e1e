//! Metrics as Protocol Buffers, with native histograms: `io.prometheus.client` in the file metrics.proto of
//! prometheus/client_model. Only the fields that are used are declared.

use prost::Message;

use super::family::{Family, HistogramValue, Kind, Sample, Value};
use super::text::seconds;
use crate::observe::metrics::Exemplar;

/// Writes one message for each family, after its length.
pub(super) fn write(families: impl Iterator<Item = Family>) -> Vec<u8> {
    let mut out = Vec::new();
    for family in families {
        // Cannot fail: the buffer grows.
        let _ = MetricFamily::from(family).encode_length_delimited(&mut out);
    }
    out
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct MetricFamily {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    help: String,
    #[prost(enumeration = "MetricType", tag = "3")]
    kind: i32,
    #[prost(message, repeated, tag = "4")]
    pub(super) metric: Vec<Metric>,
    #[prost(string, tag = "5")]
    unit: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
enum MetricType {
    Counter = 0,
    Gauge = 1,
    Histogram = 4,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Metric {
    #[prost(message, repeated, tag = "1")]
    label: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Number>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Number>,
    #[prost(message, optional, tag = "7")]
    pub(super) histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct LabelPair {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// `Gauge` and `Counter`, whose first fields are the same.
#[derive(Clone, Copy, PartialEq, Message)]
struct Number {
    #[prost(double, tag = "1")]
    value: f64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Histogram {
    #[prost(uint64, tag = "1")]
    pub(super) sample_count: u64,
    #[prost(double, tag = "2")]
    sample_sum: f64,
    #[prost(message, repeated, tag = "3")]
    pub(super) bucket: Vec<Bucket>,
    #[prost(sint32, tag = "5")]
    schema: i32,
    #[prost(double, tag = "6")]
    zero_threshold: f64,
    #[prost(uint64, tag = "7")]
    pub(super) zero_count: u64,
    #[prost(message, repeated, tag = "12")]
    positive_span: Vec<BucketSpan>,
    #[prost(sint64, repeated, tag = "13")]
    pub(super) positive_delta: Vec<i64>,
    #[prost(message, repeated, tag = "16")]
    exemplars: Vec<ExemplarMessage>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Bucket {
    #[prost(uint64, tag = "1")]
    cumulative_count: u64,
    #[prost(double, tag = "2")]
    upper_bound: f64,
    #[prost(message, optional, tag = "3")]
    pub(super) exemplar: Option<ExemplarMessage>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct BucketSpan {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ExemplarMessage {
    #[prost(message, repeated, tag = "1")]
    label: Vec<LabelPair>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(message, optional, tag = "3")]
    timestamp: Option<Timestamp>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

impl From<Family> for MetricFamily {
    fn from(family: Family) -> Self {
        let (kind, suffix) = match family.kind {
            Kind::Counter => (MetricType::Counter, "_total"),
            Kind::Gauge => (MetricType::Gauge, ""),
            Kind::Histogram => (MetricType::Histogram, ""),
        };
        Self {
            name: family.name + suffix,
            help: family.help.to_owned(),
            kind: kind.into(),
            metric: family.samples.into_iter().map(|sample| Metric::new(sample, family.kind)).collect(),
            unit: family.unit.unwrap_or_default().to_owned(),
        }
    }
}

impl Metric {
    fn new(sample: Sample, kind: Kind) -> Self {
        let labels = sample.labels.into_iter().map(|(name, value)| LabelPair { name: name.to_owned(), value });
        let mut metric = Self { label: labels.collect(), gauge: None, counter: None, histogram: None };
        let number = match &sample.value {
            Value::Histogram(histogram) => {
                metric.histogram = Some(histogram.into());
                return metric;
            }
            #[expect(clippy::cast_precision_loss, reason = "the format has no other number")]
            Value::Integer(value) => Number { value: *value as f64 },
            Value::Float(value) => Number { value: *value },
        };
        match kind {
            Kind::Counter => metric.counter = Some(number),
            Kind::Gauge | Kind::Histogram => metric.gauge = Some(number),
        }
        metric
    }
}

impl From<&HistogramValue> for Histogram {
    fn from(value: &HistogramValue) -> Self {
        // Also in its bucket: older versions of Prometheus look for it only there.
        let mut exemplar = value.exemplar;
        let bucket = value.cumulative().map(|(upper_bound, cumulative_count)| {
            let exemplar = exemplar.take_if(|exemplar| seconds(exemplar) <= upper_bound);
            Bucket { cumulative_count, upper_bound, exemplar: exemplar.as_ref().map(ExemplarMessage::from) }
        });
        let (first, counts) = value.counts.split_first().map_or((0, &[][..]), |(first, counts)| (*first, counts));
        let (positive_span, positive_delta) = spans(value.scale.first_index() + 1, counts);
        Self {
            sample_count: value.count(),
            sample_sum: value.sum,
            bucket: bucket.collect(),
            schema: value.scale.schema(),
            zero_threshold: value.scale.bound(0),
            zero_count: first,
            positive_span,
            positive_delta,
            exemplars: value.exemplar.iter().map(ExemplarMessage::from).collect(),
        }
    }
}

/// The buckets that are not 0, in spans of consecutive ones; each count as the difference to the one before.
fn spans(first_index: i32, counts: &[u64]) -> (Vec<BucketSpan>, Vec<i64>) {
    let (mut spans, mut deltas) = (Vec::<BucketSpan>::new(), Vec::new());
    let (mut last_count, mut next_index) = (0_i64, 0);
    for (index, &count) in (first_index..).zip(counts).filter(|(_, count)| **count > 0) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        match spans.last_mut() {
            Some(span) if index == next_index => span.length += 1,
            // The first offset is an index, further ones are gaps.
            _ => spans.push(BucketSpan { offset: index - next_index, length: 1 }),
        }
        next_index = index + 1;
        deltas.push(count - last_count);
        last_count = count;
    }
    (spans, deltas)
}

impl From<&Exemplar> for ExemplarMessage {
    fn from(exemplar: &Exemplar) -> Self {
        let label = LabelPair { name: "request_id".to_owned(), value: exemplar.id.to_string() };
        let nanos = (exemplar.unix_us % 1_000_000) as i32 * 1_000;
        let seconds_since = i64::try_from(exemplar.unix_us / 1_000_000).unwrap_or(i64::MAX);
        Self {
            label: vec![label],
            value: seconds(exemplar),
            timestamp: Some(Timestamp { seconds: seconds_since, nanos }),
        }
    }
}

#[cfg(test)]
mod tests {

    #[test]
    fn spans_skip_empty_buckets() {
        #[track_caller]
        fn check(first: i32, counts: &[u64], spans: &[(i32, u32)], deltas: &[i64]) {
            let (found, found_deltas) = super::spans(first, counts);
            let found: Vec<_> = found.iter().map(|span| (span.offset, span.length)).collect();
            assert_eq!((found.as_slice(), found_deltas.as_slice()), (spans, deltas), "{first} {counts:?}");
        }
        check(-3, &[], &[], &[]);
        check(-3, &[0, 0], &[], &[]);
        check(-3, &[5, 3], &[(-3, 2)], &[5, -2]);
        check(-3, &[0, 5, 0, 0, 7, 7], &[(-2, 1), (2, 2)], &[5, 2, 0]);
        check(1, &[2, 0, 1], &[(1, 1), (1, 1)], &[2, -1]);
    }
}
