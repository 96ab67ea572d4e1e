//! Compares the three views of a server's requests at its end: the access log, the metrics, and what its clients saw.
//!
//! The harness turns the access log and the admin listener on for each server by their environment variables, which
//! change nothing else. The page of metrics is read before the server is stopped, and the log when it has ended.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::access_record::AccessRecord;
use super::agreement::{inconsistent, repeated, too_few, too_many, wrong_exemplars};
use super::metrics_page::MetricsPage;
use super::{Connection, Daylily, Ending, Log, PATIENCE, Process, Request, Response, eventually};

/// The admin listener's socket, in the server's working directory.
const ADMIN: &str = "admin.sock";

/// How long the metrics may take to have what the log has.
const SETTLE: Duration = Duration::from_secs(10);

/// How long clients may take that are still there at a server's end. Idle connections take 500 ms.
const DRAIN: Duration = Duration::from_secs(2);

/// The exit code of a server that has cut requests.
const EXIT_CUT: i32 = 75;

/// What a client saw of a response.
#[derive(Debug)]
struct Seen {
    id: String,
    status: u16,
    /// None if it has read the head only.
    ending: Option<Ending>,
}

/// What the clients of a server have seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Witness(Arc<Mutex<Vec<Seen>>>);

impl Witness {
    pub(super) fn note(&self, response: &Response, ending: Option<Ending>) {
        let id = response.values("x-request-id").concat();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Seen { id, status: response.status, ending });
    }
}

/// Whose admin listener a server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AdminAt {
    /// The harness's, in the server's directory.
    Ours,
    /// The test's.
    Its,
}

/// How a server is audited.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) admin: AdminAt,
    /// Lines may be there twice.
    pub(super) may_repeat: bool,
}

pub(super) struct Audit {
    plan: Plan,
    records: Log,
    pub(super) witness: Witness,
    stop: Mutex<Stop>,
}

/// What was read before a test stopped the server.
#[derive(Default)]
enum Stop {
    #[default]
    NotYet,
    Begun(Option<LastPage>),
}

/// The last page of metrics.
struct LastPage {
    page: MetricsPage,
    /// It has the numbers of all of the server's predecessors.
    is_whole: bool,
    /// It was read until its numbers agreed with each other: a page that is read while requests end may have them in
    /// some of its numbers only.
    is_settled: bool,
}

impl Plan {
    /// The environment of the server.
    pub(super) fn environment(self, directory: &Path) -> Vec<(String, String)> {
        let mut variables = vec![("DAYLILY_ACCESS_LOG".into(), "json".into())];
        if self.admin == AdminAt::Ours {
            let directory = directory.canonicalize().expect("a directory");
            variables.push(("DAYLILY_ADMIN".into(), format!("unix:{}", directory.join(ADMIN).display())));
        }
        variables
    }
}

/// Whether a line of standard output is there because of these variables.
pub(super) fn is_ours(line: &str) -> bool {
    line.starts_with('{') || (line.starts_with("Admin listener at ") && line.contains(ADMIN))
}

impl Audit {
    pub(super) fn new(records: Log, plan: Plan) -> Self {
        Self { plan, records, witness: Witness::default(), stop: Mutex::default() }
    }

    /// The records that have been written up to now.
    fn records(&self) -> Vec<AccessRecord> {
        let lines = self.records.lines();
        lines.iter().filter(|line| line.starts_with('{')).map(|line| AccessRecord::parse(line)).collect()
    }

    /// Fails unless everything agrees, for a server that has ended.
    #[track_caller]
    fn expect_agreement(&self, last: Option<&LastPage>) {
        self.records.to_end();
        let mut records = self.records();
        let mut found = repeated(&mut records);
        if self.plan.may_repeat {
            found.clear();
        }
        found += &self.contradicted(&records);
        if let Some(LastPage { page, is_whole, is_settled }) = last {
            found += &too_many(&records, page);
            if *is_whole {
                found += &too_few(&records, page);
            }
            if *is_settled {
                found += &inconsistent(page);
            }
            found += &wrong_exemplars(&records, page);
        }
        assert!(found.is_empty(), "the access log, the metrics and the responses do not agree:\n{found}");
    }

