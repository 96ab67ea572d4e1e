//! The command line: commands, flags, and the environment variables behind them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::{Args, Parser, Subcommand};
use daylily_core::ValueError;
use daylily_core::allow_http::Origin;
use daylily_core::config::{DirGrant, Listen, LogFilter, Overrides, Workers};
use daylily_core::{grants, limits};

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
66 a component cannot be read; 69 cannot listen, or no responding server found; 71 no memory for compiled code; \
75 requests were cut at the end of shutdown_timeout; \
77 the server belongs to another user; 78 configuration error.";

/// A command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve a component, or the routes of a configuration file (the default command)
    #[command(after_help = EXIT_CODES)]
    Serve(ServeArguments),
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
    /// Stop a running server, and wait until its requests are finished
    #[command(after_help = EXIT_CODES)]
    Stop(RunningServer),
    /// Check whether `serve` would start with the same arguments, and print the errors if not
    #[command(after_help = EXIT_CODES)]
    Check(ServeArguments),
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
    /// For development: reload when the configuration or a component file changes
    #[arg(long)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) settings: Settings,
}

/// Settings that go over the configuration file.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Settings {
    /// Address and port to listen on, or `systemd` or `systemd:NAME` for sockets that systemd passed (may be
    /// repeated) [default: what systemd passed, else 127.0.0.1:3000]
    #[arg(long, value_name = "ADDR:PORT", env = "DAYLILY_LISTEN", value_delimiter = ',')]
    listen: Vec<Listen>,
    /// Worker processes: a number, or `auto` for one per core [default: auto]
    #[arg(long, value_name = "COUNT", env = "DAYLILY_WORKERS")]
    workers: Option<Workers>,
    /// Cache directory for compiled components [default: `daylily` in the user's cache directory]
    #[arg(long, value_name = "DIR", env = "DAYLILY_CACHE_DIR")]
    cache_dir: Option<PathBuf>,
    /// Control socket, for `daylily status`, `reload` and `stop` [default: one in the user's runtime directory]
    #[arg(long, value_name = "SOCKET", env = "DAYLILY_CONTROL")]
    control: Option<PathBuf>,
    /// Environment variable for guests (may be repeated)
    #[arg(long, value_name = "KEY=VALUE", value_parser = grants::parse_env)]
    env: Vec<(String, String)>,
    /// wasi:config variable for guests (may be repeated)
    #[arg(long, value_name = "KEY=VALUE", value_parser = grants::parse_var)]
    var: Vec<(String, String)>,
    /// Host directory that guests may access, read-only with :ro (may be repeated)
    #[arg(long, value_name = "HOST::GUEST[:ro]")]
    dir: Vec<DirGrant>,
    /// Origin that guests may send HTTP requests to, such as https://api.example.com (may be repeated)
    #[arg(long, value_name = "ORIGIN")]
    allow_http: Vec<Origin>,
    /// Memory limit of one instance [default: 64MiB]
    #[arg(long, value_name = "SIZE", env = "DAYLILY_MAX_MEMORY", value_parser = max_memory)]
    max_memory: Option<u64>,
    /// CPU time limit of one request [default: 1s]
    #[arg(long, value_name = "TIME", env = "DAYLILY_CPU_TIME", value_parser = cpu_time)]
    cpu_time: Option<Duration>,
    /// Wall time limit of one request, to the end of its response [default: 30s]
    #[arg(long, value_name = "TIME", env = "DAYLILY_WALL_TIME", value_parser = wall_time)]
    wall_time: Option<Duration>,
    /// Size limit of a request body [default: 16MiB]
    #[arg(long, value_name = "SIZE", env = "DAYLILY_MAX_BODY", value_parser = max_body)]
    max_body: Option<u64>,
    /// Maximum number of requests in progress, per worker [default: 256]
    #[arg(long, value_name = "COUNT", env = "DAYLILY_MAX_CONCURRENCY", value_parser = max_concurrency)]
    max_concurrency: Option<u32>,
    /// Maximum number of queued requests, per worker; more are answered with 503 [default: 1024]
    #[arg(long, value_name = "COUNT", env = "DAYLILY_MAX_QUEUE", value_parser = max_queue)]
    max_queue: Option<u32>,
    /// For development: include the details of errors in responses
    #[arg(long, env = "DAYLILY_DEV", value_parser = FalseyValueParser::new())]
    dev: bool,
    /// Log level: off, error, warn, info, debug or trace; with levels of single targets:
    /// info,daylily::outgoing=debug,guest=off [default: info]
    #[arg(long, value_name = "LEVEL", env = "DAYLILY_LOG")]
    log: Option<LogFilter>,
}

impl ServeArguments {
    /// The command, when it was given after the flags, where clap takes it for a component.
    pub(crate) fn misplaced_command(&self) -> Option<&str> {
        let component = self.component.as_deref()?;
        ["serve", "status", "reload", "stop", "check"]
            .into_iter()
            .find(|command| Path::new(command) == component && !component.exists())
    }
}

impl Settings {
    /// The settings as overrides of a configuration.
    pub(crate) fn overrides(&self) -> Overrides {
        let settings = self.clone();
        Overrides {
            listen: settings.listen,
            workers: settings.workers,
            cache_dir: settings.cache_dir,
            control: settings.control,
            dev: settings.dev.then_some(true),
            log: settings.log,
            max_concurrency: settings.max_concurrency,
            max_queue: settings.max_queue,
            max_memory_bytes: settings.max_memory,
            cpu_time: settings.cpu_time,
            wall_time: settings.wall_time,
            max_body_bytes: settings.max_body,
            env: settings.env,
            vars: settings.var,
            dirs: settings.dir,
            allow_http: settings.allow_http,
        }
    }
}

fn max_memory(text: &str) -> Result<u64, ValueError> {
    limits::MAX_MEMORY.parse(text)
}

fn cpu_time(text: &str) -> Result<Duration, ValueError> {
    limits::CPU_TIME.parse(text)
}

fn wall_time(text: &str) -> Result<Duration, ValueError> {
    limits::WALL_TIME.parse(text)
}

fn max_body(text: &str) -> Result<u64, ValueError> {
    limits::MAX_BODY.parse(text)
}

fn max_concurrency(text: &str) -> Result<u32, ValueError> {
    limits::MAX_CONCURRENCY.parse(text)
}

fn max_queue(text: &str) -> Result<u32, ValueError> {
    limits::MAX_QUEUE.parse(text)
}
