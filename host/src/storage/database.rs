//! A key-value store in a SQLite file.

#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use daylily_core::config::{Durability, Store};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, params};

use super::message::{Answer, MAX_ANSWER_BYTES, Operation, PAGE_BYTES, PAGE_KEYS, Page, Seen, StoreError, number};

/// Marks the files of daylily's stores: "dayl".
const APPLICATION_ID: i32 = 0x6461_796c;

/// The version of the tables below. Files of a higher version are not opened.
const SCHEMA_VERSION: i32 = 1;

const SCHEMA: &str = "
    CREATE TABLE entry (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL,
        value BLOB NOT NULL,
        revision INTEGER NOT NULL, -- random, another one after each write
        expires INTEGER            -- in milliseconds since 1970
    ) STRICT;
    CREATE UNIQUE INDEX entry_key ON entry (key);
    CREATE INDEX entry_expires ON entry (expires) WHERE expires IS NOT NULL;
";

/// How long opening may wait for another process that has locked the file: the one of another generation that begins or
/// ends.
const OPEN_PATIENCE: Duration = Duration::from_secs(5);

/// The write-ahead log is cut to this length after it was copied into the file.
const MAX_IDLE_LOG_BYTES: u32 = 16 << 20;

/// Memory for pages of the file, in KiB.
const CACHE_KIB: i32 = 4 << 10;

/// Expired entries that are removed at a time.
const SWEEP: u32 = 1_000;

/// An open file.
pub(crate) struct Database {
    connection: Connection,
    ttl: Option<Duration>,
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// It is not what is configured, and only the operator can change that.
    #[error("{0}")]
    Refused(String),
    /// Something is wrong with the file or the disk.
    #[error("{0}")]
    Failed(rusqlite::Error),
}

/// What prevents an operation.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Another process has locked the file.
    Locked,
    /// The operation cannot be done, whatever the state of the file is.
    Operation(StoreError),
    /// Something is wrong with the file or the disk.
    Database(rusqlite::Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked,
            Some(ErrorCode::DiskFull) => Self::Operation(StoreError::Full),
            _ => Self::Database(error),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Operation(error)
    }
}

/// The file of the store with this name.
pub(crate) fn path(dir: &Path, store: &str) -> PathBuf {
    dir.join(format!("{store}.sqlite"))
}

impl Database {
    /// Opens the file of a store, and makes it if it does not exist.
    ///
    /// # Errors
    ///
    /// If it is no store, of a newer version, or cannot be read and written.
    pub(crate) fn open(dir: &Path, store: &Store) -> Result<Self, OpenError> {
        let path = path(dir, &store.name);
        if fs::symlink_metadata(&path).is_ok_and(|file| !file.is_file()) {
            return Err(OpenError::Refused(format!("{} is no regular file", path.display())));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(&path, flags).map_err(|error| refuse_access(&path, error))?;
        connection.busy_timeout(OPEN_PATIENCE).map_err(OpenError::Failed)?;
        prepare(&mut connection, &path, store)?;
        connection.busy_timeout(Duration::ZERO).map_err(OpenError::Failed)?;
        Ok(Self { connection, ttl: store.ttl })
    }

    /// Does an operation that changes nothing.
    pub(crate) fn read(&self, operation: &Operation) -> Result<Answer, Failure> {
        match operation {
            Operation::Get(keys) => self.get(keys).map(Answer::Values),
            Operation::Exists(key) => Ok(Answer::Exists(self.exists(key)?)),
            Operation::List(after) => self.list(*after).map(Answer::Keys),
            Operation::Read(key) => Ok(Answer::Entry(self.find(key)?)),
            Operation::Set(_) | Operation::Delete(_) | Operation::Increment(..) | Operation::Swap(..) => {
                Err(Failure::Operation(StoreError::Failed))
            }
        }
    }

    /// Does operations that write, in one transaction. When this returns their results, the writes are durable.
    ///
    /// # Errors
    ///
    /// If the file is locked, or something is wrong with it; nothing was written then.
    pub(crate) fn write<'a>(
        &self,
        operations: impl Iterator<Item = &'a Operation>,
    ) -> Result<Vec<Result<Answer, StoreError>>, Failure> {
        if !self.connection.is_autocommit() {
            // The end of the last transaction has failed.
            self.connection.execute_batch("ROLLBACK")?;
        }
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let mut results = Vec::new();
        let written = operations.into_iter().try_for_each(|operation| {
            results.push(match self.apply(operation) {
                // What is found before anything is written, so the others are not affected.
                Err(Failure::Operation(
                    error @ (StoreError::NotANumber | StoreError::Overflow | StoreError::Negative),
                )) => Err(error),
                done => Ok(done?),
            });
            Ok::<_, Failure>(())
        });
        let written = written.and_then(|()| Ok(self.connection.prepare_cached("COMMIT")?.execute([])?));
        if let Err(failure) = written {
            // SQLite has done so itself after some errors.
            if !self.connection.is_autocommit() {
                self.connection.execute_batch("ROLLBACK")?;
            }
            return Err(failure);
        }
        Ok(results)
    }

