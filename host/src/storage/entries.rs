//! The entries of a store in lines of JSON, as `daylily store export` prints them and `import` reads them.

use std::io::BufRead;

use bytes::Bytes;
use daylily_core::units::format_size;
use serde::{Deserialize, Serialize};

use super::command::CommandError;

/// Entries and bytes of one part of an import to a server: it does nothing else meanwhile. One entry may be longer.
const PART_ENTRIES: usize = 1_000;
const PART_BYTES: usize = 1 << 20;

/// Maximum size of a file to import.
const MAX_IMPORT_BYTES: u64 = 1 << 30;

/// An entry as a line of JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    key: String,
    /// A value that is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    /// Any other value, in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
}

/// Reads all lines.
pub(super) fn read(from: impl BufRead) -> Result<Vec<(String, Bytes)>, CommandError> {
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

/// Entries in parts, in the same order.
pub(super) fn parts(entries: Vec<(String, Bytes)>) -> Vec<Vec<(String, Bytes)>> {
    let (mut parts, mut part, mut bytes) = (Vec::new(), Vec::new(), 0);
    for (key, value) in entries {
        let new = key.len() + value.len();
        if !part.is_empty() && (part.len() >= PART_ENTRIES || bytes + new > PART_BYTES) {
            parts.push(std::mem::take(&mut part));
            bytes = 0;
        }
        bytes += new;
        part.push((key, value));
    }
    parts.push(part);
    parts
}

impl Entry {
    pub(super) fn of(key: String, value: &[u8]) -> Self {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_bounded_and_in_order() {
        let entry = |number: usize, bytes: usize| (number.to_string(), Bytes::from(vec![0; bytes]));
        let of = |entries: Vec<(String, Bytes)>| parts(entries).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(of((0..2_500).map(|number| entry(number, 1)).collect()), [1_000, 1_000, 500]);
        assert_eq!(of((0..5).map(|number| entry(number, PART_BYTES / 2 - 1)).collect()), [2, 2, 1]);
        assert_eq!(of((0..3).map(|number| entry(number, PART_BYTES * 2)).collect()), [1, 1, 1]);
        let all: Vec<_> = (0..2_500).map(|number| entry(number, 1)).collect();
        assert_eq!(parts(all.clone()).concat(), all);
    }
}
