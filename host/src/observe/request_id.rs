//! The id of one request, in logs, records and responses.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

/// 128 bits, written as 32 hex digits, with the layout of a UUIDv7 (RFC 9562 §5.7): the time in milliseconds comes
/// first, so ids sort by time. Unique within a process, and in practice across processes and machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestId(u128);

/// What makes the ids of this process differ from those of others.
static SEED: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(std::process::id()));

/// The requests so far.
static COUNT: AtomicU64 = AtomicU64::new(0);

const VERSION: u128 = 7 << 76;
const VARIANT: u128 = 0b10 << 62;

impl RequestId {
    /// The id of a request that begins now.
    pub(crate) fn next() -> Self {
        Self::at(unix_us(SystemTime::now()) / 1_000)
    }

    /// The id of a request that began at this time, in milliseconds after the Unix epoch.
    pub(crate) fn at(unix_ms: u64) -> Self {
        let seed = *SEED;
        // A bijection of the count, so no two are equal.
        let low = mix(COUNT.fetch_add(1, Relaxed) ^ seed);
        let process = u128::from(seed.rotate_left(20) & 0xfff);
        // The time has 48 bits (until the year 10889). The variant replaces the upper two bits of `low`, which are
        // XORed into the process's 12 bits instead.
        let random = u128::from(low & (u64::MAX >> 2));
        Self((u128::from(unix_ms) << 80) | VERSION | ((process ^ u128::from(low >> 62)) << 64) | VARIANT | random)
    }

    /// Its halves in hex digits, the higher one first.
    pub(crate) fn to_hex(self) -> [[u8; 16]; 2] {
        hex(self.0)
    }

    /// Its halves, the higher one first.
    pub(crate) fn to_words(self) -> [u64; 2] {
        #[expect(clippy::cast_possible_truncation, reason = "halves")]
        let words = [(self.0 >> 64) as u64, self.0 as u64];
        words
    }

    pub(crate) fn from_words([high, low]: [u64; 2]) -> Self {
        Self((u128::from(high) << 64) | u128::from(low))
    }
}

/// Microseconds after the Unix epoch; 0 before it.
pub(crate) fn unix_us(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// The hex digits of both halves of a number, the higher one first. Without the machinery of `fmt`, since each request
/// needs them.
pub(crate) fn hex(number: u128) -> [[u8; 16]; 2] {
    const LETTERS: u64 = (b'a' - b'0' - 10) as u64;
    /// The same byte eight times.
    const fn each(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }
    let quarters = [96, 64, 32, 0].map(|shift| {
        // Each step halves the groups of digits, until each of them has a byte of its own.
        let digits = (number >> shift) as u64 & 0xffff_ffff;
        let digits = (digits | digits << 16) & 0x0000_ffff_0000_ffff;
        let digits = (digits | digits << 8) & 0x00ff_00ff_00ff_00ff;
        let digits = (digits | digits << 4) & each(0x0f);
        let is_letter = (digits + each(6)) >> 4 & each(1);
        (digits + each(b'0') + is_letter * LETTERS).to_be_bytes()
    });
    let [a, b, c, d] = quarters;
    let both = |high: [u8; 8], low: [u8; 8]| {
        (u128::from(u64::from_be_bytes(high)) << 64 | u128::from(u64::from_be_bytes(low))).to_be_bytes()
    };
    [both(a, b), both(c, d)]
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_sort_by_time_and_differ() {
        let ids: Vec<_> = (0..10_000).map(|ms| RequestId::at(1_800_000_000_000 + ms / 100).to_string()).collect();
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
        assert!(ids.iter().all(|id| id.len() == 32 && &id[12..13] == "7" && "89ab".contains(&id[16..17])), "{ids:?}");
        let ms: Vec<_> = ids.iter().map(|id| id[..12].to_owned()).collect();
        assert!(ms.is_sorted());
        assert_eq!(ms[0], format!("{:012x}", 1_800_000_000_000_u64));
    }

    #[test]
    fn hex_digits() {
        let all = 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210;
        for number in [0, 1, 9, 10, 15, 16, all, u128::MAX, u128::MAX << 64, RequestId::next().0] {
            let text = format!("{number:032x}");
            assert_eq!(RequestId(number).to_hex().as_flattened(), text.as_bytes());
            assert_eq!(RequestId(number).to_string(), text);
        }
    }

    #[test]
    fn halves_make_the_whole() {
        let id = RequestId::next();
        assert_eq!(RequestId::from_words(id.to_words()), id);
    }
}
