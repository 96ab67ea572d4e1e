//! Runs the command that the command line gives, and returns the exit code.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Parser;
use daylily_core::config::{Listen, ListenAddr, Schedule};
use daylily_core::schedule::Tick;

use crate::cli::{BuildArguments, Cli, Command, Options, ServeArguments, foreign, import, new};
use crate::failure::Failure;
use crate::observe::log::{self, LogSettings};
use crate::observer;
use crate::stdout::{print, unless_reader_left};
use crate::storage;
use crate::storage::command::StoreArguments;
use crate::supervisor::build::guard::{self, BUILD_GUARD};
use crate::supervisor::build::once;
use crate::supervisor::control_socket::client::{self, OutputFormat};
use crate::supervisor::control_socket::report;
use crate::supervisor::control_socket::report::RouteStatus;
use crate::supervisor::observer::OBSERVER;
use crate::supervisor::prepare;
use crate::supervisor::storage::STORAGE;
use crate::supervisor::supervise::{self, Task};
use crate::supervisor::upgrade::{Inheritance, Invocation, SUCCESSOR};
use crate::sys::limits;
use crate::worker::load::{NotGranted, WorkerContext};
use crate::worker::{self, load};

/// The first argument of a worker's command line; only daylily itself starts workers.
const WORKER: &str = "worker";

/// Printed when a user starts a successor by hand.
const NOT_FOR_HANDS: &str =
    "this command is internal: daylily starts its successor with it; to upgrade, send SIGUSR2 to a running server";

/// Runs daylily with the arguments of a command line, the program's name first.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    limits::survive_file_size_limit();
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let program = if arguments.is_empty() { "daylily".into() } else { arguments.remove(0) };
    if arguments.first().is_some_and(|first| first == WORKER) {
        return worker::main();
    }
    if arguments.first().is_some_and(|first| first == OBSERVER) {
        return observer::main();
    }
    if arguments.first().is_some_and(|first| first == STORAGE) {
        return storage::main();
    }
    if arguments.first().is_some_and(|first| first == BUILD_GUARD) {
        return guard::main(arguments.get(1..).unwrap_or_default());
    }
    let succeeds = arguments.first().is_some_and(|first| first == SUCCESSOR);
    if succeeds {
        arguments.remove(0);
    }
    let cli = match Cli::try_parse_from(std::iter::once(&program).chain(&arguments)) {
        Ok(cli) => cli,
        Err(usage) => {
            if let Some(answer) = foreign::argument(&usage, &arguments) {
                return misused(&answer);
            }
            // Help and version go to standard output and are the whole output, so a failure to write them is the
            // command's failure.
            let printed = unless_reader_left(usage.print());
            return match printed {
                Err(failure) if !usage.use_stderr() => told(&failure),
                _ => ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(2)),
            };
        }
    };
    if let Some(answer) = misunderstood(&cli) {
        return misused(&answer);
    }
    let outcome = match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(what) => serve(what, Invocation::new(program, arguments), succeeds),
        Command::Dev(what) => serve(developing(what), Invocation::new(program, arguments), succeeds),
        Command::Build(what) => build(what),
        Command::Check(what) => check(&what),
        Command::Status { server, json } => {
            let form = if json { OutputFormat::Json } else { OutputFormat::Text };
            client::run(report::Command::Status, server.control.as_deref(), form)
        }
        Command::Reload(server) => client::run(report::Command::Reload, server.control.as_deref(), OutputFormat::Text),
        Command::Reopen(server) => client::run(report::Command::Reopen, server.control.as_deref(), OutputFormat::Text),
        Command::Stop(server) => client::run(report::Command::Stop, server.control.as_deref(), OutputFormat::Text),
        Command::Store(what) => store(what),
        Command::New(what) => new_project(&what),
        Command::Import(what) => import::run(&what).map_err(Failure::from).and_then(|report| print(&report)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => told(&failure),
    }
}

/// What to say about arguments and variables that were meant in another way than they are understood.
fn misunderstood(cli: &Cli) -> Option<String> {
    if let Some(command) = cli.serve.misplaced_command() {
        return Some(format!("the command comes before its flags: daylily {command} [OPTIONS]"));
    }
    let what = match &cli.command {
        Some(Command::Serve(what) | Command::Dev(what) | Command::Check(what)) => what,
        _ => &cli.serve,
    };
    let component = what.component.as_ref().and_then(|component| foreign::command(component.as_os_str()));
    component.or_else(|| foreign::variable(std::env::vars_os()))
}

