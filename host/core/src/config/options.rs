//! Every option of the configuration, one row each.
//!
//! A row is `field: type = kind, flag (rank, "--flag VALUE", variable, "help");` below its meaning. The kind
//! ([`super::kinds`]) has the key, the default and the range. From the rows are made: the fields of the configuration
//! and their defaults, the reader of the file, the flags with `--help`, the environment variables, the list of keys in
//! errors, and the tables of docs/configuration.md, into which `cargo xtask tidy --bless` writes them.
//!
//! The upper bounds of limits are not policy. They are where a number stops being meaningful (more memory than a 32-bit
//! guest can address) or causes failures (a deadline that overflows the clock), so that such a number is a configuration
//! error and not a crash.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::access_log::MAX_HEADERS;
use super::kinds::{Addresses, Dirs, EnvFileOf, Origins, Pairs, PathOf, Switch, Word, WorkerCount};
use super::log_kinds::{Items, LogPlace, Part};
use super::option::{Flag, Kind as _, Row, options};
use super::other_options;
use super::reader::Section;
use super::store::Stores;
use super::{
    AccessLogField, AccessLogFormat, AdminListen, Always, Build, DirGrant, EnvFile, Listen, LogFilter, LogFormat,
    LogTo, LoggedHeader, MissingImports, Route, Sample, Schedule, Store, StoreGrant, Table, Value, Workers,
};
use crate::allow_http::AllowHttp;
use crate::grants;
use crate::limits::{GIB, KIB, Limit, MIB, TIB, count, size, time};
use crate::trusted::{MAX_TRUSTED, TrustedPeer};

const CONTROL: PathOf = PathOf {
    key: "control",
    name: "control socket",
    help: "write the path that the socket is to have",
    default: "[a directory of the user](operations.md#the-control-socket)",
};

const CACHE_DIR: PathOf = PathOf {
    key: "cache_dir",
    name: "cache directory",
    help: "write the path of a directory",
    default: "[a directory of the user](operations.md#compiled-code)",
};

const STATE_DIR: PathOf = PathOf {
    key: "state_dir",
    name: "state directory",
    help: "write the path of a directory",
    default: "[a directory of the application](state.md#where-the-data-is)",
};

const ENV_FILE: EnvFileOf = EnvFileOf(PathOf {
    key: "env_file",
    name: "file with variables",
    help: "write the path of a file, such as \".env\"",
    default: "none",
});

const TOKEN_FILE: PathOf = PathOf {
    key: "token_file",
    name: "token file",
    help: "write the path of a file that contains the token",
    default: "none",
};

/// More than any load balancer takes to notice, and little enough that a typing error does not look like a hang.
const MAX_SHUTDOWN_DELAY: Duration = Duration::from_secs(3600);

/// In `[server]` and in a `[[route]]`.
pub(super) const MAX_CONCURRENCY: Limit<u32> = count("max_concurrency", 256, 1, 65_536);