    /// What clients have seen has a record that says the same.
    fn contradicted(&self, records: &[AccessRecord]) -> String {
        let by_id: BTreeMap<&str, &AccessRecord> = records.iter().map(|record| (record.id.as_str(), record)).collect();
        let mut found = String::new();
        for seen in self.witness.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let agrees = by_id.get(seen.id.as_str()).is_some_and(|record| {
                // The record of a request whose worker died has what was known before.
                let status = record.status.is_none_or(|status| status == seen.status);
                let status = status && (record.status.is_some() || matches!(record.outcome.as_str(), "lost" | "ok"));
                let is_success = seen.status < 400 && seen.ending == Some(Ending::Complete);
                status && (!is_success || record.outcome == "ok")
            });
            if !agrees {
                let _ = writeln!(found, "a client saw {seen:?}, the log has {:?}", by_id.get(seen.id.as_str()));
            }
        }
        found
    }
}

impl Daylily {
    /// A connection to the admin listener; None if there is none.
    fn connect_admin(&self) -> Option<Connection> {
        let unix = |path: &Path| Connection::try_open_unix(path);
        if self.audit().is_some_and(|audit| audit.plan.admin == AdminAt::Ours) {
            return unix(&self.directory().join(ADMIN));
        }
        let status = self.try_status()?;
        let url = status.0["admin"].as_str()?;
        if let Some(path) = url.strip_prefix("unix:") {
            return unix(Path::new(path));
        }
        let address: SocketAddr = url.strip_prefix("http://")?.strip_suffix('/')?.parse().ok()?;
        Some(Connection::open(address))
    }

    fn try_metrics(&self) -> Option<MetricsPage> {
        MetricsPage::read(self.connect_admin()?)
    }

    /// The supervisor that serves, which after an upgrade is another one than the first.
    fn serving(&self) -> Option<Process> {
        let mut connection = self.connect_admin()?;
        connection.try_send(&Request::get("localhost", "/status").bytes());
        let response = connection.try_response("GET", PATIENCE).ok()?;
        let status: Value = serde_json::from_slice(&response.body).ok()?;
        Some(Process { pid: u32::try_from(status["pid"].as_u64()?).ok()? })
    }

    /// What `/metrics` has now.
    #[track_caller]
    pub fn metrics(&self) -> MetricsPage {
        self.try_metrics().expect("an admin listener")
    }

    /// The access log up to now, of a server that the harness audits.
    #[track_caller]
    pub fn records(&self) -> Vec<AccessRecord> {
        self.audit().expect("a server with the harness's access log").records()
    }

    /// Reads the metrics for the last time, because a test is about to stop the server.
    pub(super) fn note_stop(&self) {
        let Some(audit) = self.audit() else { return };
        let mut stop = audit.stop.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*stop, Stop::NotYet) {
            let is_first = self.serving() == Some(self.supervisor());
            let last = |page| LastPage { page, is_whole: is_first, is_settled: false };
            *stop = Stop::Begun(self.try_metrics().map(last));
        }
    }

    /// Stops the server, if no test has done so, and fails unless everything agrees. A server that was killed is not
    /// audited.
    #[track_caller]
    pub(super) fn conclude(&self) {
        let Some(audit) = self.audit() else { return };
        let stop = std::mem::take(&mut *audit.stop.lock().unwrap_or_else(PoisonError::into_inner));
        match stop {
            Stop::Begun(last) => {
                let code = self.try_wait().and_then(|status| status.code());
                if self.processes().is_empty() && matches!(code, Some(0 | EXIT_CUT)) {
                    audit.expect_agreement(last.as_ref());
                }
            }
            Stop::NotYet if self.is_announced() => {
                let Some(supervisor) = self.serving().filter(|process| process.is_running()) else {
                    assert!(
                        !self.supervisor().is_running(),
                        "the server runs, and its admin listener does not respond"
                    );
                    return;
                };
                let mut page = self.metrics();
                // The numbers of an upgrade's predecessor arrive a moment after its end.
                eventually(SETTLE, || {
                    page = self.metrics();
                    too_few(&audit.records(), &page).is_empty() && inconsistent(&page).is_empty()
                });
                end(supervisor);
                audit.expect_agreement(Some(&LastPage { page, is_whole: true, is_settled: true }));
            }
            Stop::NotYet => {}
        }
    }
}

/// Stops a server: its connections are idle, or what they do is of no interest any more.
fn end(supervisor: Process) {
    supervisor.signal(Signal::TERM);
    let is_over = || !supervisor.is_running();
    if !eventually(DRAIN, is_over) {
        // Another one ends what takes long.
        supervisor.signal(Signal::TERM);
    }
    assert!(eventually(PATIENCE, is_over), "the server does not stop");
}
