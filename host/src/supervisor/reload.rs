//! From the configuration, read again each time, to a generation that serves it.

use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use daylily_core::config::{Config, Listen};
use daylily_core::log_target;
use daylily_core::route::HostPattern;
use tokio::time::Instant;

use super::admin::AdminListener;
use super::control_socket::client;
use super::generation::Generation;
use super::observer::Observer;
use super::process::{StartError, WorkerLaunch, workers};
use super::storage::Storage;
use crate::cli::ServeArguments;
use crate::failure::Failure;
use crate::http::dev_server::DevSettings;
use crate::net::listen::ListenError;
use crate::net::sockets::Sockets;
use crate::observe::scoreboard::Scoreboard;
use crate::observe::server_page::ServerPage;
use crate::supervisor::prepare;
use crate::sys::dirs;
use crate::worker::setup::Prepared;

/// How long the workers of a supervisor that was killed may keep their address: they reject new handshakes, wait 0.1 s
/// for those in progress, and close.
pub(crate) const RELEASE_PATIENCE: Duration = Duration::from_secs(2);

/// Delay between attempts to bind an address in use.
const RETRY: Duration = Duration::from_millis(20);

/// What a new generation is made from.
#[derive(Clone)]
pub(crate) struct GenerationInputs {
    pub(crate) scoreboard: Arc<Scoreboard>,
    pub(crate) page: Arc<ServerPage>,
    pub(crate) observer: Observer,
    /// The open sockets; those that are still configured are kept.
    pub(crate) sockets: Sockets,
    pub(crate) admin: AdminListener,
    /// What serves now; its compiled code is reused.
    pub(crate) known: Option<Arc<Prepared>>,
    /// The number of the new generation.
    pub(crate) generation: u64,
    /// How long to wait for an address that another server uses.
    pub(crate) patience: Duration,
    /// Under `daylily dev`.
    pub(crate) dev: Option<DevSettings>,
    /// Other machines must not reach it.
    pub(crate) is_local: bool,
}

/// Maximum time from reading the configuration and its components to compiled code. A file system may never respond,
/// and must not block later reloads.
const PREPARE_LIMIT: Duration = Duration::from_secs(600);

/// Reads the configuration in a thread, so that nothing else waits for its file system. Also returns the arguments as
/// [`prepare::settled`] completes them.
///
/// # Errors
///
/// As [`prepare::settled`] and [`prepare::read`].
pub(crate) async fn read(what: ServeArguments) -> Result<(ServeArguments, Config), Failure> {
    let read = move || {
        let what = prepare::settled(&what)?;
        let config = prepare::read(&what)?;
        Ok((what, config))
    };
    apart(PREPARE_LIMIT, read).await
}

/// A configuration whose sockets are open.
#[derive(Clone)]
pub(crate) struct Opened {
    basis: GenerationInputs,
    config: Arc<Config>,
    sockets: Sockets,
    pub(crate) admin: AdminListener,
    /// Names of the server and of its routes, for `daylily dev`.
    hosts: Vec<HostPattern>,
}