options! {
    /// A valid configuration.
    ///
    /// It is serialized to be sent to another process of the same binary. Deserializing does not validate again, so only
    /// serialize what [`parse`](super::parse) or [`single`](super::single) returned.
    pub struct Config in Table::Top, overridden by overrides.general: GeneralOverrides {
        /// One address, or an array of addresses. Each is a host and a port (IPv6 in brackets), or `"unix:PATH"` for
        /// a [Unix socket](#unix-sockets), or `"systemd"` for every socket that systemd passed, or `"systemd:NAME"` for those with that `FileDescriptorName=`. A host name
        /// is resolved once, and daylily takes the first of its addresses that it can bind. `"[::]:3000"` is every IPv6
        /// address and, where the system does not separate them (`net.ipv6.bindv6only`), every IPv4 address;
        /// `"0.0.0.0:3000"` may be listed beside it. Clients cannot connect before the workers are ready. With port 0
        /// the system chooses a port. `$PORT` stands for the variable `PORT` of the environment, as in
        /// `"0.0.0.0:$PORT"`; without it, that variable changes nothing. The default can only be reached from this machine; `"0.0.0.0:3000"` is every IPv4 address
        /// of it.
        listen: Option<Vec<Listen>> = Addresses("listen"),
            flag (1, "--listen ADDR:PORT", Some("DAYLILY_LISTEN"),
                "Address and port to listen on; `unix:PATH` for a Unix socket; `systemd` or `systemd:NAME` for sockets \
                that systemd passed (may be repeated) [default: {}]");
        /// Include the details of errors in responses, with the stack and the output of a [failed
        /// guest](guests.md#debugging). For development only: the details are about your code, and compiled components
        /// are larger.
        dev: bool = Switch("dev"),
            flag (7, "--dev", Some("DAYLILY_DEV"), "For development: include the details of errors in responses");
        /// `off`, `error`, `warn`, `info`, `debug` or `trace`; see [errors.md](errors.md#the-log). It may also have
        /// levels of single targets, as in `"info,daylily::outgoing=debug,guest=off"`: see [log
        /// targets](errors.md#log-targets). An unknown target is an error that lists all targets.
        log: LogFilter = Word { key: "log", default: LogFilter::default() },
            flag (7, "--log LEVEL", Some("DAYLILY_LOG"),
                "Log level: off, error, warn, info, debug or trace; optionally with levels for single targets, as in \
                info,daylily::outgoing=debug,guest=off [default: {}]");
        /// How a line of daylily's own log is written: `"text"`, or `"json"`, [one object for each
        /// event](errors.md#the-log-as-json).
        log_format: LogFormat = Word { key: "log_format", default: LogFormat::Text },
            flag (7, "--log-format FORMAT", Some("DAYLILY_LOG_FORMAT"),
                "Format of log lines: text or json [default: {}]");
        /// Where daylily's own log goes: `"stderr"`, or the path of a file, to which lines are appended. A reload and
        /// `daylily reopen` [reopen the file](operations.md#log-files). Pipes, sockets and directories are errors.
        /// What daylily prints before it has read its configuration goes to stderr, and so does what a process writes
        /// when it crashes.
        log_to: LogTo = LogPlace { key: "log_to", default: LogTo::Stderr },
            flag (7, "--log-to FILE", Some("DAYLILY_LOG_TO"),
                "File that the log is appended to, or `stderr` [default: {}]");
        /// The number of worker processes: `"auto"` for one per core, or 1 to 256. See
        /// [workers](operations.md#workers).
        workers: Workers = WorkerCount("workers"),
            flag (1, "--workers COUNT", Some("DAYLILY_WORKERS"),
                "Worker processes: a number, or `auto` for one per core [default: {}]");
        /// The path of the control socket. Its directory is created if it does not exist. If you set this key and the
        /// socket cannot be opened, daylily does not start. Read at start and upgrade only, not at a reload.
        #[serde(with = "crate::os_path::option")]
        control: Option<PathBuf> = CONTROL,
            flag (3, "--control SOCKET", Some("DAYLILY_CONTROL"),
                "Control socket, for `daylily status`, `reload`, `reopen` and `stop` [default: one in the user's \
                runtime directory]");
        /// The directory of compiled components, created if it does not exist. No other user may be able to write to
        /// it.
        #[serde(with = "crate::os_path::option")]
        cache_dir: Option<PathBuf> = CACHE_DIR,
            flag (2, "--cache-dir DIR", Some("DAYLILY_CACHE_DIR"),
                "Cache directory for compiled components [default: `daylily` in the user's cache directory]");
        /// The maximum size of that directory; the least recently used entries are removed first. 0 turns the cache
        /// off.
        cache_max_bytes: u64 = size("cache_max", GIB, 0, TIB);
        /// The directory of the [key-value stores](state.md), created if it does not exist. No other user may be able to
        /// write to it, and it must not be on a network file system.
        #[serde(with = "crate::os_path::option")]
        state_dir: Option<PathBuf> = STATE_DIR,
            flag (2, "--state-dir DIR", Some("DAYLILY_STATE_DIR"),
                "Directory of the key-value stores [default: one of the application in the user's state directory]");
        /// What happens to a component that imports what daylily does not provide: with `"refuse"` it is an error at
        /// start; with `"trap"` it is served, and a call of such an import ends the request with an error. Some SDKs
        /// import all they know, whatever the program uses: see [guests.md](guests.md#what-a-guest-may-import).
        missing_imports: MissingImports = Word { key: "missing_imports", default: MissingImports::Refuse },
            flag (1, "--missing-imports WHAT", Some("DAYLILY_MISSING_IMPORTS"),
                "Components that import what daylily does not provide: refuse, or trap when such an import is called \
                [default: {}]");
    } and {
        /// The access log.
        access_log: AccessLog = AccessLog::default();
        /// The admin listener.
        admin: Admin = Admin::default();
        /// The limits of the server.
        server: ServerLimits = ServerLimits::default();
        /// How components are built from their sources, for `daylily build` and `daylily dev`.
        build: Option<Build> = None;
        /// The key-value stores, in the order of the file: no two with the same name.
        stores: Vec<Store> = Vec::new();
        /// The schedules, in the order of the file: no two with the same name.
        schedules: Vec<Schedule> = Vec::new();
        /// The routes, in the order of the file: at least one, and no two with the same host and path, or the same name.
        routes: Vec<Route> = Vec::new();
    }
}

