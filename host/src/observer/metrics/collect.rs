//! How the rows of the table of families get their numbers.

use super::family::{HistogramValue, Samples, Value};
use super::page::Page;
use crate::observe::metrics::histogram::Scale;
use crate::observe::metrics::{Field, Snapshot, fields};

pub(super) const TIME: Scale = Scale::Seconds;

/// One number of each route.
pub(super) fn by_route(page: &Page, out: &mut Samples, value: impl Fn(&Snapshot) -> u64) {
    for (route, sums) in page.routes() {
        out.integer([route], value(sums));
    }
}

/// One number of each listener.
pub(super) fn by_listener(page: &Page, out: &mut Samples, value: impl Fn(&Snapshot) -> u64) {
    for (listener, sums) in page.listeners() {
        out.integer([listener], value(sums));
    }
}

/// The numbers of a field, each with its word.
pub(super) fn by_word<'a>(
    named: impl Iterator<Item = (&'a str, &'a Snapshot)>,
    out: &mut Samples,
    field: Field,
    words: impl Iterator<Item = &'static str> + Clone,
) {
    for (name, sums) in named {
        words.clone().enumerate().for_each(|(index, word)| out.integer([name, word], sums.number(field, index)));
    }
}

/// What the guests of each route have waited for, by its result.
pub(super) fn by_result(page: &Page, out: &mut Samples, (all, failed): (Field, Field)) {
    for (route, sums) in page.routes().filter(|(route, _)| !route.is_empty()) {
        let failed = sums.one(failed);
        out.integer([route, "ok"], sums.one(all).saturating_sub(failed));
        out.integer([route, "error"], failed);
    }
}

/// How long the guests of each route have waited.
pub(super) fn seconds(page: &Page, out: &mut Samples, field: Field) {
    for (route, sums) in page.routes().filter(|(route, _)| !route.is_empty()) {
        out.add([route], Value::Float(TIME.in_unit(sums.one(field))));
    }
}

/// A histogram of each route. `bounds` are the exponents of two of the classic histogram's bounds.
pub(super) fn histograms(page: &Page, out: &mut Samples, (field, scale): (Field, Scale), bounds: (i32, i32, usize)) {
    for (route, sums) in page.routes().filter(|(route, _)| !route.is_empty() || field == fields::TOTAL) {
        let (sum, counts) = sums.all(field).split_last().map_or((0, &[][..]), |(sum, counts)| (*sum, counts));
        let exemplar = page.exemplar(route).filter(|_| field == fields::TOTAL);
        let (counts, sum) = (counts.to_vec(), scale.in_unit(sum));
        out.add([route], Value::Histogram(HistogramValue { scale, counts, sum, bounds, exemplar }));
    }
}
