//! A minimal HTTP client for measurements.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read as _, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// Time limit of each read and write.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Bodies up to this size are sent before the response is read.
const SMALL_BYTES: u64 = 16 << 10;

/// One keep-alive connection.
pub(crate) struct Client {
    reader: BufReader<TcpStream>,
    /// A response has come on it.
    is_reused: bool,
}

/// The server closed an idle connection at the moment at which the request was sent. It has not read the request.
#[derive(Debug)]
pub(crate) struct ClosedWhileIdle;

impl fmt::Display for ClosedWhileIdle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the idle connection was closed")
    }
}

impl std::error::Error for ClosedWhileIdle {}

/// The loopback address of a server.
pub(crate) fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A port that is unused now.
pub(crate) fn free_port() -> io::Result<u16> {
    Ok(std::net::TcpListener::bind(local(0))?.local_addr()?.port())
}

impl Client {
    pub(crate) fn connect(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(local(port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self { reader: BufReader::with_capacity(64 << 10, stream), is_reused: false })
    }

    /// Sends a GET and returns the length of the response's body.
    pub(crate) fn get(&mut self, path: &str) -> Result<u64> {
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        self.reader.get_ref().write_all(head.as_bytes())?;
        read_response(&mut self.reader)
    }

    /// Sends a request, whose method must not be HEAD, and reads the response.
    ///
    /// # Errors
    ///
    /// [`ClosedWhileIdle`] if there is nothing of a response, and the connection has had one before. Others if there is
    /// no complete response.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> Result<Answer> {
        let written = self.reader.get_ref().write_all(request);
        match written.and_then(|()| Ok(self.reader.fill_buf()?.is_empty())) {
            Ok(false) => {}
            Ok(true) if self.is_reused => return Err(ClosedWhileIdle.into()),
            Ok(true) => bail!("the connection was closed without a response"),
            Err(error) if self.is_reused && is_closed(&error) => return Err(ClosedWhileIdle.into()),
            Err(error) => return Err(error.into()),
        }
        self.is_reused = true;
        read_answer(&mut self.reader)
    }

    /// Posts `bytes` zeros while it reads the response, and returns the length of the response's body.
    pub(crate) fn post(&mut self, path: &str, bytes: u64) -> Result<u64> {
        let mut writer = self.reader.get_ref().try_clone()?;
        let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {bytes}\r\n\r\n");
        if bytes <= SMALL_BYTES {
            // One write, so that the server makes the same reads each time.
            let mut request = head.into_bytes();
            write_zeros(&mut request, bytes)?;
            writer.write_all(&request)?;
            return read_response(&mut self.reader);
        }
        thread::scope(|scope| {
            let written = scope.spawn(move || {
                writer.write_all(head.as_bytes())?;
                write_zeros(&mut writer, bytes)
            });
            let read = read_response(&mut self.reader);
            if read.is_err() {
                // Unblock the writer, whose bytes are not read any more.
                let _ = self.reader.get_ref().shutdown(std::net::Shutdown::Both);
            }
            let written = written.join().map_err(|_| anyhow::anyhow!("the writing thread panicked"))?;
            let read = read?;
            written.context("failed to write the request")?;
            Ok(read)
        })
    }
}

fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

fn write_zeros(writer: &mut impl Write, bytes: u64) -> io::Result<()> {
    let piece = [b'0'; 64 << 10];
    let mut left = bytes;
    while left > 0 {
        let now = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        writer.write_all(piece.get(..now).unwrap_or(&piece))?;
        left -= now as u64;
    }
    Ok(())
}

/// The body of the response to a GET, which has status 200.
pub(crate) fn fetch(port: u16, target: &str) -> Result<String> {
    let (status, body) = answer(port, target)?;
    ensure!(status == 200, "answered {status}: {body}");
    Ok(body)
}

/// The status and the body of the response to a GET.
pub(crate) fn answer(port: u16, target: &str) -> Result<(u16, String)> {
    let mut stream = Client::connect(port)?.reader.into_inner();
    // Version 1.0, so that the body ends with the connection.
    write!(stream, "GET {target} HTTP/1.0\r\nhost: localhost\r\n\r\n")?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8(bytes).context("the response is not UTF-8")?;
    let (head, body) = text.split_once("\r\n\r\n").with_context(|| format!("no complete head: {text:?}"))?;
    let status = head.lines().next().unwrap_or_default();
    let code = status.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((code.with_context(|| format!("not a status line: {status:?}"))?, body.to_owned()))
}

/// Reads a response with status 200 to its end, and returns the length of its body.
fn read_response(reader: &mut impl BufRead) -> Result<u64> {
    let answer = read_answer(reader)?;
    ensure!(answer.status == 200, "answered {:?}", answer.line);
    Ok(answer.bytes)
}

/// A response that was read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The status line.
    line: String,
    /// The length of the body.
    bytes: u64,
    /// Whether the server closes the connection.
    pub(crate) closes: bool,
}

fn read_answer(reader: &mut impl BufRead) -> Result<Answer> {
    let status_line = line(reader)?;
    let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.with_context(|| format!("not a status line: {status_line:?}"))?;
    let (mut length, mut is_chunked, mut closes) = (None, false, false);
    loop {
        let field = line(reader)?.to_ascii_lowercase();
        match field.split_once(':') {
            Some(("content-length", value)) => length = Some(value.trim().parse()?),
            Some(("transfer-encoding", value)) => is_chunked = value.trim() == "chunked",
            Some(("connection", value)) => closes = value.trim() == "close",
            Some(_) => {}
            None => break,
        }
    }
    let bytes = match length {
        _ if is_chunked => read_chunks(reader)?,
        Some(length) => skip(reader, length)?,
        None => bail!("an answer without a length"),
    };
    Ok(Answer { status, line: status_line, bytes, closes })
}

fn read_chunks(reader: &mut impl BufRead) -> Result<u64> {
    let mut total = 0;
    loop {
        let size = u64::from_str_radix(line(reader)?.trim(), 16).context("failed to read the size of a chunk")?;
        total += skip(reader, size)?;
        let end = line(reader)?;
        ensure!(end.is_empty(), "a chunk is longer than it says, or there are trailers");
        if size == 0 {
            return Ok(total);
        }
    }
}

fn skip(reader: &mut impl BufRead, bytes: u64) -> Result<u64> {
    let mut left = bytes;
    while left > 0 {
        let there = reader.fill_buf()?.len();
        ensure!(there > 0, "the connection ended in the middle of a body");
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(there);
        reader.consume(taken);
        left -= taken as u64;
    }
    Ok(bytes)
}

fn line(reader: &mut impl BufRead) -> Result<String> {
    let mut line = String::new();
    reader.take(64 << 10).read_line(&mut line)?;
    ensure!(line.ends_with("\r\n"), "the connection ended in the middle of a line");
    line.truncate(line.len() - 2);
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::read_response;

    #[test]
    fn bodies_are_read_to_their_end() {
        let cases = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", Some(5)),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n",
                Some(15),
            ),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", None),
            ("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello", None),
            ("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", None),
        ];
        for (text, want) in cases {
            assert_eq!(read_response(&mut text.as_bytes()).ok(), want, "{text:?}");
        }
    }
}