/// Prints why the usage is wrong, and returns the exit code for that.
fn misused(why: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{why}");
    ExitCode::from(2)
}

/// Prints the failure and returns its exit code.
fn told(failure: &Failure) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{failure}");
    ExitCode::from(failure.exit_code())
}

fn serve(what: ServeArguments, invocation: Invocation, succeeds: bool) -> Result<(), Failure> {
    let inheritance = if succeeds {
        let inherited = Inheritance::receive();
        Some(inherited.map_err(|error| Failure::Worker { text: format!("{NOT_FOR_HANDS} ({error})"), code: 2 })?)
    } else {
        None
    };
    supervise::serve(Task { what, invocation, inheritance })
}

/// What `daylily dev` serves.
fn developing(mut what: ServeArguments) -> ServeArguments {
    what.develops = true;
    what.watch = true;
    what.options.0.general.dev = Some(true);
    what
}

fn build(what: BuildArguments) -> Result<(), Failure> {
    let what = ServeArguments { config: what.config, ..ServeArguments::default() };
    once::build(&prepare::read_to_build(&prepare::settled(&what)?)?)
}

fn store(what: StoreArguments) -> Result<(), Failure> {
    let mut options = Options::default();
    options.0.general.state_dir = what.state_dir.map(Some);
    if what.component.is_some() {
        // Its server has a flag for each of its stores, and no table that declares them.
        options.0.grants.stores = what.command.store().parse().ok().map(|grant| vec![grant]);
    }
    let (component, config) = (what.component, what.config);
    let served = ServeArguments { component, config, options, ..ServeArguments::default() };
    let config = prepare::read_for_store(&prepare::settled(&served)?, what.command.store())?;
    Ok(storage::command::run(&config, what.command)?)
}

fn new_project(what: &new::NewArguments) -> Result<(), Failure> {
    let made = new::run(what)?;
    print(&made.report)?;
    let _ = write!(std::io::stderr(), "{}", made.warnings);
    Ok(())
}

/// What a schedule sends, and when for the next two times.
fn next_runs(schedule: &Schedule) -> String {
    let ticks = schedule.ticks();
    let first = ticks.after(Tick::at(SystemTime::now()));
    let times: Vec<_> = first.into_iter().chain(first.and_then(|first| ticks.after(first))).collect();
    let times: Vec<_> = times.into_iter().map(|tick| ticks.local_text(tick)).collect();
    format!("{} {}, next at {}", schedule.method, schedule.path, times.join(" and "))
}

fn check(what: &ServeArguments) -> Result<(), Failure> {
    let config = prepare::read(&prepare::settled(what)?)?;
    let _log = log::start(LogSettings::of(&config).on_stderr())?;
    let stores: Vec<_> = storage::dir::faults(&config).into_iter().map(Failure::from).collect();
    if !stores.is_empty() {
        return Err(Failure::all(stores));
    }
    let prepared = prepare::compile(config, &[])?;
    let config = &prepared.config;
    let context = WorkerContext::unshared(prepared.connection_limit)?;
    load::worker(config, &prepared.artifacts, context).map_err(Failure::Components)?;
    for route in &config.routes {
        print(&format!("route {}: {}\n", route.name, RouteStatus::of(route).serves()))?;
        for NotGranted { link, import, key } in
            load::not_granted(route).map_err(|error| Failure::Components(vec![error]))?
        {
            let whose = link.map(|link| format!("middleware {link} ")).unwrap_or_default();
            print(&format!("  {whose}imports {import}: nothing is granted (`{key}`)\n"))?;
        }
    }
    for schedule in &config.schedules {
        print(&format!("schedule {}: {}\n", schedule.name, next_runs(schedule)))?;
    }
    let routes = config.routes.len();
    let listen = match &config.listen {
        Some(listen) => listen.iter().map(Listen::to_string).collect::<Vec<_>>().join(" and "),
        None => ListenAddr::default().to_string(),
    };
    print(&format!("ok: {routes} route{} on {listen}\n", if routes == 1 { "" } else { "s" }))
}
