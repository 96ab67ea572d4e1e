//! The reloads of a supervisor: one at a time, and what follows from each.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use daylily_core::config::Config;
use daylily_core::log_target;
use tokio::task::JoinHandle;

use super::admin::AdminListener;
use super::control_socket::report::Reply;
use super::control_socket::status;
use super::develop::Develop;
use super::generation::Generation;
use super::reload::{self, GenerationInputs};
use super::supervise::Supervisor;
use super::systemd;
use super::watch::Watch;
use super::worker_session::DesiredState;
use crate::cli::ServeArguments;
use crate::failure::Failure;
use crate::ipc::command::End;
use crate::observe::log::LogSettings;
use crate::observe::server_page::{MAX_DRAINING, ServerState};
use crate::observer::message::Settings;
use crate::supervisor::prepare;

/// How long the reply to a reload waits for workers of previous generations to report that they have stopped accepting.
const CLOSING_PATIENCE: Duration = Duration::from_secs(2);

/// A reload in progress.
pub(super) type Reloading = JoinHandle<Result<Reloaded, Failure>>;

/// What a reload has started.
pub(super) struct Reloaded {
    generation: Generation,
    admin: AdminListener,
    what: ServeArguments,
    /// It serves what served before, and only shows a notice.
    is_notice: bool,
}

impl Supervisor {
    /// Runs one reload at a time. A request that arrives during a reload starts another one after it, since the reload
    /// in progress may have read the files before they were changed.
    pub(super) fn reload_if_wanted(&mut self) {
        let is_busy = self.reloading.is_some() || self.upgrading.is_some() || self.draining.len() >= MAX_DRAINING;
        if is_busy || !(self.is_reload_wanted || self.is_notice_wanted) {
            return;
        }
        let reads = std::mem::take(&mut self.is_reload_wanted);
        self.is_notice_wanted = false;
        if reads {
            self.watch.iter_mut().for_each(Watch::begin_reading);
            self.develop.iter_mut().for_each(Develop::begin_reload);
        }
        self.answers = std::mem::take(&mut self.next);
        self.set_state(ServerState::Reloading);
        self.number += 1;
        systemd::reloading();
        let launch = &self.current.launch;
        let basis = GenerationInputs {
            scoreboard: Arc::clone(&self.account.scoreboard),
            page: Arc::clone(&self.account.page),
            observer: self.observer.clone(),
            sockets: launch.sockets(),
            admin: self.admin.clone(),
            known: Some(Arc::clone(&launch.prepared)),
            generation: self.number,
            patience: Duration::ZERO,
            dev: self.develop.as_ref().map(|develop| develop.settings(self.number)),
            is_local: self.what.is_local(),
        };
        let has_nothing = self.develop.as_ref().is_some_and(Develop::has_nothing_to_serve);
        let what = self.what.clone();
        self.reloading = Some(tokio::spawn(async move {
            if !reads {
                let (generation, admin) = reload::again(basis).await?;
                return Ok(Reloaded { generation, admin, what, is_notice: true });
            }
            let (what, config) = reload::read(what).await?;
            let mut opened = reload::open(basis, config, Vec::new()).await?;
            if has_nothing {
                opened = opened.without_routes();
            }
            let (generation, admin) = opened.start().await?;
            Ok(Reloaded { generation, admin, what, is_notice: false })
        }));
    }

    pub(super) fn reloaded(&mut self, outcome: Result<Reloaded, Failure>) {
        self.set_state(ServerState::Serving);
        if !outcome.as_ref().is_ok_and(|reloaded| reloaded.is_notice) {
            self.account.note_reload(outcome.is_err());
        }
        self.restore_control();
        match outcome {
            Ok(Reloaded { generation, admin, what, is_notice }) => {
                self.what = what;
                self.go_on_with(generation, admin, is_notice);
            }
            Err(failure) => self.go_on_as_it_was(&failure),
        }
        systemd::ready(&status::summary(&self.current));
    }

    /// Recreates the control socket when its path no longer leads to it.
    fn restore_control(&mut self) {
        let Some(control) = self.control.as_ref().filter(|control| !control.is_in_place()) else { return };
        match control.recreate() {
            Ok(recreated) => self.control = Some(recreated),
            Err(failure) => tracing::warn!(
                target: log_target::CONTROL,
                "{failure}; until then, only signals reach this server"
            ),
        }
    }