options! {
    /// The access log: a line for each request. See [observability.md](observability.md#the-access-log).
    pub struct AccessLog in Table::AccessLog, overridden by overrides.access_log: AccessLogOverrides {
        /// `"off"`; `"json"`, one object for each request; or `"text"`, the combined log format, followed by the
        /// duration, the outcome, the route and the id.
        format: AccessLogFormat = Word { key: "format", default: AccessLogFormat::Off },
            flag (7, "--access-log FORMAT", Some("DAYLILY_ACCESS_LOG"),
                "Format of the access log, a line for each request: text or json; or off [default: {}]");
        /// `"stdout"`, `"stderr"`, or the path of a file, to which lines are appended. A reload and `daylily reopen`
        /// reopen the file. Pipes, sockets and directories are errors.
        to: LogTo = LogPlace { key: "to", default: LogTo::Stdout };
        /// The fields of each JSON object, in this order: see [the fields](observability.md#fields). `format = "text"`
        /// has a fixed format.
        fields: Vec<AccessLogField> = Items::<AccessLogField> {
            default: AccessLogField::defaults,
            default_text: "[those marked](observability.md#fields)",
            ..Items::none("fields")
        };
        /// Fields of the request whose values a line has, such as `"user-agent"`: at most 16, the first 128 bytes of
        /// each. `authorization`, `cookie`, `set-cookie` and `proxy-authorization` are errors.
        headers: Vec<LoggedHeader> = Items::<LoggedHeader> { max: MAX_HEADERS, ..Items::none("headers") };
        /// The fraction of the requests that are logged, chosen at random. The field `weight` of a line says how many
        /// requests the line stands for.
        sample: Sample = Part("sample");
        /// Requests that have a line whatever `sample` is: `"failed"` (the outcome is not `ok`, or the status is 500 or
        /// above), `"slower than 500ms"`. Their `weight` is 1; that of all other lines follows from `sample`.
        always: Vec<Always> = Items::<Always>::none("always");
    }
}

options! {
    /// The admin listener, for health checks, metrics and the state of the server. See
    /// [operations.md](operations.md#health).
    pub struct Admin in Table::Admin, overridden by overrides.admin: AdminOverrides {
        /// `"off"`, an address and a port, or `"unix:PATH"` for a Unix socket. An address that is not a loopback one
        /// requires `token_file`, because other machines may reach it. Its port must not be in the top-level `listen`.
        listen: AdminListen = Word { key: "listen", default: AdminListen::default() },
            flag (3, "--admin ADDR:PORT", Some("DAYLILY_ADMIN"),
                "Address and port, or `unix:PATH`, of the admin listener, for health checks and metrics [default: {}]");
        /// The path of a file with the token that clients must send to see more than whether the server is ready: at
        /// most 4 KiB of printable ASCII; spaces and line ends around it are ignored. Read at start and at a reload.
        #[serde(with = "crate::os_path::option")]
        token_file: Option<PathBuf> = TOKEN_FILE;
    }
}