/// Opens the sockets of `config`, and listens on the one of the admin listener. `found` are errors that are known
/// already.
///
/// # Errors
///
/// All errors that can be found without compiling, at once. Nothing is left behind.
pub(crate) async fn open(
    basis: GenerationInputs,
    mut config: Config,
    mut found: Vec<Failure>,
) -> Result<Opened, Failure> {
    let hosts = hosts(&config);
    if basis.is_local {
        make_local(&mut config, basis.known.is_none());
    }
    // Before the components are compiled, so that a port in use is reported at once. `found` has an error when another
    // daylily has the control socket: it keeps its address for as long as it runs, so do not wait for it.
    let patience = if found.is_empty() { basis.patience } else { Duration::ZERO };
    if basis.known.is_none() {
        basis.page.expect(workers(config.workers));
    }
    let config = Arc::new(config);
    let reading = Arc::clone(&config);
    let token = apart(PREPARE_LIMIT, move || prepare::admin_token(&reading)).await;
    let has_token = token.is_ok();
    // An error of reading the token is reported below, by `faults`. The token counts as present here, so that it is not
    // also reported as missing.
    let token = token.unwrap_or(Some(String::new()));
    match open_sockets(&basis, &config, token, patience).await {
        Ok((sockets, admin)) if found.is_empty() && has_token => {
            let listening = admin.clone();
            apart(PREPARE_LIMIT, move || Ok(listening.listen()?)).await?;
            Ok(Opened { basis, config, sockets, admin, hosts })
        }
        outcome => {
            found.splice(0..0, outcome.err().unwrap_or_default());
            let others = tokio::task::spawn_blocking(move || prepare::faults(&config));
            found.extend(others.await.map_err(std::io::Error::other)?);
            Err(Failure::all(found))
        }
    }
}

impl Opened {
    /// The same for a generation without routes, which only shows a notice: nothing that it could serve is there.
    pub(crate) fn without_routes(mut self) -> Self {
        Arc::make_mut(&mut self.config).routes.clear();
        self
    }

    /// The same, with what `daylily dev` tells its workers.
    pub(crate) fn with_dev(mut self, dev: DevSettings) -> Self {
        self.basis.dev = Some(dev);
        self
    }

    /// Compiles the components, starts the workers and waits until all are ready. The generation that serves is not
    /// affected. Cancel safe: what was started is killed.
    ///
    /// # Errors
    ///
    /// Those of compiling or starting. Nothing is left behind.
    pub(crate) async fn start(self) -> Result<(Generation, AdminListener), Failure> {
        let Self { basis, config, sockets, admin, hosts } = self;
        let known = basis.known.clone();
        let compile = move || {
            let known = known.as_ref().map_or(&[][..], |known| &known.artifacts);
            prepare::compile(Arc::unwrap_or_clone(config), known)
        };
        // In a thread: compiling takes seconds, and workers that die meanwhile must be replaced.
        let mut prepared = apart(PREPARE_LIMIT, compile).await?;
        prepared.dev = basis.dev.clone().map(|dev| DevSettings { hosts, ..dev });
        Ok((basis.launch(prepared, sockets).await?, admin))
    }
}

impl GenerationInputs {
    async fn launch(self, prepared: Prepared, sockets: Sockets) -> Result<Generation, Failure> {
        let prepared = Arc::new(prepared);
        let storage = Storage::start(&prepared.config).await?;
        let (scoreboard, page, observer) = (self.scoreboard, self.page, self.observer);
        let launch = WorkerLaunch::new(self.generation, prepared, sockets, scoreboard, page, observer, storage);
        Generation::start(launch).await
    }
}

/// Starts a generation that serves what serves now, whatever the files are by now.
///
/// # Errors
///
/// When a worker does not start.
pub(crate) async fn again(basis: GenerationInputs) -> Result<(Generation, AdminListener), Failure> {
    let known = basis.known.as_ref().ok_or_else(|| io::Error::other("nothing serves yet"))?;
    let prepared = Prepared {
        config: known.config.clone(),
        artifacts: known.artifacts.clone(),
        connection_limit: known.connection_limit,
        dev: basis.dev.clone().map(|dev| DevSettings { hosts: known_hosts(known), ..dev }),
    };
    let (sockets, admin) = (basis.sockets.clone(), basis.admin.clone());
    Ok((basis.launch(prepared, sockets).await?, admin))
}

fn known_hosts(known: &Prepared) -> Vec<HostPattern> {
    known.dev.as_ref().map(|dev| dev.hosts.clone()).unwrap_or_default()
}

/// The hosts that the addresses and the routes of a configuration name.
fn hosts(config: &Config) -> Vec<HostPattern> {
    let listen = config.listen.iter().flatten().filter_map(|listen| listen.host()?.parse().ok());
    let routes = config.routes.iter().map(|route| route.host.clone());
    listen.chain(routes).filter(|host| *host != HostPattern::any()).collect()
}

