//! A build of `daylily dev`, in the background.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use daylily_core::config::Build;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, ChildStdin};
use tokio::task::JoinHandle;

use super::guard::BUILD_GUARD;
use super::once::{directory, ended};
use crate::supervisor::process::{command, spawn};

/// The last bytes of a build's output, which are shown in the browser when it fails.
const MAX_SHOWN_BYTES: usize = 64 << 10;

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 8 << 10;

/// Chunks that are read after the end of a build: as many as fit into the pipe.
const MAX_LAST_CHUNKS: usize = 8;

/// A build that runs. Dropping it ends the build's processes.
pub(crate) struct Running {
    /// The guard ends the build when this is closed.
    lifeline: Option<ChildStdin>,
    outcome: JoinHandle<Outcome>,
}

/// How a build has ended.
pub(crate) struct Outcome {
    pub(crate) took: Duration,
    /// How it has ended and what it has written, if it failed.
    pub(crate) result: Result<(), FailedBuild>,
}

/// A build that failed.
pub(crate) struct FailedBuild {
    /// As in "exit code 1".
    pub(crate) why: String,
    /// The end of its output.
    pub(crate) output: String,
}

impl Running {
    /// Starts a build of `daylily dev`. Its output goes to the stderr of this process. Must be called on the thread of
    /// [`reap`](crate::supervisor::orphans::reap).
    ///
    /// # Errors
    ///
    /// When the system does not start it.
    pub(crate) fn start(build: &Build) -> io::Result<Self> {
        let command_line = build.dev_command.as_ref().unwrap_or(&build.command);
        let (output, writer) = io::pipe()?;
        let mut command = command(&[BUILD_GUARD, command_line], Stdio::piped())?;
        command.current_dir(directory(build)).process_group(0).stdout(writer.try_clone()?).stderr(writer);
        // Closes this process's copies of the pipe.
        let mut child = spawn(command)?;
        let output = Receiver::from_owned_fd(OwnedFd::from(output))?;
        Ok(Self { lifeline: child.stdin.take(), outcome: tokio::spawn(observe(child, output, Instant::now())) })
    }

    /// Ends the build's processes. [`Running::ended`] resolves when they have ended.
    pub(crate) fn cancel(&mut self) {
        self.lifeline = None;
    }

    /// Resolves when the build has ended. Cancel safe.
    pub(crate) async fn ended(&mut self) -> Outcome {
        match (&mut self.outcome).await {
            Ok(outcome) => outcome,
            Err(error) => Outcome { took: Duration::ZERO, result: Err(FailedBuild::unknown(&error)) },
        }
    }
}

impl FailedBuild {
    pub(crate) fn unknown(error: &dyn std::fmt::Display) -> Self {
        Self { why: format!("it could not be run: {error}"), output: String::new() }
    }
}

/// Passes the output on until the guard has ended.
async fn observe(mut child: Child, mut output: Receiver, began: Instant) -> Outcome {
    let mut shown = Tail::default();
    let mut chunk = vec![0; CHUNK_BYTES];
    let status = loop {
        tokio::select! {
            Ok(bytes @ 1..) = output.read(&mut chunk) => shown.pass_on(chunk.get(..bytes).unwrap_or_default()).await,
            status = child.wait() => break status,
        }
    };
    // What is left in the pipe. A process that left the build's group may hold it open, so its end is not waited for.
    for _ in 0..MAX_LAST_CHUNKS {
        let Ok(bytes @ 1..) = output.try_read(&mut chunk) else { break };
        shown.pass_on(chunk.get(..bytes).unwrap_or_default()).await;
    }
    if shown.bytes.back().is_some_and(|last| *last != b'\n') {
        shown.pass_on(b"\n").await;
    }
    Outcome { took: began.elapsed(), result: result(status, shown) }
}

fn result(status: io::Result<ExitStatus>, shown: Tail) -> Result<(), FailedBuild> {
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(FailedBuild { why: ended(status), output: shown.into_text() }),
        Err(error) => Err(FailedBuild::unknown(&error)),
    }
}

/// The end of a build's output.
#[derive(Default)]
struct Tail {
    bytes: VecDeque<u8>,
    is_cut: bool,
}

impl Tail {
    async fn pass_on(&mut self, bytes: &[u8]) {
        self.push(bytes);
        let bytes = bytes.to_vec();
        // In a thread: a terminal that was stopped (Ctrl-S) takes nothing.
        let _ = tokio::task::spawn_blocking(move || io::stderr().write_all(&bytes)).await;
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        let excess = self.bytes.len().saturating_sub(MAX_SHOWN_BYTES);
        self.is_cut |= excess > 0;
        self.bytes.drain(..excess);
    }

    /// Without the escape sequences that colour a terminal's text.
    fn into_text(self) -> String {
        let bytes = Vec::from(self.bytes);
        let text = String::from_utf8_lossy(&bytes);
        let start = if self.is_cut { "[…]\n" } else { "" };
        format!("{start}{}", without_escapes(&text))
    }
}

/// Removes control sequences (ECMA-48 §5.4): ESC, `[`, parameters, and a final byte from `@` to `~`; and all other
/// control characters but tabs and ends of lines.
fn without_escapes(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        match character {
            '\u{1b}' => {
                if rest.as_str().starts_with('[') {
                    let _ = rest.by_ref().skip(1).find(|end| ('@'..='~').contains(end));
                }
            }
            '\t' | '\n' => plain.push(character),
            // A line that is written over another one.
            '\r' if !rest.as_str().starts_with('\n') => plain.push('\n'),
            _ if character.is_control() => {}
            _ => plain.push(character),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_colours_are_removed() {
        for (text, expected) in [
            ("plain\n\ttext", "plain\n\ttext"),
            ("\u{1b}[1;31merror\u{1b}[0m: no", "error: no"),
            ("50%\r100%\r\n", "50%\n100%\n"),
            ("\u{1b}", ""),
            ("a\u{1b}[", "a"),
            ("\u{1b}(B!", "(B!"),
        ] {
            assert_eq!(without_escapes(text), expected, "{text:?}");
        }
    }

    #[test]
    fn the_end_of_long_output_is_kept() {
        let mut tail = Tail::default();
        tail.push(b"first\n");
        assert!(!tail.is_cut);
        tail.push(&vec![b'x'; MAX_SHOWN_BYTES]);
        tail.push(b"last\n");
        let text = tail.into_text();
        assert!(text.starts_with("[…]\nxxx") && text.ends_with("xxlast\n"), "{}", text.len());
        assert_eq!(text.len(), MAX_SHOWN_BYTES + "[…]\n".len());
    }
}
