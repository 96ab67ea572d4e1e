//! The memory that the host keeps for one instance, outside of the instance's own memory: header fields, requests and
//! responses that it creates, buffered chunks of bodies, handles, streams and calls. One budget, in bytes, for all of
//! it.
//!
//! Allocations for a guest are added to an estimate, which takes a few instructions; deallocations are not subtracted.
//! When the estimate reaches the budget, everything that is kept is measured, and the exact number becomes the new
//! estimate. Measuring takes microseconds per megabyte, and is not repeated before another 16th of the budget is
//! requested.

use std::any::Any;
use std::collections::HashSet;

use daylily_core::units::format_size;
use http::HeaderMap;
use wasmtime_wasi_http::FieldMap;
use wasmtime_wasi_http::p2::body::HostFutureTrailers;
use wasmtime_wasi_http::p2::types::{
    HostFutureIncomingResponse, HostIncomingResponse, HostOutgoingRequest, HostOutgoingResponse,
};
use wasmtime_wasi_http::p3;

use crate::wasi::direct::{RequestP3, ResponseP3};
use crate::wasi::http::client::BODY_CHUNK_BYTES;
use crate::wasi::keyvalue::Cas;

/// What is charged for a body that the guest writes, until it is being sent: the chunks that it can buffer, and
/// trailers.
pub(crate) const BODY_BYTES: usize = 4 * BODY_CHUNK_BYTES;

/// What is charged for each resource besides its contents: its box and its entry in the table.
pub(crate) const RESOURCE_BYTES: usize = 256;

/// A field's entry in a map of the `http` crate: hash, name, value and links, and its slot in the hash index.
const FIELD_BYTES: usize = 112;

/// The entry of a further value of a name, in a `Vec` whose capacity may be twice its length.
const FURTHER_VALUE_BYTES: usize = 144;

/// Overhead of a name or a value beyond its bytes.
const TEXT_OVERHEAD_BYTES: usize = 32;

/// The share of the budget that must be requested before everything is measured again: a 16th.
const MEASURE_SHARE: u64 = 16;

/// The budget of one instance.
pub(crate) struct HostMemory {
    max_bytes: u64,
    /// The estimate: an upper bound of the memory that is kept.
    counted_bytes: u64,
    measure_at_bytes: u64,
}

/// The trap of a guest that exceeds its budget.
#[derive(Debug, thiserror::Error)]
#[error("host memory for this instance exceeds max_host_memory = {}", format_size(*max_bytes))]
pub(crate) struct HostMemoryUsedUp {
    max_bytes: u64,
}

impl HostMemory {
    pub(crate) fn new(max_bytes: u64) -> Self {
        Self { max_bytes, counted_bytes: 0, measure_at_bytes: max_bytes }
    }

    /// Adds an allocation that is about to be made. Returns whether everything must be measured.
    pub(crate) fn count(&mut self, bytes: usize) -> bool {
        self.counted_bytes = self.counted_bytes.saturating_add(bytes as u64);
        self.counted_bytes > self.measure_at_bytes
    }

    /// Sets the estimate to the measured `kept_bytes`, plus the allocation that is about to be made.
    ///
    /// # Errors
    ///
    /// If that exceeds the budget.
    pub(crate) fn set_measured(&mut self, kept_bytes: usize, about_to: usize) -> Result<(), HostMemoryUsedUp> {
        self.counted_bytes = kept_bytes as u64 + about_to as u64;
        if self.counted_bytes > self.max_bytes {
            return Err(HostMemoryUsedUp { max_bytes: self.max_bytes });
        }
        self.measure_at_bytes = self.max_bytes.max(self.counted_bytes + self.max_bytes / MEASURE_SHARE);
        Ok(())
    }
}

/// An upper bound of the memory of a field in a map.
pub(crate) fn field_bytes(name: &str, value: &[u8]) -> usize {
    2 * FIELD_BYTES + FURTHER_VALUE_BYTES + name.len() + value.len() + 2 * TEXT_OVERHEAD_BYTES
}

/// The memory of a map of fields.
pub(crate) fn map_bytes(map: &HeaderMap) -> usize {
    let names = map.keys().map(|name| name.as_str().len() + TEXT_OVERHEAD_BYTES);
    let values = map.values().map(|value| value.len() + TEXT_OVERHEAD_BYTES);
    let further = map.len() - map.keys_len();
    map.capacity() * FIELD_BYTES + further * FURTHER_VALUE_BYTES + names.chain(values).sum::<usize>()
}

/// A measurement of a table of resources. A map that several resources share counts once.
#[derive(Default)]
pub(crate) struct Measurement {
    bytes: usize,
    seen: HashSet<*const HeaderMap>,
}

