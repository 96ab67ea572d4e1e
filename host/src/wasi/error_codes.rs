//! Errors of host functions: an error code for the guest, or a trap.

/// Converts an error into the error code that the guest receives, or into a trap.
pub(crate) fn code_or_trap<V, E, W>(
    result: Result<V, E>,
    code: impl FnOnce(E) -> wasmtime::Result<W>,
) -> wasmtime::Result<Result<V, W>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) => code(error).map(Err),
    }
}
