//! Standard output of commands.

use std::io::{self, ErrorKind, Write};

use crate::failure::Failure;

/// Prints `text` on standard output. A reader that has closed the pipe, such as `head` or `true`, is no error.
///
/// # Errors
///
/// When it cannot be written for any other reason, such as a full disk.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    unless_reader_left(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// Maps the outcome of a write to standard output as [`print`] does.
///
/// # Errors
///
/// As [`print`].
pub(crate) fn unless_reader_left(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::Output { error }),
        _ => Ok(()),
    }
}
