//! `daylily dev`: builds when sources change, and reloads when a build has ended or a served file has changed.
//!
//! A build that fails starts a generation, too: it serves what served before, and shows the build's output to browsers.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use daylily_core::config::{Build, Config};
use daylily_core::log_target;
use tokio::time::sleep_until;

use super::admin::AdminListener;
use super::build::running::{FailedBuild, Outcome, Running};
use super::build::sources::{Purpose, Sources, Watched, shown};
use super::generation::Generation;
use super::reload::Opened;
use super::watch::Watch;
use crate::failure::Failure;
use crate::http::dev_server::{DevSettings, Notice};

/// A change that comes within this time after a build, or during it, may be the build's own.
const QUIET: Duration = Duration::from_secs(1);

/// Builds in a row that each follow such a change. A build that writes what it is built from comes so far, and people
/// who save very often.
const MAX_IN_A_ROW: u32 = 20;

/// How often the wait before a further build doubles; it is [`QUIET`] at first.
const MAX_DOUBLINGS: u32 = 5;

/// What `daylily dev` has in addition to `daylily serve`.
pub(crate) struct Develop {
    /// Distinguishes the generations of this server from those of another one at the same address.
    server: String,
    build: Option<Build>,
    /// What is built from.
    sources: Option<Sources>,
    /// Served files; a change needs no build.
    served: Option<Sources>,
    running: Option<Running>,
    /// A source has changed during the build that runs, which is ended for that reason.
    is_outdated: bool,
    /// When the latest build ended.
    ended: Option<Instant>,
    /// Builds that followed a change during or right after the one before.
    in_a_row: u32,
    /// When to build because of changes that did not start a build at once.
    due: Option<Instant>,
    /// The configuration was written during the build that runs.
    is_reload_due: bool,
    /// How long the latest build that succeeded took.
    took: Option<Duration>,
    /// Why the latest build failed, if it did.
    failed_build: Option<Notice>,
    /// Why the latest reload failed, if it did.
    failed_reload: Option<Notice>,
}

/// What changed files and builds want.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The present files are to be served.
    Reload,
    /// What serves goes on, and browsers are shown a notice.
    Notice,
    /// What serves goes on. A build may have begun.
    Nothing,
}

impl Develop {
    /// For the server of `config`. Must be called within a tokio runtime.
    pub(crate) fn new(config: &Config) -> Self {
        let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut develop = Self {
            server: started.as_millis().to_string(),
            build: config.build.clone(),
            sources: None,
            served: None,
            running: None,
            is_outdated: false,
            ended: None,
            in_a_row: 0,
            due: None,
            is_reload_due: false,
            took: None,
            failed_build: None,
            failed_reload: None,
        };
        develop.watch(config);
        develop
    }

    /// What generation `number` is told.
    pub(crate) fn settings(&self, number: u64) -> DevSettings {
        DevSettings {
            version: format!("{}-{number}", self.server),
            notice: self.failed_build.as_ref().or(self.failed_reload.as_ref()).cloned(),
            hosts: Vec::new(),
        }
    }

    /// Runs the first build to its end, and starts the first generation, which is number `number`. If the build fails or
    /// the components cannot be served, it only shows that. Cancel safe: what was started is ended.
    ///
    /// # Errors
    ///
    /// As [`Opened::start`].
    pub(crate) async fn start(
        &mut self,
        opened: Opened,
        number: u64,
        components: Option<&mut Watch>,
    ) -> Result<(Generation, AdminListener), Failure> {
        self.build();
        while let Some(running) = &mut self.running {
            tokio::select! {
                biased;
                path = written(&mut self.sources) => self.note_change(&path),
                outcome = running.ended() => self.note_end(outcome),
            }
        }
        if let Some(components) = components {
            components.begin_reading();
        }
        if self.failed_build.is_none() {
            match opened.clone().with_dev(self.settings(number)).start().await {
                Err(failure @ Failure::Components(_)) => {
                    tracing::error!(target: log_target::BUILD, "{failure}");
                    self.note_failed_reload(&failure);
                }
                outcome => return outcome,
            }
        }
        opened.with_dev(self.settings(number)).without_routes().start().await
    }

