//! Conditional requests and ranges (RFC 9110, sections 13 and 14).

use std::fmt::Write as _;
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use headers::{ETag, HeaderMapExt, IfMatch, IfModifiedSince, IfNoneMatch, IfUnmodifiedSince};
use http::header::{HeaderMap, HeaderValue, IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE};
use http_range_header::RangeUnsatisfiableError;

/// How old a change must be so that a second one at the same time is out of the question: clocks of file systems tick
/// every few milliseconds, and dates in HTTP every second.
const SETTLED: Duration = Duration::from_secs(1);

/// What conditions are about: the file that would be sent.
pub(super) struct Version {
    pub(super) length: u64,
    pub(super) modified: SystemTime,
    /// The value of `etag`. It is weak for [`SETTLED`] after a change.
    pub(super) tag: String,
    /// The value of `last-modified`.
    pub(super) date: String,
    /// Whether the date tells this version from all others.
    is_date_strong: bool,
}

/// What a response has of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    /// 206: this range of bytes.
    Bytes(Range<u64>),
    /// 304.
    NotModified,
    /// 412.
    PreconditionFailed,
    /// 416.
    NotSatisfiable,
}

impl Version {
    pub(super) fn new(length: u64, modified: SystemTime, now: SystemTime) -> Self {
        let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        let is_settled = now.duration_since(modified).is_ok_and(|age| age >= SETTLED);
        let mut tag = String::with_capacity(48);
        let weak = if is_settled { "" } else { "W/" };
        let _ = write!(tag, "{weak}\"{:x}.{:x}-{length:x}\"", since.as_secs(), since.subsec_nanos());
        // A date in the future is not sent (RFC 9110, section 8.8.2.1).
        let date = httpdate::fmt_http_date(modified.min(now).max(UNIX_EPOCH));
        Self { length, modified, tag, date, is_date_strong: is_settled }
    }

    /// Evaluates the conditions of a GET or HEAD in the order of RFC 9110, section 13.2.2. Invalid fields are ignored.
    pub(super) fn part(&self, is_get: bool, headers: &HeaderMap) -> Part {
        let Ok(tag) = self.tag.parse::<ETag>() else { return Part::Whole };
        let passes_match = match headers.typed_get::<IfMatch>() {
            Some(condition) => condition.precondition_passes(&tag),
            None if headers.contains_key(IF_MATCH) => true,
            None => headers
                .typed_get::<IfUnmodifiedSince>()
                .is_none_or(|condition| condition.precondition_passes(self.modified)),
        };
        if !passes_match {
            return Part::PreconditionFailed;
        }
        let is_modified = match headers.typed_get::<IfNoneMatch>() {
            Some(condition) => condition.precondition_passes(&tag),
            None if headers.contains_key(IF_NONE_MATCH) => true,
            None => headers.typed_get::<IfModifiedSince>().is_none_or(|condition| condition.is_modified(self.modified)),
        };
        if !is_modified {
            return Part::NotModified;
        }
        match headers.get(RANGE).filter(|_| is_get && self.is_for_range(headers)) {
            Some(range) => self.bytes(range),
            None => Part::Whole,
        }
    }

    /// Whether `if-range` lets the range be sent: it has this version's tag or date, compared strongly.
    fn is_for_range(&self, headers: &HeaderMap) -> bool {
        let Some(condition) = headers.get(IF_RANGE).map(HeaderValue::as_bytes) else { return true };
        let is_tag = condition == self.tag.as_bytes() && condition.starts_with(b"\"");
        is_tag || (self.is_date_strong && condition == self.date.as_bytes())
    }

