//! The functions that the fuzz targets (`fuzz/`) call: parts of the crate that read untrusted bytes, and guests in both
//! ways of linking. This is not a stable interface, and is compiled only with the feature `fuzzing`.

pub use crate::call::fuzzing::{
    Ended, Form, Forms, GuestRun, HOST_PANIC, Input, TRACE, WAITS, Wasi, cache_entry, compiles, digest, inspected,
    main_module, relinked,
};
pub use crate::http::fuzzing::Server;
pub use crate::supervisor::fuzzing::{Message, messages};