options! {
    /// The limits of each worker, and the clients that it trusts.
    pub struct ServerLimits in Table::Server, overridden by overrides.server: ServerOverrides {
        /// Open client connections. Further connections wait in the kernel's backlog (at most 4,096, or
        /// `net.core.somaxconn`) until one closes. At start, before the sockets are opened, daylily raises the limit of
        /// open files as far as these connections need; if that is not possible, a warning says how many connections
        /// fit, and that number is the limit.
        max_connections: u32 = count("max_connections", 10_000, 1, 1_000_000);
        /// The size of a request's head: request line, fields and the empty line. Above it: 431, or 414 when the
        /// request line alone is longer, and the connection is closed.
        // hyper cannot go below 8 KiB.
        max_head_bytes: u64 = size("max_head", 64 * KIB, 8 * KIB, 16 * MIB);
        /// The number of fields in a request's head. Above it: 431, and the connection is closed. A trailer section may
        /// have as many.
        // The `http` crate's map holds at most 24,576.
        max_headers: u32 = count("max_headers", 100, 1, 10_000);
        /// The time from the first byte of a head to its last. After it: 408, and the connection is closed. A new
        /// connection that sends nothing for this time is closed without a response.
        head_timeout: Duration = time("head_timeout", 10);
        /// How long a keep-alive connection may be without a request. After it the connection is closed without a
        /// response.
        idle_timeout: Duration = time("idle_timeout", 60);
        /// Requests that have a permit: from admission to the last byte of the response and the end of the guest's work
        /// after it. (`requests_in_progress` of `daylily status` also counts the queue.) Further requests wait in a
        /// queue, and [slow clients](operations.md#slow-clients) then give way to them. This is also how many instances
        /// daylily reserves room for: 4 GiB of address space (not memory) for each linear memory.
        max_concurrency: u32 = MAX_CONCURRENCY,
            flag (6, "--max-concurrency COUNT", Some("DAYLILY_MAX_CONCURRENCY"),
                "Maximum number of requests that run at a time, per worker; further ones are queued [default: {}]");
        /// Requests that wait for a permit, in order of arrival. Further ones get 503 at once, with `retry-after: 1`.
        max_queue: u32 = count("max_queue", 1_024, 0, 1_000_000),
            flag (6, "--max-queue COUNT", Some("DAYLILY_MAX_QUEUE"),
                "Maximum number of queued requests, per worker; more are answered with 503 [default: {}]");
        /// How long a request may wait for a permit. After it: 503, with `retry-after: 1`.
        queue_timeout: Duration = time("queue_timeout", 5);
        /// How long requests in progress may take to finish when their worker has to end: at a stop, a reload or an
        /// upgrade. After it: 503 `server is shutting down`, or a [cut](errors.md#after-the-head-has-been-sent)
        /// response.
        shutdown_timeout: Duration = time("shutdown_timeout", 30);
        /// How long a [stop](operations.md#stop) by SIGTERM or `daylily stop` waits before the drain begins: the server
        /// is no longer [ready](operations.md#health), so that load balancers send new clients elsewhere, and serves
        /// everything that still arrives, with `connection: close`.
        shutdown_delay: Duration = Limit { min: Duration::ZERO, max: MAX_SHUTDOWN_DELAY, ..time("shutdown_delay", 0) };
        /// How long a worker's event loop may not respond. After it the worker is killed and replaced.
        // With less than the minimum, healthy workers on a busy machine would be killed.
        hang_timeout: Duration = Limit { min: Duration::from_millis(100), ..time("hang_timeout", 10) };
        /// How long a worker may take from its start until it accepts connections; compiling happens before and does
        /// not count. After it, a start or a reload fails with an error; a worker that replaces another one is started
        /// again.
        start_timeout: Duration = time("start_timeout", 30);
        /// The requests in one [chain](chains.md#the-length-of-a-chain): a client's request, and each that a guest makes to another route while it works
        /// on the one before it. One more gets 508.
        max_chain: u32 = count("max_chain", 8, 1, 64);
        /// Routes with [metrics](metrics.md) of their own, in the order of the file. Further routes share
        /// the metrics of a route named `other`.
        max_metric_routes: u32 = count("max_metric_routes", 1_000, 1, 100_000);
        /// The clients whose `traceparent`, `tracestate` and `x-request-id` are
        /// [believed](observability.md#ids-from-outside): addresses, networks such as `"10.0.0.0/8"`, and `"unix"` for
        /// the clients of Unix sockets; at most 64. List only proxies that set or remove these fields themselves.
        trusted: Vec<TrustedPeer> = Items::<TrustedPeer> { max: MAX_TRUSTED, ..Items::none("trusted") };
    }
}

