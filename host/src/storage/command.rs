//! `daylily store`: looks at stores and changes them, also while a server uses them.

use std::io::{self, BufRead as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::{Args, Subcommand};
use daylily_core::config::{Config, Store};
use daylily_core::similar::closest;
use daylily_core::units::format_size;
use serde::{Deserialize, Serialize};

use super::database::{Database, Failure, OpenError};
use super::dir;
use super::dir::StateDirError;
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
    /// Set the entries that standard input has, as `export` prints them; all of them or none
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

/// Maximum size of a file to import.
const MAX_IMPORT_BYTES: u64 = 1 << 30;

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

/// An entry as a line of JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    key: String,
    /// A value that is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    /// Any other value, in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
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
            let entries = read_entries(io::stdin().lock())?;
            store.set(entries)?;
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

    /// Sets entries, all of them or none, within the limits of guests.
    fn set(&self, entries: Vec<(String, Bytes)>) -> Result<(), CommandError> {
        for entry in &entries {
            let set = Operation::Set(vec![entry.clone()]);
            limits::check(self.store, &set).map_err(|error| self.failed(error.to_string()))?;
        }
        self.write(Operation::Set(entries))
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

fn read_entries(from: impl io::BufRead) -> Result<Vec<(String, Bytes)>, CommandError> {
    let (mut entries, mut bytes) = (Vec::new(), 0);
    // One more, so that a longer file is seen to be too long.
    for (number, line) in from.take(MAX_IMPORT_BYTES + 1).lines().enumerate() {
        let wrong = |reason: String| CommandError::Line { line: number + 1, reason };
        let line = line?;
        bytes += line.len() as u64 + 1;
        if bytes > MAX_IMPORT_BYTES {
            return Err(wrong(format!("there are more than {} to import at a time", format_size(MAX_IMPORT_BYTES))));
        }
        if line.trim().is_empty() {
            continue;
        }
        let entry: Entry = serde_json::from_str(&line).map_err(|error| wrong(error.to_string()))?;
        entries.push(entry.into_pair().map_err(wrong)?);
    }
    Ok(entries)
}

impl Entry {
    fn of(key: String, value: &[u8]) -> Self {
        match std::str::from_utf8(value) {
            Ok(text) => Self { key, value: Some(text.to_owned()), hex: None },
            Err(_) => {
                let hex = value.iter().map(|byte| format!("{byte:02x}")).collect();
                Self { key, value: None, hex: Some(hex) }
            }
        }
    }

    fn into_pair(self) -> Result<(String, Bytes), String> {
        match (self.value, self.hex) {
            (Some(text), None) => Ok((self.key, text.into())),
            (None, Some(hex)) => match from_hex(&hex) {
                Some(value) => Ok((self.key, value.into())),
                None => Err("`hex` has no pairs of hexadecimal digits".to_owned()),
            },
            _ => Err("an entry has either `value` or `hex`".to_owned()),
        }
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| u8::try_from(digit(*high)? << 4 | digit(*low)?).ok());
    bytes.collect::<Option<_>>().filter(|_| rest.is_empty())
}
