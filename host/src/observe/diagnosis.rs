//! What is recorded of a call for its developer, while it runs and when it fails.

use std::borrow::Cow;
use std::sync::{Arc, Mutex};

use daylily_core::diagnosis::{Diagnosis, Stack};
use daylily_core::error_response::ErrorResponse;
use daylily_core::log_target;

use crate::observe::mask::Mask;
use crate::observe::request_id::RequestId;
use crate::observe::source_map::Bundle;
use crate::sys::lock::lock;

/// The diagnosis of one call: the call fills it, and its exchange shows it.
#[derive(Clone, Debug)]
pub(crate) struct CallDiagnosis {
    dev: bool,
    diagnosis: Arc<Mutex<Diagnosis>>,
    mask: Option<Arc<Mask>>,
    bundle: Option<Bundle>,
}

impl CallDiagnosis {
    /// The diagnosis for a call that begins. None if it would not be used: it is shown in responses with `dev`, and
    /// without it only the stack is logged, at level `debug`. `mask` has the secrets of the route, and `bundle` is
    /// what its component was made of.
    pub(crate) fn begin(dev: bool, mask: Option<&Arc<Mask>>, bundle: Option<&Bundle>) -> Option<Self> {
        let is_shown = dev || tracing::enabled!(target: log_target::REQUEST, tracing::Level::DEBUG);
        is_shown.then(|| Self { dev, diagnosis: Arc::default(), mask: mask.cloned(), bundle: bundle.cloned() })
    }

    /// Itself, if the end of the guest's output is to be kept.
    pub(crate) fn of_output(&self) -> Option<Self> {
        self.dev.then(|| self.clone())
    }

    /// Whether it is shown to a developer.
    pub(crate) fn is_dev(&self) -> bool {
        self.dev
    }

    pub(crate) fn push_stderr(&self, bytes: &[u8]) {
        lock(&self.diagnosis).stderr().push(bytes);
    }

    pub(crate) fn push_stdout(&self, bytes: &[u8]) {
        lock(&self.diagnosis).stdout().push(bytes);
    }

    pub(crate) fn set_stack(&self, stack: Stack) {
        lock(&self.diagnosis).set_stack(stack);
    }

    /// The body of an error response to a developer. Beside the guest's output, from which secrets are gone already,
    /// it has other texts of the guest, such as that of an error code.
    pub(crate) fn explain(&self, refusal: &ErrorResponse, request: RequestId) -> String {
        let body = refusal.body(&request.to_string(), self.dev, Some(&lock(&self.diagnosis)));
        let body = match &self.mask {
            Some(mask) => mask.text(&body).into_owned(),
            None => body,
        };
        match self.bundle.as_ref().map(|bundle| bundle.mapped(&body)) {
            Some(Cow::Owned(mapped)) => mapped,
            _ => body,
        }
    }

    /// Logs the stack, one line for each function. The level is `warn` if a developer was sent no response that has it.
    pub(crate) fn log_stack(&self, request: RequestId, route: &str, is_sent: bool) {
        for (number, frame) in lock(&self.diagnosis).stack().frames().iter().enumerate() {
            if self.dev && !is_sent {
                tracing::warn!(target: log_target::REQUEST, %request, %route, "failed in function {number}: {frame}");
            } else {
                tracing::debug!(target: log_target::REQUEST, %request, %route, "failed in function {number}: {frame}");
            }
        }
    }
}
