//! The lines that `daylily` writes to stderr, collected while it runs.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::PATIENCE;

#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    ended: bool,
}

#[derive(Clone, Default)]
pub struct Log {
    shared: Arc<(Mutex<Lines>, Condvar)>,
}

impl Log {
    /// Collects everything from `source` until it ends, in a separate thread.
    pub fn collect(source: impl Read + Send + 'static) -> Self {
        Self::collect_apart(source, |_| false).0
    }

    /// As [`Log::collect`], with the lines for which `is_apart` returns true in a second log.
    pub fn collect_apart(source: impl Read + Send + 'static, is_apart: fn(&str) -> bool) -> (Self, Self) {
        let logs = (Self::default(), Self::default());
        let (log, apart) = logs.clone();
        std::thread::spawn(move || {
            let mut source = BufReader::new(source);
            let mut line = Vec::new();
            while source.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
                let writer = if is_apart(&text) { &apart } else { &log };
                writer.change(|lines| lines.lines.push(text));
                line.clear();
            }
            [log, apart].iter().for_each(|writer| writer.change(|lines| lines.ended = true));
        });
        logs
    }

    fn change(&self, change: impl FnOnce(&mut Lines)) {
        let (lines, changed) = &*self.shared;
        change(&mut lines.lock().unwrap_or_else(PoisonError::into_inner));
        changed.notify_all();
    }

    pub fn lines(&self) -> Vec<String> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner).lines.clone()
    }

    /// The lines received so far for which `wanted` returns true.
    pub fn matching(&self, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        self.lines().into_iter().filter(|line| wanted(line)).collect()
    }

    /// Waits for the first line that contains all of `parts`. Fails if there is none in time.
    #[track_caller]
    pub fn wait_for(&self, parts: &[&str]) -> String {
        match self.find_within(PATIENCE, |line| parts.iter().all(|part| line.contains(part))) {
            Some(line) => line,
            None => panic!("no log line with {parts:?} in:\n{}", self.tail()),
        }
    }

    /// Like `wait_for`, with a time limit and without failing.
    pub fn find_within(&self, within: Duration, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let (lines, changed) = &*self.shared;
        let guard = lines.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = |lines: &mut Lines| !lines.ended && !lines.lines.iter().any(|line| wanted(line));
        let (guard, _) = changed.wait_timeout_while(guard, within, missing).unwrap_or_else(PoisonError::into_inner);
        guard.lines.iter().find(|line| wanted(line)).cloned()
    }

    /// Waits until the writer has closed, and returns the whole text.
    pub fn to_end(&self) -> String {
        let (lines, changed) = &*self.shared;
        let guard = lines.lock().unwrap_or_else(PoisonError::into_inner);
        let (guard, waited) =
            changed.wait_timeout_while(guard, PATIENCE, |lines| !lines.ended).unwrap_or_else(PoisonError::into_inner);
        assert!(!waited.timed_out(), "the process has ended, its output has not");
        guard.lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// The last lines, for the report of a failed test.
    pub fn tail(&self) -> String {
        let lines = self.lines();
        lines.get(lines.len().saturating_sub(60)..).unwrap_or_default().join("\n")
    }
}
