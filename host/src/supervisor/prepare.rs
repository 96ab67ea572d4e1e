//! From the command line to what workers receive: the configuration, read again each time, and the compiled code of
//! its components.

use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use daylily_core::config::{self, ComponentSource, Config, Placeholders, Surroundings};
use daylily_core::log_target;

use crate::artifact::Artifact;
use crate::artifact::cache::{Cache, CacheError};
use crate::artifact::compile::Compiler;
use crate::cli::ServeArguments;
use crate::engine::pool::StackDetail;
use crate::failure::Failure;
use crate::net::listen;
use crate::observe::sink;
use crate::storage;
use crate::supervisor::surroundings::ProcessSurroundings;
use crate::sys::dirs;
use crate::sys::read_file::{MAX_CONFIG_BYTES, MAX_TOKEN_BYTES, read_file, read_text};
use crate::worker::load;
use crate::worker::setup::Prepared;

/// Read when it exists and neither a component nor a configuration is given.
const DEFAULT_CONFIG: &str = "daylily.toml";

/// Descriptors that each worker reserves for outgoing connections.
const OUTGOING_DESCRIPTORS: u64 = 1024;

/// Reads the configuration of [`settled`] arguments. Flags take precedence over environment variables, these over the
/// file, and the file over defaults. Blocks for as long as [`read_file`] does.
///
/// # Errors
///
/// When the file cannot be read, and all errors in it at once.
pub(crate) fn read(what: &ServeArguments) -> Result<Config, Failure> {
    read_noting_files(what).0
}

/// As [`read`]. Also returns the files that values are from, or would be from if they could be read.
pub(crate) fn read_noting_files(what: &ServeArguments) -> (Result<Config, Failure>, Vec<PathBuf>) {
    let surroundings = ProcessSurroundings::default();
    let config = read_in(&surroundings, what);
    (config, surroundings.into_asked())
}

/// Reads the configuration of [`settled`] arguments for a build: without the values that guests get, which need not
/// exist where components are built.
///
/// # Errors
///
/// As [`read`].
pub(crate) fn read_to_build(what: &ServeArguments) -> Result<Config, Failure> {
    read_unchecked(&Placeholders, what)
}

/// Reads the configuration of [`settled`] arguments for one of its stores: without the values that guests get, and without
/// the secrets of other stores.
///
/// # Errors
///
/// As [`read`].
pub(crate) fn read_for_store(what: &ServeArguments, store: &str) -> Result<Config, Failure> {
    read_unchecked(&ProcessSurroundings::of_store(store), what)
}

fn read_in(surroundings: &ProcessSurroundings, what: &ServeArguments) -> Result<Config, Failure> {
    let config = read_unchecked(surroundings, what)?;
    // Errors of the file have been reported with their lines.
    config.check_admin().map_err(Failure::Admin)?;
    Ok(config)
}

/// The configuration, with the directory of its stores.
fn read_unchecked(surroundings: &dyn Surroundings, what: &ServeArguments) -> Result<Config, Failure> {
    let mut config = parse(surroundings, what)?;
    if config.has_files() {
        let served = what.component.as_deref().or(what.config.as_deref());
        config.state_dir = Some(storage::dir::of(&config, served)?);
    }
    Ok(config)
}

fn parse(surroundings: &dyn Surroundings, what: &ServeArguments) -> Result<Config, Failure> {
    let overrides = &what.options.0;
    if let Some(component) = &what.component {
        return Ok(config::single(surroundings, ComponentSource::File(component.clone()), overrides)?);
    }
    let Some(path) = &what.config else {
        return Ok(config::single(surroundings, ComponentSource::HelloWorld, overrides)?);
    };
    let text = read_text(path, MAX_CONFIG_BYTES).map_err(|error| unreadable(what, path, error))?;
    Ok(config::parse_in(surroundings, path, &text, overrides)?)
}

/// The arguments, completed with the default configuration file if it exists. From then on the file is required: a
/// reload without it fails instead of dropping its routes.
///
/// # Errors
///
/// When it is unknown whether the file exists. A symbolic link to nothing exists, and fails to be read.
pub(crate) fn settled(what: &ServeArguments) -> Result<ServeArguments, Failure> {
    if what.component.is_some() || what.config.is_some() {
        return Ok(what.clone());
    }
    match Path::new(DEFAULT_CONFIG).symlink_metadata() {
        Ok(_) => Ok(with_found(what)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(what.clone()),
        Err(error) => Err(unreadable(&with_found(what), Path::new(DEFAULT_CONFIG), error)),
    }
}

/// The arguments with the default configuration file, which this process or its predecessor has found.
pub(crate) fn with_found(what: &ServeArguments) -> ServeArguments {
    ServeArguments { config: Some(PathBuf::from(DEFAULT_CONFIG)), config_was_found: true, ..what.clone() }
}

fn unreadable(what: &ServeArguments, path: &Path, error: io::Error) -> Failure {
    let remedy = if what.config_was_found {
        "it was found in the working directory earlier, and is required since then; put it back, or restart \
         daylily without it"
    } else {
        "check the path given with --config"
    };
    Failure::ConfigUnreadable { path: path.display().to_string(), error, remedy }
}

/// The file to watch: the configuration, or the path where the default one would be found.
pub(crate) fn config_path(what: &ServeArguments) -> Option<PathBuf> {
    if what.component.is_some() {
        return None;
    }
    Some(what.config.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_CONFIG)))
}

