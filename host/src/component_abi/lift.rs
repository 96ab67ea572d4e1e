//! Lifting: values from the guest to the host.

use wasmtime::{ValRaw, bail, ensure};

use super::Wit;
use super::concurrent::{Channels, End, Payload};
use super::handles::{Handles, Waitable};

/// Core values that are read in sequence.
pub(crate) struct FlatValues<'a>(std::slice::Iter<'a, ValRaw>);

impl<'a> FlatValues<'a> {
    pub(super) fn new(values: &'a [ValRaw]) -> Self {
        Self(values.iter())
    }

    fn next(&mut self) -> wasmtime::Result<ValRaw> {
        // The core function type has as many values as its parameters flatten to.
        self.0.next().copied().ok_or_else(|| wasmtime::format_err!("a parameter is missing"))
    }

    /// An `i32`, also where a variant's cases join `i32` and `i64` to `i64`.
    pub(crate) fn u32(&mut self) -> wasmtime::Result<u32> {
        Ok(self.next()?.get_u32())
    }

    pub(super) fn u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.next()?.get_u64())
    }

    /// Splits off the next `count` values. Not all of them need to be read: a variant's cases differ in their numbers
    /// of values.
    pub(crate) fn split(&mut self, count: usize) -> Self {
        let (these, rest) = self.0.as_slice().split_at_checked(count).unwrap_or_default();
        self.0 = rest.iter();
        Self::new(these)
    }
}

/// The guest's memory, handles and channels, which lifted values refer to.
pub(crate) struct Lifting<'a> {
    pub(super) memory: &'a [u8],
    pub(super) handles: &'a mut Handles,
    pub(super) channels: &'a mut Channels,
    /// Bytes that this call may still copy.
    pub(super) copies: usize,
}

impl<'a> Lifting<'a> {
    /// Transfers a readable end from the guest. Returns the channel's number.
    pub(super) fn reader(&mut self, handle: u32, payload: Payload) -> wasmtime::Result<usize> {
        let (end, number) = self.handles.end(handle)?;
        ensure!(end == End::Reader, "handle index {handle} is not a readable end");
        self.channels.give_reader(number, payload)?;
        self.handles.ensure_in_no_set(Waitable::End(end, number), handle)?;
        self.handles.remove_waitable(handle)?;
        Ok(number)
    }

    /// The bytes of a list's elements, each of type `T`.
    pub(super) fn elements<T: Wit>(&mut self, pointer: u32, count: u32) -> wasmtime::Result<&'a [u8]> {
        let (start, count) = (pointer as usize, count as usize);
        let end = count.checked_mul(T::SIZE).and_then(|length| start.checked_add(length));
        let Some(bytes) = end.and_then(|end| self.memory.get(start..end)) else {
            bail!("list pointer/length out of bounds of memory");
        };
        if !start.is_multiple_of(T::ALIGN) {
            bail!("list pointer is not aligned");
        }
        let copied = count.checked_mul(size_of::<T>().max(1));
        let Some(left) = copied.and_then(|copied| self.copies.checked_sub(copied)) else {
            bail!("too much data is being copied between the host and the guest in one call");
        };
        self.copies = left;
        Ok(bytes)
    }
}
