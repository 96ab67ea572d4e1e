//! Values that keep their number while they are there.

/// The number of a value that is gone is given to another.
#[derive(Debug)]
pub(super) struct Slab<V> {
    entries: Vec<Option<V>>,
    free: Vec<usize>,
}

impl<V> Default for Slab<V> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }
}

impl<V> Slab<V> {
    pub(super) fn insert(&mut self, value: V) -> usize {
        if let Some(number) = self.free.pop()
            && let Some(entry) = self.entries.get_mut(number)
        {
            *entry = Some(value);
            return number;
        }
        self.entries.push(Some(value));
        self.entries.len() - 1
    }

    pub(super) fn get(&mut self, number: usize) -> Option<&mut V> {
        self.entries.get_mut(number)?.as_mut()
    }

    pub(super) fn remove(&mut self, number: usize) -> Option<V> {
        let value = self.entries.get_mut(number)?.take()?;
        self.free.push(number);
        Some(value)
    }

    /// All numbers are below this one.
    pub(super) fn end(&self) -> usize {
        self.entries.len()
    }
}
