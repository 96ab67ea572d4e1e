//! `daylily store`: looks at stores and changes them, also while a server uses them.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::{Args, Subcommand};
use daylily_core::config::{Config, Store};
use daylily_core::similar::closest;

use super::database::{Database, Failure, OpenError};
use super::dir;
use super::dir::StateDirError;
use super::entries::{self, Entry};
use super::limits;
use super::message::{Answer, Operation, StoreError};
use super::remote::Direct;

/// Which stores, and what to do with one.
#[derive(Debug, Args)]
pub(crate) struct StoreArguments {
    /// The configuration file with the stores [default: ./daylily.toml]
    #[arg(short, long, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
    /// The component of a server that runs without a configuration file, with --store
    #[arg(long, value_name = "COMPONENT.wasm", global = true, conflicts_with = "config")]
    pub(crate) component: Option<PathBuf>,
    /// The directory of the stores, if the server has --state-dir
    #[arg(long, value_name = "DIR", global = true, env = "DAYLILY_STATE_DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: StoreCommand,
}

/// What to do with a store.
#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Print the keys, one in each line; control characters are escaped
    List {
        /// The store's name
        store: String,
    },
    /// Print the value of a key as it is; exit code 1 if there is none
    Get {
        /// The store's name
        store: String,
        /// The key
        key: String,
    },
    /// Set the value of a key
    Set {
        /// The store's name
        store: String,
        /// The key
        key: String,
        /// The value [default: what standard input has]
        value: Option<String>,
    },
    /// Delete keys
    Delete {
        /// The store's name
        store: String,
        /// The keys
        #[arg(required = true)]
        keys: Vec<String>,
    },
    /// Print all entries, each as a line of JSON
    Export {
        /// The store's name
        store: String,
    },
    /// Set the entries that standard input has, as `export` prints them; in a file, all of them or none
    Import {
        /// The store's name
        store: String,
    },
    /// Write a copy of the store as it is now
    Backup {
        /// The store's name
        store: String,
        /// The file, which must not exist
        file: PathBuf,
    },
}

/// How long to wait for another process that has locked the file.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
const LOCK_INTERVAL: Duration = Duration::from_millis(2);

/// Why a command has failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error("there is no store `{name}`; {help}")]
    NoStore { name: String, help: String },
    #[error(transparent)]
    Dir(#[from] StateDirError),
    #[error("store `{store}`: {reason}")]
    Store { store: String, reason: String },
    #[error("there is no key {0:?}")]
    NoKey(String),
    #[error("standard input, line {line}: {reason}; each line is an object as `daylily store export` prints it")]
    Line { line: usize, reason: String },
    #[error("failed to read standard input or to write to standard output: {0}")]
    Io(#[from] io::Error),
}

impl StoreCommand {
    /// The name of the store.
    pub(crate) fn store(&self) -> &str {
        match self {
            Self::List { store }
            | Self::Get { store, .. }
            | Self::Set { store, .. }
            | Self::Delete { store, .. }
            | Self::Export { store }
            | Self::Import { store }
            | Self::Backup { store, .. } => store,
        }
    }
}

impl CommandError {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::NoStore { .. } | Self::Dir(_) => super::EXIT_CONFIGURATION,
            Self::Store { .. } | Self::NoKey(_) | Self::Io(_) => 1,
            Self::Line { .. } => 65,
        }
    }
}

/// An open store of a configuration.
struct Opened<'c> {
    store: &'c Store,
    keeper: Keeper,
}

/// What keeps it.
enum Keeper {
    File(Database),
    Server(Box<Direct>),
}

/// Runs a command on the stores of `config`.
///
/// # Errors
///
/// If there is no such store, or it cannot be used.
pub(crate) fn run(config: &Config, command: StoreCommand) -> Result<(), CommandError> {
    dir::keep_private();
    let out = &mut io::BufWriter::new(io::stdout().lock());
    match command {
        StoreCommand::List { store } => {
            Opened::of(config, &store)?.each_key(|_, key| Ok(writeln!(out, "{}", key.escape_debug())?))?;
        }
        StoreCommand::Get { store, key } => match Opened::of(config, &store)?.get(&key)? {
            Some(value) => out.write_all(&value)?,
            None => return Err(CommandError::NoKey(key)),
        },
        StoreCommand::Set { store, key, value } => {
            let store = Opened::of(config, &store)?;
            let value = match value {
                Some(value) => value.into_bytes(),
                None => read_stdin(store.store.max_value_bytes)?,
            };
            store.set(vec![(key, value.into())])?;
        }
        StoreCommand::Delete { store, keys } => {
            Opened::of(config, &store)?.write(Operation::Delete(keys))?;
        }
        StoreCommand::Export { store } => {
            Opened::of(config, &store)?.each_key(|store, key| {
                // It may have been deleted since.
                let Some(value) = store.get(&key)? else { return Ok(()) };
                serde_json::to_writer(&mut *out, &Entry::of(key, &value)).map_err(io::Error::other)?;
                Ok(out.write_all(b"\n")?)
            })?;
        }
        StoreCommand::Import { store } => {
            let store = Opened::of(config, &store)?;
            let entries = entries::read(io::stdin().lock())?;
            store.import(entries)?;
        }
        StoreCommand::Backup { store, file } => {
            let store = Opened::of(config, &store)?;
            match &store.keeper {
                Keeper::File(database) => database.backup(&file).map_err(|error| store.failed(error.to_string()))?,
                Keeper::Server(_) => {
                    let name = &store.store.name;
                    return Err(store.failed(format!(
                        "only a store in a file is copied so; write `daylily store export {name} > FILE`, or use the \
                         backups of its server"
                    )));
                }
            }
        }
    }
    Ok(out.flush()?)
}