    /// A reload of the present files begins. Served files that were saved together with the configuration need no other.
    pub(crate) fn begin_reload(&mut self) {
        (self.failed_reload, self.is_reload_due) = (None, false);
        self.served.iter_mut().for_each(Sources::take_as_seen);
    }

    /// The configuration was written. Returns whether it is to be loaded at once: the end of a build loads it, too, unless
    /// it is built in another way, which ends that build.
    pub(crate) fn loads_at_once(&mut self, read: impl FnOnce() -> Option<Config>) -> bool {
        if !self.is_building() || read().is_some_and(|config| config.build != self.build) {
            return true;
        }
        tracing::info!(
            target: log_target::BUILD,
            "the configuration has changed: it is loaded when the build has ended"
        );
        self.is_reload_due = true;
        false
    }

    /// The present files cannot be served. Returns whether that is to be shown: not when a generation that was to show
    /// it has failed.
    pub(crate) fn note_failed_reload(&mut self, failure: &Failure) -> bool {
        let title = "What is built and configured now cannot be served".to_owned();
        self.failed_reload.replace(Notice { title, text: failure.to_string() }).is_none()
    }

    /// Whether no build has succeeded yet, so that there is nothing to serve but a notice.
    pub(crate) fn has_nothing_to_serve(&self) -> bool {
        self.failed_build.is_some() && self.took.is_none()
    }

    /// Whether a build runs, so that files may be half written.
    pub(crate) fn is_building(&self) -> bool {
        self.running.is_some()
    }

    /// A configuration was read, whether it can be served or not: watches what it is built from and serves, and builds if
    /// it is built in another way. Returns whether a notice that browsers are shown is not true any more.
    pub(crate) fn adopt(&mut self, config: &Config) -> bool {
        self.watch(config);
        if self.build == config.build {
            return false;
        }
        self.build.clone_from(&config.build);
        self.restart();
        self.build.is_none() && self.failed_build.take().is_some()
    }

    fn watch(&mut self, config: &Config) {
        let sources = config.build.iter().flat_map(Build::sources).collect();
        watch(&mut self.sources, Watched::new(Purpose::Build, sources, written_by_daylily(config)));
        let served = config.routes.iter().filter_map(|route| Some(route.files.as_ref()?.dir.clone())).collect();
        watch(&mut self.served, Watched::new(Purpose::Serve, served, written_by_daylily(config)));
    }

    /// Resolves when a build has begun or ended, or a served file has changed. Cancel safe.
    pub(crate) async fn wanted(&mut self) -> Wanted {
        let is_building = self.is_building();
        tokio::select! {
            path = written(&mut self.sources) => {
                self.note_change(&path);
                Wanted::Nothing
            }
            path = written(&mut self.served), if !is_building => {
                tracing::info!(target: log_target::BUILD, "`{}` has changed: reloading", shown(&path));
                // What a build that failed has written is not loaded.
                if self.failed_build.is_some() { Wanted::Notice } else { Wanted::Reload }
            }
            outcome = ended(&mut self.running) => {
                self.note_end(outcome);
                match &self.failed_build {
                    // A build that was ended by a change has been started again.
                    _ if self.is_building() => Wanted::Nothing,
                    Some(_) if !self.is_reload_due => Wanted::Notice,
                    _ => Wanted::Reload,
                }
            }
            () = at(self.due), if !is_building => {
                self.build();
                Wanted::Nothing
            }
        }
    }

