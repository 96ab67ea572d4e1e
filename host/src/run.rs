//! From what was typed to what runs, and to the exit code.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use daylily_core::config::{self, ComponentSource, Config, Diagnostics};

use crate::cli::{Cli, Command, What};
use crate::engine::LoadError;
use crate::serve::{accept, listen};
use crate::worker::Worker;
use crate::{load, log};

/// Read where there is one and nothing else is asked for.
const DEFAULT_CONFIG: &str = "daylily.toml";

/// Task polls between two looks at the sockets. tokio's default of 61 would make a flood of guests that
/// each use up their first slice deaf for tens of milliseconds.
const EVENT_INTERVAL: u32 = 8;

/// Outgoing connections that descriptors are kept for.
const OUTGOING_DESCRIPTORS: u64 = 1024;

/// Why daylily ends with an exit code other than 0.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Config(#[from] Diagnostics),
    #[error("failed to read the configuration `{path}`: {error}; check the path given with --config")]
    ConfigUnreadable { path: String, error: std::io::Error },
    #[error("{}", lines(.0))]
    Components(Vec<LoadError>),
    #[error("failed to listen on {address}: {error}; is another server running there? choose an address with --listen")]
    Listen { address: String, error: std::io::Error },
    #[error("failed to start: {0}")]
    Internal(#[from] std::io::Error),
}

/// Runs daylily with the arguments of a command line, the program's name first.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(usage) => {
            let _ = usage.print();
            return ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(2));
        }
    };
    if let Some(command) = cli.serve.misplaced_command() {
        let _ = writeln!(std::io::stderr(), "the command comes before its flags: daylily {command} [OPTIONS]");
        return ExitCode::from(2);
    }
    let outcome = match cli.command {
        None => serve(cli.serve),
        Some(Command::Serve(what)) => serve(what),
        Some(Command::Check(what)) => check(what),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "{failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn serve(what: What) -> Result<(), Failure> {
    let config = read(what)?;
    let _log = log::start(config.log);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().event_interval(EVENT_INTERVAL).build()?;
    runtime.block_on(async {
        // Before the components, so that a port in use is said at once.
        let address = config.listen.as_str();
        let refused = |error| Failure::Listen { address: address.to_owned(), error };
        let listener = listen::bind(address).map_err(refused)?;
        let local = listener.local_addr().map_err(refused)?;
        let worker = load(&config)?;
        writeln!(std::io::stdout(), "Server running at http://{local}/")?;
        accept::run(listener, Arc::new(worker)).await;
        Ok(())
    })
}

fn check(what: What) -> Result<(), Failure> {
    let config = read(what)?;
    let _log = log::start(config.log);
    load(&config)?;
    for route in &config.routes {
        let component = match &route.component {
            ComponentSource::HelloWorld => "the built-in Hello World".to_owned(),
            ComponentSource::File(path) => path.display().to_string(),
        };
        writeln!(std::io::stdout(), "route {}: {component}", route.name)?;
    }
    let routes = config.routes.len();
    writeln!(std::io::stdout(), "ok: {routes} route{} on {}", if routes == 1 { "" } else { "s" }, config.listen)?;
    Ok(())
}

fn load(config: &Config) -> Result<Worker, Failure> {
    let wanted = u64::from(config.server.max_connections);
    let fitting = listen::raise_descriptor_limit(wanted, OUTGOING_DESCRIPTORS);
    if let Some(fitting) = fitting {
        tracing::warn!(
            "the descriptor limit allows {fitting} connections, fewer than max_connections = {wanted}; raise the hard limit (ulimit -n)"
        );
    }
    let connections = usize::try_from(fitting.unwrap_or(wanted)).unwrap_or(usize::MAX);
    load::worker(config, connections).map_err(Failure::Components)
}

/// Flags over environment over file over defaults.
fn read(what: What) -> Result<Config, Failure> {
    let overrides = what.settings.into_overrides();
    if let Some(component) = what.component {
        return Ok(config::single(ComponentSource::File(component), &overrides));
    }
    let path = what.config.or_else(|| Path::new(DEFAULT_CONFIG).exists().then(|| PathBuf::from(DEFAULT_CONFIG)));
    let Some(path) = path else {
        return Ok(config::single(ComponentSource::HelloWorld, &overrides));
    };
    let text = std::fs::read_to_string(&path)
        .map_err(|error| Failure::ConfigUnreadable { path: path.display().to_string(), error })?;
    Ok(config::parse(&path, &text, &overrides)?)
}

impl Failure {
    /// As sysexits.h numbers them where it has a number.
    fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::ConfigUnreadable { .. } => 78,
            Self::Components(errors) => errors.first().map_or(65, LoadError::exit_code),
            Self::Listen { .. } => 69,
            Self::Internal(_) => 1,
        }
    }
}

fn lines(errors: &[LoadError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
