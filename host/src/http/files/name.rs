//! From the path of a request to the path of a file below a directory.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The only hidden name that is served: what it has is meant to be public (RFC 8615).
const WELL_KNOWN: &[u8] = b".well-known";

/// What a directory is served as.
const INDEX: &[u8] = b"index.html";

/// The path of a file below the directory, with `/` between its segments and none at its ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    bytes: Vec<u8>,
    /// The request's path ends in a slash, which only a directory's does. The directory itself is empty.
    is_directory: bool,
}

impl Name {
    /// Reads what the `*` of a route's path stands for, as the client sent it. Percent-encoding is decoded once.
    ///
    /// None if no file is served under such a path: it has an encoded slash or a NUL, a backslash, which browsers may take
    /// for a slash, an empty segment or a hidden one (`.`, `..` and those of dot files).
    pub(super) fn parse(path: &str) -> Option<Self> {
        if path.is_empty() {
            return Some(Self { bytes: Vec::new(), is_directory: true });
        }
        let path = path.as_bytes();
        let (path, is_directory) = match path.strip_suffix(b"/") {
            Some(path) => (path, true),
            None => (path, false),
        };
        let mut bytes = Vec::with_capacity(path.len());
        for (number, segment) in path.split(|byte| *byte == b'/').enumerate() {
            if number > 0 {
                bytes.push(b'/');
            }
            let begin = bytes.len();
            decode(segment, &mut bytes)?;
            match bytes.get(begin..)? {
                WELL_KNOWN if number == 0 => {}
                [] | [b'.', ..] => return None,
                _ => {}
            }
        }
        Some(Self { bytes, is_directory })
    }

    /// A path from the configuration, which is valid.
    pub(super) fn configured(path: &str) -> Self {
        Self { bytes: path.into(), is_directory: false }
    }

    pub(super) fn is_directory(&self) -> bool {
        self.is_directory
    }

    /// The file that this directory is served as.
    pub(super) fn index(&self) -> Self {
        let mut bytes = self.bytes.clone();
        if !bytes.is_empty() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(INDEX);
        Self { bytes, is_directory: false }
    }

    /// The file with the same name and something after it.
    pub(super) fn with(&self, suffix: &str) -> Self {
        Self { bytes: [&self.bytes, suffix.as_bytes()].concat(), is_directory: false }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.bytes))
    }
}

/// Decodes one segment. None if it has what a file's name must not have.
fn decode(segment: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut rest = segment.iter();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'%' => hex(*rest.next()?)? << 4 | hex(*rest.next()?)?,
            byte => *byte,
        };
        if matches!(byte, b'/' | b'\\' | 0) {
            return None;
        }
        out.push(byte);
    }
    Some(())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::Name;

    #[test]
    fn paths_are_names_or_refused() {
        fn check(path: &str, expected: Option<(&str, bool)>) {
            let expected = expected.map(|(name, is_directory)| Name { bytes: name.as_bytes().to_vec(), is_directory });
            assert_eq!(Name::parse(path), expected, "{path}");
        }
        check("", Some(("", true)));
        check("a", Some(("a", false)));
        check("a/b.css", Some(("a/b.css", false)));
        check("a/", Some(("a", true)));
        check("a%20b/%c3%BC", Some(("a b/ü", false)));
        check("a%2Eb", Some(("a.b", false)));
        // Decoded once only.
        check("a%252fb", Some(("a%2fb", false)));
        check(".well-known/acme-challenge/x", Some((".well-known/acme-challenge/x", false)));
        let refused = [
            "/",
            "//",
            "/a",
            "a//b",
            "a//",
            ".",
            "..",
            "../a",
            "a/..",
            "a/../b",
            "a/./b",
            ".env",
            "a/.git/config",
            "%2e%2e/a",
            "%2e",
            "a/.well-known",
            "a%2fb",
            "a%2Fb",
            "a%00",
            "a\\b",
            "a%5cb",
            "%",
            "%2",
            "%zz",
            "a%",
        ];
        for path in refused {
            check(path, None);
        }
    }

    #[test]
    fn directories_have_an_index() {
        assert_eq!(Name::parse("").map(|name| name.index()), Some(Name::configured("index.html")));
        assert_eq!(Name::parse("a/b/").map(|name| name.index()), Some(Name::configured("a/b/index.html")));
    }
}