/// Compiles the components of `config` that are not in `known`. Blocks, for seconds with large components.
///
/// # Errors
///
/// When the cache is not safe to use, and all components that cannot be served.
pub(crate) fn compile(config: Config, known: &[Artifact]) -> Result<Prepared, Failure> {
    let wanted = u64::from(config.server.max_connections);
    let fitting = raise_descriptor_limit(&config);
    if let Some(fitting) = fitting {
        tracing::warn!(
            target: log_target::SUPERVISOR,
            "the descriptor limit allows {fitting} connections, fewer than max_connections = {wanted}; raise the hard limit (ulimit -n)"
        );
    }
    let connection_limit = usize::try_from(fitting.unwrap_or(wanted)).unwrap_or(usize::MAX);
    let (Ok(cache), Ok(()), Ok(()), Ok(_token)) =
        (cache(&config), access_log(&config), log(&config), admin_token(&config))
    else {
        return Err(Failure::all(faults(&config)));
    };
    warn_of_open_token(&config);
    let detail = StackDetail::of(config.dev);
    let compiler = Compiler::new(cache, detail, config.missing_imports)
        .map_err(|error| std::io::Error::other(format!("{error:#}")))?;
    let artifacts = load::artifacts(&config, &compiler, known).map_err(Failure::Components)?;
    Ok(Prepared { config, artifacts, connection_limit, dev: None })
}

/// Raises the descriptor limit to what `config` needs; returns the number of connections that fit, if fewer.
pub(crate) fn raise_descriptor_limit(config: &Config) -> Option<u64> {
    listen::raise_descriptor_limit(u64::from(config.server.max_connections), OUTGOING_DESCRIPTORS)
}

/// All errors in what `config` serves that can be found without compiling. Blocks while components are read.
pub(crate) fn faults(config: &Config) -> Vec<Failure> {
    let cache = cache(config);
    let components = load::faults(config);
    cache
        .err()
        .map(Failure::from)
        .into_iter()
        .chain(access_log(config).err())
        .chain(log(config).err())
        .chain(admin_token(config).err())
        .chain((!components.is_empty()).then(|| Failure::Components(components)))
        .collect()
}

/// Checks whether the access log can be opened. The observer opens it.
fn access_log(config: &Config) -> Result<(), Failure> {
    match config.access_log.to.file().filter(|_| config.access_log.is_on()) {
        Some(path) => sink::check(path).map_err(|error| Failure::AccessLog { path: path.display().to_string(), error }),
        None => Ok(()),
    }
}

/// Reads the token of the admin listener, if there are both. Blocks for as long as [`read_file`] does.
///
/// # Errors
///
/// When the file cannot be read, or has no token that could be sent in a field of a request.
pub(crate) fn admin_token(config: &Config) -> Result<Option<String>, Failure> {
    let (Some(path), Some(_)) = (&config.admin.token_file, config.admin.listen.place()) else { return Ok(None) };
    let token = |bytes: Vec<u8>| match bytes.trim_ascii() {
        [] => Err(io::Error::other("it is empty")),
        token if token.iter().all(u8::is_ascii_graphic) => Ok(String::from_utf8_lossy(token).into_owned()),
        _ => Err(io::Error::other("the token has other characters than printable ASCII without spaces")),
    };
    let read = read_file(path, MAX_TOKEN_BYTES).and_then(token);
    read.map(Some).map_err(|error| Failure::AdminToken { path: path.display().to_string(), error })
}

fn warn_of_open_token(config: &Config) {
    let Some(path) = config.admin.token_file.as_ref().filter(|_| config.admin.listen.place().is_some()) else { return };
    if path.metadata().is_ok_and(|file| file.mode() & 0o004 != 0) {
        tracing::warn!(
            target: log_target::ADMIN,
            "every user of this machine may read the token file {}; take that permission away (chmod o-r)",
            path.display()
        );
    }
}

/// Checks whether the file of daylily's own log can be opened. This process and the observer open it.
fn log(config: &Config) -> Result<(), Failure> {
    match config.log_to.file() {
        Some(path) => sink::check(path).map_err(|error| Failure::Log { path: path.display().to_string(), error }),
        None => Ok(()),
    }
}

fn cache(config: &Config) -> Result<Option<Cache>, CacheError> {
    if config.cache_max_bytes == 0 {
        return Ok(None);
    }
    if let Some(dir) = &config.cache_dir {
        return Cache::open(dir, config.cache_max_bytes).map(Some);
    }
    let Some(dir) = dirs::cache_dir() else {
        tracing::warn!(
            target: log_target::COMPONENT,
            "there is no cache directory, so each start compiles its components; name one with cache_dir"
        );
        return Ok(None);
    };
    match Cache::open(&dir, config.cache_max_bytes) {
        // The default directory is optional: starts are faster with it, and work without it.
        Err(error @ CacheError::Unusable { .. }) => {
            tracing::warn!(target: log_target::COMPONENT, "{error}; until then, each start compiles its components");
            Ok(None)
        }
        opened => opened.map(Some),
    }
}
