//! Runs every case of a table, also after one has failed.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// As much of a case as names it in a report.
const NAME_CHARS: usize = 200;

/// Calls `check` with each case and fails at the end, naming every case that failed.
pub fn each<C: Debug>(cases: &[C], check: impl Fn(&C)) {
    assert!(!cases.is_empty(), "an empty table proves nothing");
    let failed: Vec<String> = cases
        .iter()
        .filter(|case| catch_unwind(AssertUnwindSafe(|| check(case))).is_err())
        .map(|case| format!("  {case:?}").chars().take(NAME_CHARS).collect())
        .collect();
    assert!(failed.is_empty(), "{} of {} cases failed:\n{}", failed.len(), cases.len(), failed.join("\n"));
}