    /// Removes some of the entries that have expired. Returns whether there may be more.
    pub(crate) fn sweep(&self) -> Result<bool, Failure> {
        let expired = "DELETE FROM entry WHERE id IN (SELECT id FROM entry WHERE expires <= ?1 LIMIT ?2)";
        let removed = self.connection.prepare_cached(expired)?.execute(params![now_ms(), SWEEP])?;
        Ok(removed >= SWEEP as usize)
    }

    /// Writes a copy of the file as it is now, to a file that does not exist.
    pub(crate) fn backup(&self, to: &Path) -> rusqlite::Result<()> {
        let name = to.to_str().ok_or_else(|| rusqlite::Error::InvalidPath(to.to_owned()))?;
        self.connection.execute("VACUUM INTO ?1", [name]).map(drop)
    }

    fn apply(&self, operation: &Operation) -> Result<Answer, Failure> {
        match operation {
            Operation::Set(entries) => {
                for (key, value) in entries {
                    self.set(key, value)?;
                }
                Ok(Answer::Done)
            }
            Operation::Delete(keys) => {
                let mut delete = self.connection.prepare_cached("DELETE FROM entry WHERE key = ?1")?;
                for key in keys {
                    delete.execute([key])?;
                }
                Ok(Answer::Done)
            }
            Operation::Increment(key, delta, least) => {
                let value = match self.find(key)? {
                    Some((value, _)) => number(&value).ok_or(StoreError::NotANumber)?,
                    None => 0,
                };
                let sum = value.checked_add(*delta).ok_or(StoreError::Overflow)?;
                if sum < *least {
                    return Err(StoreError::Negative.into());
                }
                self.set(key, sum.to_string().as_bytes())?;
                Ok(Answer::Number(sum))
            }
            Operation::Swap(key, seen, value) => {
                let found = self.find(key)?;
                if Seen::of(found.clone()) != *seen {
                    return Ok(Answer::Entry(found));
                }
                self.set(key, value)?;
                Ok(Answer::Done)
            }
            read => self.read(read),
        }
    }