/// Replaces addresses that other machines can reach.
fn make_local(config: &mut Config, is_first: bool) {
    let Some(configured) = config.listen.take() else { return };
    let mut local: Vec<Listen> = Vec::new();
    for listen in configured {
        let name = listen.to_string();
        let listen = listen.on_loopback();
        if is_first && listen.to_string() != name {
            tracing::info!(
                target: log_target::SUPERVISOR,
                "listening on {listen} instead of {name}: `daylily dev` lets other machines in only with --listen"
            );
        }
        if !local.contains(&listen) {
            local.push(listen);
        }
    }
    config.listen = Some(local);
}

/// Opens the sockets. While another server has an address that may soon be free, retries for up to `patience`.
async fn open_sockets(
    basis: &GenerationInputs,
    config: &Arc<Config>,
    token: Option<String>,
    patience: Duration,
) -> Result<(Sockets, AdminListener), Vec<Failure>> {
    let deadline = Instant::now() + patience;
    // Many workers have many sockets. A limit that is too low is reported after the components have been read.
    let _ = prepare::raise_descriptor_limit(config);
    loop {
        let (sockets, admin) = (basis.sockets.clone(), basis.admin.clone());
        let (config, token) = (Arc::clone(config), token.clone());
        // In a thread: names are resolved, for as long as the resolver takes.
        let opened = tokio::task::spawn_blocking(move || open_once(&sockets, &admin, &config, token)).await;
        let errors = match opened.map_err(|error| vec![std::io::Error::other(error).into()])? {
            Ok(opened) => return Ok(opened),
            Err(errors) => errors,
        };
        if Instant::now() >= deadline || !errors.iter().all(may_pass) {
            // Only at a start: a reload would find this server's own control socket.
            let is_start = !basis.patience.is_zero();
            let named = |error| Failure::Listen(if is_start { with_holder(error) } else { error });
            return Err(errors.into_iter().map(named).collect());
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Opens the sockets of guests and of the admin listener, or reports the errors of both.
fn open_once(
    sockets: &Sockets,
    admin: &AdminListener,
    config: &Config,
    token: Option<String>,
) -> Result<(Sockets, AdminListener), Vec<ListenError>> {
    let sockets = sockets.open(config.listen.as_deref(), workers(config.workers));
    let admin = admin.open(config, token, sockets.as_ref().unwrap_or(&Sockets::default()));
    match (sockets, admin) {
        (Ok(sockets), Ok(admin)) => Ok((sockets, admin)),
        (sockets, admin) => Err(sockets.err().unwrap_or_default().into_iter().chain(admin.err()).collect()),
    }
}

/// Whether the address may belong to the workers of a supervisor that was killed, which release it soon. It does not
/// when a daylily that responds has it.
fn may_pass(error: &ListenError) -> bool {
    error.error.kind() == ErrorKind::AddrInUse && holder(error).is_none()
}

/// The control socket of this user's daylily that has the address, if it can be found.
fn holder(error: &ListenError) -> Option<PathBuf> {
    let at = error.at.as_ref().filter(|_| error.error.kind() == ErrorKind::AddrInUse)?;
    Some(dirs::control_socket(&at.server_name())).filter(|path| client::answers(path))
}

fn with_holder(error: ListenError) -> ListenError {
    let Some(holder) = holder(&error) else { return error };
    let remedy = format!(
        "another daylily server runs there: stop it (daylily stop --control {}), or choose another address with --listen",
        holder.display()
    );
    ListenError { remedy: remedy.into(), ..error }
}

/// Runs `work` in a thread and returns its result. After `limit`, returns an error, and the thread is abandoned.
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
            StartError::StateDir(error) => Self::StateDir(error),
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
        assert!(next.is_ok(), "the next call waits for one that hangs");
        drop(end);
    }
}
