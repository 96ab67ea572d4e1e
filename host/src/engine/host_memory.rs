//! What the host keeps for one instance outside of its own memory: header fields, requests and responses that it makes,
//! buffered pieces of bodies, handles, streams and calls. One budget for all of it, in bytes.
//!
//! What a guest has the host allocate is counted as it asks for it, in a few instructions, and never counted back. When
//! that count reaches the budget, everything that is there is looked at, which gives the exact number to go on from. A
//! look takes microseconds for each megabyte, and there is none before another 16th of the budget was asked for.

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

use crate::host_api::direct::{RequestV3, ResponseV3};
use crate::host_api::outgoing::BODY_CHUNK_BYTES;

/// What a body that the guest writes counts, while it is not on its way: the pieces that may wait in it, and trailers.
pub(crate) const BODY_BYTES: usize = 4 * BODY_CHUNK_BYTES;

/// What each resource counts, beside what it holds: its box and its place in the table.
pub(crate) const RESOURCE_BYTES: usize = 256;

/// A field's place in a map of the `http` crate: hash, name, value and links, and the index behind it.
const FIELD_BYTES: usize = 112;

/// The place of a further value of a name, in a list that may have grown to twice its length.
const FURTHER_VALUE_BYTES: usize = 144;

/// What the text of a name or a value takes beside its bytes.
const TEXT_OVERHEAD_BYTES: usize = 32;

/// How much of the budget must be asked for before there is another look: a 16th.
const LOOK_SHARE: u64 = 16;

/// The budget of one instance.
pub(super) struct HostMemory {
    max_bytes: u64,
    /// What is there at most, as far as it is known without looking.
    counted_bytes: u64,
    look_at_bytes: u64,
}

/// The error of a guest for which the host keeps too much.
#[derive(Debug, thiserror::Error)]
#[error("host memory for this instance exceeds max_host_memory = {}", format_size(*max_bytes))]
pub(super) struct HostMemoryUsedUp {
    max_bytes: u64,
}

impl HostMemory {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self { max_bytes, counted_bytes: 0, look_at_bytes: max_bytes }
    }

    /// Counts what the host is about to allocate. Whether it is time to look.
    pub(super) fn count(&mut self, bytes: usize) -> bool {
        self.counted_bytes = self.counted_bytes.saturating_add(bytes as u64);
        self.counted_bytes > self.look_at_bytes
    }

    /// Goes on from what is there, `kept_bytes`, and what is about to be allocated.
    ///
    /// # Errors
    ///
    /// When that is over the budget.
    pub(super) fn looked(&mut self, kept_bytes: usize, about_to: usize) -> Result<(), HostMemoryUsedUp> {
        self.counted_bytes = kept_bytes as u64 + about_to as u64;
        if self.counted_bytes > self.max_bytes {
            return Err(HostMemoryUsedUp { max_bytes: self.max_bytes });
        }
        self.look_at_bytes = self.max_bytes.max(self.counted_bytes + self.max_bytes / LOOK_SHARE);
        Ok(())
    }
}

/// What a field takes in a map, at the most.
pub(crate) fn field_bytes(name: &str, value: &[u8]) -> usize {
    2 * FIELD_BYTES + FURTHER_VALUE_BYTES + name.len() + value.len() + 2 * TEXT_OVERHEAD_BYTES
}

/// What a map of fields takes.
pub(crate) fn map_bytes(map: &HeaderMap) -> usize {
    let names = map.keys().map(|name| name.as_str().len() + TEXT_OVERHEAD_BYTES);
    let values = map.values().map(|value| value.len() + TEXT_OVERHEAD_BYTES);
    let further = map.len() - map.keys_len();
    map.capacity() * FIELD_BYTES + further * FURTHER_VALUE_BYTES + names.chain(values).sum::<usize>()
}

/// What is in a table of resources. Maps that several resources share count once.
#[derive(Default)]
pub(super) struct Look {
    bytes: usize,
    seen: HashSet<*const HeaderMap>,
}

