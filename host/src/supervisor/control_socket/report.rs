//! The protocol of the control socket, between the supervisor and `daylily status`, `reload` and `stop`: one line of
//! JSON each way. Also the status as text.

use std::fmt::Write as _;
use std::time::Duration;

use daylily_core::config::{ComponentSource, Route};
use serde::{Deserialize, Serialize};

use crate::observe::counters::TotalsReport;

/// A command to the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Command {
    Status,
    Reload,
    Reopen,
    Stop,
}

/// The supervisor's reply.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Reply {
    Status(Box<Status>),
    /// The new generation serves.
    Reloaded {
        generation: u64,
    },
    /// The log files are being reopened.
    Reopened,
    /// All workers have ended.
    Stopped {
        requests_cut: u64,
    },
    Failed {
        reason: String,
        exit_code: u8,
    },
}

/// `daylily status --json`. Fields may be added, but not renamed or removed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) version: String,
    /// The process id of the supervisor.
    pub(crate) pid: u32,
    pub(crate) uptime_ms: u64,
    pub(crate) generation: u64,
    /// `serving`, `reloading`, `upgrading` or `stopping`.
    pub(crate) state: String,
    pub(crate) listen: Vec<String>,
    /// The admin listener, if there is one.
    #[serde(default)]
    pub(crate) admin: Option<String>,
    pub(crate) routes: Vec<RouteStatus>,
    pub(crate) workers: Vec<WorkerStatus>,
    /// Workers of previous generations that are draining.
    pub(crate) draining: Vec<WorkerStatus>,
    pub(crate) totals: TotalsReport,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RouteStatus {
    pub(crate) name: String,
    pub(crate) host: String,
    pub(crate) path: String,
    /// None for the built-in Hello World, and for a route with files only.
    pub(crate) component: Option<String>,
    /// The directory of its static files.
    pub(crate) files: Option<String>,
}

impl RouteStatus {
    pub(crate) fn of(route: &Route) -> Self {
        Self {
            name: route.name.clone(),
            host: route.host.to_string(),
            path: route.path.to_string(),
            component: match &route.component {
                Some(ComponentSource::File(path)) => Some(path.display().to_string()),
                Some(ComponentSource::HelloWorld) | None => None,
            },
            files: route.files.as_ref().map(|files| files.dir.display().to_string()),
        }
    }

    /// What answers its requests, in words.
    pub(crate) fn serves(&self) -> String {
        match (&self.files, &self.component) {
            (None, None) => "the built-in Hello World".to_owned(),
            (None, Some(component)) => component.clone(),
            (Some(files), None) => format!("files in {files}"),
            (Some(files), Some(component)) => format!("files in {files}, else {component}"),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WorkerStatus {
    pub(crate) worker: u32,
    pub(crate) generation: u64,
    pub(crate) pid: Option<u32>,
    /// `starting`, `ready`, `waiting` (to be restarted), `draining` or `ended`.
    pub(crate) state: String,
    /// Time since it became ready.
    pub(crate) uptime_ms: u64,
    pub(crate) restarts: u64,
    pub(crate) hangs: u64,
    pub(crate) connections: u64,
    pub(crate) requests_in_progress: u64,
    pub(crate) requests: u64,
    /// File calls that have outlived their requests and have not returned.
    #[serde(default)]
    pub(crate) blocked_file_calls: u64,
}

impl Status {
    /// The status as text, for a terminal.
    pub(crate) fn to_text(&self) -> String {
        let mut text = format!(
            "daylily {} (pid {}) is {}, generation {}, up {}\n",
            self.version,
            self.pid,
            self.state,
            self.generation,
            age(self.uptime_ms)
        );
        for address in &self.listen {
            let _ = writeln!(text, "listening on {address}");
        }
        if let Some(admin) = &self.admin {
            let _ = writeln!(text, "admin listener on {admin}");
        }
        text.push('\n');
        let workers = self.workers.iter().chain(&self.draining).map(WorkerStatus::cells);
        let head = ["WORKER", "GENERATION", "PID", "STATE", "UP", "RESTARTS", "CONNECTIONS", "IN PROGRESS", "REQUESTS"];
        text += &table(std::iter::once(head.map(str::to_owned).to_vec()).chain(workers).collect());
        text.push('\n');
        let routes = self.routes.iter().map(|route| vec![route.name.clone(), route.serves()]);
        text += &table(std::iter::once(vec!["ROUTE".into(), "SERVES".into()]).chain(routes).collect());
        text.push('\n');
        text += &self.totals.to_text();
        text
    }
}

impl WorkerStatus {
    fn cells(&self) -> Vec<String> {
        vec![
            self.worker.to_string(),
            self.generation.to_string(),
            self.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
            self.state.clone(),
            age(self.uptime_ms),
            self.restarts.to_string(),
            self.connections.to_string(),
            self.requests_in_progress.to_string(),
            self.requests.to_string(),
        ]
    }
}

/// Formats rows as a table, with each column as wide as its widest cell.
fn table(rows: Vec<Vec<String>>) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let lines = rows.iter().map(|row| {
        let line: String = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}  ")).collect();
        format!("{}\n", line.trim_end())
    });
    lines.collect()
}

/// A duration in its two largest units: `3d 4h`, `12s`.
fn age(ms: u64) -> String {
    let seconds = Duration::from_millis(ms).as_secs();
    let units = [(seconds / 86_400, 'd'), (seconds / 3600 % 24, 'h'), (seconds / 60 % 60, 'm'), (seconds % 60, 's')];
    let first = units.iter().position(|(count, _)| *count > 0).unwrap_or(units.len() - 1);
    let shown = units.iter().skip(first).take(2).map(|(count, unit)| format!("{count}{unit}"));
    shown.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages() {
        for (seconds, expected) in [(0, "0s"), (59, "59s"), (61, "1m 1s"), (3600, "1h 0m"), (100_000, "1d 3h")] {
            assert_eq!(age(seconds * 1000), expected);
        }
    }

    #[test]
    fn tables() {
        let rows = [["A", "LONG"], ["longer", "x"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(rows.to_vec()), "A       LONG\nlonger  x\n");
    }
}
