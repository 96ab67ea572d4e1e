use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ValueError;

/// What an entry of `listen` begins with to name a Unix socket.
pub(super) const PREFIX: &str = "unix:";

/// The limit of the kernel: `sun_path` has 108 bytes, and the last one is a NUL.
const MAX_PATH_BYTES: usize = 107;

/// The owner and the group may connect. Connecting needs the write permission.
const DEFAULT_MODE: u32 = 0o660;

/// A Unix socket to listen on: the path of its file, and the mode that the file gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnixListen {
    path: String,
    mode: u32,
}

impl UnixListen {
    /// Absolute, and short enough for the kernel.
    pub fn path(&self) -> &Path {
        Path::new(&self.path)
    }

    /// The permissions of the file, without bits for anything else.
    pub fn mode(&self) -> u32 {
        self.mode
    }
}

impl fmt::Display for UnixListen {
    /// As written in a configuration; the default mode is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.path)?;
        if self.mode != DEFAULT_MODE {
            write!(f, "?mode={:04o}", self.mode)?;
        }
        Ok(())
    }
}

impl FromStr for UnixListen {
    type Err = ValueError;

    /// Parses `unix:PATH` or `unix:PATH?mode=MODE`, with an absolute path and an octal mode.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refused = |help: String| Err(ValueError::new(format!("invalid Unix socket {text:?}")).help(help));
        let named = text.strip_prefix(PREFIX).unwrap_or(text);
        let (path, options) = named.split_once('?').map_or((named, None), |(path, options)| (path, Some(options)));
        if path.is_empty() {
            return refused("write the path of the socket, such as \"unix:/run/daylily/http.sock\"".to_owned());
        }
        if path.starts_with("//") {
            let path = path.trim_start_matches('/');
            return refused(format!("write one `/` after `unix:`, as in \"unix:/{path}\""));
        }
        if !path.starts_with('/') {
            return refused("write an absolute path, such as \"unix:/run/daylily/http.sock\"".to_owned());
        }
        if path.ends_with('/') {
            return refused("the path names a directory; write the name of the socket after it".to_owned());
        }
        if path.len() > MAX_PATH_BYTES {
            return refused(format!(
                "the path has {} bytes; the kernel allows {MAX_PATH_BYTES} for a Unix socket",
                path.len()
            ));
        }
        if path.chars().any(char::is_control) {
            return refused("the path must not contain control characters".to_owned());
        }
        let mode = match options.map(parse_mode) {
            None => DEFAULT_MODE,
            Some(Some(mode)) => mode,
            Some(None) => {
                return refused(
                    "after `?` comes the mode of the file in octal digits, such as `?mode=0666`; a path cannot \
                     contain `?`"
                        .to_owned(),
                );
            }
        };
        Ok(Self { path: path.to_owned(), mode })
    }
}

/// `mode=660` or `mode=0660`.
fn parse_mode(options: &str) -> Option<u32> {
    let digits = options.strip_prefix("mode=")?;
    let is_octal = matches!(digits.len(), 3 | 4) && digits.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    u32::from_str_radix(digits, 8).ok().filter(|mode| is_octal && *mode <= 0o777)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<(&str, u32, &str), &str>) {
        match (text.parse::<UnixListen>(), expected) {
            (Ok(socket), Ok((path, mode, shown))) => {
                assert_eq!((socket.path(), socket.mode()), (Path::new(path), mode), "{text}");
                assert_eq!(socket.to_string(), shown);
                assert_eq!(shown.parse(), Ok(socket), "{text}");
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{text}: {error}"),
            (parsed, expected) => assert_eq!(format!("{parsed:?}"), format!("{expected:?}"), "{text}"),
        }
    }

    #[test]
    fn paths_and_modes() {
        check("unix:/run/a.sock", Ok(("/run/a.sock", 0o660, "unix:/run/a.sock")));
        check("unix:/run/a b,c@é", Ok(("/run/a b,c@é", 0o660, "unix:/run/a b,c@é")));
        check("unix:/a?mode=0666", Ok(("/a", 0o666, "unix:/a?mode=0666")));
        check("unix:/a?mode=600", Ok(("/a", 0o600, "unix:/a?mode=0600")));
        check("unix:/a?mode=0660", Ok(("/a", 0o660, "unix:/a")));
        check("unix:", Err("write the path"));
        check("unix:?mode=0666", Err("write the path"));
        check("unix:a.sock", Err("absolute path"));
        check("unix:./a.sock", Err("absolute path"));
        check("unix:@abstract", Err("absolute path"));
        check("unix:3000", Err("absolute path"));
        check("unix:///run/a.sock", Err("\"unix:/run/a.sock\""));
        check("unix:/run/", Err("names a directory"));
        check("unix:/a\n", Err("control characters"));
        check("unix:/a\0", Err("control characters"));
        for wrong in ["", "0666", "mode", "mode=", "mode=66", "mode=08", "mode=0888", "mode=1777", "mode=+666", "a=b"] {
            check(&format!("unix:/a?{wrong}"), Err("in octal digits"));
        }
    }

    #[test]
    fn a_path_is_as_long_as_the_kernel_allows() {
        let longest = format!("/{}", "a".repeat(MAX_PATH_BYTES - 1));
        check(&format!("unix:{longest}"), Ok((&longest, 0o660, &format!("unix:{longest}"))));
        check(&format!("unix:{longest}a"), Err("has 108 bytes; the kernel allows 107"));
    }
}
