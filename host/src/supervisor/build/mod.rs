//! Builds components from their sources: the commands of `[build]`, run by `daylily build` and `daylily dev` alone.

pub(crate) mod guard;
pub(crate) mod once;
pub(crate) mod running;
pub(crate) mod sources;

/// The shell that runs command lines.
const SHELL: &str = "/bin/sh";
