//! An origin server for guests' requests, which records what it received.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Framing, Head, Wire};

/// A request as the upstream received it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub head: Head,
    pub body: Vec<u8>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<Seen>>,
    connections: Mutex<usize>,
    stopping: AtomicBool,
}

pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// A stream with or without TLS.
pub trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

/// Responds to one request on the stream. Returns whether to keep the connection.
type Answer = dyn Fn(&Seen, &mut dyn Stream) -> bool + Send + Sync;

impl Upstream {
    /// Responds to every request with 200 and the request line, fields and body as the body.
    pub fn echo() -> Self {
        Self::start(echo)
    }

    pub fn start(answer: impl Fn(&Seen, &mut dyn Stream) -> bool + Send + Sync + 'static) -> Self {
        Self::with_tls(None, answer)
    }

    /// As `start`, behind TLS if `tls` is given.
    pub fn with_tls(
        tls: Option<Arc<rustls::ServerConfig>>,
        answer: impl Fn(&Seen, &mut dyn Stream) -> bool + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared::default());
        let (accepting, answer): (_, Arc<Answer>) = (shared.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                if accepting.stopping.load(Ordering::SeqCst) {
                    break;
                }
                let (shared, answer, tls) = (accepting.clone(), answer.clone(), tls.clone());
                std::thread::spawn(move || serve(socket, tls, &shared, &*answer));
            }
        });
        Self { address, shared }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port())
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The number of connections opened so far.
    pub fn connections(&self) -> usize {
        *self.shared.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        let _wakes_the_listener = TcpStream::connect(self.address);
    }
}

fn serve(socket: TcpStream, tls: Option<Arc<rustls::ServerConfig>>, shared: &Shared, answer: &Answer) {
    *shared.connections.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    let handle = socket.try_clone().expect("a second handle");
    let stream: Box<dyn Stream> = match tls {
        None => Box::new(socket),
        Some(config) => {
            let session = rustls::ServerConnection::new(config).expect("a TLS session");
            Box::new(rustls::StreamOwned::new(session, socket))
        }
    };
    let mut wire = Wire::new(stream, handle);
    loop {
        wire.within(super::PATIENCE * 3);
        let Ok(head) = wire.head() else { return };
        let mut body = Vec::new();
        let framing = head.framing().unwrap_or(Framing::Length(0));
        if wire.body(framing, &mut |piece| body.extend_from_slice(piece)).is_err() {
            return;
        }
        let seen = Seen { head, body };
        shared.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen.clone());
        if !answer(&seen, wire.stream()) {
            return;
        }
    }
}

/// Responds with 200 and the request as the body.
pub fn echo(seen: &Seen, stream: &mut dyn Stream) -> bool {
    let mut body = format!("{}\n", seen.head.start);
    for (name, value) in &seen.head.fields {
        body += &format!("{}: {value}\n", name.to_lowercase());
    }
    body.push('\n');
    let mut bytes = body.into_bytes();
    bytes.extend(&seen.body);
    let head = format!("HTTP/1.1 200 OK\r\nx-upstream: yes\r\ncontent-length: {}\r\n\r\n", bytes.len());
    stream.write_all(&[head.as_bytes(), &bytes].concat()).is_ok()
}