    /// Makes `next` the current generation and drains the previous one.
    fn go_on_with(&mut self, next: Generation, admin: AdminListener, is_notice: bool) {
        let (next, end) = next.split();
        self.ends.spawn(end);
        if next.launch.prepared.config.control != self.current.launch.prepared.config.control {
            tracing::warn!(
                target: log_target::CONTROL,
                "`control` is read at start only; to change it, restart daylily or upgrade it (SIGUSR2)"
            );
        }
        let old = std::mem::replace(&mut self.current, next);
        let config = &self.current.launch.prepared.config;
        self.log.set(&LogSettings::of(config));
        self.observer.set(Settings::of(config, self.current.launch.workers));
        if !admin.is_same(&self.admin) {
            self.observer.set_admin(admin.clone());
        }
        // Closes the former socket, unless it is the same.
        self.admin = admin;
        watch(&mut self.watch, &self.what, config);
        if let Some(develop) = self.develop.as_mut().filter(|_| !is_notice) {
            self.is_reload_wanted |= develop.adopt(config);
        }
        let closes = old.launch.sockets().closing(&self.current.launch.sockets());
        old.set_desired_state(DesiredState::End(End { is_last: false, closes }));
        self.draining.push(old);
        self.show_generation();
        if is_notice {
            tracing::debug!(target: log_target::SUPERVISOR, "browsers are shown why: {}", status::summary(&self.current));
        } else {
            tracing::info!(target: log_target::SUPERVISOR, "reloaded: {}", status::summary(&self.current));
        }
        let (generation, answers) = (self.number, std::mem::take(&mut self.answers));
        let former = self.draining.clone();
        tokio::spawn(async move {
            // A client that receives `Reloaded` may rely on new connections reaching the new generation, so wait until
            // the previous workers have stopped accepting. `CLOSING_PATIENCE` bounds the wait for a worker that hangs.
            let closed = async {
                for view in &former {
                    view.closed().await;
                }
            };
            let _ = tokio::time::timeout(CLOSING_PATIENCE, closed).await;
            for answer in answers {
                let _ = answer.send(Reply::Reloaded { generation });
            }
        });
    }

    fn go_on_as_it_was(&mut self, failure: &Failure) {
        // Also watch the files of the configuration that failed: one of them will be fixed.
        if let Some(watch) = &mut self.watch {
            let (config, others) = prepare::read_noting_files(&self.what);
            let config = config.ok();
            watch.add(prepare::config_path(&self.what), config.as_ref(), others);
            if let (Some(develop), Some(config)) = (&mut self.develop, config) {
                self.is_reload_wanted |= develop.adopt(&config);
            }
        }
        tracing::error!(
            target: log_target::SUPERVISOR,
            "reload failed, generation {} keeps serving: {failure}", self.current.number()
        );
        if let Some(develop) = &mut self.develop {
            self.is_notice_wanted |= develop.note_failed_reload(failure);
        }
        self.answer(|| Reply::Failed { reason: failure.to_string(), exit_code: failure.exit_code() });
    }

    /// Cancels a reload or upgrade in progress. Processes that were started for it are killed.
    pub(crate) fn give_up_starting(&mut self) {
        // Its build is ended.
        self.develop = None;
        self.reloading.take().inspect(JoinHandle::abort);
        self.upgrading.take().inspect(JoinHandle::abort);
        self.answers.append(&mut self.next);
        self.answer(|| Reply::Failed { reason: "reload refused: the server is stopping".to_owned(), exit_code: 69 });
    }

    fn answer(&mut self, reply: impl Fn() -> Reply) {
        for answer in self.answers.drain(..) {
            let _ = answer.send(reply());
        }
    }
}

pub(super) fn watch(watch: &mut Option<Watch>, what: &ServeArguments, config: &Config) {
    if let Some(watch) = watch {
        let others = config.value_files().map(Path::to_owned).collect();
        watch.add(prepare::config_path(what), Some(config), others);
    }
}
