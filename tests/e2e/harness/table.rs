//! Runs every case of a table, even after one has failed.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Length of a case's text in a report.
const NAME_CHARS: usize = 200;

/// Calls `check` with each case. Fails at the end if any case failed, naming all that did.
pub fn each<C: Debug>(cases: &[C], check: impl Fn(&C)) {
    assert!(!cases.is_empty(), "an empty table proves nothing");
    let failed: Vec<String> = cases
        .iter()
        .filter(|case| catch_unwind(AssertUnwindSafe(|| check(case))).is_err())
        .map(|case| format!("  {case:?}").chars().take(NAME_CHARS).collect())
        .collect();
    assert!(failed.is_empty(), "{} of {} cases failed:\n{}", failed.len(), cases.len(), failed.join("\n"));
}
