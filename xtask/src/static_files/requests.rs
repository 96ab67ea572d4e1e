//! The directory, the requests, and what of the responses is compared.

use std::fmt;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

use crate::http::local;

/// Files below the directory.
const FILES: &[(&str, &[u8])] = &[
    ("index.html", b"<!doctype html><title>home</title>\n"),
    ("style.css", b"body { color: black }\n"),
    ("app.js", b"console.log('a file with a compressed sibling')\n"),
    ("app.js.gz", b"not really gzip, which neither server looks at"),
    ("data.json", b"{}\n"),
    ("photo.jpg", b"\xff\xd8\xff"),
    ("unknown.zzz", b"0123456789"),
    ("empty.txt", b""),
    ("a b.txt", b"a name with a space\n"),
    ("docs/index.html", b"<title>docs</title>\n"),
    ("no-index/file.txt", b"a file\n"),
];

const TARGETS: &[&str] = &[
    "/",
    "/index.html",
    "/style.css",
    "/style.css?v=1",
    "/app.js",
    "/data.json",
    "/photo.jpg",
    "/unknown.zzz",
    "/empty.txt",
    "/a%20b.txt",
    "/docs",
    "/docs?a=b",
    "/docs/",
    "/no-index/",
    "/no-index",
    "/none",
    "/none/",
    "/style.css/",
    "/docs/../style.css",
    "/%2e%2e/x",
    "//style.css",
    "/.hidden",
];

/// `TAG` stands for the server's own tag of the file, `DATE` for its date.
const FIELDS: &[&[(&str, &str)]] = &[
    &[],
    &[("accept-encoding", "gzip")],
    &[("accept-encoding", "gzip;q=0, identity")],
    &[("if-none-match", "TAG")],
    &[("if-none-match", "\"x\", TAG")],
    &[("if-none-match", "\"x\"")],
    &[("if-modified-since", "DATE")],
    &[("if-modified-since", "Sat, 01 Jan 2000 00:00:00 GMT")],
    &[("if-match", "TAG")],
    &[("if-match", "\"x\"")],
    &[("if-unmodified-since", "Sat, 01 Jan 2000 00:00:00 GMT")],
    &[("range", "bytes=0-1")],
    &[("range", "bytes=1-")],
    &[("range", "bytes=-2")],
    &[("range", "bytes=1000000-")],
    &[("range", "bytes=2-1")],
    &[("range", "bytes=0-0,2-2")],
    &[("range", "bytes=0-1"), ("if-range", "TAG")],
    &[("range", "bytes=0-1"), ("if-range", "DATE")],
    &[("range", "bytes=0-1"), ("if-range", "\"x\"")],
];

/// Fields that are compared.
const COMPARED: &[&str] = &[
    "accept-ranges",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "last-modified",
    "location",
    "vary",
];

const TIMEOUT: Duration = Duration::from_secs(30);

pub(super) struct Request {
    pub(super) method: &'static str,
    pub(super) target: &'static str,
    pub(super) fields: &'static [(&'static str, &'static str)],
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.target)?;
        self.fields.iter().try_for_each(|(name, value)| write!(f, ", {name}: {value}"))
    }
}

/// Every target with all fields, each with GET; those without fields also with HEAD and POST.
pub(super) fn all() -> Vec<Request> {
    let mut requests = Vec::new();
    for target in TARGETS {
        requests.extend(FIELDS.iter().map(|fields| Request { method: "GET", target, fields }));
        requests.extend(["HEAD", "POST"].map(|method| Request { method, target, fields: &[] }));
    }
    requests
}

/// Makes the directory. Its files have been changed a while ago, so their tags are strong.
pub(super) fn make(dir: &Path) -> Result<()> {
    let changed = SystemTime::now() - Duration::from_secs(3600);
    for (name, contents) in FILES {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().context("a file without a directory")?)?;
        fs::write(&path, contents)?;
        fs::File::options().write(true).open(&path)?.set_modified(changed)?;
    }
    fs::create_dir_all(dir.join("no-index"))?;
    Ok(())
}

