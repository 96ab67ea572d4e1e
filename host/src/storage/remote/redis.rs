//! Redis, and servers that speak its protocol. An entry is a string, as `GET` returns it, under the store's prefix.
//!
//! What needs more than one command is a script, which the server does as a whole. No command is sent twice: a script
//! that the server does not have yet is refused before it is done, and then loaded.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Duration;

use bytes::Bytes;
use daylily_core::config::{Store, StoreServer};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, RedisConnectionInfo, RedisError, RedisResult, Script, Value, cmd, from_redis_value,
};

use super::address::Address;
use super::{Ended, Failure, Until, ended};
use crate::storage::message::{
    Answer, MAX_ANSWER_BYTES, MAX_KEY_BYTES, MAX_PAGE_BYTES, Operation, PAGE_BYTES, PAGE_KEYS, Page, Seen, StoreError,
};

/// Keys that one `SCAN` looks at, of all keys of the database. Redis may return a few more.
const SCAN_KEYS: usize = 500;

/// How much fewer it looks at when their names do not fit into a page. It looks at twice as many again when they are a
/// small part of one.
const SCAN_STEP: usize = 8;

/// How often `SCAN` is called for one page, if few of the keys that it looks at are the store's.
const MAX_SCANS: usize = 40;

/// A command that is refused returns a table with its error, and a key that does not exist is `false`. What another
/// program has set may be long, so its length is looked at first.
const GET_MANY: &str = "
    local left, values = tonumber(ARGV[1]), {}
    for i, key in ipairs(KEYS) do
        local length = redis.pcall('STRLEN', key)
        if type(length) == 'table' then return length end
        left = left - length
        if left < 0 then return -1 end
        values[i] = redis.call('GET', key)
    end
    return values";

const SET_MANY: &str = "
    for i, key in ipairs(KEYS) do
        local done
        if ARGV[1] == '0' then done = redis.pcall('SET', key, ARGV[i + 1])
        else done = redis.pcall('SET', key, ARGV[i + 1], 'PX', ARGV[1]) end
        if done.err then return done end
    end
    return 1";

/// Numbers of Lua have 53 bits, so the sum is read as text. They are enough to compare it with 0, or with the least of
/// all numbers.
const INCREMENT: &str = "
    local before = redis.pcall('GET', KEYS[1])
    if type(before) == 'table' then return before end
    local sum = redis.pcall('INCRBY', KEYS[1], ARGV[1])
    if type(sum) == 'table' then return sum end
    if sum < tonumber(ARGV[2]) then
        if before then redis.call('SET', KEYS[1], before, 'KEEPTTL') else redis.call('DEL', KEYS[1]) end
        return false
    end
    if ARGV[3] == '0' then redis.call('PERSIST', KEYS[1]) else redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
    return redis.call('GET', KEYS[1])";

const SWAP: &str = "
    local length = redis.pcall('STRLEN', KEYS[1])
    if type(length) == 'table' then return length end
    if length > tonumber(ARGV[5]) then return -1 end
    local now = redis.call('GET', KEYS[1])
    if now ~= (ARGV[1] == '1' and ARGV[2]) then return {now} end
    local done
    if ARGV[4] == '0' then done = redis.pcall('SET', KEYS[1], ARGV[3])
    else done = redis.pcall('SET', KEYS[1], ARGV[3], 'PX', ARGV[4]) end
    if done.err then return done end
    return 1";

/// A store in a Redis database.
pub(super) struct Redis {
    address: Address,
    login: RedisConnectionInfo,
    prefix: String,
    /// 0 for ever.
    ttl_ms: u64,
    /// Keys that the next `SCAN` looks at.
    scan_keys: AtomicUsize,
    get_many: Script,
    set_many: Script,
    increment: Script,
    swap: Script,
}

impl Redis {
    pub(super) fn new(store: &Store, server: &StoreServer, database: u16, prefix: &str) -> Self {
        let mut login = RedisConnectionInfo::default().set_db(database.into()).set_skip_set_lib_name();
        if let Some(user) = &server.user {
            login = login.set_username(user);
        }
        if let Some(password) = &server.secret {
            login = login.set_password(password.secret.expose());
        }
        Self {
            address: Address::of(server),
            login,
            prefix: prefix.to_owned(),
            ttl_ms: u64::try_from(store.ttl.as_ref().map_or(0, Duration::as_millis)).unwrap_or(u64::MAX),
            scan_keys: AtomicUsize::new(SCAN_KEYS),
            get_many: Script::new(GET_MANY),
            set_many: Script::new(SET_MANY),
            increment: Script::new(INCREMENT),
            swap: Script::new(SWAP),
        }
    }

    /// Connects, and waits until the server has answered.
    pub(super) async fn connect(&self) -> Result<(MultiplexedConnection, Arc<AtomicU64>, Ended), String> {
        let (stream, received) = self.address.connect().await?;
        // Whoever waits for an answer has a deadline.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let made = MultiplexedConnection::new_with_config(&self.login, stream, config).await;
        let (mut connection, driver) = made.map_err(|error| error.to_string())?;
        let ended = ended(driver);
        cmd("PING").query_async::<Value>(&mut connection).await.map_err(|error| error.to_string())?;
        Ok((connection, received, ended))
    }

