//! Lowering: values from the host to the guest.

use super::guest::target;
use super::handles::Handles;

/// A result that is being lowered: the bytes of the value, and those of all lists in it, whose addresses are unknown
/// until the guest has allocated them.
pub(crate) struct Lowering<'a> {
    pub(super) handles: &'a mut Handles,
    /// The value's bytes: in the guest's memory, or in a buffer until its address is known.
    value: &'a mut [u8],
    written: u64,
    lists: Vec<List>,
}

/// The largest result of a function, without its lists, in bytes: a `datetime`, or an error code in a `result`.
pub(super) const MAX_RESULT_BYTES: usize = 64;

const _: () = assert!(MAX_RESULT_BYTES == u64::BITS as usize, "one bit for each byte");

#[derive(Debug)]
pub(crate) struct Lowered {
    pub(super) value: [u8; MAX_RESULT_BYTES],
    /// A bit mask of the bytes that are written. The others are padding, which is left unchanged in the guest's memory.
    pub(super) written: u64,
    /// In order of allocation: each list comes after the one that contains its pointer.
    pub(super) lists: Vec<List>,
}

#[derive(Debug)]
pub(super) struct List {
    pub(super) bytes: Vec<u8>,
    pub(super) align: usize,
    pub(super) pointer_at: Location,
    /// Its address in the guest's memory, once it is allocated.
    pub(super) pointer: u32,
}

/// An offset within the value, or within the list of that number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Location {
    list: Option<usize>,
    offset: usize,
}

impl Location {
    pub(super) const VALUE: Self = Self { list: None, offset: 0 };

    pub(crate) fn plus(self, bytes: usize) -> Self {
        Self { offset: self.offset + bytes, ..self }
    }
}

impl Lowered {
    /// A result of which all bytes but the lists' (and the pointers to them) are in the guest's memory already.
    pub(super) fn of_lists(lists: Vec<List>) -> Self {
        Self { value: [0; MAX_RESULT_BYTES], written: 0, lists }
    }

    pub(super) fn write(&mut self, to: Location, bytes: &[u8]) {
        write(&mut self.value, &mut self.written, &mut self.lists, to, bytes);
    }

    /// Copies the written bytes of the value, whose size is `size`, to a guest's memory.
    pub(super) fn write_to(&self, memory: &mut [u8], to: u32, size: usize) -> wasmtime::Result<()> {
        let room = target(memory, to, size)?;
        let value = self.value.get(..size).unwrap_or_default();
        let (mut left, mut start) = (self.written, 0);
        while left != 0 {
            start += left.trailing_zeros() as usize;
            left >>= left.trailing_zeros();
            let end = start + left.trailing_ones() as usize;
            if let (Some(to), Some(bytes)) = (room.get_mut(start..end), value.get(start..end)) {
                to.copy_from_slice(bytes);
            }
            left = left.checked_shr(left.trailing_ones()).unwrap_or(0);
            start = end;
        }
        Ok(())
    }
}

/// The lowest `count` bits set.
fn first_bits(count: usize) -> u64 {
    u32::try_from(count).ok().and_then(|count| 1_u64.checked_shl(count)).unwrap_or(0).wrapping_sub(1)
}

/// Writes a part of the value or of a list. Their buffers have the size of their types, so that each part fits.
#[inline]
fn write(value: &mut [u8], written: &mut u64, lists: &mut [List], to: Location, bytes: &[u8]) {
    let part = match to.list {
        None => {
            *written |= first_bits(bytes.len()) << to.offset;
            Some(value)
        }
        Some(number) => lists.get_mut(number).map(|list| &mut list.bytes[..]),
    };
    if let Some(room) = part.and_then(|part| part.get_mut(to.offset..to.offset + bytes.len())) {
        room.copy_from_slice(bytes);
    }
}

impl<'a> Lowering<'a> {
    /// Lowers to the buffer `value`. Bytes that are not written, such as padding, keep their content.
    pub(super) fn new(handles: &'a mut Handles, value: &'a mut [u8]) -> Self {
        Self { handles, value, written: 0, lists: Vec::new() }
    }

    /// The bit mask of the written bytes, and the lists.
    pub(super) fn end(self) -> (u64, Vec<List>) {
        (self.written, self.lists)
    }

    #[inline]
    pub(crate) fn write(&mut self, to: Location, bytes: &[u8]) {
        write(self.value, &mut self.written, &mut self.lists, to, bytes);
    }

    /// Adds a list with these bytes, for which the guest is to allocate memory. Its address is written to `pointer_at`.
    pub(super) fn allocate(&mut self, bytes: Vec<u8>, align: usize, pointer_at: Location) -> Location {
        self.lists.push(List { bytes, align, pointer_at, pointer: 0 });
        Location { list: Some(self.lists.len() - 1), offset: 0 }
    }
}