impl Measurement {
    pub(crate) fn of_all<'a>(resources: impl Iterator<Item = &'a mut (dyn Any + Send)>) -> usize {
        let mut measurement = Self::default();
        for resource in resources {
            measurement.bytes += RESOURCE_BYTES;
            measurement.add(&*resource);
        }
        measurement.bytes
    }

    fn add(&mut self, resource: &dyn Any) {
        if let Some(fields) = resource.downcast_ref() {
            self.fields(fields);
        } else if let Some(request) = resource.downcast_ref::<HostOutgoingRequest>() {
            self.fields(&request.headers);
            let texts = [&request.path_with_query, &request.authority];
            self.bytes += texts.into_iter().flatten().map(String::capacity).sum::<usize>();
            self.bytes += request.body.as_ref().map_or(0, |_| BODY_BYTES);
        } else if let Some(response) = resource.downcast_ref::<HostOutgoingResponse>() {
            self.fields(&response.headers);
            self.bytes += response.body.as_ref().map_or(0, |_| BODY_BYTES);
        } else if let Some(response) = resource.downcast_ref::<HostIncomingResponse>() {
            self.fields(&response.headers);
        } else if let Some(HostFutureIncomingResponse::Ready(Ok((response, _)))) = resource.downcast_ref() {
            self.bytes += map_bytes(response.headers());
        } else if let Some(HostFutureTrailers::Done(Ok(Some(trailers)))) = resource.downcast_ref() {
            self.bytes += map_bytes(trailers);
        } else if let Some(request) = resource.downcast_ref::<RequestP3>() {
            self.map(request.fields());
            self.bytes += request.kept_bytes();
        } else if let Some(response) = resource.downcast_ref::<ResponseP3>() {
            self.fields(response.headers());
        } else if let Some(request) = resource.downcast_ref::<p3::Request>() {
            self.fields(&request.headers);
            self.bytes += request.path_with_query.as_ref().map_or(0, |path| path.as_str().len());
        } else if let Some(response) = resource.downcast_ref::<p3::Response>() {
            self.fields(&response.headers);
        } else if let Some(cas) = resource.downcast_ref::<Cas>() {
            self.bytes += cas.kept_bytes();
        }
    }

    fn fields(&mut self, fields: &FieldMap) {
        self.map(fields);
    }

    fn map(&mut self, map: &HeaderMap) {
        if self.seen.insert(map) {
            self.bytes += map_bytes(map);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    /// Requests the `asked` bytes from a budget of 1,600, with `kept` bytes at each measurement. Expected for each
    /// request: None if nothing was measured, else whether it was within the budget.
    fn check(asked: &[usize], kept: usize, expected: &[Option<bool>]) {
        let mut memory = HostMemory::new(1_600);
        let outcomes: Vec<Option<bool>> =
            asked.iter().map(|bytes| memory.count(*bytes).then(|| memory.set_measured(kept, *bytes).is_ok())).collect();
        assert_eq!(outcomes, expected, "{asked:?} with {kept} kept");
    }

    #[test]
    fn measures_when_the_count_is_over_the_budget_and_not_at_each_allocation() {
        check(&[800, 800], 0, &[None, None]);
        check(&[800, 801], 1_600, &[None, Some(false)]);
        // Nothing was kept: the estimate starts again at zero.
        check(&[1_600, 1, 1_599, 1], 0, &[None, Some(true), None, Some(true)]);
        // Nearly the whole budget is kept: the next measurement is a 16th of the budget later.
        check(&[1_600, 1, 60, 40, 1], 1_590, &[None, Some(true), None, None, Some(true)]);
        check(&[1_600, 1, 101], 1_590, &[None, Some(true), Some(false)]);
    }

    /// The computed size of a map is at least what it allocates, and less than about three times as much.
    #[test]
    fn a_map_counts_what_it_takes() {
        for count in [0, 1, 10, 100, 870] {
            let mut map = HeaderMap::new();
            for number in 0..count {
                let name = HeaderName::try_from(format!("x-{number}")).expect("a name");
                map.append(&name, HeaderValue::from_static("1"));
                if number % 10 == 0 {
                    map.append(name, HeaderValue::from_static("2"));
                }
            }
            // The entries alone take at least 104 bytes each.
            let least = map.keys_len() * 104;
            let bytes = map_bytes(&map);
            assert!(bytes >= least && bytes <= 3 * least + 1_000, "{count}: {bytes} bytes, at least {least}");
            let asked: usize = map.iter().map(|(name, value)| field_bytes(name.as_str(), value.as_bytes())).sum();
            // A map starts with room for eight entries.
            assert!(asked + 8 * FIELD_BYTES >= bytes, "{count}: {asked} bytes were asked for, {bytes} are there");
        }
    }

    #[test]
    fn maps_that_are_shared_count_once() {
        let mut fields = FieldMap::new_mutable(64 << 10);
        fields.append_raw(HeaderName::from_static("x-a"), HeaderValue::from_static("1")).expect("room");
        let mut shared = fields.clone();
        let mut other: Vec<Box<dyn Any + Send>> = vec![Box::new(fields.clone()), Box::new(shared.clone())];
        let once = Measurement::of_all(other.iter_mut().map(|resource| &mut **resource));
        assert_eq!(once, 2 * RESOURCE_BYTES + map_bytes(&fields));
        shared.append_raw(HeaderName::from_static("x-b"), HeaderValue::from_static("1")).expect("room");
        other.push(Box::new(shared.clone()));
        let twice = Measurement::of_all(other.iter_mut().map(|resource| &mut **resource));
        assert_eq!(twice, 3 * RESOURCE_BYTES + map_bytes(&fields) + map_bytes(&shared));
    }
}
