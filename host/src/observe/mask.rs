//! Replaces secrets in what guests write by `***`.
//!
//! This is against accidents, such as a guest that logs its environment. A guest can write a secret in a form in which
//! it is not found.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use daylily_core::secret::Secret;

/// Shorter secrets are not looked for: they are found in too many other texts.
const MIN_BYTES: usize = 8;

const REPLACEMENT: &[u8] = b"***";

/// The secrets of one route.
pub(crate) struct Mask {
    finder: AhoCorasick,
    /// In order.
    secrets: Vec<Box<[u8]>>,
    longest: usize,
}

impl Mask {
    /// None if no secret is long enough. Of a secret with several lines, each line that is long enough is one as well.
    pub(crate) fn of<'a>(secrets: impl Iterator<Item = &'a Secret>) -> Option<Arc<Self>> {
        let mut secrets: Vec<Box<[u8]>> = secrets
            .flat_map(|secret| std::iter::once(secret.expose()).chain(secret.expose().lines().map(str::trim)))
            .filter(|text| text.len() >= MIN_BYTES)
            .map(|text| text.as_bytes().into())
            .collect();
        secrets.sort_unstable();
        secrets.dedup();
        let longest = secrets.iter().map(|secret| secret.len()).max()?;
        // Another kind may take megabytes. It cannot fail: there are fewer bytes of secrets than it can have states.
        let finder = AhoCorasick::builder().kind(Some(AhoCorasickKind::ContiguousNFA)).build(&secrets).ok()?;
        Some(Arc::new(Self { finder, secrets, longest }))
    }

    /// A text without the secrets in it.
    pub(crate) fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if !self.finder.is_match(text) {
            return Cow::Borrowed(text);
        }
        let mut stream = MaskedStream::default();
        let mut masked = stream.push(self, text.as_bytes());
        masked.append(&mut stream.end(self));
        Cow::Owned(String::from_utf8_lossy(&masked).into_owned())
    }

    /// The first `max_bytes` of a text without the secrets in it, and without the beginning of one that is cut there.
    pub(crate) fn beginning(&self, text: &str, max_bytes: usize) -> String {
        let (first, rest) = text.split_at(text.floor_char_boundary(max_bytes));
        let mut stream = MaskedStream::default();
        let mut masked = stream.push(self, first.as_bytes());
        if rest.is_empty() {
            masked.append(&mut stream.end(self));
        }
        String::from_utf8_lossy(&masked).into_owned()
    }

    /// The parts of `bytes` that are secrets, in order, those that overlap as one; after the first `masked` bytes, which
    /// are part of one.
    fn parts(&self, bytes: &[u8], masked: usize) -> Vec<(usize, usize)> {
        let mut found = vec![(0, masked)];
        found.extend(self.finder.find_overlapping_iter(bytes).map(|found| (found.start(), found.end())));
        found.sort_unstable();
        found.dedup_by(|next, before| {
            let overlaps = next.0 < before.1;
            if overlaps {
                before.1 = before.1.max(next.1);
            }
            overlaps
        });
        found.retain(|(start, end)| start < end);
        found
    }

    /// Where in `bytes` the first secret begins that may go on after them.
    fn unfinished(&self, bytes: &[u8]) -> usize {
        let first = bytes.len().saturating_sub(self.longest - 1);
        let begins = |at: &usize| {
            let rest = bytes.get(*at..).unwrap_or_default();
            // A secret that begins with it is the next one in order.
            let next = self.secrets.partition_point(|secret| **secret <= *rest);
            self.secrets.get(next).is_some_and(|secret| secret.starts_with(rest))
        };
        (first..bytes.len()).find(begins).unwrap_or(bytes.len())
    }
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mask(***)")
    }
}

/// One stream of output: a secret may be written in several pieces.
#[derive(Default)]
pub(crate) struct MaskedStream {
    /// The end of what was written, if a secret may go on after it: shorter than the longest secret.
    held: Vec<u8>,
    /// The first bytes of it that belong to a secret whose replacement was returned already.
    masked: usize,
}

impl MaskedStream {
    /// Takes what is written next, and returns what can be shown by now.
    pub(crate) fn push(&mut self, mask: &Mask, bytes: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(bytes);
        let end = mask.unfinished(&self.held);
        self.show(mask, end)
    }

    /// Returns the rest.
    pub(crate) fn end(&mut self, mask: &Mask) -> Vec<u8> {
        self.show(mask, self.held.len())
    }

