//! From wasmtime's errors to the outcome of a call, with messages of a bounded length.

use std::fmt::{self, Write};

use daylily_core::excerpt::Excerpt;
use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::call::store::CpuTimeUsedUp;
use crate::engine::outcome::Outcome;
use crate::engine::pool::slots::SlotsInUse;
use crate::wasi::state::State;

/// Frames of a wasm backtrace that a message contains.
const SHOWN_FRAMES: usize = 5;

/// Bytes of each frame. The length of a function's name is not limited otherwise.
const MAX_FRAME_BYTES: usize = 96;

/// Bytes of a backtrace that are formatted. Names in it are not limited in length, and demangling can make them a
/// thousand times as long.
const MAX_BACKTRACE_BYTES: usize = 16 << 10;

/// Bytes of the error's own message, so that the whole description of a trap fits into one [`Excerpt`].
const MAX_MESSAGE_BYTES: usize = 256;

/// An error of wasmtime's, and the step that failed.
pub(crate) enum Failure {
    Instantiating(wasmtime::Error),
    Running(wasmtime::Error),
}

impl Failure {
    pub(crate) fn into_outcome(self, state: &State) -> Outcome {
        let (error, instantiating) = match self {
            Self::Instantiating(error) => (error, true),
            Self::Running(error) => (error, false),
        };
        if error.is::<CpuTimeUsedUp>() {
            return Outcome::CpuTime(state.limits().cpu_time);
        }
        if let Some(I32Exit(code)) = error.downcast_ref() {
            return Outcome::Exit(*code);
        }
        let mut detail = String::from(Excerpt::display_within(error.root_cause(), MAX_MESSAGE_BYTES));
        let no_more_instances = detail.contains("instance count too high");
        let mut add = |part: fmt::Arguments<'_>| {
            // Writing to a string does not fail.
            let _ = detail.write_fmt(part);
        };
        if let Some(frames) = error.downcast_ref::<WasmBacktrace>().and_then(innermost) {
            add(format_args!("; in {frames}"));
        }
        if let Some(refused) = state.refused() {
            add(format_args!("; {refused}"));
        }
        if no_more_instances {
            add(format_args!("; raise max_instances = {}", state.limits().max_instances));
        }
        let no_room = error.is::<PoolConcurrencyLimitError>() || error.is::<SlotsInUse>();
        let no_fault_of_the_guest = no_room || instantiating && !error.is::<Trap>();
        let detail = Excerpt::from(detail);
        if no_fault_of_the_guest { Outcome::NoInstance(detail) } else { Outcome::Trap(detail) }
    }
}

/// The innermost functions, innermost first. (The backtrace's text has demangled names.)
fn innermost(backtrace: impl fmt::Display) -> Option<String> {
    let mut frames = Frames { lines: vec![String::new()], left_bytes: MAX_BACKTRACE_BYTES };
    // This fails if the backtrace is longer than `left_bytes`.
    let _ = write!(frames, "{backtrace}");
    let shown = frames
        .lines
        .iter()
        .filter_map(|line| Some(Excerpt::display_within(line.split_once(" - ")?.1, MAX_FRAME_BYTES)));
    let shown: Vec<String> = shown.take(SHOWN_FRAMES).map(String::from).collect();
    (!shown.is_empty()).then(|| shown.join(" < "))
}

/// The lines at the beginning of a backtrace; the rest is discarded.
struct Frames {
    lines: Vec<String>,
    left_bytes: usize,
}

/// Bytes before a function's name: the frame's number, its offset, and the module's name.
const FRAME_PREFIX_BYTES: usize = 64;

impl Write for Frames {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        let kept = piece.get(..piece.floor_char_boundary(self.left_bytes)).unwrap_or_default();
        for (index, part) in kept.split('\n').enumerate() {
            if index > 0 {
                self.lines.push(String::new());
            }
            if let Some(line) = self.lines.last_mut() {
                let room = (FRAME_PREFIX_BYTES + MAX_FRAME_BYTES + 4).saturating_sub(line.len());
                line.push_str(part.get(..part.floor_char_boundary(room)).unwrap_or_default());
            }
        }
        self.left_bytes = self.left_bytes.checked_sub(piece.len()).ok_or(fmt::Error)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_cut() {
        fn check(backtrace: &str, expected: Option<&str>) {
            assert_eq!(innermost(backtrace).as_deref(), expected);
        }
        let long = "n".repeat(450_000);
        check("error while executing at wasm backtrace:", None);
        check("error:\n    0:     0x1 - m!inner\n    1:     0x2 - m!outer", Some("m!inner < m!outer"));
        let shown = innermost(format_args!("error:\n    0:     0x1 - m!{long}\n    1:     0x2 - m!outer"));
        let shown = shown.unwrap_or_default();
        assert!(shown.starts_with("m!nnnn") && shown.len() < MAX_FRAME_BYTES + 40, "{} bytes", shown.len());
        // A line end in a name does not start a line, and control characters are escaped.
        check("error:\n    0:     0x1 - m!a\n2026 ERROR forged\u{1b}[0m", Some("m!a"));
    }
}
