//! HTTP/1.1 framing, read strictly: input that a lenient client would accept fails the test.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::PATIENCE;

/// Why reading stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The peer closed the connection in an orderly way.
    Closed,
    /// The connection was reset.
    Reset,
    /// The deadline passed.
    Late,
}

/// How a body's end is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Length(u64),
    Chunked,
    Close,
}

/// A start line and its fields; names as received, values byte by byte as Latin-1.
#[derive(Debug, Clone)]
pub struct Head {
    pub start: String,
    pub fields: Vec<(String, String)>,
}

impl Head {
    pub fn values(&self, name: &str) -> Vec<&str> {
        let matching = self.fields.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        matching.map(|(_, value)| value.as_str()).collect()
    }

    /// The framing of the body according to the fields, if they determine one. Contradictory fields fail the test.
    pub fn framing(&self) -> Option<Framing> {
        let (lengths, codings) = (self.values("content-length"), self.values("transfer-encoding"));
        match (lengths.as_slice(), codings.as_slice()) {
            ([], []) => None,
            ([length], []) => {
                assert!(length.bytes().all(|byte| byte.is_ascii_digit()), "content-length: {length}");
                Some(Framing::Length(length.parse().expect("a length that fits")))
            }
            ([], ["chunked"]) => Some(Framing::Chunked),
            _ => panic!("ambiguous framing: {self:?}"),
        }
    }
}

/// A buffered connection whose reads fail after a deadline.
pub struct Wire<S> {
    stream: S,
    socket: TcpStream,
    data: Vec<u8>,
    at: usize,
    pub deadline: Instant,
}

impl<S: Read + Write> Wire<S> {
    /// `socket` is the socket under `stream`, for setting time-outs.
    pub fn new(stream: S, socket: TcpStream) -> Self {
        Self { stream, socket, data: Vec::new(), at: 0, deadline: Instant::now() + PATIENCE }
    }

    pub fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    pub fn unread(&self) -> &[u8] {
        &self.data[self.at..]
    }

    /// Sets the deadline to `wait` from now.
    pub fn within(&mut self, wait: Duration) {
        self.deadline = Instant::now() + wait;
    }

    /// Waits for at least one more byte.
    pub fn fill(&mut self) -> Result<(), Stop> {
        self.data.drain(..self.at);
        self.at = 0;
        let old = self.data.len();
        let left = self.deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.socket.set_read_timeout(Some(left)).expect("a read time-out");
        self.data.resize(old + 64 * 1024, 0);
        let read = self.stream.read(&mut self.data[old..]);
        self.data.truncate(old + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => Err(Stop::Closed),
            Ok(_) => Ok(()),
            Err(error) => Err(stop(&error)),
        }
    }

    /// A line without its CR LF. A bare LF or CR fails the test.
    pub fn line(&mut self) -> Result<String, Stop> {
        loop {
            if let Some(end) = self.unread().iter().position(|&byte| byte == b'\n') {
                let line: String = self.unread()[..end].iter().map(|&byte| char::from(byte)).collect();
                self.at += end + 1;
                let line = line.strip_suffix('\r').unwrap_or_else(|| panic!("a bare LF after {line:?}"));
                assert!(!line.contains('\r'), "a bare CR in {line:?}");
                return Ok(line.to_owned());
            }
            assert!(self.unread().len() < 1 << 20, "a line without an end");
            self.fill()?;
        }
    }

    /// Reads fields up to and including the empty line.
    pub fn fields(&mut self) -> Result<Vec<(String, String)>, Stop> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no colon in the field {line:?}"));
            assert!(!name.is_empty() && name.bytes().all(is_token), "not a field name: {name:?}");
            fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
        }
    }

    pub fn head(&mut self) -> Result<Head, Stop> {
        let start = self.line()?;
        Ok(Head { start, fields: self.fields()? })
    }

    /// Passes the body to `sink` piece by piece. Returns the trailers.
    pub fn body(&mut self, framing: Framing, sink: &mut dyn FnMut(&[u8])) -> Result<Vec<(String, String)>, Stop> {
        match framing {
            Framing::Length(length) => self.exactly(length, sink)?,
            Framing::Chunked => return self.chunks(sink),
            Framing::Close => loop {
                sink(self.unread());
                self.at = self.data.len();
                match self.fill() {
                    Ok(()) => {}
                    Err(Stop::Closed) => break,
                    Err(stop) => return Err(stop),
                }
            },
        }
        Ok(Vec::new())
    }

    fn chunks(&mut self, sink: &mut dyn FnMut(&[u8])) -> Result<Vec<(String, String)>, Stop> {
        loop {
            let size = self.chunk_size()?;
            if size == 0 {
                return self.fields();
            }
            self.chunk_data(size, sink)?;
        }
    }

    /// Reads one chunk. An empty one is the last.
    pub fn chunk(&mut self) -> Result<Vec<u8>, Stop> {
        let mut data = Vec::new();
        match self.chunk_size()? {
            0 => {}
            size => self.chunk_data(size, &mut |piece| data.extend_from_slice(piece))?,
        }
        Ok(data)
    }

    fn chunk_size(&mut self) -> Result<u64, Stop> {
        let line = self.line()?;
        assert!(!line.is_empty() && line.bytes().all(|byte| byte.is_ascii_hexdigit()), "a chunk size: {line:?}");
        Ok(u64::from_str_radix(&line, 16).expect("a chunk size that fits"))
    }

    fn chunk_data(&mut self, size: u64, sink: &mut dyn FnMut(&[u8])) -> Result<(), Stop> {
        self.exactly(size, sink)?;
        let end = self.line()?;
        assert!(end.is_empty(), "after a chunk: {end:?}");
        Ok(())
    }

    fn exactly(&mut self, mut length: u64, sink: &mut dyn FnMut(&[u8])) -> Result<(), Stop> {
        while length > 0 {
            if self.unread().is_empty() {
                self.fill()?;
            }
            let piece = self.unread().len().min(usize::try_from(length).unwrap_or(usize::MAX));
            sink(&self.data[self.at..self.at + piece]);
            self.at += piece;
            length -= piece as u64;
        }
        Ok(())
    }
}

fn stop(error: &io::Error) -> Stop {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Stop::Late,
        ErrorKind::UnexpectedEof => Stop::Closed,
        _ => Stop::Reset,
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
