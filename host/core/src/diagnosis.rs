//! What a developer is shown of a failed guest: its stack, and the end of what it wrote to stderr and stdout.

use std::collections::VecDeque;
use std::fmt;

use crate::exception;
use crate::excerpt::{Excerpt, printable};

/// Bytes of each of a guest's output streams that are kept, as the guest wrote them.
pub const MAX_KEPT_OUTPUT_BYTES: usize = 8 << 10;

/// Bytes of one function's name in a stack. The length of names is not limited otherwise.
const MAX_FUNCTION_BYTES: usize = 256;

/// Bytes of one place in a source file: its path, the line and the column.
const MAX_PLACE_BYTES: usize = 512;

/// What is known of one call besides its outcome.
#[derive(Debug, Default)]
pub struct Diagnosis {
    stack: Stack,
    stderr: KeptOutput,
    stdout: KeptOutput,
}

/// The functions that a guest was in when it failed.
#[derive(Debug, Default)]
pub struct Stack {
    frames: Vec<Frame>,
    /// Whether functions further out were left out.
    is_cut: bool,
}

/// A function in a stack.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    function: Excerpt,
    place: Option<Excerpt>,
}

/// The end of an output stream.
#[derive(Debug, Default)]
pub struct KeptOutput {
    last: VecDeque<u8>,
    written_bytes: u64,
}

impl Diagnosis {
    /// Records where the guest failed.
    pub fn set_stack(&mut self, stack: Stack) {
        self.stack = stack;
    }

    /// Where the guest failed; empty if that is not known.
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// What the guest has written to stderr.
    pub fn stderr(&mut self) -> &mut KeptOutput {
        &mut self.stderr
    }

    /// What the guest has written to stdout.
    pub fn stdout(&mut self) -> &mut KeptOutput {
        &mut self.stdout
    }

    /// The exception or panic that the guest has written to stderr, in one line.
    pub fn exception(&self) -> Option<Excerpt> {
        exception::find(&String::from_utf8_lossy(&self.stderr.shown())).map(Excerpt::of)
    }
}

/// The sections of an error response below its first lines. Empty if nothing is known. Standard error comes first: an
/// exception has the functions of the program, and the stack may have those of an interpreter alone.
impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stderr.write("stderr", f)?;
        write!(f, "{}", self.stack)?;
        self.stdout.write("stdout", f)
    }
}

impl Stack {
    /// The first `most` of `frames`, which begin with the innermost function.
    pub fn of(mut frames: impl Iterator<Item = Frame>, most: usize) -> Self {
        let shown = frames.by_ref().take(most).collect();
        Self { frames: shown, is_cut: frames.next().is_some() }
    }

    /// The functions, innermost first.
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }
}

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.frames.is_empty() {
            return Ok(());
        }
        write!(f, "\nstack, innermost function first:\n")?;
        for (number, Frame { function, place }) in self.frames.iter().enumerate() {
            writeln!(f, "{number:>4}: {function}")?;
            if let Some(place) = place {
                writeln!(f, "        at {place}")?;
            }
        }
        if self.is_cut { writeln!(f, "      … (the functions further out are left out)") } else { Ok(()) }
    }
}

impl Frame {
    /// `place` is where in the source file the function was, if that is known. Both may be of any length.
    pub fn new(function: impl fmt::Display, place: Option<impl fmt::Display>) -> Self {
        Self {
            function: Excerpt::display_within(function, MAX_FUNCTION_BYTES),
            place: place.map(|place| Excerpt::display_within(place, MAX_PLACE_BYTES)),
        }
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.function)?;
        self.place.as_ref().map_or(Ok(()), |place| write!(f, " at {place}"))
    }
}

impl KeptOutput {
    /// Takes what the guest writes, and forgets what is too long ago.
    pub fn push(&mut self, bytes: &[u8]) {
        self.written_bytes = self.written_bytes.saturating_add(bytes.len() as u64);
        let kept = bytes.get(bytes.len().saturating_sub(MAX_KEPT_OUTPUT_BYTES)..).unwrap_or_default();
        let forgotten = (self.last.len() + kept.len()).saturating_sub(MAX_KEPT_OUTPUT_BYTES);
        drop(self.last.drain(..forgotten));
        self.last.extend(kept);
    }