impl Look {
    pub(super) fn at_all<'a>(resources: impl Iterator<Item = &'a mut (dyn Any + Send)>) -> usize {
        let mut look = Self::default();
        for resource in resources {
            look.bytes += RESOURCE_BYTES;
            look.at(&*resource);
        }
        look.bytes
    }

    fn at(&mut self, resource: &dyn Any) {
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
        } else if let Some(request) = resource.downcast_ref::<RequestV3>() {
            self.fields(request.headers());
            self.bytes += request.kept_bytes();
        } else if let Some(response) = resource.downcast_ref::<ResponseV3>() {
            self.fields(response.headers());
        } else if let Some(request) = resource.downcast_ref::<p3::Request>() {
            self.fields(&request.headers);
            self.bytes += request.path_with_query.as_ref().map_or(0, |path| path.as_str().len());
        } else if let Some(response) = resource.downcast_ref::<p3::Response>() {
            self.fields(&response.headers);
        }
    }

    fn fields(&mut self, fields: &FieldMap) {
        let map: &HeaderMap = fields;
        if self.seen.insert(map) {
            self.bytes += map_bytes(map);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    /// A budget of 1,600 bytes, and what becomes of it with so many bytes kept at each look.
    fn check(asked: &[usize], kept: usize, expected: &[Option<bool>]) {
        let mut memory = HostMemory::new(1_600);
        let outcomes: Vec<Option<bool>> =
            asked.iter().map(|bytes| memory.count(*bytes).then(|| memory.looked(kept, *bytes).is_ok())).collect();
        assert_eq!(outcomes, expected, "{asked:?} with {kept} kept");
    }

    #[test]
    fn looks_when_the_count_is_over_the_budget_and_not_all_the_time() {
        check(&[800, 800], 0, &[None, None]);
        check(&[800, 801], 1_600, &[None, Some(false)]);
        // Nothing of it was kept: the count begins anew.
        check(&[1_600, 1, 1_599, 1], 0, &[None, Some(true), None, Some(true)]);
        // Nearly all is kept: the next look is a 16th of the budget later.
        check(&[1_600, 1, 60, 40, 1], 1_590, &[None, Some(true), None, None, Some(true)]);
        check(&[1_600, 1, 101], 1_590, &[None, Some(true), Some(false)]);
    }

    /// What a map is counted as is never less than what it allocates, and not three times as much.
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
            // The places alone are at least 104 bytes each.
            let least = map.keys_len() * 104;
            let bytes = map_bytes(&map);
            assert!(bytes >= least && bytes <= 3 * least + 1_000, "{count}: {bytes} bytes, at least {least}");
            let asked: usize = map.iter().map(|(name, value)| field_bytes(name.as_str(), value.as_bytes())).sum();
            // A map begins with eight places.
            assert!(asked + 8 * FIELD_BYTES >= bytes, "{count}: {asked} bytes were asked for, {bytes} are there");
        }
    }

    #[test]
    fn maps_that_are_shared_count_once() {
        let mut fields = FieldMap::new_mutable(64 << 10);
        fields.append_raw(HeaderName::from_static("x-a"), HeaderValue::from_static("1")).expect("room");
        let mut shared = fields.clone();
        let mut other: Vec<Box<dyn Any + Send>> = vec![Box::new(fields.clone()), Box::new(shared.clone())];
        let once = Look::at_all(other.iter_mut().map(|resource| &mut **resource));
        assert_eq!(once, 2 * RESOURCE_BYTES + map_bytes(&fields));
        shared.append_raw(HeaderName::from_static("x-b"), HeaderValue::from_static("1")).expect("room");
        other.push(Box::new(shared.clone()));
        let twice = Look::at_all(other.iter_mut().map(|resource| &mut **resource));
        assert_eq!(twice, 3 * RESOURCE_BYTES + map_bytes(&fields) + map_bytes(&shared));
    }
}