    /// One range of bytes. Several ranges, other units and invalid fields are ignored, which a server may do (RFC 9110,
    /// section 14.2).
    fn bytes(&self, range: &HeaderValue) -> Part {
        let Some(ranges) = range.to_str().ok().and_then(|text| http_range_header::parse_range_header(text).ok()) else {
            return Part::Whole;
        };
        if ranges.len() != 1 {
            return Part::Whole;
        }
        match ranges.validate(self.length) {
            Ok(ranges) => match ranges.first() {
                Some(range) => Part::Bytes(*range.start()..range.end().saturating_add(1)),
                None => Part::Whole,
            },
            Err(RangeUnsatisfiableError::Unsatisfiable) => Part::NotSatisfiable,
            Err(_) => Part::Whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    const TAG: &str = "\"3b9aca00.5-64\"";
    const DATE: &str = "Sun, 09 Sep 2001 01:46:40 GMT";
    const BEFORE: &str = "Sun, 09 Sep 2001 01:46:39 GMT";
    const AFTER: &str = "Sun, 09 Sep 2001 01:46:41 GMT";

    fn modified() -> SystemTime {
        UNIX_EPOCH + Duration::new(1_000_000_000, 5)
    }

    fn version(age: Duration) -> Version {
        Version::new(100, modified(), modified() + age)
    }

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().expect("a name"), value.parse().expect("a value"))
        };
        fields.iter().map(field).collect()
    }

    #[test]
    fn tags_and_dates() {
        let settled = version(SETTLED);
        assert_eq!((settled.tag.as_str(), settled.date.as_str()), (TAG, DATE));
        assert_eq!(version(SETTLED - Duration::from_nanos(1)).tag, format!("W/{TAG}"));
        let of_future = Version::new(1, modified() + Duration::from_secs(9), modified());
        assert_eq!((of_future.date.as_str(), of_future.tag.starts_with("W/")), (DATE, true));
        assert_eq!(Version::new(1, UNIX_EPOCH - SETTLED, modified()).date, "Thu, 01 Jan 1970 00:00:00 GMT");
    }

    #[test]
    fn conditions() {
        fn check(fields: &[(&str, &str)], expected: Part) {
            assert_eq!(version(Duration::from_secs(60)).part(true, &headers(fields)), expected, "{fields:?}");
        }
        check(&[], Part::Whole);
        check(&[("if-match", TAG)], Part::Whole);
        check(&[("if-match", "*")], Part::Whole);
        check(&[("if-match", "\"a\", \"b\"")], Part::PreconditionFailed);
        check(&[("if-match", &format!("W/{TAG}"))], Part::PreconditionFailed);
        // A date is not looked at beside a tag.
        check(&[("if-match", TAG), ("if-unmodified-since", BEFORE)], Part::Whole);
        check(&[("if-unmodified-since", BEFORE)], Part::PreconditionFailed);
        check(&[("if-unmodified-since", DATE)], Part::Whole);
        check(&[("if-unmodified-since", "yesterday")], Part::Whole);
        check(&[("if-none-match", TAG)], Part::NotModified);
        check(&[("if-none-match", &format!("\"a\", W/{TAG}"))], Part::NotModified);
        check(&[("if-none-match", "*")], Part::NotModified);
        check(&[("if-none-match", "\"a\"")], Part::Whole);
        check(&[("if-none-match", "\"a\""), ("if-modified-since", AFTER)], Part::Whole);
        check(&[("if-modified-since", DATE)], Part::NotModified);
        check(&[("if-modified-since", AFTER)], Part::NotModified);
        check(&[("if-modified-since", BEFORE)], Part::Whole);
        check(&[("if-modified-since", "tomorrow")], Part::Whole);
        check(&[("if-none-match", TAG), ("range", "bytes=0-9")], Part::NotModified);
        check(&[("if-match", "\"a\""), ("if-none-match", TAG)], Part::PreconditionFailed);
    }

    #[test]
    fn ranges() {
        fn check(range: &str, expected: Part) {
            let headers = headers(&[("range", range)]);
            assert_eq!(version(SETTLED).part(true, &headers), expected, "{range}");
            assert_eq!(version(SETTLED).part(false, &headers), Part::Whole, "HEAD {range}");
        }
        check("bytes=0-9", Part::Bytes(0..10));
        check("bytes=90-", Part::Bytes(90..100));
        check("bytes=90-1000", Part::Bytes(90..100));
        check("bytes=0-18446744073709551615", Part::Bytes(0..100));
        check("bytes=-10", Part::Bytes(90..100));
        check("bytes=-1000", Part::Bytes(0..100));
        check("bytes=99-99", Part::Bytes(99..100));
        check("bytes=100-", Part::NotSatisfiable);
        check("bytes=100-200", Part::NotSatisfiable);
        check("bytes=-0", Part::NotSatisfiable);
        check("bytes=9-0", Part::Whole);
        check("bytes=0-1,5-6", Part::Whole);
        check("bytes=", Part::Whole);
        check("bytes=a-b", Part::Whole);
        check("lines=0-9", Part::Whole);
        let empty = Version::new(0, modified(), modified() + SETTLED);
        assert_eq!(empty.part(true, &headers(&[("range", "bytes=0-0")])), Part::NotSatisfiable);
    }

    #[test]
    fn ranges_of_a_version() {
        fn check(age: Duration, condition: &str, expected: Part) {
            let headers = headers(&[("range", "bytes=0-9"), ("if-range", condition)]);
            assert_eq!(version(age).part(true, &headers), expected, "{condition}");
        }
        let minute = Duration::from_secs(60);
        check(minute, TAG, Part::Bytes(0..10));
        check(minute, DATE, Part::Bytes(0..10));
        check(minute, AFTER, Part::Whole);
        check(minute, "\"a\"", Part::Whole);
        check(minute, &format!("W/{TAG}"), Part::Whole);
        check(Duration::ZERO, &format!("W/{TAG}"), Part::Whole);
        check(Duration::ZERO, DATE, Part::Whole);
    }
}
