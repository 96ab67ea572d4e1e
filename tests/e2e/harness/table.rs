//! Runs every case of a table, also after one has failed.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls `check` with each case and fails at the end, naming every case that failed.
pub fn each<C>(cases: &[C], name: impl Fn(&C) -> String, check: impl Fn(&C)) {
    assert!(!cases.is_empty(), "an empty table proves nothing");
    let failed: Vec<String> = cases
        .iter()
        .filter(|case| catch_unwind(AssertUnwindSafe(|| check(case))).is_err())
        .map(|case| format!("  {}", name(case)))
        .collect();
    assert!(failed.is_empty(), "{} of {} cases failed:\n{}", failed.len(), cases.len(), failed.join("\n"));
}
