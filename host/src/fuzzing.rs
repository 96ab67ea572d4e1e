//! What the fuzz targets (`fuzz/`) try: parts of the crate that take bytes of others', and guests in both forms. It is
//! no interface, and in no build that serves.

pub use crate::control::fuzzing::{Message, messages};
pub use crate::engine::fuzzing::{
    Ended, Form, Forms, Input, Outcome, TRACE, WAITS, Wasi, cache_entry, compiles, digest, inspected, main_module,
    relinked,
};
pub use crate::serve::fuzzing::Server;
