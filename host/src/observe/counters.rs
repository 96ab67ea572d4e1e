//! Every counter of `daylily status`, one row each.
//!
//! To add a counter, add a row at the end of its section, and count: with `slot.NAME.add(1)` in a worker, or with
//! `totals.NAME += 1` in the supervisor. The row is also its field in the sums, in the handoff to a successor, in
//! `totals` of `daylily status --json`, in the text of `daylily status`, and in docs/operations.md, into which
//! `cargo xtask tidy --bless` writes it.

use std::fmt::Write as _;
use std::ops::{Add, AddAssign};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

/// A counter or gauge in memory that a worker writes and the supervisor reads.
#[derive(Default)]
#[repr(transparent)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    #[inline]
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }
}

/// A line of the text of `daylily status`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    Requests,
    Workers,
    Reloads,
}

/// The lines in their order, with their first words.
const LINES: [(Line, &str); 3] =
    [(Line::Requests, "requests"), (Line::Workers, "workers replaced"), (Line::Reloads, "reloads")];

fn lines(items: &[(Line, String)]) -> String {
    let mut text = String::new();
    for (line, title) in LINES {
        let items: Vec<&str> = items.iter().filter(|(of, _)| *of == line).map(|(_, item)| item.as_str()).collect();
        let _ = writeln!(text, "{title}: {}", items.join(", "));
    }
    text
}

/// The value that is reported for a row: that of its counter, or one that is computed from all of them.
macro_rules! value {
    ($counts:expr, $counter:ident) => {
        $counts.$counter
    };
    ($counts:expr, $counter:ident, $computed:path) => {
        $computed(&$counts)
    };
}

