//! `daylily dev`: builds when sources change, and reloads when a build has ended or a served file has changed.
//!
//! A build that fails starts a generation, too: it serves what served before, and shows the build's output to browsers.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use daylily_core::config::{Build, Config};
use daylily_core::log_target;

use super::admin::AdminListener;
use super::build::running::{FailedBuild, Outcome, Running};
use super::build::sources::Sources;
use super::generation::Generation;
use super::reload::Opened;
use super::watch::Watch;
use crate::failure::Failure;
use crate::http::dev_server::{DevSettings, Notice};

/// Builds in a row that each were ended because a source changed meanwhile. Only a build that writes what it is built
/// from comes so far.
const MAX_CANCELLED: u32 = 20;

/// What `daylily dev` has in addition to `daylily serve`.
pub(crate) struct Develop {
    /// Distinguishes the generations of this server from those of another one at the same address.
    server: String,
    build: Option<Build>,
    sources: Option<Sources>,
    /// Served files; a change needs no build.
    served: Option<Sources>,
    running: Option<Running>,
    /// A source has changed during the build that runs.
    is_outdated: bool,
    /// Builds that a change has ended, since the last one that came to its end.
    cancelled: u32,
    /// How long the latest build took, if it succeeded.
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
}

impl Develop {
    /// For the server of `config`. Blocks while it looks at the sources.
    pub(crate) fn new(config: &Config) -> Self {
        let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut develop = Self {
            server: started.as_millis().to_string(),
            build: None,
            sources: None,
            served: None,
            running: None,
            is_outdated: false,
            cancelled: 0,
            took: None,
            failed_build: None,
            failed_reload: None,
        };
        develop.adopt(config);
        develop
    }

    /// Watches what `config` is built from and serves. Blocks while it looks at files that were not watched before.
    pub(crate) fn adopt(&mut self, config: &Config) {
        self.build.clone_from(&config.build);
        let sources = config.build.iter().flat_map(Build::sources).collect();
        watch(&mut self.sources, sources);
        watch(
            &mut self.served,
            config.routes.iter().filter_map(|route| Some(route.files.as_ref()?.dir.clone())).collect(),
        );
    }

    /// What generation `number` is told.
    pub(crate) fn settings(&self, number: u64) -> DevSettings {
        DevSettings {
            version: format!("{}-{number}", self.server),
            notice: self.failed_build.as_ref().or(self.failed_reload.as_ref()).cloned(),
        }
    }

    /// A reload of the present files begins.
    pub(crate) fn begin_reload(&mut self) {
        self.failed_reload = None;
    }

    /// The present files cannot be served. Returns whether that is to be shown: not when a generation that was to show
    /// it has failed.
    pub(crate) fn note_failed_reload(&mut self, failure: &Failure) -> bool {
        let title = "What is built and configured now cannot be served".to_owned();
        self.failed_reload.replace(Notice { title, text: failure.to_string() }).is_none()
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
        if let Some(running) = &mut self.running {
            let outcome = running.ended().await;
            self.note_end(outcome);
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
        opened.without_routes().with_dev(self.settings(number)).start().await
    }

    /// Resolves when another generation is wanted. Cancel safe.
    pub(crate) async fn wanted(&mut self) -> Wanted {
        loop {
            tokio::select! {
                path = written(&mut self.sources) => {
                    if self.running.is_none() || self.cancelled < MAX_CANCELLED {
                        tracing::info!(target: log_target::BUILD, "`{}` has changed", path.display());
                        self.restart();
                    } else {
                        tracing::warn!(
                            target: log_target::BUILD,
                            "`{}` has changed during {MAX_CANCELLED} builds: does the build write it? Then leave it out \
                             of `watch` in [build]. This build is not started again",
                            path.display()
                        );
                    }
                }
                path = written(&mut self.served) => {
                    tracing::info!(target: log_target::BUILD, "`{}` has changed: reloading", path.display());
                    return Wanted::Reload;
                }
                outcome = ended(&mut self.running) => {
                    self.running = None;
                    if self.is_outdated {
                        self.build();
                    } else {
                        self.note_end(outcome);
                        return if self.failed_build.is_some() { Wanted::Notice } else { Wanted::Reload };
                    }
                }
            }
        }
    }

    /// Starts a build; one that runs is ended first.
    fn restart(&mut self) {
        match &mut self.running {
            Some(running) => {
                running.cancel();
                self.is_outdated = true;
                self.cancelled += 1;
            }
            None => self.build(),
        }
    }

    fn build(&mut self) {
        self.is_outdated = false;
        let Some(build) = &self.build else { return };
        let command = build.dev_command.as_ref().unwrap_or(&build.command);
        tracing::info!(target: log_target::BUILD, "building: {command}");
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
        self.cancelled = 0;
        let took = shown_time(outcome.took);
        match outcome.result {
            Ok(()) => {
                self.took = Some(outcome.took);
                self.failed_build = None;
                tracing::info!(target: log_target::BUILD, "built in {took}");
            }
            Err(failed) => {
                tracing::error!(target: log_target::BUILD, "the build failed after {took}: {}", failed.why);
                let title = format!("The build failed: {}", failed.why);
                self.failed_build = Some(Notice { title, text: failed.output });
            }
        }
    }

    /// What is built and watched, in one line for the terminal.
    pub(crate) fn announcement(&self) -> String {
        let watched = |sources: &Option<Sources>| {
            sources.iter().flat_map(Sources::roots).map(|path| shown(path)).collect::<Vec<_>>()
        };
        let watched = [watched(&self.sources), watched(&self.served)].concat();
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

/// For people: in milliseconds, and from a second on in tenths of a second.
fn shown_time(took: Duration) -> String {
    if took < Duration::from_secs(1) {
        format!("{} ms", took.as_millis())
    } else {
        format!("{:.1} s", took.as_secs_f64())
    }
}

fn shown(path: &Path) -> String {
    let path = path.strip_prefix(".").unwrap_or(path);
    path.display().to_string()
}

fn watch(sources: &mut Option<Sources>, roots: Vec<PathBuf>) {
    if sources.as_ref().map_or(&[][..], Sources::roots) != roots {
        *sources = (!roots.is_empty()).then(|| Sources::new(roots));
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