    fn set(&self, key: &str, value: &[u8]) -> Result<(), Failure> {
        let set = "INSERT INTO entry (key, value, revision, expires) VALUES (?1, ?2, random(), ?3) \
                   ON CONFLICT (key) DO UPDATE SET value = excluded.value, revision = excluded.revision, \
                   expires = excluded.expires";
        let expires = self.ttl.map(|ttl| now_ms().saturating_add(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX)));
        self.connection.prepare_cached(set)?.execute(params![key, value, expires])?;
        Ok(())
    }

    fn get(&self, keys: &[String]) -> Result<Vec<Option<Bytes>>, Failure> {
        let mut left = MAX_ANSWER_BYTES;
        // So that they are of one moment, also when another process writes. It ends when it is dropped.
        let _moment = if keys.len() > 1 { Some(self.connection.unchecked_transaction()?) } else { None };
        let values = keys.iter().map(|key| {
            let value = self.find(key)?.map(|(value, _)| value);
            let length = value.as_ref().map_or(0, Bytes::len);
            left = left.checked_sub(length).ok_or(StoreError::AnswerTooLarge)?;
            Ok(value)
        });
        values.collect()
    }

    fn find(&self, key: &str) -> Result<Option<(Bytes, Option<u64>)>, Failure> {
        let find = "SELECT value, revision FROM entry WHERE key = ?1 AND (expires IS NULL OR expires > ?2)";
        let mut find = self.connection.prepare_cached(find)?;
        let row = find.query_row(params![key, now_ms()], |row| {
            Ok((Bytes::from(row.get::<_, Vec<u8>>(0)?), Some(row.get::<_, i64>(1)?.cast_unsigned())))
        });
        Ok(row.optional()?)
    }

    fn exists(&self, key: &str) -> Result<bool, Failure> {
        let exists = "SELECT 1 FROM entry WHERE key = ?1 AND (expires IS NULL OR expires > ?2)";
        Ok(self.connection.prepare_cached(exists)?.exists(params![key, now_ms()])?)
    }

    fn list(&self, after: Option<u64>) -> Result<Page, Failure> {
        let after = after.map_or(0, |after| i64::try_from(after).unwrap_or(i64::MAX));
        let list = "SELECT id, key FROM entry WHERE id > ?1 AND (expires IS NULL OR expires > ?2) ORDER BY id";
        let mut list = self.connection.prepare_cached(list)?;
        let mut rows = list.query(params![after, now_ms()])?;
        let (mut page, mut bytes, mut last) = (Page::default(), 0, 0);
        while let Some(row) = rows.next()? {
            // There is a further one, so this page is not the last one.
            if page.keys.len() >= PAGE_KEYS as usize || bytes >= PAGE_BYTES {
                page.next = Some(last);
                break;
            }
            last = row.get::<_, i64>(0)?.cast_unsigned();
            let key: String = row.get(1)?;
            bytes += key.len();
            page.keys.push(key);
        }
        Ok(page)
    }
}

/// Sets what the connection needs, and makes the tables of a new file.
fn prepare(connection: &mut Connection, path: &Path, store: &Store) -> Result<(), OpenError> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true).map_err(OpenError::Failed)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false).map_err(OpenError::Failed)?;
    let of_file = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let (application, version) = match (of_file("application_id"), of_file("user_version")) {
        (Ok(application), Ok(version)) => (application, version),
        (Err(error), _) | (_, Err(error)) => return Err(refuse_access(path, error)),
    };
    let tables = "SELECT count(*) FROM sqlite_schema";
    let tables: u32 = connection.query_row(tables, [], |row| row.get(0)).map_err(OpenError::Failed)?;
    let is_new = tables == 0;
    if !is_new && application != APPLICATION_ID {
        return Err(OpenError::Refused(format!("{} is a database, but no store of daylily's", path.display())));
    }
    if version > SCHEMA_VERSION {
        return Err(OpenError::Refused(format!(
            "{} was written by a newer version of daylily (schema {version}, this one knows {SCHEMA_VERSION}); use that \
             version",
            path.display()
        )));
    }
    configure(connection, store).map_err(|error| refuse_access(path, error))?;
    if is_new {
        make_tables(connection).map_err(|error| refuse_access(path, error))?;
    }
    Ok(())
}

fn configure(connection: &Connection, store: &Store) -> rusqlite::Result<()> {
    let synchronous = match store.durability {
        Durability::Process => "NORMAL",
        Durability::Power => "FULL",
    };
    let journal: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if !journal.eq_ignore_ascii_case("wal") {
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN),
            Some("the file system has no shared memory for a write-ahead log".to_owned()),
        ));
    }
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "journal_size_limit", MAX_IDLE_LOG_BYTES)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    let page_bytes: u32 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    let pages = i64::try_from(store.max_store_bytes.div_ceil(page_bytes.max(1).into())).unwrap_or(i64::MAX);
    connection.pragma_update(None, "max_page_count", pages)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}

fn make_tables(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    // Another process may have done so since.
    let tables: u32 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 {
        transaction.execute_batch(SCHEMA)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    }
    transaction.commit()
}

/// A file that cannot be opened or written is the operator's to change; anything else may be a damaged file.
fn refuse_access(path: &Path, error: rusqlite::Error) -> OpenError {
    match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
            OpenError::Refused(format!("{} cannot be read and written: {error}", path.display()))
        }
        _ => OpenError::Failed(error),
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