options! {
    /// The limits of one request of a route, and what its response says: `[defaults]` and `[[route]]`.
    #[derive(Copy)]
    pub struct RouteLimits in Table::Defaults, overridden by overrides.limits: LimitOverrides {
        /// The sum of one instance's linear memories. Above it, `memory.grow` fails inside the guest; most guests then
        /// abort, which is 500 `guest trapped`, and the log names `max_memory`. A component that starts with more is
        /// rejected at start.
        // From one page to the 32-bit address space.
        max_memory_bytes: u64 = size("max_memory", 64 * MIB, 64 * KIB, 4 * GIB),
            flag (5, "--max-memory SIZE", Some("DAYLILY_MAX_MEMORY"), "Memory limit of one instance [default: {}]");
        /// The elements of each table. For components that start with more than 192 KiB of memory, there is room for
        /// 20,000, or for the number that they declare at first if that is larger. Above it, `table.grow` fails. A
        /// component that starts with more is rejected at start.
        max_table_elements: u32 = count("max_table_elements", 100_000, 1, 10_000_000);
        /// The tables of one instance. A component with more is rejected at start.
        max_tables: u32 = count("max_tables", 20, 1, 1_000);
        /// The linear memories of one instance. A component with more is rejected at start.
        max_memories: u32 = count("max_memories", 10, 1, 1_000);
        /// The core instances (instances of the modules inside a component) that make up one component instance: one
        /// for ordinary 0.2 guests, and for most others fewer than ten. The number is only known when the component is
        /// instantiated. Above it: 503 `cannot create an instance`.
        max_instances: u32 = count("max_instances", 100, 1, 10_000);
        /// The memory that daylily itself uses for one instance, outside its linear memories: header fields, requests
        /// and responses that the guest makes, body data until it is sent, handles, streams, calls, and
        /// [operations on stores](state.md#limits) in progress. It is counted when it is allocated, and no longer
        /// counted when it is released; the guest traps before more than this plus one sixteenth is in use: 500
        /// `guest trapped`, and the log names `max_host_memory`. A guest that makes several outgoing requests at a time
        /// needs some 192 KiB for each.
        // With less than the minimum, even a minimal guest would not fit.
        max_host_memory_bytes: u64 = size("max_host_memory", 16 * MIB, MIB, 4 * GIB);
        /// The CPU time that one request may use: its guest, the creation of the instance, and what daylily does for
        /// the guest. Waiting does not count. Checked every millisecond. After it: 504 if the response's head was not
        /// sent yet, else a cut response.
        cpu_time: Duration = time("cpu_time", 1),
            flag (5, "--cpu-time TIME", Some("DAYLILY_CPU_TIME"), "CPU time limit of one request [default: {}]");
        /// The time from admission (the request gets a permit) to the last byte of the response and the end of the
        /// guest's work. After it: 504 if the response's head was not sent yet, else a cut response.
        wall_time: Duration = time("wall_time", 30),
            flag (5, "--wall-time TIME", Some("DAYLILY_WALL_TIME"),
                "Wall time limit of one request, to the end of its response and of its guest [default: {}]");
        /// The size of a request's body. Above it: 413, at once if `content-length` is larger, else when the guest
        /// reads past the limit. If the response's head was already sent, the guest's read fails with
        /// `HTTP-request-body-size`.
        max_body_bytes: u64 = size("max_body", 16 * MIB, 1, TIB),
            flag (5, "--max-body SIZE", Some("DAYLILY_MAX_BODY"), "Size limit of a request body [default: {}]");
        /// How long a body may make no progress. For the request's body, while the guest waits for it: 408, or, if the
        /// response's head was already sent, a read that fails with `connection-read-timeout`. For the response's body,
        /// while the client does not read it: the connection is closed.
        body_timeout: Duration = time("body_timeout", 30);
        /// The output that one request may write to stdout, stderr and [`wasi:logging`](guests.md#logging) together,
        /// measured as it costs in the log: each line costs its bytes as they are printed, and 128 bytes for what the
        /// log adds to it. Lines of `wasi:logging` below the level of the log cost nothing. The rest is dropped, and
        /// one log line says so.
        max_output_bytes: u64 = size("max_output", 64 * KIB, 1, GIB);
        /// Outgoing requests: resolving the name, connecting and the TLS handshake together. After it the guest gets
        /// `DNS-timeout` or `connection-timeout`.
        connect_timeout: Duration = time("connect_timeout", 5);
        /// Outgoing requests: from the last part of the request to the head of the response. After it the guest gets
        /// `connection-read-timeout`.
        first_byte_timeout: Duration = time("first_byte_timeout", 30);
        /// Outgoing requests: each wait for more of the response's body. After it the guest's read fails with
        /// `connection-read-timeout`.
        between_bytes_timeout: Duration = time("between_bytes_timeout", 30);
        /// Outgoing requests that one instance may have open. Above it the guest gets `connection-limit-reached`.
        max_outgoing: u32 = count("max_outgoing", 16, 1, 10_000);
        /// Operations on [key-value stores](state.md#limits) of one request. Above it, they fail.
        max_store_operations: u32 = count("max_store_operations", 1_000, 1, 10_000_000);
        /// Handles of key-value stores that one instance may have at a time. Above it, opening fails.
        max_open_stores: u32 = count("max_open_stores", 16, 1, 1_000);
        /// How long one operation on a key-value store may take. After it, the operation fails; a write may still be
        /// applied.
        store_timeout: Duration = time("store_timeout", 5);
        /// Whether responses have a [`server-timing`](observability.md#server-timing) field, which tells clients how
        /// long the request was queued, instantiated and in the guest. With `dev`, all responses have it.
        server_timing: bool = Switch("server_timing");
    } and {
        /// Requests in progress in this route; `None` means [`route_share`](crate::limits::route_share), or with a single
        /// route the server's maximum.
        max_concurrency: Option<u32> = None;
    }
}

