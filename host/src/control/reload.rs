//! From the configuration, read anew, to a generation that serves it.

use std::sync::Arc;

use daylily_core::config::Config;

use super::generation::Generation;
use super::process::{Launch, StartError, workers};
use super::scoreboard::Scoreboard;
use super::sockets::Sockets;
use crate::failure::Failure;
use crate::prepare::{self, Prepared};

/// What a new generation is made from.
#[derive(Clone)]
pub(super) struct Basis {
    pub(super) scoreboard: Arc<Scoreboard>,
    /// The sockets that are open, of which those that are still wanted are kept.
    pub(super) sockets: Sockets,
    /// What serves now, whose compiled code is used again.
    pub(super) known: Option<Arc<Prepared>>,
    /// The number of the new generation.
    pub(super) generation: u64,
}

/// Compiles, starts and waits until all workers of `config` are ready. Nothing that serves is touched. Cancel
/// safe: what was started is killed.
///
/// # Errors
///
/// The first thing that is wrong; nothing is left behind.
pub(super) async fn attempt(basis: Basis, config: Config) -> Result<Generation, Failure> {
    // Before the components, so that a port in use is said at once.
    let sockets = basis.sockets.open(config.listen.as_deref(), workers(config.workers))?;
    let known = basis.known.clone();
    let compile = move || {
        let known = known.as_ref().map_or(&[][..], |known| &known.artefacts);
        prepare::compile(config, known)
    };
    // Compiling takes seconds: workers that die meanwhile are to be replaced all the same.
    let prepared = tokio::task::spawn_blocking(compile).await.map_err(std::io::Error::other)??;
    let launch = Launch::new(basis.generation, Arc::new(prepared), sockets, basis.scoreboard);
    Ok(Generation::start(launch).await?)
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Refused { reason, exit_code } => Self::Worker { text: reason, code: exit_code },
            other => Self::Worker { text: other.to_string(), code: 1 },
        }
    }
}
