//! From the configuration, read anew, to a generation that serves it.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use daylily_core::config::Config;
use tokio::time::Instant;

use super::client;
use super::generation::Generation;
use super::process::{Launch, StartError, workers};
use super::scoreboard::Scoreboard;
use super::sockets::Sockets;
use crate::cli::What;
use crate::failure::Failure;
use crate::places;
use crate::prepare::{self, Prepared};

/// How long the workers of a supervisor that was killed may hold on to their address: they let no more handshakes
/// begin, wait 0.1 s for those that have, and close.
pub(super) const RELEASE_PATIENCE: Duration = Duration::from_secs(2);

/// How often an address in use is tried again meanwhile.
const RETRY: Duration = Duration::from_millis(20);

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
    /// How long to wait for an address that another server has.
    pub(super) patience: Duration,
}

/// How long the configuration and its components may take from their files to compiled code. What is not done by then
/// waits for a file system that may never answer, and must not keep later reloads waiting.
const PREPARE_LIMIT: Duration = Duration::from_secs(600);

/// Reads the configuration of what is settled then, where nothing else waits for its file system.
///
/// # Errors
///
/// As [`prepare::settled`] and [`prepare::read`].
pub(super) async fn read(what: What) -> Result<(What, Config), Failure> {
    let read = move || {
        let what = prepare::settled(&what)?;
        let config = prepare::read(&what)?;
        Ok((what, config))
    };
    apart(PREPARE_LIMIT, read).await
}

/// Compiles, starts and waits until all workers of `config` are ready. Nothing that serves is touched. Cancel
/// safe: what was started is killed. `found` is what is known to be wrong already.
///
/// # Errors
///
/// Everything that is wrong and can be told without compiling, else what is wrong then; nothing is left behind.
pub(super) async fn attempt(basis: Basis, config: Config, mut found: Vec<Failure>) -> Result<Generation, Failure> {
    // Before the components are compiled, so that a port in use is said at once.
    // Another daylily at the control socket has the address for as long as it runs.
    let patience = if found.is_empty() { basis.patience } else { Duration::ZERO };
    let sockets = match open(&basis, &config, patience).await {
        Ok(sockets) if found.is_empty() => sockets,
        outcome => {
            found.splice(0..0, outcome.err().unwrap_or_default());
            let others = tokio::task::spawn_blocking(move || prepare::faults(&config));
            found.extend(others.await.map_err(std::io::Error::other)?);
            return Err(Failure::all(found));
        }
    };
    let known = basis.known.clone();
    let compile = move || {
        let known = known.as_ref().map_or(&[][..], |known| &known.artefacts);
        prepare::compile(config, known)
    };
    // Compiling takes seconds: workers that die meanwhile are to be replaced all the same.
    let prepared = apart(PREPARE_LIMIT, compile).await?;
    let launch = Launch::new(basis.generation, Arc::new(prepared), sockets, basis.scoreboard);
    Generation::start(launch).await
}

/// Opens the sockets; where another server has an address that may soon be free, tries again for as long as `patience`.
async fn open(basis: &Basis, config: &Config, patience: Duration) -> Result<Sockets, Vec<Failure>> {
    let deadline = Instant::now() + patience;
    // Many workers have many sockets. What does not fit is told when the components are there.
    let _ = prepare::raise_descriptor_limit(config);
    loop {
        let (sockets, listen, workers) = (basis.sockets.clone(), config.listen.clone(), workers(config.workers));
        // Names are looked up, which may take as long as the resolver likes.
        let opened = tokio::task::spawn_blocking(move || sockets.open(listen.as_deref(), workers)).await;
        let failures = match opened.map_err(|error| vec![std::io::Error::other(error).into()])? {
            Ok(sockets) => return Ok(sockets),
            Err(failures) => failures,
        };
        if Instant::now() >= deadline || !failures.iter().all(may_pass) {
            // A reload may find its own control socket.
            let is_start = !basis.patience.is_zero();
            let named = |failure| if is_start { with_holder(failure) } else { failure };
            return Err(failures.into_iter().map(named).collect());
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Whether it may be the workers of a dead supervisor that have the address, which they soon let go: not when a daylily
/// that can be reached has it.
fn may_pass(failure: &Failure) -> bool {
    matches!(failure, Failure::Listen { error, .. } if error.kind() == ErrorKind::AddrInUse)
        && holder(failure).is_none()
}

/// The control socket of the daylily of this user that has the address, as far as it can be found.
fn holder(failure: &Failure) -> Option<PathBuf> {
    match failure {
        Failure::Listen { at: Some(at), error, .. } if error.kind() == ErrorKind::AddrInUse => {
            Some(places::control_socket(at)).filter(|path| client::answers(path))
        }
        _ => None,
    }
}

fn with_holder(failure: Failure) -> Failure {
    match (holder(&failure), failure) {
        (Some(holder), Failure::Listen { address, at, error, .. }) => {
            let remedy = format!(
                "another daylily server runs there: stop it (daylily stop --control {}), or choose another \
                 address with --listen",
                holder.display()
            );
            Failure::Listen { address, at, error, remedy: remedy.into() }
        }
        (_, failure) => failure,
    }
}

/// What `work` gives, in a thread of its own. One that is not done within `limit` is left to itself.
async fn apart<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::time::timeout(limit, tokio::task::spawn_blocking(work)).await {
        Ok(done) => done.map_err(std::io::Error::other)?,
        Err(_elapsed) => Err(Failure::NotPrepared { limit }),
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Refused { reason, exit_code } => Self::Worker { text: reason, code: exit_code },
            other => Self::Worker { text: other.to_string(), code: 1 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_does_not_end_is_not_waited_for() {
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let limit = Duration::from_millis(10);
        let stuck = apart(limit, move || {
            let _ = ended.recv();
            Ok(())
        })
        .await
        .expect_err("it does not end");
        assert!(stuck.to_string().contains("10ms"), "{stuck}");
        let next = apart(Duration::from_secs(60), || Ok(())).await;
        assert!(next.is_ok(), "the next one waits for it");
        drop(end);
    }
}
