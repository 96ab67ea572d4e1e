//! A client with one connection that distinguishes complete responses from cut ones.

use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use super::audit::Witness;
use super::{Ending, Framing, Head, PATIENCE, Request, Response, Stop, Wire};

/// What happened instead of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// The server closed or reset the connection without sending a byte.
    Closed,
    /// Nothing was received in time.
    Waiting,
}

pub struct Connection {
    wire: Wire<TcpStream>,
    witness: Option<Witness>,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("a connection");
        stream.set_nodelay(true).expect("no delay");
        Self::over(stream)
    }

    /// Connects to the Unix socket at `path`.
    pub fn open_unix(path: &Path) -> Self {
        Self::over(connect_unix(path).expect("a connection"))
    }

    pub(super) fn try_open_unix(path: &Path) -> Option<Self> {
        Some(Self::over(connect_unix(path).ok()?))
    }

    /// Notes the responses for the server's audit.
    pub(super) fn witnessed(mut self, witness: Witness) -> Self {
        self.witness = Some(witness);
        self
    }

    /// Opens a connection with a small receive buffer, so that the server soon notices when the client does not read.
    pub fn open_narrow(address: SocketAddr) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None);
        let socket = socket.expect("a socket");
        socket.set_recv_buffer_size(32 * 1024).expect("a small buffer");
        socket.connect(&address.into()).expect("a connection");
        socket.set_tcp_nodelay(true).expect("no delay");
        Self::over(socket.into())
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_write_timeout(Some(PATIENCE)).expect("a write time-out");
        let socket = stream.try_clone().expect("a second handle");
        Self { wire: Wire::new(stream, socket), witness: None }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> &mut Self {
        self.wire.stream().write_all(bytes).expect("the server reads");
        self
    }

    /// Sends as much as the server takes: it may have closed already, which the response then shows.
    pub fn try_send(&mut self, bytes: &[u8]) -> &mut Self {
        let _closed_is_fine = self.wire.stream().write_all(bytes);
        self
    }

    pub fn exchange(&mut self, request: &Request) -> Response {
        self.try_send(&request.bytes());
        self.response(request.method())
    }

    /// The next response, complete.
    #[track_caller]
    pub fn response(&mut self, method: &str) -> Response {
        match self.try_response(method, PATIENCE) {
            Ok(response) => response,
            Err(silence) => panic!("no response: {silence:?}"),
        }
    }

    /// The next response, or what happened instead of its first byte.
    pub fn try_response(&mut self, method: &str, within: Duration) -> Result<Response, Silence> {
        self.wire.within(within);
        if self.wire.unread().is_empty() {
            match self.wire.fill() {
                Ok(()) => {}
                Err(Stop::Late) => return Err(Silence::Waiting),
                Err(Stop::Closed | Stop::Reset) => return Err(Silence::Closed),
            }
        }
        let mut response = self.head();
        let mut body = Vec::new();
        self.finish(&mut response, method, &mut |piece| body.extend_from_slice(piece));
        response.body = body;
        Ok(response)
    }

    /// The head of the next response, after all 1xx responses. Its body is read with `finish`.
    pub fn head(&mut self) -> Response {
        self.wire.within(PATIENCE);
        let mut interim = Vec::new();
        loop {
            let head = self.wire.head().unwrap_or_else(|stop| panic!("{stop:?} within the response head"));
            let status = status_line(&head.start);
            if status >= 200 {
                let (body, trailers) = (Vec::new(), Vec::new());
                let headers = head.fields;
                let response = Response { status, headers, body, trailers, ending: Ending::Truncated, interim };
                self.note(&response, None);
                return response;
            }
            assert_ne!(status, 101, "an upgrade nobody asked for");
            interim.push(status);
        }
    }

    /// Reads the body of `response`, and sets its trailers and how it ended.
    pub fn finish(&mut self, response: &mut Response, method: &str, sink: &mut dyn FnMut(&[u8])) {
        let head = Head { start: String::new(), fields: response.headers.clone() };
        let said = head.framing();
        let framing = match said {
            _ if method == "HEAD" || response.status == 304 => Framing::Length(0),
            _ if response.status == 204 => {
                assert_eq!(said, None, "a 204 must not have a length or a coding: {response:?}");
                Framing::Length(0)
            }
            Some(framing) => framing,
            None => Framing::Close,
        };
        self.wire.within(PATIENCE * 3);
        match self.wire.body(framing, sink) {
            Ok(trailers) => (response.trailers, response.ending) = (trailers, Ending::Complete),
            Err(Stop::Closed | Stop::Reset) => response.ending = Ending::Truncated,
            Err(Stop::Late) => panic!("the body of {response:?} neither ends nor is cut"),
        }
        self.note(response, Some(response.ending.clone()));
    }

    fn note(&self, response: &Response, ending: Option<Ending>) {
        if let Some(witness) = &self.witness {
            witness.note(response, ending);
        }
    }

    /// Returns once any bytes of the body were received, whatever its framing.
    pub fn some_bytes(&mut self) {
        self.wire.within(PATIENCE);
        if self.wire.unread().is_empty() {
            self.wire.fill().expect("bytes of the body");
        }
    }

    /// Fails unless `100 Continue` without fields is received next.
    pub fn expect_continue(&mut self) {
        self.wire.within(PATIENCE);
        let head = self.wire.head().expect("an interim response");
        assert_eq!((head.start.as_str(), head.fields.len()), ("HTTP/1.1 100 Continue", 0));
    }

    /// Reads one piece of a chunked body, and fails unless it is exactly `text`, in one or more chunks.
    pub fn read_chunk(&mut self, text: &[u8]) {
        self.wire.within(PATIENCE);
        let mut got = Vec::new();
        while got.len() < text.len() {
            let piece = self.wire.chunk().expect("a chunk");
            assert!(!piece.is_empty(), "the body ended after {got:?}");
            got.extend(piece);
        }
        assert_eq!(got, text);
    }

    /// The next chunk of a chunked body, which is empty at its end.
    pub fn next_chunk(&mut self) -> Vec<u8> {
        self.wire.within(PATIENCE);
        self.wire.chunk().expect("a chunk")
    }

    /// Fails unless the server closes the connection in time without sending another byte. Returns how long that took.
    #[track_caller]
    pub fn expect_closed(&mut self) -> Duration {
        let start = Instant::now();
        match self.wire.unread() {
            [] => {}
            more => panic!("more came: {:?}", String::from_utf8_lossy(more)),
        }
        self.wire.within(PATIENCE);
        match self.wire.fill() {
            Err(Stop::Closed | Stop::Reset) => start.elapsed(),
            Err(Stop::Late) => panic!("the connection stays open"),
            Ok(()) => panic!("more came: {:?}", String::from_utf8_lossy(self.wire.unread())),
        }
    }

    /// Whether the connection stays open and nothing is received for `wait`.
    pub fn is_quiet_for(&mut self, wait: Duration) -> bool {
        self.wire.within(wait);
        self.wire.unread().is_empty() && self.wire.fill() == Err(Stop::Late)
    }

    /// Whether only the first chunk of the body is received, and the body does not end: the guest is still running.
    pub fn is_quiet_after_chunk(&mut self) -> bool {
        self.read_chunk(b"partial");
        self.is_quiet_for(Duration::from_millis(5))
    }

    /// Writes until the server takes nothing more for 300 ms. Fails if it takes everything.
    pub fn send_until_stuck(&mut self) {
        let wait = Duration::from_millis(300);
        self.wire.socket().set_write_timeout(Some(wait)).expect("a write time-out");
        let filler = vec![b'x'; 1 << 20];
        let stuck = (0..50).any(|_| self.wire.stream().write_all(&filler).is_err());
        assert!(stuck, "50 MiB were taken though nobody reads them");
    }

    /// A second handle of the socket, for a thread that writes.
    pub fn writer(&self) -> TcpStream {
        self.wire.socket().try_clone().expect("a second handle")
    }

    /// Closes the connection with a FIN.
    pub fn leave(self) {
        self.wire.socket().shutdown(Shutdown::Both).expect("an open connection");
    }

    /// Closes the connection with a RST.
    pub fn leave_rudely(self) {
        let socket = socket2::SockRef::from(self.wire.socket());
        socket.set_linger(Some(Duration::ZERO)).expect("no linger");
    }
}

/// A connection to the Unix socket at `path`. A `TcpStream` is a descriptor with operations that both kinds have.
pub(super) fn connect_unix(path: &Path) -> io::Result<TcpStream> {
    Ok(OwnedFd::from(UnixStream::connect(path)?).into())
}

/// `HTTP/1.1 200 OK` → 200.
fn status_line(line: &str) -> u16 {
    let (version, rest) = line.split_once(' ').unwrap_or_else(|| panic!("not a status line: {line:?}"));
    assert!(version == "HTTP/1.1" || version == "HTTP/1.0", "not a version: {line:?}");
    let (code, _reason) = rest.split_once(' ').unwrap_or_else(|| panic!("no space after the status: {line:?}"));
    assert!(code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit()), "not a status: {line:?}");
    code.parse().expect("three digits")
}
