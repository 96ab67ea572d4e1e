//! Text from guests and clients, cut to a stated length before it is stored, logged or sent in a response.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// Most bytes of one such text in a log line or an error response. What was left out is stated after the text.
pub const MAX_EXCERPT_BYTES: usize = 1 << 10;

/// The beginning of a text, cut at a character boundary, with control characters escaped. Every text from a guest or a
/// client that gets into a log line, an error response or a metric is an `Excerpt`, made where the text enters the
/// host, so no long text is ever formatted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt(String);

impl Excerpt {
    /// The first [`MAX_EXCERPT_BYTES`] of `text`.
    pub fn of(text: &str) -> Self {
        Self::within(text, MAX_EXCERPT_BYTES)
    }

    /// The first `max_bytes` of `text`, and how many bytes were left out.
    pub fn within(text: &str, max_bytes: usize) -> Self {
        let mut first = First::new(max_bytes);
        let left_out = text.len() - first.take(text);
        let mut kept = first.text;
        if left_out > 0 {
            // Writing to a string does not fail.
            let _ = write!(kept, "… ({left_out} bytes left out)");
        }
        Self(kept)
    }

    /// The first [`MAX_EXCERPT_BYTES`] of what `value` displays. Formatting stops there, so that a long value costs no
    /// more than a short one. If `value` prints a text with escapes (`{:?}`), that text must be cut before.
    pub fn display(value: impl fmt::Display) -> Self {
        Self::display_within(value, MAX_EXCERPT_BYTES)
    }

    /// As [`Excerpt::display`], with the first `max_bytes`.
    pub fn display_within(value: impl fmt::Display, max_bytes: usize) -> Self {
        let mut first = First::new(max_bytes);
        // An error means that there was no room for more.
        let is_cut = write!(first, "{value}").is_err();
        let mut kept = first.text;
        if is_cut {
            kept.push_str("… (the rest left out)");
        }
        Self(kept)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a character could forge a log line or control a terminal.
fn is_escaped(character: char) -> bool {
    character.is_control() && character != '\t'
}

/// Escapes control characters, so that a text can neither forge log lines nor control a terminal.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut first = First::new(usize::MAX);
    first.take(text);
    Cow::Owned(first.text)
}

/// Takes text, with control characters escaped, until there is no room for more.
struct First {
    text: String,
    max_bytes: usize,
}

impl First {
    fn new(max_bytes: usize) -> Self {
        Self { text: String::new(), max_bytes }
    }

    /// Appends as much of `piece` as there is room for, and returns the number of its bytes that were taken.
    fn take(&mut self, piece: &str) -> usize {
        for (at, character) in piece.char_indices() {
            let is_escaped = is_escaped(character);
            let bytes = if is_escaped { character.escape_default().count() } else { character.len_utf8() };
            if bytes > self.max_bytes - self.text.len() {
                return at;
            }
            if is_escaped {
                self.text.extend(character.escape_default());
            } else {
                self.text.push(character);
            }
        }
        piece.len()
    }
}

impl Write for First {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        if self.take(piece) < piece.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

impl From<String> for Excerpt {
    fn from(text: String) -> Self {
        if text.len() <= MAX_EXCERPT_BYTES && !text.contains(is_escaped) { Self(text) } else { Self::of(&text) }
    }
}

impl From<&str> for Excerpt {
    fn from(text: &str) -> Self {
        Self::of(text)
    }
}

impl From<Excerpt> for String {
    fn from(excerpt: Excerpt) -> Self {
        excerpt.0
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_at_the_limit_and_says_so() {
        fn check(text: &str, max_bytes: usize, of_text: &str, of_value: &str) {
            assert_eq!(Excerpt::within(text, max_bytes).as_str(), of_text, "{text} in {max_bytes}");
            assert_eq!(Excerpt::display_within(text, max_bytes).as_str(), of_value, "{text} in {max_bytes}");
        }
        check("", 3, "", "");
        check("abc", 3, "abc", "abc");
        check("abcd", 3, "abc… (1 bytes left out)", "abc… (the rest left out)");
        check("abcd", 0, "… (4 bytes left out)", "… (the rest left out)");
        // No cut within a character.
        check("aäb", 2, "a… (3 bytes left out)", "a… (the rest left out)");
        check("aäb", 3, "aä… (1 bytes left out)", "aä… (the rest left out)");
        // Escapes count.
        check("a\n\tb", 5, "a\\n\tb", "a\\n\tb");
        check("\u{1b}[31m", 8, "\\u{1b}[3… (2 bytes left out)", "\\u{1b}[3… (the rest left out)");
        check("\u{1b}[31m", 3, "… (5 bytes left out)", "… (the rest left out)");
    }

    #[test]
    fn ten_megabytes_are_not_kept_in_any_way() {
        let long = "x".repeat(10 << 20);
        let ways = [
            Excerpt::of(&long),
            Excerpt::from(long.as_str()),
            Excerpt::from(long.clone()),
            Excerpt::display(&long),
            Excerpt::display(format_args!("its body ended with: {long}")),
            Excerpt::display(format_args!("{long:?}")),
        ];
        for excerpt in ways {
            assert!(excerpt.as_str().len() < MAX_EXCERPT_BYTES + 40, "{} bytes", excerpt.as_str().len());
            assert!(excerpt.0.capacity() < 4 * MAX_EXCERPT_BYTES, "room for {} bytes", excerpt.0.capacity());
        }
    }

    /// Text after the cut is not even formatted.
    #[test]
    fn formatting_ends_at_the_limit() {
        struct Pieces<'a>(&'a std::cell::Cell<u32>);
        impl fmt::Display for Pieces<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                (0..1_000_000).try_for_each(|_| {
                    self.0.set(self.0.get() + 1);
                    f.write_str("0123456789")
                })
            }
        }
        let pieces = std::cell::Cell::new(0);
        let _ = Excerpt::display(Pieces(&pieces));
        assert!(pieces.get() < 110, "{} pieces were formatted", pieces.get());
    }
}