options! {
    /// What a route's guest can see and use; by default, nothing.
    pub struct Grants in Table::Defaults, overridden by overrides.grants: GrantOverrides {
        /// The path of a [file with variables](#values-from-outside) for the guest's environment. `env` goes over it.
        /// Read at start and at a reload.
        env_file: Option<EnvFile> = ENV_FILE,
            flag (4, "--env-file FILE", None, "File with environment variables for guests, in lines of NAME=value");
        /// See [grants](#grants).
        env: BTreeMap<String, Value> = Pairs { key: "env", parse: grants::parse_env, check: grants::check_env },
            flag (4, "--env KEY[=VALUE]", None,
                "Environment variable for guests; without a value, the one of daylily's environment (may be repeated)");
        /// See [grants](#grants).
        vars: BTreeMap<String, Value> = Pairs { key: "vars", parse: grants::parse_var, check: grants::check_var },
            flag (4, "--var KEY=VALUE", None, "wasi:config variable for guests (may be repeated)");
        /// See [grants](#grants).
        dirs: Vec<DirGrant> = Dirs("dirs"),
            flag (4, "--dir HOST::GUEST[:ro]", None,
                "Host directory that guests may access, read-only with :ro (may be repeated)");
        /// See [`allow_http`](#allow_http).
        allow_http: AllowHttp = Origins("allow_http"),
            flag (4, "--allow-http ORIGIN", None,
                "Origin that guests may send HTTP requests to, such as https://api.example.com, or route:NAME (may be \
                repeated)");
        /// The [key-value stores](state.md) that guests may open: names of `[store.NAME]`, or `"LABEL=NAME"` for a store
        /// that guests open as LABEL.
        stores: Vec<StoreGrant> = Stores("stores"),
            flag (4, "--store [LABEL=]NAME", None,
                "Key-value store that guests may open, made if no [store.NAME] declares it (may be repeated)");
    }
}

/// All options: those of the top level, of its tables, of `[defaults]`, and those that only a `[[route]]` has.
pub fn rows() -> Vec<Row> {
    let mut rows =
        [Config::rows(), AccessLog::rows(), Admin::rows(), ServerLimits::rows(), RouteLimits::rows(), Grants::rows()]
            .concat();
    rows.extend(other_options::rows());
    rows
}