    pub(super) async fn run(
        &self,
        connection: MultiplexedConnection,
        operation: Operation,
        until: Until,
    ) -> Result<Answer, Failure> {
        let to = &mut To { connection, until };
        match operation {
            Operation::Get(keys) => self.get(to, &keys).await.map(Answer::Values),
            Operation::Exists(key) => match to.ask(cmd("EXISTS").arg(self.key(&key))).await? {
                Value::Int(count) => Ok(Answer::Exists(count > 0)),
                other => Err(unexpected(&other)),
            },
            Operation::List(cursor) => self.list(to, cursor.unwrap_or(0)).await.map(Answer::Keys),
            Operation::Read(key) => {
                let value = self.get(to, &[key]).await?.into_iter().next().flatten();
                Ok(Answer::Entry(value.map(|value| (value, None))))
            }
            Operation::Set(entries) => self.set(to, &entries).await,
            Operation::Delete(keys) if keys.is_empty() => Ok(Answer::Done),
            Operation::Delete(keys) => {
                let keys: Vec<_> = keys.iter().map(|key| self.key(key)).collect();
                to.ask(cmd("DEL").arg(keys)).await.map(|_| Answer::Done)
            }
            Operation::Increment(key, delta, least) => {
                let mut call = call(&self.increment, &[self.key(&key)]);
                call.arg(delta).arg(least).arg(self.ttl_ms);
                let sum = text(to.evaluate(&self.increment, &call).await?)?.ok_or(StoreError::Negative)?;
                let sum = std::str::from_utf8(&sum).ok().and_then(|sum| sum.parse().ok());
                sum.map(Answer::Number).ok_or(Failure::Operation(StoreError::NotANumber))
            }
            Operation::Swap(key, seen, value) => self.swap(to, &key, &seen, &value).await,
        }
    }

    fn key(&self, key: &str) -> String {
        [&self.prefix, key].concat()
    }

    async fn get(&self, to: &mut To, keys: &[String]) -> Result<Vec<Option<Bytes>>, Failure> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<_> = keys.iter().map(|key| self.key(key)).collect();
        let mut call = call(&self.get_many, &keys);
        call.arg(MAX_ANSWER_BYTES);
        match to.evaluate(&self.get_many, &call).await? {
            Value::Array(values) => values.into_iter().map(text).collect(),
            Value::Int(_) => Err(StoreError::AnswerTooLarge.into()),
            other => Err(unexpected(&other)),
        }
    }

    async fn set(&self, to: &mut To, entries: &[(String, Bytes)]) -> Result<Answer, Failure> {
        if let [(key, value)] = entries {
            let mut set = cmd("SET");
            set.arg(self.key(key)).arg(value.as_ref());
            if self.ttl_ms > 0 {
                set.arg("PX").arg(self.ttl_ms);
            }
            return to.ask(&set).await.map(|_| Answer::Done);
        }
        let keys: Vec<_> = entries.iter().map(|(key, _)| self.key(key)).collect();
        let mut call = call(&self.set_many, &keys);
        call.arg(self.ttl_ms);
        for (_, value) in entries {
            call.arg(value.as_ref());
        }
        to.evaluate(&self.set_many, &call).await.map(|_| Answer::Done)
    }

    async fn swap(&self, to: &mut To, key: &str, seen: &Seen, value: &[u8]) -> Result<Answer, Failure> {
        let expected = match seen {
            Seen::Missing => None,
            Seen::Value(value) => Some(value.as_ref()),
            // Of a store that had another backend before a reload.
            Seen::Revision(_) => return Err(StoreError::Failed.into()),
        };
        let mut call = call(&self.swap, &[self.key(key)]);
        call.arg(i32::from(expected.is_some())).arg(expected.unwrap_or_default());
        call.arg(value).arg(self.ttl_ms).arg(MAX_ANSWER_BYTES);
        match to.evaluate(&self.swap, &call).await? {
            Value::Int(-1) => Err(StoreError::AnswerTooLarge.into()),
            Value::Int(_) => Ok(Answer::Done),
            Value::Array(now) => {
                let now = text(now.into_iter().next().unwrap_or_default())?;
                Ok(Answer::Entry(now.map(|value| (value, None))))
            }
            other => Err(unexpected(&other)),
        }
    }

    /// A cursor is one of `SCAN`, where 0 is the beginning and the end. What does not fit into the page any more is asked
    /// for again, with the same cursor, which the next page begins with.
    async fn list(&self, to: &mut To, mut cursor: u64) -> Result<Page, Failure> {
        let pattern = pattern(&self.prefix);
        let (mut page, mut bytes, mut found) = (Page::default(), 0, HashSet::new());
        for _ in 0..MAX_SCANS {
            let count = self.scan_keys.load(Relaxed);
            let mut scan = cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(count);
            let (next, keys) = self.scanned(to.ask(&scan).await?)?;
            let new: usize = keys.iter().map(String::len).sum();
            if bytes + new > MAX_PAGE_BYTES {
                if !page.keys.is_empty() {
                    break;
                }
                if count == 1 {
                    return Err(StoreError::AnswerTooLarge.into());
                }
                self.scan_keys.store((count / SCAN_STEP).max(1), Relaxed);
                continue;
            }
            if new < PAGE_BYTES / SCAN_STEP {
                self.scan_keys.store((count * 2).min(SCAN_KEYS), Relaxed);
            }
            (cursor, bytes) = (next, bytes + new);
            page.keys.extend(keys.into_iter().filter(|key| found.insert(key.clone())));
            if cursor == 0 {
                return Ok(page);
            }
            // The next part may be as long.
            if page.keys.len() + SCAN_KEYS > PAGE_KEYS as usize || bytes >= PAGE_BYTES {
                break;
            }
        }
        page.next = Some(cursor);
        Ok(page)
    }

    /// The next cursor and the store's keys in an answer to `SCAN`.
    fn scanned(&self, answer: Value) -> Result<(u64, Vec<String>), Failure> {
        let (next, found): (u64, Vec<Value>) = answered(from_redis_value(answer).map_err(RedisError::from))?;
        let mut keys = Vec::with_capacity(found.len());
        for key in found {
            let Value::BulkString(key) = key else { return Err(unexpected(&key)) };
            // Only other programs have other keys there.
            let key = String::from_utf8(key).ok().filter(|key| key.len() <= self.prefix.len() + MAX_KEY_BYTES);
            let key = key.as_deref().and_then(|key| key.strip_prefix(&self.prefix));
            keys.extend(key.map(str::to_owned));
        }
        Ok((next, keys))
    }
}