impl<'c> Opened<'c> {
    fn of(config: &'c Config, name: &str) -> Result<Self, CommandError> {
        let store = config.store(name).ok_or_else(|| no_store(config, name))?;
        let failed = |reason: String| CommandError::Store { store: name.to_owned(), reason };
        if let Some(server) = store.server() {
            let keeper = Keeper::Server(Box::new(Direct::open(store, server).map_err(failed)?));
            return Ok(Self { store, keeper });
        }
        let dir = config.state_dir.as_deref().unwrap_or(Path::new(""));
        dir::prepare(dir)?;
        let opened = Database::open(dir, store);
        let database = opened.map_err(|error| match error {
            OpenError::Refused(reason) => failed(reason),
            OpenError::Failed(error) => failed(error.to_string()),
        })?;
        Ok(Self { store, keeper: Keeper::File(database) })
    }

    fn failed(&self, reason: String) -> CommandError {
        CommandError::Store { store: self.store.name.clone(), reason }
    }

    /// Does an operation, and waits for others that have locked the file.
    fn unlocked<T>(&self, mut operation: impl FnMut() -> Result<T, Failure>) -> Result<T, CommandError> {
        let began = Instant::now();
        loop {
            return match operation() {
                Ok(done) => Ok(done),
                Err(Failure::Locked) if began.elapsed() < LOCK_PATIENCE => {
                    std::thread::sleep(LOCK_INTERVAL);
                    continue;
                }
                Err(Failure::Locked) => Err(self.failed(StoreError::Locked.to_string())),
                Err(Failure::Operation(error)) => Err(self.failed(error.to_string())),
                Err(Failure::Database(error)) => Err(self.failed(error.to_string())),
            };
        }
    }

    fn read(&self, operation: Operation) -> Result<Answer, CommandError> {
        match &self.keeper {
            Keeper::File(database) => self.unlocked(|| database.read(&operation)),
            Keeper::Server(server) => server.call(operation).map_err(|reason| self.failed(reason)),
        }
    }

    fn write(&self, operation: Operation) -> Result<(), CommandError> {
        let database = match &self.keeper {
            Keeper::File(database) => database,
            Keeper::Server(server) => {
                return server.call(operation).map(drop).map_err(|reason| self.failed(reason));
            }
        };
        let results = self.unlocked(|| database.write(std::iter::once(&operation)))?;
        let failed = results.into_iter().find_map(Result::err);
        failed.map_or(Ok(()), |error| Err(self.failed(error.to_string())))
    }

    fn get(&self, key: &str) -> Result<Option<Bytes>, CommandError> {
        match self.read(Operation::Get(vec![key.to_owned()]))? {
            Answer::Values(values) => Ok(values.into_iter().next().flatten()),
            _ => Ok(None),
        }
    }

    /// Sets entries in one operation, within the limits of guests.
    fn set(&self, entries: Vec<(String, Bytes)>) -> Result<(), CommandError> {
        self.check(&entries)?;
        self.write(Operation::Set(entries))
    }

    fn check(&self, entries: &[(String, Bytes)]) -> Result<(), CommandError> {
        for entry in entries {
            let set = Operation::Set(vec![entry.clone()]);
            limits::check(self.store, &set).map_err(|error| self.failed(error.to_string()))?;
            if let Keeper::Server(server) = &self.keeper {
                server.check(entry).map_err(|error| self.failed(format!("the key {:?}: {error}", entry.0)))?;
            }
        }
        Ok(())
    }

    /// Sets entries: in a file, all of them or none; on a server, one part after the other.
    fn import(&self, entries: Vec<(String, Bytes)>) -> Result<(), CommandError> {
        if matches!(self.keeper, Keeper::File(_)) {
            return self.set(entries);
        }
        self.check(&entries)?;
        let (all, mut done) = (entries.len(), 0);
        for part in entries::parts(entries) {
            let length = part.len();
            self.write(Operation::Set(part)).map_err(|error| match error {
                CommandError::Store { store, reason } => {
                    let reason = format!("{reason}; {done} of {all} entries were set before, and maybe some more");
                    CommandError::Store { store, reason }
                }
                error => error,
            })?;
            done += length;
        }
        Ok(())
    }

    fn each_key(&self, mut each: impl FnMut(&Self, String) -> Result<(), CommandError>) -> Result<(), CommandError> {
        let mut cursor = None;
        loop {
            let Answer::Keys(page) = self.read(Operation::List(cursor))? else { return Ok(()) };
            for key in page.keys {
                each(self, key)?;
            }
            cursor = page.next;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }
}

fn no_store(config: &Config, name: &str) -> CommandError {
    let names: Vec<_> = config.stores.iter().map(|store| store.name.as_str()).collect();
    let help = match closest(name, names.iter().copied()) {
        Some(similar) => format!("did you mean `{similar}`?"),
        None if names.is_empty() => "the configuration has no [store.NAME]; name another with --config, or write \
                                     `--component APP.wasm` for a server without a configuration"
            .to_owned(),
        None => format!("the configuration has {}", names.join(", ")),
    };
    CommandError::NoStore { name: name.to_owned(), help }
}

fn read_stdin(max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut value = Vec::new();
    // One more, so that a longer value is seen to be too long.
    io::stdin().lock().take(max_bytes.saturating_add(1)).read_to_end(&mut value)?;
    Ok(value)
}