    /// Shows the first `end` bytes. Secrets that are not known yet begin after them.
    fn show(&mut self, mask: &Mask, end: usize) -> Vec<u8> {
        if end == 0 {
            return Vec::new();
        }
        let mut shown = Vec::with_capacity(end);
        let (mut at, mut masked) = (0, 0);
        for (start, stop) in mask.parts(&self.held, self.masked) {
            if start >= end {
                break;
            }
            shown.extend_from_slice(self.held.get(at..start).unwrap_or_default());
            if start > 0 || self.masked == 0 {
                shown.extend_from_slice(REPLACEMENT);
            }
            at = stop.min(end);
            masked = stop.saturating_sub(end);
        }
        shown.extend_from_slice(self.held.get(at..end).unwrap_or_default());
        self.held.drain(..end);
        self.masked = masked;
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(secrets: &[&str]) -> Option<Arc<Mask>> {
        let secrets: Vec<Secret> = secrets.iter().map(|secret| Secret::new((*secret).to_owned())).collect();
        Mask::of(secrets.iter())
    }

    /// What a stream shows of `text` when it is written in pieces of `size` bytes.
    fn in_pieces(mask: &Mask, text: &str, size: usize) -> String {
        let mut stream = MaskedStream::default();
        let mut shown = Vec::new();
        for piece in text.as_bytes().chunks(size) {
            shown.append(&mut stream.push(mask, piece));
            assert!(stream.held.len() < mask.longest, "it holds {} bytes", stream.held.len());
        }
        shown.append(&mut stream.end(mask));
        String::from_utf8(shown).expect("text")
    }

    #[test]
    fn secrets_are_found_in_whatever_pieces_they_are_written() {
        fn check(secrets: &[&str], text: &str, expected: &str) {
            let mask = mask(secrets).expect("a mask");
            assert_eq!(mask.text(text), expected, "{secrets:?}");
            for size in 1..=text.len().max(1) {
                assert_eq!(in_pieces(&mask, text, size), expected, "{secrets:?} in pieces of {size}");
            }
        }
        check(&["hunter22"], "", "");
        check(&["hunter22"], "hunter22", "***");
        check(&["hunter22"], "a hunter22, hunter22hunter22 hunter2 hunter2", "a ***, ****** hunter2 hunter2");
        check(&["hunter22"], "hunterhunter22hunt", "hunter***hunt");
        check(&["hunter22", "x"], "x hunter22", "x ***");
        // One begins like another, is in another, or overlaps with it.
        check(&["hunter22", "hunter2222"], "hunter222 hunter2222 hunter22", "***2 *** ***");
        check(&["hunter22", "a hunter22 b"], "a hunter22 b, a hunter22 c", "***, a *** c");
        check(&["abcdefgh", "efghijkl"], "-abcdefghijkl- abcdefghij efghijkl", "-***- ***ij ***");
        check(&["aaaaaaaa"], "aaaaaaaaaaaaaaa b aaaaaaa", "*** b aaaaaaa");
        check(&["abababab"], "abababababa cababababd", "***a c***d");
        // Several lines: whole, and each one that is long enough.
        check(&["one\ntwo\nthree"], "> one\ntwo\nthree\n> one\ntwo\n", "> ***\n> one\ntwo\n");
        check(&["-----BEGIN-----\r\n  MIIEabcd\r\nxyz"], "a MIIEabcd\nxyz -----BEGIN-----", "a ***\nxyz ***");
        check(&["pässwört"], "ä pässwört ö", "ä *** ö");
    }

    #[test]
    fn the_beginning_of_a_text_has_no_secret_that_is_cut() {
        fn check(text: &str, max_bytes: usize, expected: &str) {
            let mask = mask(&["hunter22"]).expect("a mask");
            assert_eq!(mask.beginning(text, max_bytes), expected, "{text} {max_bytes}");
        }
        check("a hunter22 b", 100, "a *** b");
        check("a hunter22 b", 10, "a ***");
        check("a hunter22 b", 9, "a ");
        check("a hunter22 b", 3, "a ");
        check("a hunter", 100, "a hunter");
        check("äää", 3, "ä");
    }

    #[test]
    fn short_secrets_are_not_looked_for() {
        assert!(mask(&[]).is_none());
        assert!(mask(&["", "1234567", "true", "a\nb"]).is_none());
        assert!(mask(&["12345678"]).is_some());
    }

    /// A secret that a stream may not be finished with is shown as soon as it is known that it is none.
    #[test]
    fn what_is_no_secret_is_not_held() {
        let mask = mask(&["hunter22"]).expect("a mask");
        let mut stream = MaskedStream::default();
        for (written, shown) in
            [("a\n", "a\n"), ("h", ""), ("i\n", "hi\n"), ("hunter2", ""), ("\n", "hunter2\n"), ("hunter22", "***")]
        {
            assert_eq!(stream.push(&mask, written.as_bytes()), shown.as_bytes(), "{written:?}");
        }
    }
}