/// A connection, for one operation.
struct To {
    connection: MultiplexedConnection,
    until: Until,
}

impl To {
    async fn ask(&mut self, command: &Cmd) -> Result<Value, Failure> {
        self.until.check()?;
        answered(command.query_async(&mut self.connection).await)
    }

    /// Does a script, which the server may have to get first.
    async fn evaluate(&mut self, script: &Script, call: &Cmd) -> Result<Value, Failure> {
        self.until.check()?;
        match call.query_async::<Value>(&mut self.connection).await {
            Err(error) if error.code() == Some("NOSCRIPT") => {}
            result => return answered(result),
        }
        self.until.check()?;
        answered(script.load_async(&mut self.connection).await)?;
        self.ask(call).await
    }
}

/// The call of a script with these keys, to which its arguments are added.
fn call(script: &Script, keys: &[String]) -> Cmd {
    let mut call = cmd("EVALSHA");
    call.arg(script.get_hash()).arg(keys.len()).arg(keys);
    call
}

/// Matches all keys that begin with `prefix`.
fn pattern(prefix: &str) -> String {
    let mut pattern = String::with_capacity(prefix.len() + 1);
    for letter in prefix.chars() {
        if matches!(letter, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push('*');
    pattern
}

/// The value of a key, if it exists.
fn text(value: Value) -> Result<Option<Bytes>, Failure> {
    match value {
        Value::Nil => Ok(None),
        // Only another program can have set it.
        Value::BulkString(bytes) if bytes.len() > MAX_ANSWER_BYTES => Err(StoreError::AnswerTooLarge.into()),
        Value::BulkString(bytes) => Ok(Some(bytes.into())),
        other => Err(unexpected(&other)),
    }
}

fn unexpected(value: &Value) -> Failure {
    let kind = match value {
        Value::Nil => "nothing",
        Value::Int(_) => "a number",
        Value::Array(_) => "a list",
        Value::BulkString(_) => "a text",
        _ => "something else",
    };
    Failure::Server(format!("the server has answered with {kind} instead of what was asked for"))
}

/// What the server has answered, or why it has not done the command.
fn answered<T>(result: RedisResult<T>) -> Result<T, Failure> {
    result.map_err(|error| match error.code() {
        _ if is_lost(&error) => Failure::Lost,
        Some("OOM") => StoreError::ServerFull.into(),
        Some("WRONGTYPE") => StoreError::Foreign.into(),
        Some("ERR") if is_about(&error, "value is not an integer") => StoreError::NotANumber.into(),
        Some("ERR") if is_about(&error, "would overflow") => StoreError::Overflow.into(),
        _ => Failure::Server(error.to_string()),
    })
}

fn is_about(error: &RedisError, part: &str) -> bool {
    error.detail().is_some_and(|detail| detail.contains(part))
}

/// Whether it is not known what the server has done.
fn is_lost(error: &RedisError) -> bool {
    error.is_io_error() || error.is_connection_dropped() || error.is_unrecoverable_error()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_no_patterns() {
        for (prefix, expected) in [("visits:", "visits:*"), ("", "*"), ("a*[b]?\\", "a\\*\\[b\\]\\?\\\\*"), ("é", "é*")]
        {
            assert_eq!(pattern(prefix), expected);
        }
    }
}
