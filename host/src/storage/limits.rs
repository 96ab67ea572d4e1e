//! The limits of keys and values, and of their number in one operation.

use daylily_core::config::Store;
use daylily_core::units::format_size;

use super::message::Operation;

/// Keys in one operation. The store does nothing else meanwhile.
const MAX_KEYS: usize = 10_000;

/// The longest number that a counter becomes.
const LONGEST_NUMBER: &[u8] = b"-9223372036854775808";

/// A key or a value is over its limit.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TooLong {
    #[error("the key has {bytes} bytes, and max_key is {}", format_size(*.max))]
    Key { bytes: usize, max: u64 },
    #[error("the value has {bytes} bytes, and max_value is {}", format_size(*.max))]
    Value { bytes: usize, max: u64 },
    #[error("there are {keys} keys, and one operation may have {MAX_KEYS}")]
    Keys { keys: usize },
}

/// Checks the lengths of an operation's keys and values.
pub(crate) fn check(store: &Store, operation: &Operation) -> Result<(), TooLong> {
    let (max_key, max_value) = (store.max_key_bytes, store.max_value_bytes);
    let key = |key: &String| match key.len() {
        bytes if bytes as u64 > max_key => Err(TooLong::Key { bytes, max: max_key }),
        _ => Ok(()),
    };
    let value = |value: &[u8]| match value.len() {
        bytes if bytes as u64 > max_value => Err(TooLong::Value { bytes, max: max_value }),
        _ => Ok(()),
    };
    let keys = match operation {
        Operation::Get(keys) | Operation::Delete(keys) => keys.len(),
        Operation::Set(entries) => entries.len(),
        _ => 1,
    };
    if keys > MAX_KEYS {
        return Err(TooLong::Keys { keys });
    }
    match operation {
        Operation::Get(keys) | Operation::Delete(keys) => keys.iter().try_for_each(key),
        Operation::Exists(of) | Operation::Read(of) => key(of),
        Operation::Increment(of, ..) => key(of).and(value(LONGEST_NUMBER)),
        Operation::Set(entries) => entries.iter().try_for_each(|(of, to)| key(of).and(value(to))),
        Operation::Swap(of, _, to) => key(of).and(value(to)),
        Operation::List(_) => Ok(()),
    }
}
