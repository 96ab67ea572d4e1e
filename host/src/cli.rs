//! The command line: commands, flags, and the environment variables behind them. The flags of options are made from
//! their rows in `core/config/options.rs`.

pub(crate) mod foreign;
pub(crate) mod import;
pub(crate) mod new;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{FalseyValueParser, PathBufValueParser, TypedValueParser as _};
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use daylily_core::config::{Flag, Form, Overrides, options};

use crate::storage::command::StoreArguments;

/// Serves HTTP, answering every request from a fresh, sandboxed WebAssembly component instance.
#[derive(Debug, Parser)]
#[command(
    name = "daylily",
    version,
    max_term_width = 100,
    args_conflicts_with_subcommands = true,
    after_help = EXIT_CODES,
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) serve: ServeArguments,
}

const EXIT_CODES: &str = "Exit codes: 0 success; 1 internal error; 2 usage; 65 a component cannot be loaded; \
66 a component cannot be read; 69 cannot listen, or no responding server found; 70 a build failed; \
71 no memory for compiled code; 73 the project or the file cannot be created; 75 requests were cut at the end of shutdown_timeout; \
77 the server belongs to another user; 78 configuration error.";

/// A command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve a component, or the routes of a configuration file (the default command)
    #[command(after_help = EXIT_CODES)]
    Serve(ServeArguments),
    /// Build the components: run the command of [build] in the configuration file
    #[command(after_help = EXIT_CODES)]
    Build(BuildArguments),
    /// For development: build, serve, and do both again when a source changes; pages in browsers reload themselves
    #[command(after_help = EXIT_CODES)]
    Dev(ServeArguments),
    /// Show the workers, routes and counters of a running server
    #[command(after_help = EXIT_CODES)]
    Status {
        #[command(flatten)]
        server: RunningServer,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Reload a running server's configuration and components, and wait until it serves them
    #[command(after_help = EXIT_CODES)]
    Reload(RunningServer),
    /// Reopen a running server's log files, after they were moved (for logrotate)
    #[command(after_help = EXIT_CODES)]
    Reopen(RunningServer),
    /// Stop a running server: let its requests finish, and wait until it has ended
    #[command(after_help = EXIT_CODES)]
    Stop(RunningServer),
    /// Check whether `serve` would start with the same arguments, and print the errors if not
    #[command(after_help = EXIT_CODES)]
    Check(ServeArguments),
    /// Look at the key-value stores, and change them, also while a server uses them
    #[command(after_help = EXIT_CODES)]
    Store(StoreArguments),
    /// Make a new project from a template
    #[command(override_usage = new::USAGE, after_help = format!("{}\n\n{EXIT_CODES}", new::listed()))]
    New(new::NewArguments),
    /// Make a configuration of the manifest of a Spin application
    #[command(after_help = EXIT_CODES)]
    Import(import::ImportArguments),
}

/// What to build.
#[derive(Args, Debug)]
pub(crate) struct BuildArguments {
    /// Build what this configuration file says [default: ./daylily.toml]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// Which server to talk to.
#[derive(Args, Debug)]
pub(crate) struct RunningServer {
    /// Control socket of the server [default: that of the only running server of this user]
    #[arg(long, value_name = "SOCKET", env = "DAYLILY_CONTROL")]
    pub(crate) control: Option<PathBuf>,
}

/// What to serve, and how.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ServeArguments {
    /// Component that handles every request [default, without --config: the routes of ./daylily.toml if
    /// that file exists, else the built-in Hello World]
    #[arg(value_name = "COMPONENT.wasm", conflicts_with = "config")]
    pub(crate) component: Option<PathBuf>,
    /// Serve the routes of this configuration file
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// `config` was not given: the default file was found, and has been required since.
    #[arg(skip)]
    pub(crate) config_was_found: bool,
    /// `daylily dev` serves.
    #[arg(skip)]
    pub(crate) develops: bool,
    /// For development: reload when the configuration or a component file changes
    #[arg(long)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) options: Options,
}

/// Options of the configuration that flags or environment variables give.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options(pub(crate) Overrides);

/// The options that have flags, in the order of `--help`.
fn flags() -> impl Iterator<Item = Flag> {
    let mut flags: Vec<_> = options::rows().into_iter().filter_map(|row| row.flag).collect();
    flags.sort_by_key(|flag| flag.rank);
    flags.into_iter()
}

/// `--flag` and the name of its value, if it has one.
fn parts(flag: &Flag) -> (&'static str, &'static str) {
    let (name, value) = flag.usage.split_once(' ').unwrap_or((flag.usage, ""));
    (name.trim_start_matches('-'), value)
}

impl Args for Options {
    fn augment_args(command: clap::Command) -> clap::Command {
        command.args(flags().map(argument))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

fn argument(flag: Flag) -> Arg {
    let (name, value) = parts(&flag);
    // The name and not the key: options of two tables may have the same key.
    let argument = Arg::new(name).long(name).help(flag.help);
    let argument = match flag.variable {
        Some(variable) => argument.env(variable),
        None => argument,
    };
    // The value is parsed here only to report what is wrong with it; `Options` parses it again.
    let is_valid =
        move |text: &str| (flag.set)(&mut Overrides::default(), text.as_ref()).map(|()| OsString::from(text));
    match flag.form {
        Form::Switch => argument.action(ArgAction::SetTrue).value_parser(FalseyValueParser::new()),
        Form::Path => argument.value_name(value).value_parser(PathBufValueParser::new().map(PathBuf::into_os_string)),
        Form::Text => argument.value_name(value).value_parser(is_valid),
        Form::Repeated => argument.value_name(value).action(ArgAction::Append).value_parser(is_valid),
        Form::List => argument.value_name(value).action(ArgAction::Append).value_delimiter(',').value_parser(is_valid),
    }
}

impl FromArgMatches for Options {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut overrides = Overrides::default();
        for flag in flags() {
            let (name, _) = parts(&flag);
            let values: Vec<OsString> = match flag.form {
                Form::Switch => matches.get_flag(name).then(OsString::new).into_iter().collect(),
                _ => matches.get_many(name).into_iter().flatten().cloned().collect(),
            };
            for value in values {
                (flag.set)(&mut overrides, &value)
                    .map_err(|error| clap::Error::raw(ErrorKind::ValueValidation, error))?;
            }
        }
        Ok(Self(overrides))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl ServeArguments {
    /// Whether other machines must not reach the server: `daylily dev` serves, and no address was given to it.
    pub(crate) fn is_local(&self) -> bool {
        self.develops && self.options.0.general.listen.is_none()
    }

    /// The command, when it was given after the flags, where clap takes it for a component.
    pub(crate) fn misplaced_command(&self) -> Option<&str> {
        let component = self.component.as_deref()?;
        let name = component.to_str()?;
        let is_command = Cli::command().find_subcommand(name).is_some();
        (is_command && !component.exists()).then_some(name)
    }
}