/// A row is `counter => field of totals (function that computes it), "meaning", line of the text: "its part";`, where
/// only `counter` is required. The part of the text can contain any field of `totals` in braces.
macro_rules! counters {
    (
        worker { $(
            $worker:ident
            $(=> $field:ident $(($computed:path))?, $meaning:literal $(, $line:ident: $text:literal)?)?;
        )* }
        supervisor { $($own:ident => $own_field:ident, $own_meaning:literal $(, $own_line:ident: $own_text:literal)?;)* }
        live { $($live:ident;)* }
    ) => {
        /// One worker's counters and gauges, in memory that it shares with the supervisor. The counters only increase
        /// while it lives. The difference between an opened and a closed (begun and ended) counter is a gauge, too.
        #[derive(Default)]
        #[repr(C)]
        pub(crate) struct Slot {
            $(pub(crate) $live: Counter,)*
            $(pub(crate) $worker: Counter,)*
        }

        impl Slot {
            /// The counters, read one after the other in the order of their rows.
            pub(super) fn read(&self) -> Counts {
                Counts { $($worker: self.$worker.get(),)* }
            }

            pub(super) fn clear(&self) {
                $(self.$live.set(0);)*
                $(self.$worker.set(0);)*
            }
        }

        /// A snapshot of a slot's counters, or a sum of such snapshots. A part of [`Totals`] in the handoff: fields may
        /// be added, but not renamed or removed.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        pub(crate) struct Counts {
            $(pub(crate) $worker: u64,)*
        }

        impl Counts {
            /// What was counted since the snapshot `before`.
            pub(crate) fn since(self, before: Self) -> Self {
                Self { $($worker: self.$worker.saturating_sub(before.$worker),)* }
            }
        }

        impl Add for Counts {
            type Output = Self;

            fn add(self, other: Self) -> Self {
                Self { $($worker: self.$worker.saturating_add(other.$worker),)* }
            }
        }

        /// What was counted since the first start, across reloads, upgrades and deaths of workers. A part of the
        /// handoff: fields may be added, but not renamed or removed.
        #[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
        #[serde(default)]
        pub(crate) struct Totals {
            pub(crate) counts: Counts,
            $(pub(crate) $own: u64,)*
        }

        impl Totals {
            /// What was counted since the totals `before`.
            pub(crate) fn since(self, before: Self) -> Self {
                Self {
                    counts: self.counts.since(before.counts),
                    $($own: self.$own.saturating_sub(before.$own),)*
                }
            }

            /// Without what workers count.
            pub(crate) fn without_counts(self) -> Self {
                Self { counts: Counts::default(), ..self }
            }

            /// What the supervisor itself counts, in the order of the rows.
            pub(super) fn of_supervisor(self) -> [u64; SUPERVISOR_COUNTERS] {
                [$(self.$own),*]
            }

            /// The inverse of [`Totals::of_supervisor`].
            pub(super) fn from_supervisor([$($own),*]: [u64; SUPERVISOR_COUNTERS]) -> Self {
                Self { counts: Counts::default(), $($own),* }
            }
        }

        /// The number of counters that the supervisor itself counts.
        pub(super) const SUPERVISOR_COUNTERS: usize = [$(stringify!($own)),*].len();

        impl Add for Totals {
            type Output = Self;

            fn add(self, other: Self) -> Self {
                Self {
                    counts: self.counts + other.counts,
                    $($own: self.$own.saturating_add(other.$own),)*
                }
            }
        }

        /// `totals` of `daylily status --json`. Fields may be added, but not renamed or removed.
        #[derive(Debug, Default, Serialize, Deserialize)]
        #[serde(default)]
        pub(crate) struct TotalsReport {
            $($(#[doc = $meaning] pub(crate) $field: u64,)?)*
            $(#[doc = $own_meaning] pub(crate) $own_field: u64,)*
        }

        impl From<Totals> for TotalsReport {
            fn from(totals: Totals) -> Self {
                Self {
                    $($($field: value!(totals.counts, $worker $(, $computed)?),)?)*
                    $($own_field: totals.$own,)*
                }
            }
        }

        impl TotalsReport {
            /// The totals as text, for a terminal.
            pub(crate) fn to_text(&self) -> String {
                #[expect(unused_variables, reason = "not every field is in the text")]
                let Self { $($($field,)?)* $($own_field,)* } = self;
                lines(&[
                    $($($((Line::$line, format!($text)),)?)?)*
                    $($((Line::$own_line, format!($own_text)),)?)*
                ])
            }
        }
    };
}

counters! {
    // In a worker's slot, and in the sums over all workers.
    worker {
        connections_opened => connections, "connections that were accepted";
        connections_closed;
        requests_begun => requests, "requests that began, including those that got an error response from daylily",
            Requests: "{requests} on {connections} connections";
        requests_ended => requests_in_progress (Counts::requests_in_progress), "requests that began and have not ended";
        // By daylily at the end of a drain.
        requests_cut => requests_cut, "requests that ended because `shutdown_timeout` was over",
            Requests: "{requests_cut} cut after shutdown_timeout";
        // 0 in the slot: the supervisor counts them when the worker has ended (`Counts::at_death`).
        requests_lost => requests_lost,
            "requests in progress when their worker died, or when a second signal killed it",
            Requests: "{requests_lost} lost when their worker died";
    }
    // Counted by the supervisor.
    supervisor {
        reloads => reloads, "all reloads", Reloads: "{reloads}";
        reloads_failed => reloads_failed, "reloads that failed", Reloads: "{reloads_failed} of them failed";
        restarts => worker_restarts, "workers that were replaced", Workers: "{worker_restarts}";
        hangs => worker_hangs, "workers that were replaced because they hung", Workers: "{worker_hangs} of them hung";
        blocked => workers_blocked,
            "workers that were replaced because of [file calls that did not return](#file-systems-that-do-not-answer)",
            Workers: "{workers_blocked} of them with blocked file calls";
    }
    // In a worker's slot and in no sum: they describe a live process.
    live {
        // Incremented regularly by the event loop; the supervisor detects by it that the event loop hangs.
        heartbeats;
        // Gauge: file calls that have outlived their requests and have not returned.
        blocked_calls;
        // Gauge: routes that have no thread left for files, because of such calls.
        blocked_routes;
    }
}

impl Counts {
    pub(crate) fn requests_in_progress(&self) -> u64 {
        self.requests_begun.saturating_sub(self.requests_ended)
    }

    pub(crate) fn connections_open(&self) -> u64 {
        self.connections_opened.saturating_sub(self.connections_closed)
    }

    /// The counts once the worker has ended: its connections are closed, and its requests in progress are lost.
    pub(crate) fn at_death(self) -> Self {
        // Requests that were counted as cut do not also count as lost.
        let lost = self.requests_in_progress().saturating_sub(self.requests_cut);
        Self {
            connections_closed: self.connections_opened,
            requests_ended: self.requests_begun,
            requests_lost: self.requests_lost.saturating_add(lost),
            ..self
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Successors and clients of other versions read these names. New counters need not be added here.
    #[test]
    fn names_stay() {
        const HANDOFF: &str = r#"{"counts":{"connections_opened":9,"connections_closed":8,"requests_begun":7,
            "requests_ended":5,"requests_cut":1,"requests_lost":3},"reloads":11,"reloads_failed":12,"restarts":13,
            "hangs":14,"blocked":15}"#;
        const REPORT: &str = r#"{"connections":9,"requests":7,"requests_in_progress":2,"requests_cut":1,
            "requests_lost":3,"reloads":11,"reloads_failed":12,"worker_restarts":13,"worker_hangs":14,
            "workers_blocked":15}"#;
        const TEXT: [&str; 3] = [
            "requests: 7 on 9 connections, 1 cut after shutdown_timeout, 3 lost when their worker died",
            "workers replaced: 13, 14 of them hung, 15 of them with blocked file calls",
            "reloads: 11, 12 of them failed",
        ];
        #[track_caller]
        fn check(value: &impl Serialize, names: &str) {
            let json = serde_json::to_string(value).expect("JSON");
            for name in names.split([',', '{', '}']).map(str::trim).filter(|name| name.ends_with(char::is_numeric)) {
                assert!(json.contains(name), "no {name} in {json}");
            }
        }
        let totals: Totals = serde_json::from_str(HANDOFF).expect("totals");
        check(&totals, HANDOFF);
        let report = TotalsReport::from(totals);
        check(&report, REPORT);
        let text = report.to_text();
        assert!(text.lines().zip(TEXT).all(|(line, start)| line.starts_with(start)), "{text}");
    }

    #[test]
    fn what_another_version_does_not_send_is_0() {
        let totals: Totals = serde_json::from_str(r#"{"counts":{"requests_begun":7},"other":1}"#).expect("totals");
        assert_eq!((totals.counts.requests_begun, totals.counts.requests_ended, totals.reloads), (7, 0, 0));
    }
}
