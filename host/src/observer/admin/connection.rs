//! One connection of the admin listener.

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use daylily_core::log_target;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::ReadBuf;
use tokio::time::{Instant, sleep_until, timeout};

use super::Server;
use super::io::AdminIo;
use super::routes;
use crate::net::stream::Stream;
use crate::sys::lock::lock;

/// Maximum size of a request's head. hyper cannot go below.
const MAX_HEAD_BYTES: usize = 8 << 10;

/// How long a client may take for a request, from its connection or from the previous response, and to read the
/// response.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// After a head that cannot be parsed, what the client still sends is read for this long and up to this many bytes:
/// otherwise the kernel would reset the connection before the client has read why.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 64 << 10;

/// When a connection had its latest request, or was accepted.
pub(super) struct Latest(Mutex<Instant>);

impl Latest {
    pub(super) fn now() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    pub(super) fn get(&self) -> Instant {
        *lock(&self.0)
    }

    fn note(&self) {
        *lock(&self.0) = Instant::now();
    }
}

/// Serves requests until either side closes the connection, or the client is silent for too long.
pub(super) async fn serve(stream: Stream, server: Arc<Server>, latest: Arc<Latest>) {
    stream.forgo_reset();
    let peer = *stream.peer();
    let service = service_fn(|request| {
        latest.note();
        let server = Arc::clone(&server);
        async move { Ok::<_, Infallible>(routes::answer(&server, &request).await) }
    });
    let mut serving = http1::Builder::new()
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(MAX_HEAD_BYTES)
        .half_close(true)
        // The time-out below also counts for clients that send nothing, or do not read.
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(AdminIo::new(stream)), service);
    let served = loop {
        let limit = latest.get() + REQUEST_TIMEOUT;
        tokio::select! {
            biased;
            served = &mut serving => break served,
            () = sleep_until(limit) => if Instant::now() >= latest.get() + REQUEST_TIMEOUT {
                tracing::debug!(
                    target: log_target::ADMIN,
                    client = %peer, "an admin connection was silent for {REQUEST_TIMEOUT:?}"
                );
                return;
            },
        }
    };
    if let Err(error) = served {
        tracing::debug!(target: log_target::ADMIN, client = %peer, %error, "an admin connection ended");
        if error.is_parse() {
            let stream = serving.into_parts().io.into_inner().refused();
            let _ = timeout(LINGER, linger(&stream)).await;
        }
    }
}

/// Reads until the client closes the connection.
async fn linger(stream: &Stream) {
    let _ = stream.shut_down_writing();
    let mut space = vec![0; MAX_HEAD_BYTES];
    let mut read = 0;
    while read < LINGER_BYTES {
        let count = poll_fn(|cx| {
            loop {
                if stream.poll_read_ready(cx)?.is_pending() {
                    return Poll::Pending;
                }
                match stream.read(&mut ReadBuf::new(&mut space)) {
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    result => return Poll::Ready(result),
                }
            }
        });
        match count.await {
            Ok(0) | Err(_) => return,
            Ok(count) => read += count,
        }
    }
}
