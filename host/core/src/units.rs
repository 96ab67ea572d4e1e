//! Sizes and durations in configurations: `"64KiB"`, `"10MB"`, `"500ms"`, `"2m"`.

use std::time::Duration;

use crate::ValueError;

/// Longest first within a base, so that formatting finds the largest unit that divides the number.
const SIZE_UNITS: [(&str, u64); 8] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
];

const DURATION_UNITS_MS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

const SIZE_HELP: &str = "write whole bytes, or a whole number and a unit, such as \"64KiB\", \"16MiB\" or \"10MB\"";
const DURATION_HELP: &str = "write a whole number and a unit, such as \"500ms\", \"10s\", \"2m\" or \"1h\"";

/// Parses a size into bytes: `65536`, `64KiB` (binary units up to `TiB`) or `10MB` (decimal units
/// `kB` to `TB`).
///
/// # Errors
/// If it is not a whole number followed by nothing or by one of those units, or does not fit `u64`.
pub fn parse_size(text: &str) -> Result<u64, ValueError> {
    let refused = || ValueError::new(format!("invalid size {text:?}")).help(SIZE_HELP);
    let (number, unit) = split_unit(text).ok_or_else(refused)?;
    if unit.is_empty() {
        return Ok(number);
    }
    match SIZE_UNITS.iter().find(|(name, _)| *name == unit) {
        Some((_, factor)) => {
            number.checked_mul(*factor).ok_or_else(|| ValueError::new(format!("size {text:?} is too large")))
        }
        None => Err(match SIZE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)) {
            Some((name, _)) => {
                ValueError::new(format!("invalid size {text:?}")).help(format!("did you mean \"{number}{name}\"?"))
            }
            None => refused(),
        }),
    }
}

/// Parses a duration: a whole number followed by `ms`, `s`, `m` or `h`.
///
/// # Errors If it is anything else (including a number without a unit), or overflows.
pub fn parse_duration(text: &str) -> Result<Duration, ValueError> {
    let refused = || ValueError::new(format!("invalid duration {text:?}")).help(DURATION_HELP);
    let (number, unit) = split_unit(text).ok_or_else(refused)?;
    let (_, factor_ms) = DURATION_UNITS_MS.iter().find(|(name, _)| *name == unit).ok_or_else(refused)?;
    let ms = number.checked_mul(*factor_ms);
    ms.map(Duration::from_millis).ok_or_else(|| ValueError::new(format!("duration {text:?} is too long")))
}

/// Formats bytes in the largest unit that divides them, so that [`parse_size`] returns the same number.
pub fn format_size(bytes: u64) -> String {
    match SIZE_UNITS.iter().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", bytes / factor),
        None => bytes.to_string(),
    }
}

/// Formats a duration in the largest unit that divides it, so that [`parse_duration`] returns the same. Fractions of a
/// millisecond are dropped.
pub fn format_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    let fits = |factor_ms: u64| ms >= u128::from(factor_ms) && ms.is_multiple_of(u128::from(factor_ms));
    match DURATION_UNITS_MS.iter().find(|(_, factor_ms)| fits(*factor_ms)) {
        Some((unit, factor_ms)) => format!("{}{unit}", ms / u128::from(*factor_ms)),
        None => "0ms".to_owned(),
    }
}

/// Formats a count for readers: `10,000`.
pub(crate) fn with_commas(number: u32) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (digit, left) in digits.chars().zip((1..=digits.len()).rev()) {
        text.push(digit);
        if left > 1 && left % 3 == 1 {
            text.push(',');
        }
    }
    text
}

/// Splits `"64KiB"` into `(64, "KiB")`; `None` if it does not start with digits that fit `u64`.
fn split_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        fn check(text: &str, expected: Result<u64, &str>) {
            let actual = parse_size(text).map_err(|error| error.to_string());
            match (&actual, expected) {
                (Ok(actual), Ok(expected)) => assert_eq!(*actual, expected, "{text}"),
                (Err(actual), Err(expected)) => {
                    assert!(actual.contains(expected), "{text}: {actual}")
                }
                _ => assert_eq!(format!("{actual:?}"), format!("{expected:?}"), "{text}"),
            }
        }
        check("0", Ok(0));
        check("1", Ok(1));
        check("65536", Ok(65536));
        check("64KiB", Ok(65536));
        check("16MiB", Ok(16 << 20));
        check("1GiB", Ok(1 << 30));
        check("2TiB", Ok(2 << 40));
        check("10kB", Ok(10_000));
        check("10MB", Ok(10_000_000));
        check("3GB", Ok(3_000_000_000));
        check("18446744073709551615", Ok(u64::MAX));
        check("18446744073709551616", Err("invalid size"));
        check("16777216TiB", Err("too large"));
        check("", Err("invalid size \"\""));
        check("KiB", Err("invalid size"));
        check("-1", Err("invalid size"));
        check("+1", Err("invalid size"));
        check("1.5MiB", Err("invalid size"));
        check("64 KiB", Err("invalid size"));
        check(" 64KiB", Err("invalid size"));
        check("64kib", Err("did you mean \"64KiB\"?"));
        check("10KB", Err("did you mean \"10kB\"?"));
        check("64K", Err("write whole bytes"));
        check("10µB", Err("invalid size"));
    }

    #[test]
    fn durations() {
        fn check(text: &str, expected_ms: Result<u64, &str>) {
            let actual = parse_duration(text).map_err(|error| error.to_string());
            match (&actual, expected_ms) {
                (Ok(actual), Ok(expected)) => {
                    assert_eq!(*actual, Duration::from_millis(expected), "{text}")
                }
                (Err(actual), Err(expected)) => {
                    assert!(actual.contains(expected), "{text}: {actual}")
                }
                _ => assert_eq!(format!("{actual:?}"), format!("{expected_ms:?}"), "{text}"),
            }
        }
        check("0s", Ok(0));
        check("500ms", Ok(500));
        check("10s", Ok(10_000));
        check("2m", Ok(120_000));
        check("1h", Ok(3_600_000));
        check("18446744073709551615ms", Ok(u64::MAX));
        check("18446744073709551615h", Err("too long"));
        check("10", Err("invalid duration \"10\""));
        check("", Err("invalid duration"));
        check("s", Err("invalid duration"));
        check("1.5s", Err("invalid duration"));
        check("10 s", Err("invalid duration"));
        check("10S", Err("invalid duration"));
        check("-1s", Err("invalid duration"));
        check("1d", Err("such as \"500ms\""));
        check("1m30s", Err("invalid duration"));
    }

    #[test]
    fn formatting_round_trips() {
        fn check_size(bytes: u64, expected: &str) {
            assert_eq!(format_size(bytes), expected);
            assert_eq!(parse_size(expected), Ok(bytes));
        }
        check_size(0, "0");
        check_size(1, "1");
        check_size(65536, "64KiB");
        check_size(1 << 30, "1GiB");
        check_size(1536 << 20, "1536MiB");
        check_size(10_000, "10kB");
        check_size(u64::MAX, "18446744073709551615");

        fn check_duration(ms: u64, expected: &str) {
            assert_eq!(format_duration(Duration::from_millis(ms)), expected);
            assert_eq!(parse_duration(expected), Ok(Duration::from_millis(ms)));
        }
        check_duration(0, "0ms");
        check_duration(500, "500ms");
        check_duration(1_000, "1s");
        check_duration(90_000, "90s");
        check_duration(120_000, "2m");
        check_duration(3_600_000, "1h");
    }
}
