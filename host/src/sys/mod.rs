//! The system: memory, files, limits and the event loop of a process.

pub(crate) mod allocator;
pub(crate) mod certificates;
pub(crate) mod clock;
pub(crate) mod cpu_time;
pub(crate) mod dirs;
pub(crate) mod drain;
pub(crate) mod limits;
pub(crate) mod lock;
pub(crate) mod memory;
pub(crate) mod pace;
pub(crate) mod random;
pub(crate) mod read_file;
pub(crate) mod runtime;
pub(crate) mod sealed;
pub(crate) mod shared_words;
