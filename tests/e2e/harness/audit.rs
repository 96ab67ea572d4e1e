//! Compares the three views of a server's requests at its end: the access log, the metrics, and what its clients saw.
//!
//! The harness turns the access log and the admin listener on for each server by their environment variables, which
//! change nothing else. If a test stops its server, the page of metrics is read just before, and the log when the server
//! has ended. If it does not, both are read from the running server when the test is over.

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

/// How long the metrics may take to have what the log has, and the other way round.
const SETTLE: Duration = Duration::from_secs(10);

/// How long requests may be in progress whose clients have left.
const IDLE: Duration = Duration::from_secs(1);

/// How long requests may be in progress in a server that is stopped.
const DRAIN: Duration = Duration::from_secs(1);

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

    /// What does not agree, if the log is complete.
    fn contradictions(&self, last: Option<&LastPage>, deaths: usize) -> String {
        let mut records = self.records();
        let mut found = repeated(&mut records);
        if self.plan.may_repeat {
            found.clear();
        }
        found += &self.contradicted(&records);
        if let Some(LastPage { page, is_whole, is_settled }) = last {
            found += &too_many(&records, page, deaths);
            if *is_whole {
                found += &too_few(&records, page, deaths);
            }
            if *is_settled {
                found += &inconsistent(page, deaths);
            }
            found += &wrong_exemplars(&records, page, deaths);
        }
        found
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

    /// Workers that died, by daylily's log.
    fn deaths(&self) -> usize {
        self.log().lines().iter().filter(|line| line.contains("worker ") && line.contains(") ended (")).count()
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

    /// Fails unless everything agrees, of a server that has ended as it should, or runs. One that was killed has no log
    /// that is complete.
    #[track_caller]
    pub(super) fn conclude(&self) {
        let Some(audit) = self.audit() else { return };
        let stop = std::mem::take(&mut *audit.stop.lock().unwrap_or_else(PoisonError::into_inner));
        let found = match stop {
            Stop::Begun(last) => {
                let code = self.try_wait().and_then(|status| status.code());
                if !self.processes().is_empty() || !matches!(code, Some(0 | EXIT_CUT)) {
                    return;
                }
                audit.records.to_end();
                audit.contradictions(last.as_ref(), self.deaths())
            }
            Stop::NotYet if self.is_announced() => {
                let Some(supervisor) = self.serving().filter(|process| process.is_running()) else {
                    let is_running = self.supervisor().is_running();
                    assert!(!is_running, "the server runs, and its admin listener does not respond");
                    return;
                };
                self.compare(audit, supervisor)
            }
            Stop::NotYet => return,
        };
        assert!(found.is_empty(), "the access log, the metrics and the responses do not agree:\n{found}");
    }

    /// What does not agree, of a server that runs, once the log has what the metrics have. If requests are still in
    /// progress, for whose records this would have to wait, stops the server.
    fn compare(&self, audit: &Audit, supervisor: Process) -> String {
        let mut page = self.metrics();
        let is_idle = eventually(IDLE, || {
            page = self.metrics();
            page.total("daylily_requests_in_progress") == 0.0
        });
        // The numbers of an upgrade's predecessor arrive a moment after its end.
        eventually(SETTLE, || {
            let deaths = self.deaths();
            let agrees = too_few(&audit.records(), &page, deaths).is_empty() && inconsistent(&page, deaths).is_empty();
            if !agrees {
                page = self.metrics();
            }
            agrees
        });
        let last = LastPage { page, is_whole: true, is_settled: true };
        if !is_idle {
            end(supervisor);
            audit.records.to_end();
            return audit.contradictions(Some(&last), self.deaths());
        }
        // Lines are then written at once. Without it, they would be after a fifth of a second.
        let _reopens = self.ask("\"reopen\"\n");
        let mut found = String::new();
        eventually(SETTLE, || {
            found = audit.contradictions(Some(&last), self.deaths());
            found.is_empty()
        });
        found
    }
}

/// Stops a server. A second signal ends what takes long.
fn end(supervisor: Process) {
    supervisor.signal(Signal::TERM);
    let is_over = || !supervisor.is_running();
    if !eventually(DRAIN, is_over) {
        supervisor.signal(Signal::TERM);
    }
    assert!(eventually(PATIENCE, is_over), "the server does not stop");
}