pub(super) struct Response {
    status: u16,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Response {
    /// Sends a request on a connection of its own.
    pub(super) fn of(port: u16, request: &Request) -> Result<Self> {
        let needs_own = request.fields.iter().any(|(_, value)| value.contains("TAG") || value.contains("DATE"));
        let mut of_file = Self { status: 0, fields: Vec::new(), body: Vec::new() };
        if needs_own {
            of_file = Self::of(port, &Request { method: "GET", target: request.target, fields: &[] })?;
        }
        let own = |name: &str| of_file.field(name).unwrap_or("\"none\"").to_owned();
        let (tag, date) = (own("etag"), own("last-modified"));
        let mut text =
            format!("{} {} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n", request.method, request.target);
        for (name, value) in request.fields {
            text += &format!("{name}: {}\r\n", value.replace("TAG", &tag).replace("DATE", &date));
        }
        let mut stream = TcpStream::connect(local(port))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.write_all(format!("{text}\r\n").as_bytes())?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        Self::parse(&bytes).with_context(|| format!("not a response to {request}: {}", String::from_utf8_lossy(&bytes)))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = std::str::from_utf8(bytes.get(..end)?).ok()?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let field = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        Some(Self { status, fields: lines.filter_map(field).collect(), body: bytes.get(end + 4..)?.to_vec() })
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// What this one has that another one has not. Error pages are each server's own.
    pub(super) fn differences(&self, other: &Self) -> Vec<Difference> {
        if self.status != other.status {
            return vec![Difference { of: "status", ours: self.status.to_string(), theirs: other.status.to_string() }];
        }
        let is_file = matches!(self.status, 200 | 206);
        let mut differences = Vec::new();
        for name in COMPARED.iter().filter(|name| is_file || !name.starts_with("content-") || **name == "content-range")
        {
            let value = |response: &Self| match *name {
                // It has names of fields.
                "vary" => response.field(name).unwrap_or("none").to_ascii_lowercase(),
                name => response.field(name).unwrap_or("none").to_owned(),
            };
            let (ours, theirs) = (value(self), value(other));
            if ours != theirs {
                differences.push(Difference { of: name, ours, theirs });
            }
        }
        if is_file && self.body != other.body {
            let bytes = |response: &Self| format!("{} bytes", response.body.len());
            differences.push(Difference { of: "body", ours: bytes(self), theirs: bytes(other) });
        }
        if self.field("etag").is_some() != other.field("etag").is_some() {
            let has = |response: &Self| response.field("etag").unwrap_or("none").to_owned();
            differences.push(Difference { of: "etag", ours: has(self), theirs: has(other) });
        }
        differences
    }
}

/// Of one part of two responses.
pub(super) struct Difference {
    pub(super) of: &'static str,
    pub(super) ours: String,
    pub(super) theirs: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: daylily {}, nginx {}", self.of, self.ours, self.theirs)
    }
}

#[cfg(test)]
mod tests {
    use super::{Response, all};

    #[test]
    fn responses_are_compared() {
        let response = |text: &str| Response::parse(text.as_bytes()).expect("a response");
        let one = response("HTTP/1.1 200 OK\r\nETag: \"a\"\r\ncontent-length: 2\r\n\r\nab");
        let other = response("HTTP/1.1 200 OK\r\netag: \"b\"\r\nContent-Length: 3\r\n\r\nabc");
        let of: Vec<_> = one.differences(&other).iter().map(|difference| difference.of).collect();
        assert_eq!(of, ["content-length", "body"]);
        assert!(one.differences(&one).is_empty());
        let missing = response("HTTP/1.1 404 Not Found\r\ncontent-length: 9\r\n\r\nnot found");
        assert_eq!(one.differences(&missing).len(), 1);
        assert!(Response::parse(b"HTTP/1.1 200").is_none());
    }

    #[test]
    fn there_are_many_requests() {
        assert!(all().len() > 200);
    }
}
