//! The totals of a supervisor, including those of its predecessor. They never go backwards.

use std::io;
use std::sync::Arc;

use daylily_core::log_target;

use super::generation::View;
use super::upgrade::Report;
use crate::observe::counters::Totals;
use crate::observe::metrics::Sums;
use crate::observe::scoreboard::Scoreboard;
use crate::observe::server_page::ServerPage;

/// The counters of one supervisor.
pub(crate) struct Account {
    pub(crate) scoreboard: Arc<Scoreboard>,
    pub(crate) page: Arc<ServerPage>,
    /// Counted by this process and its predecessor, except for what is on the scoreboard and what the worker sessions
    /// of generations that have not ended count.
    counted: Totals,
    /// The latest totals that the predecessor has sent.
    reported: Totals,
    reported_sums: Sums,
}

impl Account {
    /// # Errors
    ///
    /// When shared memory cannot be created or mapped.
    pub(crate) fn open(slots: u32, reported: Totals) -> io::Result<Self> {
        let scoreboard = Scoreboard::new(slots, reported.counts)?;
        let (page, counted) = (ServerPage::new(reported)?, reported.without_counts());
        Ok(Self { scoreboard, page, counted, reported, reported_sums: Sums::default() })
    }

    /// The totals. `views` are the generations that have not ended.
    pub(crate) fn totals<'a>(&self, views: impl Iterator<Item = &'a Arc<View>>) -> Totals {
        let counted = views.fold(self.counted, |totals, view| totals + view.deaths());
        Totals { counts: self.scoreboard.totals(), ..counted }
    }

    /// Counts a reload.
    pub(crate) fn note_reload(&mut self, failed: bool) {
        let counted = Totals { reloads: 1, reloads_failed: failed.into(), ..Totals::default() };
        self.counted += counted;
        self.page.count(counted);
    }

    /// Adds the counts of a generation that has ended.
    pub(crate) fn add_ended(&mut self, view: &View) {
        self.counted += view.deaths();
    }

    /// Adds what the predecessor has counted since its last report. Returns its metrics since then.
    pub(crate) fn add_predecessor(&mut self, report: io::Result<Report>) -> Sums {
        match report {
            Ok(Report { totals, sums }) => {
                let new = totals.since(std::mem::replace(&mut self.reported, totals));
                self.scoreboard.add(new.counts);
                self.counted += new.without_counts();
                self.page.count(new);
                let new = sums.since(&self.reported_sums);
                self.reported_sums = sums;
                new
            }
            Err(error) => {
                // The predecessor has ended, so none of its requests is in progress any more: they count as lost.
                let reported = std::mem::take(&mut self.reported).counts;
                self.scoreboard.add(reported.at_death().since(reported));
                tracing::warn!(target: log_target::SUPERVISOR, "failed to receive the predecessor's counters: {error}");
                let reported = std::mem::take(&mut self.reported_sums);
                reported.clone().at_death().since(&reported)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::counters::Counts;

    fn requests(begun: u64, ended: u64) -> Totals {
        Totals {
            counts: Counts { requests_begun: begun, requests_ended: ended, ..Counts::default() },
            ..Totals::default()
        }
    }

    #[test]
    fn a_predecessor_is_counted_once() {
        let mut account = Account::open(1, requests(10, 8)).expect("shared memory");
        let totals = |account: &Account| account.totals(std::iter::empty()).counts;
        assert_eq!((totals(&account).requests_begun, totals(&account).requests_in_progress()), (10, 2));
        account.add_predecessor(Ok(Report { totals: Totals { reloads: 3, ..requests(15, 14) }, ..Report::default() }));
        assert_eq!((totals(&account).requests_begun, totals(&account).requests_in_progress()), (15, 1));
        account.add_predecessor(Ok(Report { totals: Totals { reloads: 3, ..requests(16, 16) }, ..Report::default() }));
        assert_eq!((totals(&account).requests_begun, totals(&account).requests_in_progress()), (16, 0));
        assert_eq!(account.totals(std::iter::empty()).reloads, 3);
    }

    #[test]
    fn a_predecessor_that_ends_without_totals_has_no_request_in_progress() {
        let mut reported = requests(10, 8);
        reported.counts.requests_lost = 5;
        let mut account = Account::open(1, reported).expect("shared memory");
        account.add_predecessor(Err(io::ErrorKind::UnexpectedEof.into()));
        let counts = account.totals(std::iter::empty()).counts;
        assert_eq!((counts.requests_begun, counts.requests_in_progress(), counts.requests_lost), (10, 0, 7));
    }
}