    /// A source has changed: builds at once, or later if builds follow each other again and again.
    fn note_change(&mut self, path: &Path) {
        let path = shown(path);
        tracing::info!(target: log_target::BUILD, "`{path}` has changed");
        let follows = self.is_building() || self.ended.is_some_and(|ended| ended.elapsed() < QUIET);
        self.in_a_row = if follows { self.in_a_row.saturating_add(1) } else { 0 };
        let Some(excess) = self.in_a_row.checked_sub(MAX_IN_A_ROW) else { return self.restart() };
        if excess == 0 {
            tracing::warn!(
                target: log_target::BUILD,
                "{MAX_IN_A_ROW} builds in a row were followed by a change of `{path}` or another source: does the build \
                 write it? Then leave it out of `watch` in [build]. Further builds wait for some seconds"
            );
        }
        self.due.get_or_insert(Instant::now() + QUIET * 2_u32.pow(excess.min(MAX_DOUBLINGS)));
    }

    /// Starts a build; one that runs is ended first.
    fn restart(&mut self) {
        match &mut self.running {
            Some(running) => {
                running.cancel();
                self.is_outdated = true;
            }
            None => self.build(),
        }
    }

    fn build(&mut self) {
        (self.is_outdated, self.due) = (false, None);
        let Some(build) = &self.build else { return };
        tracing::info!(target: log_target::BUILD, "building: {}", command(build));
        match Running::start(build) {
            Ok(running) => self.running = Some(running),
            Err(error) => {
                let result = Err(FailedBuild::unknown(&error));
                self.note_end(Outcome { took: Duration::ZERO, result });
            }
        }
    }

    fn note_end(&mut self, outcome: Outcome) {
        self.running = None;
        self.ended = Some(Instant::now());
        if self.is_outdated {
            return self.build();
        }
        // What the build has written is loaded with what it has built, or not at all.
        self.served.iter_mut().for_each(Sources::take_as_seen);
        let took = shown_time(outcome.took);
        match outcome.result {
            Ok(()) => {
                self.took = Some(outcome.took);
                self.failed_build = None;
                tracing::info!(target: log_target::BUILD, "built in {took}");
            }
            Err(failed) => {
                tracing::error!(target: log_target::BUILD, "the build failed after {took}: {}", failed.why);
                let command = self.build.as_ref().map(command).unwrap_or_default();
                let title = format!("The build failed: {}", failed.why);
                self.failed_build = Some(Notice { title, text: format!("$ {command}\n{}", failed.output) });
            }
        }
    }

    /// What is built and watched, in one line for the terminal.
    pub(crate) fn announcement(&self) -> String {
        let names = |sources: &Option<Sources>| sources.iter().flat_map(Sources::names).collect::<Vec<_>>();
        let watched = [names(&self.sources), names(&self.served)].concat();
        let watching = match watched.as_slice() {
            [] => "watching the configuration and the components".to_owned(),
            watched => format!("watching {}, and the configuration", watched.join(", ")),
        };
        match self.took {
            Some(took) => format!("built in {}; {watching}", shown_time(took)),
            None => watching,
        }
    }
}

fn command(build: &Build) -> &str {
    build.dev_command.as_ref().unwrap_or(&build.command)
}

/// Files and directories that may be below those that are watched, and whose changes need no build.
fn written_by_daylily(config: &Config) -> impl Iterator<Item = PathBuf> {
    let (access_log, log) = (config.access_log.to.file(), config.log_to.file());
    let others = [access_log, log, config.control.as_ref(), config.cache_dir.as_ref()].into_iter().flatten();
    config.component_files().chain(others.map(PathBuf::as_path)).map(Path::to_owned)
}

/// For people: in milliseconds, and from a second on in tenths of a second.
fn shown_time(took: Duration) -> String {
    if took < Duration::from_secs(1) {
        format!("{} ms", took.as_millis())
    } else {
        format!("{:.1} s", took.as_secs_f64())
    }
}

fn watch(sources: &mut Option<Sources>, what: Option<Watched>) {
    if sources.as_ref().map(Sources::what) != what.as_ref() {
        *sources = what.map(Sources::new);
    }
}

async fn written(sources: &mut Option<Sources>) -> PathBuf {
    match sources {
        Some(sources) => sources.changed().await,
        None => std::future::pending().await,
    }
}

async fn ended(running: &mut Option<Running>) -> Outcome {
    match running {
        Some(running) => running.ended().await,
        None => std::future::pending().await,
    }
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
