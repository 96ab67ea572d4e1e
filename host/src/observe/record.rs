//! The record of one request, from its head to the last byte of its response.

use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use daylily_core::log_target;
use tokio::time::Instant;

use crate::observe::request_id::RequestId;
use crate::observe::scoreboard::{InProgress, Slot};

/// One request, for the log and the counters. The request ends when this is dropped.
pub(crate) struct Record {
    pub(crate) id: RequestId,
    route: OnceLock<Arc<str>>,
    /// 0 until it is known.
    status: AtomicU16,
    began: Instant,
    _counted: InProgress<'static>,
}

impl Record {
    pub(crate) fn begin(counters: &'static Slot) -> Self {
        Self {
            id: RequestId::next(),
            route: OnceLock::new(),
            status: AtomicU16::new(0),
            began: Instant::now(),
            _counted: counters.begin_request(),
        }
    }

    pub(crate) fn set_route(&self, route: &Arc<str>) {
        let _ = self.route.set(Arc::clone(route));
    }

    pub(crate) fn set_status(&self, status: u16) {
        self.status.store(status, Relaxed);
    }

    /// The route's name; `-` before the request was routed.
    pub(crate) fn route(&self) -> &str {
        self.route.get().map_or("-", AsRef::as_ref)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        tracing::debug!(
            target: log_target::REQUEST,
            request = %self.id, route = %self.route(), status = self.status.load(Relaxed),
            us = self.began.elapsed().as_micros(), "request ended",
        );
    }
}