    /// The kept bytes. If some were forgotten, they begin with a whole line, or, if their first line is longer than
    /// half of them, with a whole character.
    fn shown(&self) -> Vec<u8> {
        let mut kept: Vec<u8> = self.last.iter().copied().collect();
        if kept.len() as u64 == self.written_bytes {
            return kept;
        }
        let first_half = kept.get(..kept.len() / 2).unwrap_or_default();
        let start = match first_half.iter().position(|byte| *byte == b'\n') {
            Some(line_end) => line_end + 1,
            // A character of UTF-8 has at most three bytes of this form, at its end.
            None => kept.iter().take(3).take_while(|byte| **byte & 0b1100_0000 == 0b1000_0000).count(),
        };
        kept.split_off(start)
    }

    fn write(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.shown();
        if shown.is_empty() {
            return Ok(());
        }
        match self.written_bytes - shown.len() as u64 {
            0 => write!(f, "\n{name}:\n")?,
            left_out => write!(f, "\n{name}, without the first {left_out} bytes:\n")?,
        }
        for line in String::from_utf8_lossy(&shown).lines() {
            writeln!(f, "{}", printable(line))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> Option<&'static str> {
        None
    }

    #[test]
    fn what_a_developer_reads() {
        let mut diagnosis = Diagnosis::default();
        assert_eq!(diagnosis.to_string(), "");
        let frames = [Frame::new("m!inner", Some("src/lib.rs:3:5")), Frame::new("m!outer", none())];
        diagnosis.set_stack(Stack::of(frames.into_iter(), 9));
        diagnosis.stdout().push(b"one\ntw");
        diagnosis.stdout().push(b"o");
        diagnosis.stderr().push(b"oh\r\n\nno \x1b[31m\xff\n");
        let expected = "\nstderr:\noh\n\nno \\u{1b}[31m\u{fffd}\n\
                        \nstack, innermost function first:\n   0: m!inner\n        at src/lib.rs:3:5\n   1: m!outer\n\
                        \nstdout:\none\ntwo\n";
        assert_eq!(diagnosis.to_string(), expected);
    }

    #[test]
    fn stacks_are_bounded() {
        let frames = || (0..5).map(|number| Frame::new(number, none()));
        let cut = "      … (the functions further out are left out)\n";
        for (most, count, is_cut) in [(6, 5, false), (5, 5, false), (4, 4, true)] {
            let stack = Stack::of(frames(), most);
            assert_eq!((stack.frames().len(), stack.to_string().ends_with(cut)), (count, is_cut), "{most}");
        }
        let long = "n".repeat(450_000);
        let frame = Frame::new(format_args!("m!{long}"), Some(&long)).to_string();
        assert!(frame.starts_with("m!nnnn") && frame.len() < MAX_FUNCTION_BYTES + MAX_PLACE_BYTES + 80);
        // A line end in a name does not start a line, and control characters are escaped.
        assert_eq!(Frame::new("a\nERROR \u{1b}", Some("b\n")).to_string(), "a\\nERROR \\u{1b} at b\\n");
    }

    #[test]
    fn the_end_of_the_output_is_kept() {
        fn check(writes: &[&[u8]], left_out: usize, start: &str) {
            let mut output = KeptOutput::default();
            writes.iter().for_each(|bytes| output.push(bytes));
            assert!(output.last.len() <= MAX_KEPT_OUTPUT_BYTES);
            let all = writes.concat();
            let shown = output.shown();
            assert_eq!(shown, all.get(left_out..).expect("that many"), "{left_out}");
            assert!(shown.starts_with(start.as_bytes()), "{left_out}");
        }
        const FULL: usize = MAX_KEPT_OUTPUT_BYTES;
        let x = "x".repeat(FULL);
        check(&[], 0, "");
        check(&[x.as_bytes()], 0, "x");
        // Whole lines, however they are written.
        let lines: Vec<u8> = (0..2_000).flat_map(|number| format!("{number:09}\n").into_bytes()).collect();
        check(&[&lines], 11_810, "000001181\n");
        check(&lines.chunks(7).collect::<Vec<_>>(), 11_810, "000001181\n");
        // A line that is too long begins with a whole character.
        check(&["ä".as_bytes(), x.get(1..).expect("text").as_bytes()], 2, "x");
        check(&["🦀".as_bytes(), x.get(1..).expect("text").as_bytes()], 4, "x");
        check(&[b"a", x.as_bytes(), b"\nend\n"], 6, "x");
        // At most three bytes are taken for the rest of a character.
        check(&[&[0x80; FULL + 1]], 4, "");
    }
}
