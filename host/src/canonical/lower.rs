//! Values on their way to a guest.

use super::guest::room;
use super::handles::Handles;

/// A result on its way into a guest's memory: the bytes of the value, and of all lists in it, whose pointers are not
/// known before the guest has allocated them.
pub(crate) struct Lowering<'a> {
    pub(super) handles: &'a mut Handles,
    pub(super) lowered: Lowered,
}

/// The largest result of a function, without the lists in it: a `datetime`, an error code and what is around it.
pub(super) const MAX_RESULT_BYTES: usize = 64;

const _: () = assert!(MAX_RESULT_BYTES == u64::BITS as usize, "one bit for each byte");

#[derive(Debug)]
pub(crate) struct Lowered {
    pub(super) value: [u8; MAX_RESULT_BYTES],
    /// Which of its bytes are written, one bit for each: padding keeps in the guest's memory what it was.
    written: u64,
    /// In the order in which they are allocated: each after the one that has its pointer.
    pub(super) lists: Vec<List>,
}

#[derive(Debug)]
pub(super) struct List {
    pub(super) bytes: Vec<u8>,
    pub(super) align: usize,
    pub(super) pointer_at: Place,
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
    pub(super) fn write(&mut self, to: Place, bytes: &[u8]) {
        let part = match to.list {
            None => Some(&mut self.value[..]),
            Some(number) => self.lists.get_mut(number).map(|list| &mut list.bytes[..]),
        };
        // Room for all of it was made by its type's size.
        if let Some(room) = part.and_then(|part| part.get_mut(to.offset..to.offset + bytes.len())) {
            room.copy_from_slice(bytes);
            if to.list.is_none() {
                self.written |= first_bits(bytes.len()) << to.offset;
            }
        }
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

impl<'a> Lowering<'a> {
    pub(super) fn new(handles: &'a mut Handles) -> Self {
        Self { handles, lowered: Lowered { value: [0; MAX_RESULT_BYTES], written: 0, lists: Vec::new() } }
    }

    /// What is not written keeps the bytes of `before`.
    pub(super) fn over(handles: &'a mut Handles, before: &[u8]) -> Self {
        let mut lowering = Self::new(handles);
        if let Some(value) = lowering.lowered.value.get_mut(..before.len()) {
            value.copy_from_slice(before);
        }
        lowering
    }

    pub(crate) fn write(&mut self, to: Place, bytes: &[u8]) {
        self.lowered.write(to, bytes);
    }

    /// Has the guest allocate memory for these bytes; the pointer comes to `pointer_at`.
    pub(super) fn allocate(&mut self, bytes: Vec<u8>, align: usize, pointer_at: Place) -> Place {
        let lists = &mut self.lowered.lists;
        lists.push(List { bytes, align, pointer_at });
        Place { list: Some(lists.len() - 1), offset: 0 }
    }
}
