//! Values on their way to a guest.

use super::guest::room;
use super::handles::Handles;

/// A result on its way into a guest's memory: the bytes of the value, and of all lists in it, whose pointers are not
/// known before the guest has allocated them.
pub(crate) struct Lowering<'a> {
    pub(super) handles: &'a mut Handles,
    /// The value: its place in the guest's memory, or room for it until that is known.
    value: &'a mut [u8],
    written: u64,
    lists: Vec<List>,
}

/// The largest result of a function, without the lists in it: a `datetime`, an error code and what is around it.
pub(super) const MAX_RESULT_BYTES: usize = 64;

const _: () = assert!(MAX_RESULT_BYTES == u64::BITS as usize, "one bit for each byte");

#[derive(Debug)]
pub(crate) struct Lowered {
    pub(super) value: [u8; MAX_RESULT_BYTES],
    /// Which of its bytes are written, one bit for each: padding keeps in the guest's memory what it was.
    pub(super) written: u64,
    /// In the order in which they are allocated: each after the one that has its pointer.
    pub(super) lists: Vec<List>,
}

#[derive(Debug)]
pub(super) struct List {
    pub(super) bytes: Vec<u8>,
    pub(super) align: usize,
    pub(super) pointer_at: Place,
    /// Where it is in the guest's memory, once that is known.
    pub(super) pointer: u32,
}

/// Somewhere in the value itself, or in the list of that number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    list: Option<usize>,
    offset: usize,
}

impl Place {
    pub(super) const VALUE: Self = Self { list: None, offset: 0 };

    pub(crate) fn plus(self, bytes: usize) -> Self {
        Self { offset: self.offset + bytes, ..self }
    }
}

impl Lowered {
    /// Has a result with lists wait for memory, all of whose other bytes are in the guest's memory already.
    pub(super) fn of_lists(lists: Vec<List>) -> Self {
        Self { value: [0; MAX_RESULT_BYTES], written: 0, lists }
    }

    pub(super) fn write(&mut self, to: Place, bytes: &[u8]) {
        write(&mut self.value, &mut self.written, &mut self.lists, to, bytes);
    }

    /// Writes the value, of `size` bytes, to a guest's memory, but for what is not written of it.
    pub(super) fn write_to(&self, memory: &mut [u8], to: u32, size: usize) -> wasmtime::Result<()> {
        let room = room(memory, to, size)?;
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

/// So many bits that are set, from the lowest on.
fn first_bits(count: usize) -> u64 {
    u32::try_from(count).ok().and_then(|count| 1_u64.checked_shl(count)).unwrap_or(0).wrapping_sub(1)
}

/// Writes a part of a value or of one of its lists. Room for all of it was made by its type's size.
#[inline]
fn write(value: &mut [u8], written: &mut u64, lists: &mut [List], to: Place, bytes: &[u8]) {
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
    /// Of a value that is written to `value`; what it does not write there stays as it is.
    pub(super) fn new(handles: &'a mut Handles, value: &'a mut [u8]) -> Self {
        Self { handles, value, written: 0, lists: Vec::new() }
    }

    /// Which bytes of the value are written, one bit for each, and its lists.
    pub(super) fn end(self) -> (u64, Vec<List>) {
        (self.written, self.lists)
    }

    #[inline]
    pub(crate) fn write(&mut self, to: Place, bytes: &[u8]) {
        write(self.value, &mut self.written, &mut self.lists, to, bytes);
    }

    /// Has the guest allocate memory for these bytes; the pointer comes to `pointer_at`.
    pub(super) fn allocate(&mut self, bytes: Vec<u8>, align: usize, pointer_at: Place) -> Place {
        self.lists.push(List { bytes, align, pointer_at, pointer: 0 });
        Place { list: Some(self.lists.len() - 1), offset: 0 }
    }
}
